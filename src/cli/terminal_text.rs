//! What a module wrote, as a terminal may get it: text and colours, one line.
//! Owns the rule which characters control a terminal, and where a long line is shortened.
//! Never used for a pipe or file, which get the bytes.

use std::borrow::Cow;

use crate::os::tail::{shortened_mark, split_mark};

/// Characters of a line that are shown.
const SHOWN_MAX: usize = 4096;
const RESET: &str = "\x1b[0m";

/// Whether a character controls the terminal or the order in which text is shown.
pub(crate) fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        )
        || matches!(c, '\u{2066}'..='\u{2069}')
}

fn is_plain(c: char) -> bool {
    c == '\t' || !is_control(c)
}

/// Escapes a line for a terminal: keeps colours, which end with the line, shows other control
/// characters, and shortens a long line.
pub(crate) fn for_terminal(line: &str) -> Cow<'_, str> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.len() <= SHOWN_MAX && line.chars().all(is_plain) {
        return Cow::Borrowed(line);
    }
    let (text, mark) = split_mark(line);
    let shown = text
        .char_indices()
        .nth(SHOWN_MAX)
        .map_or(text, |(at, _)| &text[..at]);
    let mut out = String::with_capacity(shown.len() + 32);
    let (mut rest, mut styled) = (shown, false);
    while let Some(c) = rest.chars().next() {
        let length = colour(rest).unwrap_or(c.len_utf8());
        let (now, later) = rest.split_at(length);
        let is_colour = length > c.len_utf8();
        match u8::try_from(c) {
            _ if is_colour => {
                out.push_str(now);
                styled = !matches!(now, RESET | "\x1b[m");
            }
            _ if is_plain(c) => out.push(c),
            Ok(byte) if byte.is_ascii() => out.extend(['^', char::from(byte ^ 0x40)]),
            _ => out.push(char::REPLACEMENT_CHARACTER),
        }
        rest = later;
    }
    if styled {
        out.push_str(RESET);
    }
    match mark {
        Some(mark) => out.push_str(mark),
        None if shown.len() < text.len() => out.push_str(&shortened_mark(text.len() as u64)),
        None => {}
    }
    out.into()
}

/// Returns the length of the colour sequence (`ESC [ … m`) at the start of the text.
fn colour(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\x1b[")?;
    let end = numbers.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    numbers[end..].starts_with('m').then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_line_a_terminal_gets_text_and_colours() {
        for (line, shown) in [
            (
                "a… [shortened: \x1b[2J bytes]",
                "a… [shortened: ^[[2J bytes]",
            ),
            ("plain\tü", "plain\tü"),
            ("plain\r", "plain"),
            ("\x1b[1;38:5:9mred\x1b[0m!\r", "\x1b[1;38:5:9mred\x1b[0m!"),
            ("a\x1b]0;title\x07b", "a^[]0;title^Gb"),
            ("\x1b[2J\x1b[1;1H", "^[[2J^[[1;1H"),
            ("\x1b[3", "^[[3"),
            ("50%\r60%\x08\x7f", "50%^M60%^H^?"),
            ("\u{9b}2J", "\u{fffd}2J"),
            ("user\u{202e}nimda", "user\u{fffd}nimda"),
            (
                "\u{2067}a\u{2069}\u{200f}\u{61c}\u{2028}",
                "\u{fffd}a\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
        ] {
            assert_eq!(for_terminal(line), shown);
        }
    }

    #[test]
    fn a_style_that_a_line_opened_ends_with_the_line() {
        for (line, shown) in [
            ("\x1b[31mred", "\x1b[31mred\x1b[0m"),
            ("\x1b[31mred\x1b[m", "\x1b[31mred\x1b[m"),
            ("\x1b[0m\x1b[1mbold", "\x1b[0m\x1b[1mbold\x1b[0m"),
            ("\x1b[31ma\x1b[39mb", "\x1b[31ma\x1b[39mb\x1b[0m"),
        ] {
            assert_eq!(for_terminal(line), shown);
        }
    }

    #[test]
    fn a_long_line_is_shortened_with_a_mark_between_characters() {
        let shown = for_terminal(&"ü".repeat(5000)).into_owned();
        assert_eq!(shown, "ü".repeat(SHOWN_MAX) + &shortened_mark(10_000));
        // The mark of who read it from the file is kept: it knows the length of the whole line.
        let read = "x".repeat(5000) + &shortened_mark(1_100_000);
        let expected = "x".repeat(SHOWN_MAX) + &shortened_mark(1_100_000);
        assert_eq!(for_terminal(&read), expected);
        let opened = "\x1b[31m".to_owned() + &"x".repeat(5000);
        assert!(for_terminal(&opened).contains("x\x1b[0m…"));
    }
}

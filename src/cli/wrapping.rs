//! Lines that fit the terminal: broken between words, and continued below their text.
//! Owns the rule what is broken and what stays: excerpts of files, words longer than the terminal.
//! Never drops a character, and never touches what goes to a pipe or file.

use super::table::columns;

/// Columns by which the continuation of a line is indented beyond its beginning.
pub(crate) const HANG: usize = 2;

/// Breaks every line that is wider than `width`; what follows is indented by `HANG` more.
pub(crate) fn wrap_text(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let own = line.len() - line.trim_start_matches(' ').len();
        match is_excerpt(line) {
            true => out.push_str(line),
            false => wrap_line(&mut out, line, width, own + HANG),
        }
    }
    out
}

/// Appends one line, broken between words; what follows is indented by `indent`.
pub(crate) fn wrap_line(out: &mut String, line: &str, width: usize, indent: usize) {
    let text = line.trim_end_matches('\n');
    if visible(text) <= width {
        out.push_str(line);
        return;
    }
    // Where the text beside the indentation would be too narrow there is none.
    let indent = if indent + indent < width { indent } else { 0 };
    let lines = break_words(text, (width, width - indent), false);
    for (n, part) in lines.iter().enumerate() {
        if n > 0 {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out.push_str(part);
    }
    out.push_str(&line[text.len()..]);
}

/// Breaks a text between words: into a first line of `first` columns, and others of `rest`. A word
/// that is wider than its line stands alone; with `cuts` it is broken too.
pub(crate) fn break_words(text: &str, (first, rest): (usize, usize), cuts: bool) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    let (mut room, mut used, mut gap) = (first, 0, 0);
    let mut has_word = false;
    for (n, word) in text.split(' ').enumerate() {
        // Spaces in a row, which align something, are empty words.
        gap += usize::from(n > 0);
        if word.is_empty() {
            continue;
        }
        let columns = visible(word);
        if has_word && used + gap + columns > room {
            lines.push(std::mem::take(&mut line));
            (room, used) = (rest, 0);
        } else {
            line.extend(std::iter::repeat_n(' ', gap));
            used += gap;
        }
        if cuts && columns > room {
            for character in word.chars() {
                if used >= room {
                    lines.push(std::mem::take(&mut line));
                    (room, used) = (rest, 0);
                }
                line.push(character);
                used += 1;
            }
        } else {
            line.push_str(word);
            used += columns;
        }
        (gap, has_word) = (0, true);
    }
    lines.push(line);
    lines
}

/// A line of a file with its number, or the mark below it: they stay as they are.
fn is_excerpt(line: &str) -> bool {
    let line = line
        .trim_start()
        .trim_start_matches(|c: char| c.is_ascii_digit());
    line.trim_start().starts_with('|')
}

/// Columns of a text, without its colours.
fn visible(text: &str) -> usize {
    if !text.contains('\x1b') {
        return columns(text);
    }
    let mut parts = text.split("\x1b[");
    let first = parts.next().map_or(0, columns);
    let rest = parts.map(|part| part.split_once('m').map_or(0, |(_, text)| columns(text)));
    first + rest.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_hang() {
        let text = "short\nNext: web is restarted (attempt 2 of 3 within 5 min), at 12:00:00\n";
        let expected = "short\nNext: web is restarted (attempt\n  2 of 3 within 5 min), at\n  \
                        12:00:00\n";
        assert_eq!(wrap_text(text, 32), expected);
        assert_eq!(wrap_text(text, 80), text);
    }

    #[test]
    fn no_line_is_wider_and_no_word_is_lost() {
        let text =
            "  a line with /a/path/that/is/long and \x1b[31mred words\x1b[0m in it, and more\n";
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for width in 0..90 {
            let wrapped = wrap_text(text, width);
            assert_eq!(words(&wrapped), words(text), "{width}");
            let fits = |line: &str| visible(line) <= width || line.trim().find(' ').is_none();
            assert!(width < 8 || wrapped.lines().all(fits), "{width}: {wrapped}");
        }
    }

    #[test]
    fn an_excerpt_and_its_mark_stay_together() {
        let text = "  |\n3 | command = [\"a\", \"long\", \"line\"]\n  |            ^^^^^^\n";
        assert_eq!(wrap_text(text, 20), text);
    }
}

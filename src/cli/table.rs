//! Aligned columns, as wide as their content; the last one goes on in lines below.
//! Owns padding, breaking and cutting.
//! Never knows what a column means.

use std::borrow::Cow;

use super::terminal::{AnsiColour, Terminal};
use super::wrapping::break_words;

/// The text and the colour of one cell.
pub(crate) type Cell<'a> = (Cow<'a, str>, Option<AnsiColour>);

/// A table of `N` columns; those in `right` are right-aligned.
pub(crate) struct TextTable<'a, const N: usize> {
    rows: Vec<[Cell<'a>; N]>,
    widths: [usize; N],
    right: [bool; N],
}

const GAP: usize = 2;
/// Columns that the last cell has at least beside the others.
const TEXT_MIN: usize = 24;
/// Indentation of a last cell that has lines of its own.
const BELOW: usize = 6;

impl<'a, const N: usize> TextTable<'a, N> {
    pub(crate) fn new(rows: usize, right: [bool; N]) -> TextTable<'a, N> {
        TextTable {
            rows: Vec::with_capacity(rows),
            widths: [0; N],
            right,
        }
    }

    pub(crate) fn head(&mut self, titles: [&'a str; N]) {
        self.row(titles.map(|title| (Cow::Borrowed(title), Some(AnsiColour::Grey))));
    }

    pub(crate) fn row(&mut self, cells: [Cell<'a>; N]) {
        for (width, (text, _)) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(columns(text));
        }
        self.rows.push(cells);
    }

    /// Appends the table, each line indented by `indent` spaces. Nothing is cut: the last column
    /// goes on below itself.
    pub(crate) fn render(&self, out: &mut String, indent: usize, screen: Terminal) {
        let line = self.widths.iter().sum::<usize>() + N * GAP + indent + 1;
        out.reserve(line * self.rows.len());
        for row in &self.rows {
            let (mut used, mut owed) = (0, indent);
            for (n, (text, colour)) in row.iter().enumerate() {
                let missing = self.widths[n] - columns(text);
                if self.right[n] {
                    owed += missing;
                }
                if !text.is_empty() {
                    let is_last = n + 1 == N && !self.right[n];
                    let room = screen.width.filter(|_| is_last);
                    let cell = (text.as_ref(), *colour);
                    match room.filter(|room| used + owed + columns(text) > *room) {
                        Some(room) => wrapped_cell(out, cell, (used + owed, owed), room, screen),
                        None => {
                            // Spaces are written only before text, so that no line ends with them.
                            out.extend(std::iter::repeat_n(' ', owed));
                            screen.paint(out, *colour, text);
                        }
                    }
                    used += owed + columns(text);
                    owed = 0;
                }
                owed += GAP + if self.right[n] { 0 } else { missing };
            }
            out.push('\n');
        }
    }
}

/// Appends a cell that does not fit beside the others: in lines below its beginning, or, where
/// there is no room for that, below its row.
fn wrapped_cell(
    out: &mut String,
    (text, colour): (&str, Option<AnsiColour>),
    (start, gap): (usize, usize),
    room: usize,
    screen: Terminal,
) {
    let beside = room.saturating_sub(start);
    let (at, lines) = match beside >= TEXT_MIN {
        true => (start, wrap(text, beside)),
        false => (BELOW, wrap(text, room.saturating_sub(BELOW))),
    };
    for (n, line) in lines.iter().enumerate() {
        match n == 0 && at == start {
            true => out.extend(std::iter::repeat_n(' ', gap)),
            false => {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', at));
            }
        }
        screen.paint(out, colour, line);
    }
}

/// Returns how many columns the text takes.
pub(crate) fn columns(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.chars().count()
    }
}

/// Cuts the text to `room` columns, with a mark at the end.
pub(crate) fn cut(text: &str, room: usize) -> Cow<'_, str> {
    if columns(text) <= room {
        return Cow::Borrowed(text);
    }
    let mut shown: String = text.chars().take(room.saturating_sub(1)).collect();
    if room > 0 {
        shown.push('…');
    }
    Cow::Owned(shown)
}

/// Breaks the text between words into lines of `room` columns; a word that is longer is broken too.
pub(crate) fn wrap(text: &str, room: usize) -> Vec<Cow<'_, str>> {
    if columns(text) <= room {
        return vec![Cow::Borrowed(text)];
    }
    let room = room.max(1);
    let lines = break_words(text, (room, room), true).into_iter();
    lines.map(Cow::Owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(screen: Terminal) -> String {
        let mut table = TextTable::new(2, [false, true, false]);
        table.head(["NAME", "SIZE", "TEXT"]);
        let green = Some(AnsiColour::Green);
        table.row([
            ("a".into(), green),
            ("12345".into(), None),
            ("ünï code".into(), None),
        ]);
        table.row([
            ("longer".into(), None),
            ("1".into(), None),
            ("".into(), None),
        ]);
        let mut out = String::new();
        table.render(&mut out, 1, screen);
        out
    }

    #[test]
    fn columns_are_as_wide_as_their_content() {
        let expected = " NAME     SIZE  TEXT\n a       12345  ünï code\n longer      1\n";
        assert_eq!(rendered(Terminal::default()), expected);
    }

    #[test]
    fn a_last_column_that_does_not_fit_goes_on_below_itself_or_below_its_row() {
        let text = "web changed (command, env.PORT) and was rolled back: web failed";
        let mut table = TextTable::new(1, [true, false, false]);
        table.row([
            ("12".into(), None),
            ("by ann".into(), None),
            (text.into(), None),
        ]);
        let at = |width| {
            let mut out = String::new();
            let screen = Terminal {
                width: Some(width),
                colour: false,
            };
            table.render(&mut out, 0, screen);
            out
        };
        let expected = "12  by ann  web changed (command, env.PORT)\n            and was rolled \
                        back: web failed\n";
        assert_eq!(at(46), expected);
        assert_eq!(
            at(30),
            "12  by ann\n      web changed (command,\n      env.PORT) and was rolled\n      \
                            back: web failed\n"
        );
        for width in 20..90 {
            let text = at(width);
            assert!(
                text.lines().all(|line| columns(line) <= width),
                "{width}: {text}"
            );
        }
    }

    #[test]
    fn wrapped_text_loses_no_word_and_no_line_is_wider_than_the_room() {
        let text = "cannot bind 127.0.0.1:8931: address in use";
        assert_eq!(wrap(text, 80), [text]);
        assert_eq!(
            wrap(text, 16),
            ["cannot bind", "127.0.0.1:8931:", "address in use"]
        );
        for room in 0..50 {
            let lines = wrap(text, room);
            let whole: String = lines.concat();
            assert_eq!(whole.replace(' ', ""), text.replace(' ', ""), "{room}");
            assert!(lines.iter().all(|line| columns(line) <= room.max(1)));
        }
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let plain = rendered(Terminal {
            width: Some(18),
            colour: false,
        });
        let coloured = rendered(Terminal {
            width: Some(18),
            colour: true,
        });
        assert!(coloured.contains("\x1b[32ma\x1b[0m"));
        let mut stripped = coloured;
        for code in ["\x1b[32m", "\x1b[90m", "\x1b[0m"] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, plain);
    }
}

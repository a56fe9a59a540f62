//! The end of a module's output: its newest lines, rotated files included.
//! Owns the mark of a line that is shortened, and how much all lines together may have.
//! Never returns half a character, and a long line hides none before it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use mainstay_protocol::Timestamp;

use super::log_reader::{LogFilter, LogLine, LogReader};

/// Bytes of a line that are always returned.
const LINE_MIN: usize = 1024;
const MARK: &str = "… [shortened: ";
/// Lines of [`last_words`], and characters of one.
const LAST_WORDS: usize = 5;
const LAST_WORDS_CHARS: usize = 300;

/// What follows a line of `bytes` bytes of which only the beginning is shown.
pub(crate) fn shortened_mark(bytes: u64) -> String {
    format!("{MARK}{bytes} bytes]")
}

/// Splits a line from the mark that it was shortened.
pub(crate) fn split_mark(line: &str) -> (&str, Option<&str>) {
    // Anything else between the two may be of the module, and control a terminal.
    let is_mark = |at: &usize| {
        let number = line[at + MARK.len()..].strip_suffix(" bytes]");
        number.is_some_and(|text| !text.is_empty() && text.bytes().all(|one| one.is_ascii_digit()))
    };
    let at = line.rfind(MARK).filter(is_mark);
    at.map_or((line, None), |at| (&line[..at], Some(&line[at..])))
}

/// Returns the text of a line, with the mark if it was shortened.
pub(crate) fn text(line: &LogLine) -> String {
    if line.length > line.text.len() as u64 {
        let text = &line.text[..whole_characters(&line.text)];
        return String::from_utf8_lossy(text).into_owned() + &shortened_mark(line.length);
    }
    let text = line.text.strip_suffix(b"\r").unwrap_or(&line.text);
    String::from_utf8_lossy(text).into_owned()
}

/// The texts of the newest `count` lines of a log. See [`newest`].
///
/// # Errors
/// When a file that is there cannot be read.
pub(crate) fn last_lines(path: &Path, count: usize, room: u64) -> io::Result<Vec<String>> {
    let lines = newest(path, LogFilter::default(), count, room)?;
    Ok(lines.iter().map(text).collect())
}

/// The last words of a module.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LastWords {
    /// When the newest line was written, if that is known.
    pub(crate) at: Option<Timestamp>,
    /// The run that wrote the newest line; 0: unknown.
    pub(crate) run: u64,
    /// The newest lines that are not empty, each cut, oldest first.
    pub(crate) lines: Vec<String>,
}

/// Returns the last words of a module; no lines if they cannot be read.
pub(crate) fn last_words(path: &Path) -> LastWords {
    let lines = newest(path, LogFilter::default(), LAST_WORDS * 2, 1024 * 1024);
    let lines = lines.unwrap_or_default();
    let texts = lines.iter().map(|line| (line, text(line)));
    let spoken: Vec<(&LogLine, String)> =
        texts.filter(|(_, text)| !text.trim().is_empty()).collect();
    let skipped = spoken.len().saturating_sub(LAST_WORDS);
    let newest = spoken.last().map(|(line, _)| *line);
    let cut = |text: &String| text.chars().take(LAST_WORDS_CHARS).collect();
    LastWords {
        at: newest.and_then(|line| line.at),
        run: newest.map_or(0, |line| line.run),
        lines: spoken[skipped..]
            .iter()
            .map(|(_, text)| cut(text))
            .collect(),
    }
}

/// The newest `count` lines of a log that pass the filter and, where it is short, of the files
/// rotated before it. A line that was begun in one file and ended in the next is one line. If all
/// together have more than about `room` bytes, the longest are shortened.
///
/// # Errors
/// When a file that is there cannot be read.
pub(crate) fn newest(
    path: &Path,
    filter: LogFilter,
    count: usize,
    room: u64,
) -> io::Result<Vec<LogLine>> {
    let mut reader = if filter.is_empty() {
        LogReader::open_last(path, count)?
    } else {
        LogReader::open(path, filter)?
    };
    let mut lines = NewestLines::new(count, room);
    while let Some(line) = reader.next_line()? {
        lines.push(0, line);
    }
    Ok(lines.lines.into_iter().map(|(_, line)| line).collect())
}

/// The newest of many lines, in bounded memory.
pub(crate) struct NewestLines {
    /// Each with the number of its log.
    pub(crate) lines: VecDeque<(usize, LogLine)>,
    count: usize,
    room: usize,
    bytes: usize,
    limit: usize,
}

impl NewestLines {
    pub(crate) fn new(count: usize, room: u64) -> NewestLines {
        let room = usize::try_from(room).unwrap_or(usize::MAX).max(LINE_MIN);
        NewestLines {
            lines: VecDeque::new(),
            count,
            room,
            bytes: 0,
            limit: room,
        }
    }

    /// Adds a line; removes the oldest if there are too many, and shortens the longest if all
    /// together are too long.
    pub(crate) fn push(&mut self, log: usize, mut line: LogLine) {
        if self.count == 0 {
            return;
        }
        if self.lines.len() == self.count
            && let Some((_, oldest)) = self.lines.pop_front()
        {
            self.bytes -= oldest.text.len();
        }
        line.text.truncate(self.limit);
        self.bytes += line.text.len();
        self.lines.push_back((log, line));
        while self.bytes > self.room && self.limit > LINE_MIN {
            self.limit = (self.limit / 2).max(LINE_MIN);
            self.lines
                .iter_mut()
                .for_each(|(_, line)| line.text.truncate(self.limit));
            self.bytes = self.lines.iter().map(|(_, line)| line.text.len()).sum();
        }
    }
}

/// The length without a character whose end is missing.
fn whole_characters(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(3);
    match bytes[start..].utf8_chunks().last() {
        Some(chunk) if is_begun(chunk.invalid()) => bytes.len() - chunk.invalid().len(),
        _ => bytes.len(),
    }
}

/// Whether this is the beginning of a character, as against bytes that are no text.
fn is_begun(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::log_reader::rotated;
    use mainstay_protocol::Timestamp;

    const ROOM: u64 = 8 * 1024 * 1024;

    #[test]
    fn the_newest_lines_across_rotated_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        assert!(
            last_lines(&path, 5, ROOM)
                .expect("no file is no error")
                .is_empty()
        );
        std::fs::write(rotated(&path, 1), "one\ntwo\n").expect("written");
        std::fs::write(&path, "three\nfour\nunfinished").expect("written");
        assert_eq!(
            last_lines(&path, 2, ROOM).expect("reads"),
            ["four", "unfinished"]
        );
        assert_eq!(
            last_lines(&path, 4, ROOM).expect("reads"),
            ["two", "three", "four", "unfinished"]
        );
        assert_eq!(last_lines(&path, 99, ROOM).expect("reads").len(), 5);
    }

    #[test]
    fn a_line_that_goes_on_in_the_next_file_is_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        std::fs::write(rotated(&path, 2), "zero\non").expect("written");
        std::fs::write(rotated(&path, 1), "e and a ").expect("written");
        std::fs::write(&path, "half\ntwo\n").expect("written");
        let read = |count| last_lines(&path, count, ROOM).expect("reads");
        assert_eq!(read(1), ["two"]);
        assert_eq!(read(2), ["one and a half", "two"]);
        assert_eq!(read(9), ["zero", "one and a half", "two"]);
        assert!(read(0).is_empty());
        // A file of which only the end is read has nothing to do with the one before it.
        std::fs::write(rotated(&path, 1), "a\nb\nhal").expect("written");
        std::fs::write(&path, "f\ntwo\n").expect("written");
        assert_eq!(last_lines(&path, 2, ROOM).expect("reads"), ["half", "two"]);
        assert_eq!(
            last_lines(&path, 3, ROOM).expect("reads"),
            ["b", "half", "two"]
        );
    }

    #[test]
    fn a_long_log_is_read_from_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let text: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, text).expect("written");
        let lines = last_lines(&path, 10_000, ROOM).expect("reads");
        assert_eq!(lines.first().map(String::as_str), Some("line 40000"));
        assert_eq!(lines.len(), 10_000);
    }

    #[test]
    fn a_huge_line_is_shortened_and_hides_none_before_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let huge = 3 * 1024 * 1024;
        let text = "one\ntwo\n".to_owned() + &"ü".repeat(huge / 2) + "\nlast\n";
        std::fs::write(&path, text).expect("written");
        let lines = last_lines(&path, 100, 1024 * 1024).expect("reads");
        assert_eq!(lines.len(), 4);
        assert_eq!((&*lines[0], &*lines[1], &*lines[3]), ("one", "two", "last"));
        let (shown, mark) = split_mark(&lines[2]);
        assert_eq!(mark, Some(&*shortened_mark(huge as u64)));
        assert!(shown.len() > 200_000 && shown.chars().all(|c| c == 'ü'));
        // A line over several files is shortened as one.
        std::fs::write(rotated(&path, 1), "zero\n".to_owned() + &"a".repeat(5000))
            .expect("written");
        std::fs::write(&path, "b".repeat(5000) + "\n").expect("written");
        let lines = last_lines(&path, 9, 2048).expect("reads");
        assert_eq!(
            lines,
            [
                "zero".to_owned(),
                "a".repeat(1024) + &shortened_mark(10_000)
            ]
        );
    }

    #[test]
    fn a_run_that_ended_without_a_newline_ends_its_line() {
        use mainstay_process::log_index::IndexEncoder;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut index = IndexEncoder::resume(0, 0, 1000);
        for run in 1..=3 {
            index.start_run(run, 1000 * run);
            index.append(10, Some(1000 * run), mainstay_process::StdStream::Both);
        }
        index.flush();
        std::fs::write(&path, "no newline".repeat(3)).expect("written");
        let index_path = super::super::log_index::index_path(&path);
        std::fs::write(index_path, index.take()).expect("written");
        let lines = newest(&path, LogFilter::default(), 2, ROOM).expect("reads");
        let read: Vec<_> = lines
            .iter()
            .map(|line| (line.run, line.at, text(line)))
            .collect();
        let line = |run| (run, Some(Timestamp(1000 * run)), "no newline".to_owned());
        assert_eq!(read, [line(2), line(3)]);
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        for (bytes, whole) in [
            ("aü".as_bytes(), 3),
            (&"aü".as_bytes()[..2], 1),
            (&"a→".as_bytes()[..3], 1),
            (&"😀".as_bytes()[..3], 0),
            (b"a\xff".as_slice(), 2),
            (b"".as_slice(), 0),
        ] {
            assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
        }
    }
}

//! The end of a module's output: its newest lines, rotated files included.
//! Owns the mark of a line that is shortened.
//! Never reads more than it must: from the end, in blocks; a long line hides none before it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const BLOCK: u64 = 64 * 1024;
/// Bytes that are searched for lines, at most.
const SEARCHED_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a line that are always returned.
const LINE_MIN: u64 = 1024;
const MARK: &str = "… [shortened: ";

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

/// The newest `count` lines of a log and, where it is short, of the files rotated before it. A line
/// that was begun in one file and ended in the next is one line. If all together have more than
/// about `room` bytes, the longest are shortened, with a mark.
///
/// # Errors
/// When a file that is there cannot be read.
pub(crate) fn last_lines(path: &Path, count: usize, room: u64) -> io::Result<Vec<String>> {
    let mut search = LineSearch::new(count);
    for number in 0.. {
        let opened = match number {
            0 => super::private::open_regular(path),
            _ => super::private::open_regular(&rotated(path, number)),
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        search.search(file)?;
        if search.is_over() {
            break;
        }
    }
    let LineSearch {
        mut files,
        mut lines,
        current,
        ..
    } = search;
    if lines.len() < count && current.is_line() {
        lines.push_front(current);
    }
    let limit = line_limit(&lines, room);
    let read = lines.iter().map(|line| line.read(&mut files, limit));
    read.collect()
}

/// The length to which lines are shortened so that all fit into `room` bytes.
fn line_limit(lines: &VecDeque<LinePlace>, room: u64) -> u64 {
    let mut limit = room.max(LINE_MIN);
    let fits = |limit| lines.iter().map(|line| line.length.min(limit)).sum::<u64>() <= room;
    while limit > LINE_MIN && !fits(limit) {
        limit /= 2;
    }
    limit
}

fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// A part of a line: the file, the offset and the length.
#[derive(Debug, Clone, Copy)]
struct Span {
    file: usize,
    from: u64,
    length: u64,
}

/// Where a line is, without its newline.
#[derive(Debug, Default)]
struct LinePlace {
    /// The newest part first.
    spans: Vec<Span>,
    length: u64,
    has_newline: bool,
}

impl LinePlace {
    fn extend(&mut self, file: usize, from: u64, to: u64) {
        let length = to - from;
        if length > 0 {
            self.spans.push(Span { file, from, length });
            self.length += length;
        }
    }

    fn is_line(&self) -> bool {
        self.has_newline || self.length > 0
    }

    /// The first `limit` bytes as text, with the mark if there are more.
    fn read(&self, files: &mut [File], limit: u64) -> io::Result<String> {
        let mut bytes = Vec::new();
        for span in self.spans.iter().rev() {
            let left = limit.saturating_sub(bytes.len() as u64).min(span.length);
            let file = &mut files[span.file];
            file.seek(SeekFrom::Start(span.from))?;
            file.take(left).read_to_end(&mut bytes)?;
        }
        if self.length > limit {
            bytes.truncate(whole_characters(&bytes));
            return Ok(String::from_utf8_lossy(&bytes).into_owned() + &shortened_mark(self.length));
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
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

/// Finds lines from the end of the newest file backwards.
struct LineSearch {
    count: usize,
    files: Vec<File>,
    /// The oldest first.
    lines: VecDeque<LinePlace>,
    /// The line whose beginning is not found.
    current: LinePlace,
    searched: u64,
}

impl LineSearch {
    fn new(count: usize) -> LineSearch {
        LineSearch {
            count,
            files: Vec::new(),
            lines: VecDeque::new(),
            current: LinePlace::default(),
            searched: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.lines.len() >= self.count || self.searched >= SEARCHED_MAX
    }

    /// Searches one file, which is older than those before.
    fn search(&mut self, mut file: File) -> io::Result<()> {
        let number = self.files.len();
        let mut to = file.seek(SeekFrom::End(0))?;
        let mut start = to;
        let mut block = Vec::new();
        while start > 0 && !self.is_over() {
            let end = start;
            start = end.saturating_sub(BLOCK);
            block.resize(usize::try_from(end - start).unwrap_or(0), 0);
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut block)?;
            self.searched += end - start;
            for at in (0..block.len()).rev().filter(|at| block[*at] == b'\n') {
                let newline = start + at as u64;
                self.current.extend(number, newline + 1, to);
                to = newline;
                let found = std::mem::take(&mut self.current);
                self.current.has_newline = true;
                if found.is_line() {
                    self.lines.push_front(found);
                }
                if self.lines.len() >= self.count {
                    break;
                }
            }
        }
        self.current.extend(number, start.min(to), to);
        self.files.push(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(shown.len() > 400_000 && shown.chars().all(|c| c == 'ü'));
        // What fits is whole, and a line over several files is shortened as one.
        let lines = last_lines(&path, 100, ROOM).expect("reads");
        assert_eq!(lines[2].len(), huge);
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

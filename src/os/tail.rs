//! The end of a module's output: its newest lines, rotated files included.
//! Owns nothing. Never reads more than it must: from the end, in blocks.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const BLOCK: u64 = 64 * 1024;

/// The newest `count` lines of a log and, where it is short, of the files rotated before it. A line
/// that was begun in one file and ended in the next is one line. At most `room` bytes are read.
///
/// # Errors
/// When a file that is there cannot be read.
pub(crate) fn last_lines(path: &Path, count: usize, room: u64) -> io::Result<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    let mut room = room;
    for number in 0.. {
        // Two more than asked for: one is joined with what is there, and behind the other it is
        // known where the first one begins.
        let more = count + 2 - lines.len();
        let older = match number {
            0 => end_of(path, more, room),
            _ => end_of(&rotated(path, number), more, room),
        };
        let mut older = match older {
            Ok(older) => older,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        if let (false, Some(begun), false) = (older.ended, older.lines.last_mut(), lines.is_empty())
        {
            begun.push_str(&lines.remove(0));
        }
        older.lines.append(&mut lines);
        lines = older.lines;
        room = room.saturating_sub(older.bytes);
        if lines.len() > count || room == 0 {
            break;
        }
    }
    lines.drain(..lines.len().saturating_sub(count));
    Ok(lines)
}

fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The end of one file.
struct FileTail {
    lines: Vec<String>,
    /// Whether the last line has its newline.
    ended: bool,
    bytes: u64,
}

fn end_of(path: &Path, count: usize, room: u64) -> io::Result<FileTail> {
    let mut file = super::private::open_regular(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    let (mut from, mut blocks, mut found) = (length, Vec::new(), 0);
    // A newline more than lines wanted: the first line is whole only behind one.
    while from > 0 && length - from < room && found <= count {
        let start = from.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(from - start).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        found += newlines(&block);
        blocks.push(block);
        from = start;
    }
    blocks.reverse();
    let bytes = blocks.concat();
    drop(blocks);
    let text = String::from_utf8_lossy(&bytes);
    let skip = text.lines().count().saturating_sub(count);
    Ok(FileTail {
        lines: text.lines().skip(skip).map(str::to_owned).collect(),
        ended: bytes.last().is_none_or(|last| *last == b'\n'),
        bytes: length - from,
    })
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
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
        let lines = last_lines(&path, 10_000, 1).expect("reads");
        assert!(lines.len() < 7000, "{} lines of one block", lines.len());
        assert_eq!(lines.last().map(String::as_str), Some("line 49999"));
    }
}

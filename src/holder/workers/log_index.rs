//! The index beside each log file: which bytes were read when, and of which run.
//! Owns the index file, and the marks that travel with the bytes to it.
//! Never costs a byte of the log: an index that cannot be written is removed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use mainstay_process::log_index::{BLOCK_BYTES, BlockEntries, IndexEncoder};
use mainstay_process::{Exit, StdStream};
use serde::{Deserialize, Serialize};

use crate::dir::Dir;

/// Marks that may wait with the bytes of one instance.
const MARKS_MAX: usize = 4096;
/// Reads that are less than this apart, in milliseconds, have one mark while they wait.
const READ_INTERVAL_MS: u64 = 10;
/// Bytes of the log before an index that could not be written is tried again.
const RETRY_BYTES: u64 = 64 * 1024;

/// What happened at a place of the output.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LogMark {
    /// Bytes before it, of those it travels with.
    pub(crate) at: usize,
    /// None: too many marks waited.
    pub(crate) time: Option<u64>,
    pub(crate) run: u64,
    #[serde(default, skip_serializing_if = "StdStream::is_both")]
    pub(crate) stream: StdStream,
    pub(crate) what: LogMarkKind,
}

/// What a [`LogMark`] says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum LogMarkKind {
    /// The bytes from here on were read then.
    Read,
    Started,
    Ended(Exit),
}

/// Returns the wall clock, in milliseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// Adds a mark to those that wait, unless it says nothing new.
pub(crate) fn push_mark(marks: &mut Vec<LogMark>, mut mark: LogMark) {
    if let (Some(last), LogMarkKind::Read) = (marks.last(), mark.what)
        && (last.run, last.stream) == (mark.run, mark.stream)
        && last.what == LogMarkKind::Read
        && last
            .time
            .zip(mark.time)
            .is_some_and(|(last, now)| now.abs_diff(last) < READ_INTERVAL_MS)
    {
        return;
    }
    if marks.len() == MARKS_MAX {
        (mark.time, mark.what) = (None, LogMarkKind::Read);
    }
    if marks.len() <= MARKS_MAX {
        marks.push(mark);
    }
}

/// The index of one log file.
#[derive(Debug)]
pub(crate) struct LogIndex {
    log: String,
    file: Option<File>,
    encoder: IndexEncoder,
    /// Nothing is written before the log has this length.
    paused_until: u64,
    /// Time, stream and run of what was appended last.
    last: (Option<u64>, StdStream, u64),
}

impl LogIndex {
    /// The index of a log that has this size; `before`: what is known of it already.
    pub(crate) fn open(dir: &Dir, log: &str, size: u64, before: Option<IndexEncoder>) -> LogIndex {
        let there = dir
            .read(&name_of(log))
            .and_then(|file| Ok((file.metadata()?.len(), file)));
        let known = |length| {
            let known =
                |one: &IndexEncoder| (one.index_length(), one.log_length()) == (length, size);
            before.filter(known)
        };
        let now = wall_clock();
        let encoder = match there {
            Ok((length, file)) => known(length).unwrap_or_else(|| {
                // One of a log that was longer is of another log.
                let fits = size > 0 && covered(file, length).is_ok_and(|end| end <= size);
                if !fits {
                    remove_index(dir, log);
                }
                IndexEncoder::resume(if fits { length } else { 0 }, size, now)
            }),
            Err(_) => IndexEncoder::resume(0, size, now),
        };
        LogIndex {
            log: log.to_owned(),
            file: None,
            encoder,
            paused_until: 0,
            last: (None, StdStream::Both, 0),
        }
    }

    /// What is known, for [`LogIndex::open`].
    pub(crate) fn into_known(self) -> IndexEncoder {
        self.encoder
    }

    /// Whether the last bytes wait for [`LogIndex::flush`].
    pub(crate) fn is_deferred(&self) -> bool {
        self.encoder.is_open()
    }

    /// The log, which had `size` bytes, got those of `range`, to which some of the marks belong.
    pub(crate) fn append(&mut self, dir: &Dir, size: u64, range: Range<usize>, marks: &[LogMark]) {
        let known = self.encoder.log_length();
        if size < known {
            self.restart(dir, size); // the log was truncated
        } else {
            self.encoder.append(size - known, None, StdStream::Both);
        }
        let first = marks.partition_point(|mark| mark.at < range.start);
        let read = |mark: &&LogMark| mark.what == LogMarkKind::Read;
        if let Some(mark) = marks[..first].iter().rfind(read) {
            self.mark(mark); // of bytes before these, which may be in another file
        }
        let mut at = range.start;
        let mut append = |index: &mut LogIndex, to: usize| {
            let (time, stream, _) = index.last;
            index.encoder.append((to - at) as u64, time, stream);
            at = to;
        };
        for mark in marks[first..].iter().take_while(|mark| mark.at < range.end) {
            append(self, mark.at);
            self.mark(mark);
        }
        append(self, range.end);
        self.write(dir);
    }

    /// Adds what happened after the last byte.
    pub(crate) fn append_marks(&mut self, dir: &Dir, marks: &[LogMark]) {
        marks.iter().for_each(|mark| self.mark(mark));
        self.write(dir);
    }

    fn mark(&mut self, mark: &LogMark) {
        match (mark.what, mark.time) {
            (LogMarkKind::Started, Some(time)) => self.encoder.start_run(mark.run, time),
            (LogMarkKind::Ended(exit), Some(time)) => self.encoder.end_run(mark.run, exit, time),
            _ => {
                self.encoder.set_run(mark.run);
                self.last = (mark.time, mark.stream, mark.run);
            }
        }
    }

    /// Writes what waits for a better time resolution.
    pub(crate) fn flush(&mut self, dir: &Dir) {
        self.encoder.flush();
        self.write(dir);
    }

    fn write(&mut self, dir: &Dir) {
        let bytes = self.encoder.take();
        let length = self.encoder.log_length();
        if bytes.is_empty() || length < self.paused_until {
            return;
        }
        if self.try_write(dir, &bytes).is_err() {
            self.restart(dir, length);
            self.paused_until = length + RETRY_BYTES;
        }
    }

    fn try_write(&mut self, dir: &Dir, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            if !is_there(&file.metadata()?) {
                return Err(io::ErrorKind::NotFound.into());
            }
            return file.write_all(bytes);
        }
        let mut file = dir.append(&name_of(&self.log))?;
        file.write_all(bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// Begins a new index for a log of this size.
    fn restart(&mut self, dir: &Dir, size: u64) {
        self.file = None;
        remove_index(dir, &self.log);
        self.encoder = IndexEncoder::resume(0, size, wall_clock());
        self.encoder.set_run(self.last.2);
    }
}

/// Removes the index of a log. Where that fails the next write to it fails too.
pub(crate) fn remove_index(dir: &Dir, log: &str) {
    let _ = dir.remove(&name_of(log));
}

/// Returns the file name of the index of a log.
pub(crate) fn name_of(log: &str) -> String {
    format!("{log}.idx")
}

/// Returns the length of the log that an index covers.
fn covered(mut file: File, length: u64) -> io::Result<u64> {
    let last = length.saturating_sub(1) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let mut block = Vec::new();
    file.seek(SeekFrom::Start(last))?;
    file.take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
    let Some(mut entries) = BlockEntries::of(&block) else {
        return Ok(0); // damaged; its reader ignores what does not fit to the next block
    };
    entries.by_ref().for_each(drop);
    Ok(entries.position().offset)
}

#[cfg(unix)]
pub(crate) fn is_there(about: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(about) > 0
}

/// Windows does not say: what is written after a log was taken away is lost.
#[cfg(windows)]
pub(crate) fn is_there(_: &fs::Metadata) -> bool {
    true
}

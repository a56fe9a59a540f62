//! Reads the index beside a log: time and run of any part of the log.
//! Owns the search for the block that a question is about; the format is `mainstay_process`'s.
//! Never says what it does not know: an index that does not fit its log says nothing.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mainstay_process::StdStream;
use mainstay_process::log_index::{
    BLOCK_BYTES, BlockEntries, BlockHeader, IndexEntry, IndexEntryKind,
};

use super::private::open_regular;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A part of a log with one time, one run and one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// In milliseconds since 1970.
    pub(crate) time: Option<u64>,
    /// 0: unknown.
    pub(crate) run: u64,
    pub(crate) stream: StdStream,
}

/// What an index says about a part of its log, in order.
#[derive(Debug, Default)]
pub(crate) struct IndexedPart {
    pub(crate) segments: Vec<Segment>,
    /// Starts and ends of runs.
    pub(crate) events: Vec<IndexEntry>,
}

/// The index of one log file.
#[derive(Debug)]
pub(crate) struct LogIndex {
    file: File,
    length: u64,
    /// The block of the last answer.
    hint: u64,
}

/// Returns the path of the index of a log.
pub(crate) fn index_path(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".idx");
    PathBuf::from(name)
}

impl LogIndex {
    /// Opens the index of a log; none if there is none, or it is of another log. `log_length` is
    /// read after the index, which never covers more than its log has.
    pub(crate) fn open(log: &Path, log_length: impl FnOnce() -> u64) -> Option<LogIndex> {
        let file = open_regular(&index_path(log)).ok()?;
        let length = file.metadata().ok()?.len();
        let hint = 0;
        let mut index = LogIndex { file, length, hint };
        let covered = index.covered();
        (covered <= log_length()).then_some(index)
    }

    /// Sees what was appended since.
    pub(crate) fn refresh(&mut self) {
        self.length = self
            .file
            .metadata()
            .map_or(self.length, |about| about.len());
    }

    /// Returns the length of the log that the index covers.
    fn covered(&mut self) -> u64 {
        for number in (0..self.blocks()).rev() {
            let block = self.block(number);
            if let Some(mut entries) = BlockEntries::of(&block) {
                entries.by_ref().for_each(drop);
                return entries.position().offset;
            }
        }
        0
    }

    /// Returns where the newest run starts that the index knows, of those before run `before`: the
    /// offset and the number of the run.
    pub(crate) fn last_start(&mut self, before: u64) -> Option<(u64, u64)> {
        (0..self.blocks()).rev().find_map(|number| {
            let block = self.block(number);
            let is_start =
                |entry: &IndexEntry| entry.what == IndexEntryKind::Started && entry.run < before;
            let start = BlockEntries::of(&block)?.filter(is_start).last()?;
            Some((start.offset, start.run))
        })
    }

    /// Returns a place of the log before which nothing is of `time` or later.
    pub(crate) fn start_of(&mut self, time: u64) -> u64 {
        let number = self.last_block(|header| header.time < time);
        let header = BlockHeader::decode(&self.block(number));
        header
            .filter(|header| header.time < time)
            .map_or(0, |header| header.offset)
    }

    /// Returns what is known about the bytes `from..to`, and about runs from `from` to `to`.
    pub(crate) fn part(&mut self, from: u64, to: u64) -> IndexedPart {
        let mut part = IndexedPart::default();
        let block = self.block(self.hint);
        let near = BlockHeader::decode(&block).is_some_and(|header| header.offset < from);
        if !near {
            self.hint = self.last_block(|header| header.offset < from);
        }
        for number in self.hint..self.blocks() {
            let block = self.block(number);
            let Some(entries) = BlockEntries::of(&block) else {
                continue;
            };
            let begin = entries.position().offset;
            if begin > to {
                break;
            }
            if begin < from {
                self.hint = number;
            }
            // A block that begins before the end of the last one replaces what that said.
            part.segments
                .retain(|segment: &Segment| segment.from < begin);
            if let Some(last) = part.segments.last_mut() {
                last.to = last.to.min(begin);
            }
            for entry in entries {
                part.add(entry, from, to);
            }
        }
        part
    }

    fn blocks(&self) -> u64 {
        self.length.div_ceil(BLOCK)
    }

    /// Returns the last block whose header is `before`, or the first one. Headers are in order.
    fn last_block(&mut self, before: impl Fn(&BlockHeader) -> bool) -> u64 {
        let (mut low, mut high) = (0, self.blocks());
        while low < high {
            let middle = low + (high - low) / 2;
            let valid = (middle..high).find_map(|number| {
                let header = BlockHeader::decode(&self.block(number))?;
                Some((number, header))
            });
            match valid {
                Some((number, header)) if before(&header) => low = number + 1,
                _ => high = middle,
            }
        }
        low.saturating_sub(1)
    }

    /// Reads a block; what cannot be read is empty, like one that is damaged.
    fn block(&mut self, number: u64) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let mut read = || -> io::Result<()> {
            self.file.seek(SeekFrom::Start(number * BLOCK))?;
            let left = self.length.saturating_sub(number * BLOCK);
            (&self.file).take(left.min(BLOCK)).read_to_end(&mut block)?;
            Ok(())
        };
        if read().is_err() {
            block.clear();
        }
        block
    }
}

impl IndexedPart {
    fn add(&mut self, entry: IndexEntry, from: u64, to: u64) {
        let IndexEntryKind::Bytes(length) = entry.what else {
            if (from..=to).contains(&entry.offset) {
                self.events.push(entry);
            }
            return;
        };
        let segment = Segment {
            from: entry.offset.max(from),
            to: entry.offset.saturating_add(length).min(to),
            time: entry.time,
            run: entry.run,
            stream: entry.stream,
        };
        if segment.from < segment.to {
            self.segments.push(segment);
        }
    }
}

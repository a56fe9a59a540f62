//! The index beside a log file: when each part of the log was read, from which run, how runs ended.
//! Owns the format, as it is written and as it is read; the log itself holds the bytes unchanged.
//! Never guesses: bytes that no valid record covers have no time.
//!
//! The index is a sequence of blocks of [`BLOCK_BYTES`]. A block begins with a header that says
//! everything anew, so that a reader can search the blocks and a damaged block costs only its own
//! part. Records follow, each with a check byte that depends on all bytes of the block before it:
//! what was torn by a crash, or overwritten, ends the block. A full block ends with a hash of it.

use alloc::vec::Vec;

use crate::{Exit, Signal, StdStream};

/// Length of a block.
pub const BLOCK_BYTES: usize = 1024;
/// Length of the header of a block.
pub const HEADER_BYTES: usize = 32;
const MAGIC: [u8; 4] = *b"mli1";
/// Where the hash of a full block is; zero: the block was left by a holder that died.
const SEAL_AT: usize = BLOCK_BYTES - 4;
/// Longest record: two tags, three numbers, the kind of an exit, the check byte.
const RECORD_MAX: usize = 34;

/// The index may have this many bytes, and one more for each [`LOG_BYTES_PER_BYTE`] of the log.
const FREE_BYTES: u64 = 4096;
const LOG_BYTES_PER_BYTE: u64 = 40;
/// The same where stdout and stderr are told apart: each change costs a record.
const LOG_BYTES_PER_BYTE_SPLIT: u64 = 8;
/// How far times may be off, in milliseconds, where that budget is used up.
const COARSE_MS: u64 = 1000;

/// Second byte of a record that is no plain segment.
const UNKNOWN: u8 = 1;
const STARTED: u8 = 2;
const ENDED: u8 = 3;
const CURRENT: u8 = 4;
const STDOUT: u8 = 5;
const STDERR: u8 = 6;

/// What a header says of the log at the beginning of its block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockHeader {
    /// Bytes of the log before this block.
    pub offset: u64,
    /// The time that the first record counts from, in milliseconds since 1970.
    pub time: u64,
    /// The current run; 0: none is known.
    pub run: u64,
}

impl BlockHeader {
    fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        for (place, value) in [(8, self.offset), (16, self.time), (24, self.run)] {
            bytes[place..place + 8].copy_from_slice(&value.to_le_bytes());
        }
        let check = hash(HASH_START, &bytes[8..]);
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads the header of a block; none if it is damaged.
    #[must_use]
    pub fn decode(block: &[u8]) -> Option<BlockHeader> {
        let number = |place: usize| {
            let bytes = block.get(place..place + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        let header = BlockHeader {
            offset: number(8)?,
            time: number(16)?,
            run: number(24)?,
        };
        (block.get(..HEADER_BYTES)? == header.encode()).then_some(header)
    }
}

/// One statement of an index about the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The place in the log.
    pub offset: u64,
    /// When, in milliseconds since 1970; none: nothing is known.
    pub time: Option<u64>,
    /// The run; 0: none is known.
    pub run: u64,
    /// Which stream the bytes are from; [`StdStream::Both`]: of one pipe, or unknown.
    pub stream: StdStream,
    /// What is stated.
    pub what: IndexEntryKind,
}

/// What an [`IndexEntry`] states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexEntryKind {
    /// The next bytes of the log, this many, were read at that time.
    Bytes(u64),
    /// The run started.
    Started,
    /// The run ended.
    Ended(Exit),
}

/// Makes the bytes of an index while its log grows.
#[derive(Debug, Clone)]
pub struct IndexEncoder {
    /// What is to be appended to the index.
    out: Vec<u8>,
    /// Length of the index with `out`.
    length: u64,
    at: BlockHeader,
    chain: u8,
    /// The hash of the current block; none: another encoder began it.
    seal: Option<u32>,
    /// A segment that may still grow.
    open: Option<OpenSegment>,
}

#[derive(Debug, Clone, Copy)]
struct OpenSegment {
    length: u64,
    time: u64,
    stream: StdStream,
}

impl IndexEncoder {
    /// Continues, at `time`, an index of this length for a log of this length. What the index does
    /// not cover stays without a time.
    #[must_use]
    pub fn resume(index_length: u64, log_length: u64, time: u64) -> IndexEncoder {
        let at = BlockHeader {
            offset: log_length,
            time,
            run: 0,
        };
        let mut encoder = IndexEncoder {
            out: Vec::new(),
            length: index_length,
            at,
            chain: 0,
            seal: None,
            open: None,
        };
        if index_length > 0 {
            encoder.pad();
        }
        encoder
    }

    /// The length of the log as this index knows it.
    #[must_use]
    pub fn log_length(&self) -> u64 {
        self.at.offset + self.open.map_or(0, |open| open.length)
    }

    /// The length of the index with what [`IndexEncoder::take`] returns next.
    #[must_use]
    pub fn index_length(&self) -> u64 {
        self.length
    }

    /// Whether a segment waits for [`IndexEncoder::flush`].
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The log has `length` more bytes of `stream`, which were read at `time` (milliseconds since
    /// 1970). Where streams alternate faster than may be described, the bytes are of both.
    pub fn append(&mut self, length: u64, time: Option<u64>, stream: StdStream) {
        if length == 0 {
            return;
        }
        let Some(time) = time else {
            self.flush();
            self.record(&[0, UNKNOWN], &[length]);
            self.at.offset += length;
            return;
        };
        let may_change = self.has_room(LOG_BYTES_PER_BYTE_SPLIT);
        let share = match stream {
            StdStream::Both => LOG_BYTES_PER_BYTE,
            _ => LOG_BYTES_PER_BYTE_SPLIT,
        };
        match &mut self.open {
            Some(open)
                if time.abs_diff(open.time) < COARSE_MS
                    && (open.stream == stream || !may_change) =>
            {
                open.length += length;
                if open.stream != stream {
                    open.stream = StdStream::Both;
                }
            }
            _ => {
                self.flush();
                self.open = Some(OpenSegment {
                    length,
                    time,
                    stream,
                });
            }
        }
        if self.has_room(share) {
            self.flush();
        }
    }

    fn has_room(&self, log_bytes_per_byte: u64) -> bool {
        self.length + RECORD_MAX as u64 <= FREE_BYTES + self.at.offset / log_bytes_per_byte
    }

    /// The run started at `time` (milliseconds since 1970); the bytes that follow are its own.
    pub fn start_run(&mut self, run: u64, time: u64) {
        self.flush();
        let since = self.since(time);
        self.at.run = run;
        self.record(&[0, STARTED], &[run, since]);
        self.at.time = time;
    }

    /// The bytes that follow are of this run.
    pub fn set_run(&mut self, run: u64) {
        if run != self.at.run {
            self.flush();
            self.at.run = run;
            self.record(&[0, CURRENT], &[run]);
        }
    }

    /// Records how a run ended, at `time` (milliseconds since 1970).
    pub fn end_run(&mut self, run: u64, exit: Exit, time: u64) {
        self.flush();
        let (kind, value) = match exit {
            Exit::Unknown => (0, 0),
            Exit::Code(code) => (1, i64::from(code)),
            Exit::Signal { signal, core } => (2 + u64::from(core), i64::from(signal.0)),
            Exit::Oom => (4, 0),
            Exit::Stuck => (5, 0),
        };
        let since = self.since(time);
        self.record(&[0, ENDED], &[run, since, kind, zigzag(value)]);
        self.at.time = time;
    }

    /// Writes the segment that is open.
    pub fn flush(&mut self) {
        if let Some(open) = self.open.take() {
            let tags: &[u8] = match open.stream {
                StdStream::Both => &[],
                StdStream::Stdout => &[0, STDOUT],
                StdStream::Stderr => &[0, STDERR],
            };
            let since = self.since(open.time);
            self.record(tags, &[open.length, since]);
            self.at.offset += open.length;
            self.at.time = open.time;
        }
    }

    /// What is to be appended to the index now.
    pub fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.out)
    }

    fn since(&self, time: u64) -> u64 {
        zigzag(time.cast_signed().wrapping_sub(self.at.time.cast_signed()))
    }

    fn record(&mut self, tags: &[u8], numbers: &[u64]) {
        let used = (self.length % BLOCK_BYTES as u64) as usize;
        if used + RECORD_MAX > SEAL_AT {
            self.pad();
        }
        let mut start = self.out.len();
        if self.length.is_multiple_of(BLOCK_BYTES as u64) {
            let header = self.at.encode();
            self.chain = chained(0, &header);
            self.seal = Some(hash(HASH_START, &header));
            self.out.extend_from_slice(&header);
            self.length += HEADER_BYTES as u64;
            start += HEADER_BYTES;
        }
        self.out.extend_from_slice(tags);
        for number in numbers {
            write_number(&mut self.out, *number);
        }
        self.chain = chained(self.chain, &self.out[start..]);
        self.out.push(self.chain);
        self.seal = self.seal.map(|seal| hash(seal, &self.out[start..]));
        self.length += (self.out.len() - start) as u64;
    }

    /// Fills the current block.
    fn pad(&mut self) {
        let used = (self.length % BLOCK_BYTES as u64) as usize;
        if used == 0 {
            return;
        }
        self.length += (BLOCK_BYTES - used) as u64;
        let start = self.out.len();
        self.out.resize(start + SEAL_AT.saturating_sub(used), 0);
        let seal = self.seal.take().map(|seal| hash(seal, &self.out[start..]));
        let seal = seal.unwrap_or(0).to_le_bytes();
        self.out
            .extend_from_slice(&seal[used.saturating_sub(SEAL_AT)..]);
    }
}

/// The entries of a block, up to its end or its first damage.
#[derive(Debug, Clone)]
pub struct BlockEntries<'b> {
    rest: &'b [u8],
    at: BlockHeader,
    chain: u8,
}

impl<'b> BlockEntries<'b> {
    /// Reads a block; none if it is damaged.
    #[must_use]
    pub fn of(block: &'b [u8]) -> Option<BlockEntries<'b>> {
        let at = BlockHeader::decode(block)?;
        if let Some(seal) = block.get(SEAL_AT..BLOCK_BYTES)
            && seal != [0; 4]
            && seal != hash(HASH_START, &block[..SEAL_AT]).to_le_bytes()
        {
            return None;
        }
        let chain = chained(0, &block[..HEADER_BYTES]);
        Some(BlockEntries {
            rest: &block[HEADER_BYTES..],
            at,
            chain,
        })
    }

    /// Where the log is after the entries that were read so far.
    #[must_use]
    pub fn position(&self) -> BlockHeader {
        self.at
    }

    /// Reads one record; none inside: it states nothing of the log.
    fn read(&mut self) -> Option<Option<IndexEntry>> {
        let mut record = self.rest;
        let length = read_number(&mut record)?;
        let kind = if length == 0 { take(&mut record)? } else { 0 };
        let mut at = self.at;
        let time = |record: &mut &[u8], at: &mut BlockHeader| {
            at.time = at.time.wrapping_add_signed(unzigzag(read_number(record)?));
            Some(at.time)
        };
        let mut stream = StdStream::Both;
        let (time, run, what) = match (length, kind) {
            (1.., _) => {
                let time = time(&mut record, &mut at)?;
                (Some(time), at.run, IndexEntryKind::Bytes(length))
            }
            (_, STDOUT | STDERR) => {
                stream = match kind {
                    STDOUT => StdStream::Stdout,
                    _ => StdStream::Stderr,
                };
                let length = read_number(&mut record)?;
                let time = time(&mut record, &mut at)?;
                (Some(time), at.run, IndexEntryKind::Bytes(length))
            }
            (_, UNKNOWN) => {
                let length = read_number(&mut record)?;
                (None, at.run, IndexEntryKind::Bytes(length))
            }
            (_, STARTED) => {
                at.run = read_number(&mut record)?;
                let time = time(&mut record, &mut at)?;
                (Some(time), at.run, IndexEntryKind::Started)
            }
            (_, ENDED) => {
                let run = read_number(&mut record)?;
                let time = time(&mut record, &mut at)?;
                let kind = read_number(&mut record)?;
                let value = unzigzag(read_number(&mut record)?);
                (Some(time), run, IndexEntryKind::Ended(exit(kind, value)))
            }
            (_, CURRENT) => {
                at.run = read_number(&mut record)?;
                (None, at.run, IndexEntryKind::Bytes(0))
            }
            _ => return None, // the end of the block, or a record of a newer mainstay
        };
        let read = self.rest.len() - record.len();
        let chain = chained(self.chain, &self.rest[..read]);
        if take(&mut record)? != chain {
            return None;
        }
        let entry = IndexEntry {
            offset: at.offset,
            time,
            run,
            stream,
            what,
        };
        if let IndexEntryKind::Bytes(length) = what {
            at.offset = at.offset.checked_add(length)?;
        }
        (self.rest, self.at, self.chain) = (record, at, chain);
        Some((what != IndexEntryKind::Bytes(0)).then_some(entry))
    }
}

impl Iterator for BlockEntries<'_> {
    type Item = IndexEntry;

    fn next(&mut self) -> Option<IndexEntry> {
        loop {
            match self.read() {
                Some(Some(entry)) => return Some(entry),
                Some(None) => {}
                None => {
                    self.rest = &[];
                    return None;
                }
            }
        }
    }
}

fn exit(kind: u64, value: i64) -> Exit {
    let value = i32::try_from(value).unwrap_or_default();
    match kind {
        1 => Exit::Code(value),
        2 | 3 => Exit::Signal {
            signal: Signal(value),
            core: kind == 3,
        },
        4 => Exit::Oom,
        5 => Exit::Stuck,
        _ => Exit::Unknown,
    }
}

const HASH_START: u32 = 0x811c_9dc5;

/// FNV-1a.
fn hash(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// CRC-8 of all bytes of a block so far: finds every change of up to 8 bits in a row.
fn chained(chain: u8, bytes: &[u8]) -> u8 {
    bytes.iter().fold(chain, |chain, byte| {
        (0..8).fold(chain ^ byte, |crc, _| {
            (crc << 1) ^ (if crc & 0x80 == 0 { 0 } else { 0x07 })
        })
    })
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn write_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn read_number(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(from)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take(from: &mut &[u8]) -> Option<u8> {
    let (first, rest) = from.split_first()?;
    *from = rest;
    Some(*first)
}

#[cfg(test)]
#[path = "log_index_tests.rs"]
mod tests;

//! The lines of a module's log, oldest first, rotated files included: with time, run and stream.
//! Owns what a line is: bytes of one stream, up to a newline or the end of the run.
//! Never reads what a filter excludes where the index says so, and never keeps a whole huge line.

mod backward_search;
mod chunk;
mod filter;
mod following;
mod runs;
pub(crate) mod stamp;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_process::log_index::{IndexEntry, IndexEntryKind};
use mainstay_process::{Exit, StdStream};
use mainstay_protocol::Timestamp;

use backward_search::BackwardSearch;
use chunk::{Chunk, OpenLine};
pub(crate) use filter::LogFilter;

use super::log_index::{IndexedPart, LogIndex, Segment};
use super::private::open_regular;

/// Bytes that are read at once.
const CHUNK: u64 = 256 * 1024;
/// Bytes before the newest lines in which one of them may have begun, where streams are told apart.
const BEGUN: u64 = 64 * 1024;
/// Bytes of a line that are kept.
pub(crate) const LINE_MAX: usize = 256 * 1024;

/// A line of output.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LogLine {
    /// When the read that brought its first byte happened, if that is known.
    pub(crate) at: Option<Timestamp>,
    /// The run that wrote it; 0: unknown.
    pub(crate) run: u64,
    /// Where it was written to, if that is known.
    pub(crate) stream: StdStream,
    /// The line without its newline, up to [`LINE_MAX`] bytes of it.
    pub(crate) text: Vec<u8>,
    /// Its length.
    pub(crate) length: u64,
    /// What happened to runs since the last line.
    pub(crate) mark: Option<RunMark>,
}

/// A boundary of runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RunMark {
    /// The run that started, and when.
    pub(crate) started: Option<(u64, Timestamp)>,
    /// The run that ended before.
    pub(crate) ended: Option<RunEnded>,
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RunEnded {
    pub(crate) run: u64,
    pub(crate) exit: Exit,
    pub(crate) at: Timestamp,
    /// How long it ran, if its start is known.
    pub(crate) ran: Option<Duration>,
}

struct OpenLog {
    file: File,
    length: u64,
    index: Option<LogIndex>,
}

impl OpenLog {
    fn open(path: &Path) -> io::Result<OpenLog> {
        let file = open_regular(path)?;
        let index = LogIndex::open(path, || file.metadata().map_or(0, |about| about.len()));
        let length = file.metadata()?.len();
        Ok(OpenLog {
            file,
            length,
            index,
        })
    }

    fn read(&mut self, from: u64, to: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        self.file.seek(SeekFrom::Start(from))?;
        (&self.file).take(to - from).read_to_end(bytes)?;
        Ok(())
    }

    /// Whether the byte before `offset` ends a line.
    fn is_line_start(&mut self, offset: u64) -> io::Result<bool> {
        let mut byte = Vec::new();
        if offset > 0 {
            self.read(offset - 1, offset, &mut byte)?;
        }
        Ok(offset == 0 || byte == b"\n")
    }

    fn part(&mut self, from: u64, to: u64) -> IndexedPart {
        let index = self.index.as_mut();
        index.map(|index| index.part(from, to)).unwrap_or_default()
    }
}

/// What came of reading a part of a log.
enum Loaded {
    Bytes,
    /// The filter excludes all of it.
    Excluded,
    /// There is nothing, or not yet.
    Nothing,
}

/// Reads the lines of one log.
pub(crate) struct LogReader {
    path: PathBuf,
    /// The oldest first; the first one is being read.
    files: VecDeque<OpenLog>,
    position: u64,
    chunk: Chunk,
    /// The line of this stream, and that of the other.
    open: OpenLine,
    stream: StdStream,
    other: OpenLine,
    /// Lines that their run ended.
    cut: VecDeque<LogLine>,
    /// A line was left out because its stream is not known.
    hides_unknown: bool,
    run: u64,
    /// The run before: its last bytes may come late.
    earlier_run: u64,
    started: Option<(u64, Timestamp)>,
    ended: Option<RunEnded>,
    newest_end: Timestamp,
    mark: Option<RunMark>,
    filter: LogFilter,
    /// What follows the log learned at its last look: the length then, and when it grew.
    grew: Option<(u64, Instant)>,
}

impl LogReader {
    /// Reads all lines that pass the filter.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    pub(crate) fn open(path: &Path, filter: LogFilter) -> io::Result<LogReader> {
        let mut reader = LogReader::new(path, filter);
        for number in 0.. {
            let Some(mut log) = reader.open_number(number)? else {
                break;
            };
            let since = reader.filter.since;
            if since.is_some_and(|since| is_older(&mut log, since)) {
                break;
            }
            reader.files.push_front(log);
        }
        reader.skip_to_since()?;
        Ok(reader)
    }

    /// Reads the newest `count` lines; more if runs ended without a newline, or if streams are told
    /// apart.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    pub(crate) fn open_last(path: &Path, count: usize) -> io::Result<LogReader> {
        let mut reader = LogReader::new(path, LogFilter::default());
        let mut search = BackwardSearch::new(count);
        for number in 0.. {
            let Some(mut log) = reader.open_number(number)? else {
                break;
            };
            let found = search.search(&mut log)?;
            reader.files.push_front(log);
            let Some(position) = found else {
                continue;
            };
            reader.position = position;
            if count > 0 {
                reader.include_begun()?;
            }
            break;
        }
        Ok(reader)
    }

    /// Moves back a little where streams are told apart: the newest lines of one may begin before
    /// lines of the other.
    fn include_begun(&mut self) -> io::Result<()> {
        let earlier = self.position.saturating_sub(BEGUN);
        let Some(log) = self.files.front_mut() else {
            return Ok(());
        };
        let before = log.part(earlier, self.position);
        match before.segments.iter().any(|one| !one.stream.is_both()) {
            true => self.skip_to(earlier),
            false => Ok(()),
        }
    }

    /// Opens the `number`th newest file; none after the last one.
    fn open_number(&self, number: u32) -> io::Result<Option<OpenLog>> {
        let path = match number {
            0 => self.path.clone(),
            _ => rotated(&self.path, number),
        };
        let log = match OpenLog::open(&path) {
            // The newest may not be there yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => {
                return self.open_number(1);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if let Some(newer) = self.files.front()
            && following::is_same(&newer.file.metadata()?, &log.file.metadata()?)
        {
            return self.open_number(number + 1); // it was rotated meanwhile
        }
        Ok(Some(log))
    }

    fn new(path: &Path, filter: LogFilter) -> LogReader {
        LogReader {
            path: path.to_owned(),
            files: VecDeque::new(),
            position: 0,
            chunk: Chunk::default(),
            open: OpenLine::default(),
            stream: StdStream::Stdout,
            other: OpenLine::default(),
            cut: VecDeque::new(),
            hides_unknown: false,
            run: 0,
            earlier_run: 0,
            started: None,
            ended: None,
            newest_end: Timestamp::default(),
            mark: None,
            filter,
            grew: None,
        }
    }

    /// Moves to the first block of the index that may have something of the interval.
    fn skip_to_since(&mut self) -> io::Result<()> {
        if let (Some(since), Some(log)) = (self.filter.since, self.files.front_mut())
            && let Some(index) = &mut log.index
        {
            let position = index.start_of(since.0).min(log.length);
            self.skip_to(position)?;
        }
        Ok(())
    }

    /// Moves to a place of the first file, after the lines that begin before it.
    fn skip_to(&mut self, position: u64) -> io::Result<()> {
        if let Some(log) = self.files.front_mut() {
            let before = log.part(position.saturating_sub(CHUNK), position);
            let ends = log.line_ends(&before.segments, position)?;
            self.skip_begun(ends);
        }
        self.position = position;
        Ok(())
    }

    /// Which lines pass.
    pub(crate) fn filter(&self) -> LogFilter {
        self.filter.clone()
    }

    /// Whether a line was left out because its stream is not known.
    pub(crate) fn hides_unknown(&self) -> bool {
        self.hides_unknown
    }

    /// Whether any file is there.
    pub(crate) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Returns the next line that passes the filter; none at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if let Some(line) = self.next_known()? {
                return Ok(Some(line));
            }
            let Some(line) = self.take_open() else {
                return Ok(None);
            };
            if let Some(line) = self.pass(line) {
                return Ok(Some(line));
            }
        }
    }

    /// Returns the next line that has ended.
    fn next_known(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            while let Some(line) = self.cut.pop_front().or_else(|| self.line_of_chunk()) {
                if let Some(line) = self.pass(line) {
                    return Ok(Some(line));
                }
            }
            if !self.load()? {
                return Ok(None);
            }
        }
    }

    /// What happened to runs after the last line, each end once.
    pub(crate) fn trailing_mark(&mut self) -> Option<RunMark> {
        let ended = Some(self.ended.take()?);
        let started = None;
        Some(RunMark { started, ended })
    }

    fn pass(&mut self, line: LogLine) -> Option<LogLine> {
        let time = line.at.map(|at| at.0);
        let (filter, grep) = (&self.filter, self.filter.grep.as_ref());
        let is_wanted =
            filter.includes(time, line.run) && grep.is_none_or(|grep| grep.is_match(&line.text));
        let is_other = filter.stream.is_some_and(|stream| stream != line.stream);
        self.hides_unknown |= is_wanted && is_other && line.stream.is_both();
        if !is_wanted || is_other {
            self.mark = self.mark.take().or(line.mark);
            return None;
        }
        Some(line)
    }

    fn line_of_chunk(&mut self) -> Option<LogLine> {
        while self.next_stream() {
            if let Some(line) = self.line_of_stream() {
                return Some(line);
            }
        }
        None
    }

    fn line_of_stream(&mut self) -> Option<LogLine> {
        if self.open.skips {
            let rest = self.chunk.rest();
            let end = memchr::memchr(b'\n', rest);
            self.open.skips = end.is_none();
            self.chunk.at += end.map_or(rest.len(), |end| end + 1);
        }
        if self.open.line.is_none() {
            self.skip_to_match();
        }
        if self.chunk.rest().is_empty() {
            return None;
        }
        if self.open.line.is_none() {
            self.open.line = Some(LogLine {
                at: self.chunk.time().map(Timestamp),
                run: self.run,
                stream: self.chunk.stream,
                mark: self.mark.take(),
                ..LogLine::default()
            });
        }
        let rest = self.chunk.rest();
        let end = memchr::memchr(b'\n', rest);
        let part = &rest[..end.unwrap_or(rest.len())];
        let line = self.open.line.as_mut()?;
        line.length += part.len() as u64;
        let room = LINE_MAX.saturating_sub(line.text.len()).min(part.len());
        line.text.extend_from_slice(&part[..room]);
        self.chunk.at += part.len() + usize::from(end.is_some());
        end.and_then(|_| self.open.line.take())
    }

    /// Moves to the next line of the stream that matches, or after its last whole line.
    fn skip_to_match(&mut self) {
        let Some(grep) = &self.filter.grep else {
            return;
        };
        let rest = self.chunk.rest();
        let Some(last) = memchr::memrchr(b'\n', rest) else {
            return;
        };
        let whole = &rest[..=last];
        self.chunk.at += match grep.find(whole) {
            Some(found) => {
                let start = memchr::memrchr(b'\n', &whole[..found.start()]);
                start.map_or(0, |start| start + 1)
            }
            None => whole.len(),
        };
    }

    /// Reads the next chunk; false at the end.
    fn load(&mut self) -> io::Result<bool> {
        loop {
            let is_last = self.files.len() == 1;
            let Some(log) = self.files.front_mut() else {
                return Ok(false);
            };
            let from = self.position;
            let part = log.part(from, log.length.min(from + CHUNK));
            if from >= log.length {
                self.chunk = Chunk::default(); // it may wait for long
                let ends = |event: &&IndexEntry| matches!(event.what, IndexEntryKind::Ended(_));
                part.events
                    .iter()
                    .filter(ends)
                    .for_each(|event| self.apply(event));
                if is_last {
                    return Ok(false);
                }
                self.files.pop_front();
                self.position = 0;
                continue;
            }
            match self.load_part(from, part)? {
                Loaded::Bytes => return Ok(true),
                Loaded::Nothing => return Ok(false),
                Loaded::Excluded => {}
            }
        }
    }

    /// Reads the part of one run that begins at `from`.
    fn load_part(&mut self, from: u64, part: IndexedPart) -> io::Result<Loaded> {
        let IndexedPart {
            mut segments,
            events,
        } = part;
        let first = segments
            .first()
            .filter(|segment| segment.from == from && segment.run > 0);
        let run = first.map_or(self.run, |segment| segment.run);
        let mut others = segments
            .iter()
            .filter(|segment| segment.run > 0 && segment.run != run);
        let change = others.next().map_or(u64::MAX, |segment| segment.from);
        let is_start = |event: &&IndexEntry| event.what == IndexEntryKind::Started;
        let mut starts = events.iter().filter(is_start).map(|event| event.offset);
        let start = starts.find(|start| *start > from).unwrap_or(u64::MAX);
        let covered = segments.last().map_or(from, |segment| segment.to);
        let (is_last, has_open) = (self.files.len() == 1, self.has_open());
        let Some(log) = self.files.front_mut() else {
            return Ok(Loaded::Nothing);
        };
        let mut to = log.length.min(from + CHUNK).min(change).min(start);
        if let Some((seen, _)) = self.grew.filter(|_| log.index.is_some() && is_last) {
            // What is new and not in the index may be the first line of another run.
            to = to.min(covered.max(seen));
            if to <= from {
                return Ok(Loaded::Nothing);
            }
        }
        segments.retain(|segment| segment.from < to);
        let known: u64 = segments
            .iter()
            .map(|segment| segment.to.min(to) - segment.from)
            .sum();
        let excluded = |segment: &Segment| {
            let stream = self.filter.stream.filter(|_| !segment.stream.is_both());
            segment.time.is_some()
                && (!self.filter.includes(segment.time, segment.run)
                    || stream.is_some_and(|stream| stream != segment.stream))
        };
        let is_excluded = !has_open && known == to - from && segments.iter().all(excluded);
        let mut ends = Vec::new();
        let mut bytes = std::mem::take(&mut self.chunk).bytes;
        if is_excluded {
            ends = log.line_ends(&segments, to)?;
        } else {
            log.read(from, to, &mut bytes)?;
            self.chunk = Chunk::of(from, bytes, segments);
        }
        self.position = to;
        let is_new = events
            .iter()
            .filter(is_start)
            .any(|event| event.offset == from);
        events
            .iter()
            .filter(|event| event.offset < to)
            .for_each(|event| self.apply(event));
        if is_new || run != self.run {
            self.change_run(run, is_new);
        }
        if is_excluded {
            self.skip_begun(ends);
            return Ok(Loaded::Excluded);
        }
        if self.chunk.bytes.is_empty() {
            return Ok(Loaded::Nothing); // it was truncated meanwhile
        }
        Ok(Loaded::Bytes)
    }

    /// Applies what happened to a run.
    fn apply(&mut self, event: &IndexEntry) {
        let at = Timestamp(event.time.unwrap_or_default());
        match event.what {
            IndexEntryKind::Started => self.started = Some((event.run, at)),
            // At the end of a log that is followed it is read again and again.
            IndexEntryKind::Ended(_) if at <= self.newest_end => {}
            IndexEntryKind::Ended(exit) => {
                self.newest_end = at;
                let start = self.started.filter(|(run, _)| *run == event.run);
                let ran = start.map(|(_, from)| at.0.saturating_sub(from.0));
                self.ended = Some(RunEnded {
                    run: event.run,
                    exit,
                    at,
                    ran: ran.map(Duration::from_millis),
                });
            }
            IndexEntryKind::Bytes(_) => {}
        }
    }

    /// The bytes that follow are of this run, which starts with them if `is_new`.
    fn change_run(&mut self, run: u64, is_new: bool) {
        if is_new || self.run > 0 {
            let begun = [&mut self.open, &mut self.other].map(std::mem::take);
            self.cut
                .extend(begun.into_iter().filter_map(|one| one.line));
            // Late bytes of the run before, and those that follow them, are no boundary.
            if is_new || run != self.earlier_run {
                let started = self
                    .started
                    .filter(|(started, _)| is_new && *started == run);
                let ended = self.ended.take();
                self.mark = Some(RunMark { started, ended });
            }
        }
        (self.earlier_run, self.run) = (self.run, run);
    }
}

/// Whether nothing in a log is of that time or later.
fn is_older(log: &mut OpenLog, time: Timestamp) -> bool {
    let changed = || {
        log.file
            .metadata()
            .ok()?
            .modified()
            .ok()
            .map(Timestamp::from)
    };
    let last = changed().map(|at| at.0);
    // The file says when it was last written to, to the granularity of its file system.
    last.is_some_and(|last| last + 10_000 < time.0)
}

/// Returns the path of the `number`th file that was rotated away.
pub(crate) fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;

//! Bytes that were read, of one run: their times, and which of them are of one stream.
//! Owns where the next of both begins.
//! Never reads more than the last byte of a line.

use std::io;

use mainstay_process::StdStream;

use super::{LogLine, LogReader, OpenLog};
use crate::os::log_index::Segment;

/// Bytes that were read, of one run.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
    pub(super) segments: Vec<Segment>,
    /// The segment of the next byte, or an earlier one.
    segment: usize,
    /// The bytes up to here are of this stream.
    stream_end: usize,
    pub(super) stream: StdStream,
}

/// A line of one stream whose end was not read yet.
#[derive(Default)]
pub(super) struct OpenLine {
    pub(super) line: Option<LogLine>,
    /// Bytes up to the next newline are of a line that is not shown.
    pub(super) skips: bool,
}

impl Chunk {
    pub(super) fn of(start: u64, bytes: Vec<u8>, segments: Vec<Segment>) -> Chunk {
        Chunk {
            start,
            bytes,
            segments,
            ..Chunk::default()
        }
    }

    /// The time of the next byte.
    pub(super) fn time(&mut self) -> Option<u64> {
        let place = self.start + self.at as u64;
        while self
            .segments
            .get(self.segment)
            .is_some_and(|segment| segment.to <= place)
        {
            self.segment += 1;
        }
        let segment = self.segments.get(self.segment);
        segment.filter(|segment| segment.from <= place)?.time
    }

    /// The next bytes, of one stream.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..self.stream_end]
    }

    /// Moves to the bytes of the next stream; false at the end.
    fn next_stream(&mut self) -> bool {
        let place = self.start + self.at as u64;
        let first = self.segments.partition_point(|one| one.to <= place);
        let segments = &self.segments[first..];
        let known = segments.first().filter(|one| one.from <= place);
        self.stream = known.map_or(StdStream::Both, |one| one.stream);
        let other = segments.iter().find(|one| one.stream != self.stream);
        let end = other.and_then(|one| usize::try_from(one.from - self.start).ok());
        self.stream_end = end.unwrap_or(self.bytes.len()).min(self.bytes.len());
        self.at < self.stream_end
    }
}

impl LogReader {
    /// Makes the rest of the chunk begin with bytes of one stream; false at its end.
    pub(super) fn next_stream(&mut self) -> bool {
        if self.chunk.rest().is_empty() {
            if !self.chunk.next_stream() {
                return false;
            }
            self.select_stream(self.chunk.stream);
        }
        true
    }

    /// Goes on with the line of this stream; bytes of which it is not known go on with the last.
    fn select_stream(&mut self, stream: StdStream) {
        if !stream.is_both() && stream != self.stream {
            std::mem::swap(&mut self.open, &mut self.other);
            self.stream = stream;
        }
    }

    /// Skips the rest of the lines that begin before a place and end after it.
    pub(super) fn skip_begun(&mut self, ends: Vec<(StdStream, bool)>) {
        for (stream, ends_line) in ends {
            self.select_stream(stream);
            self.open.skips = !ends_line;
        }
    }

    /// Returns a line whose end was not read yet.
    pub(super) fn take_open(&mut self) -> Option<LogLine> {
        self.open.line.take().or_else(|| self.other.line.take())
    }

    pub(super) fn has_open(&self) -> bool {
        self.open.line.is_some() || self.other.line.is_some()
    }
}

impl OpenLog {
    /// Returns the streams with bytes in these segments, and whether the last byte of each before
    /// `to` ends a line; the stream of the last byte is the last.
    pub(super) fn line_ends(
        &mut self,
        segments: &[Segment],
        to: u64,
    ) -> io::Result<Vec<(StdStream, bool)>> {
        let last_of = |stream| segments.iter().rfind(|one| one.stream == stream);
        let streams = [StdStream::Both, StdStream::Stdout, StdStream::Stderr];
        let of_stream = |stream| Some((last_of(stream)?.to.min(to), stream));
        let mut ends: Vec<_> = streams.into_iter().filter_map(of_stream).collect();
        ends.sort_by_key(|(end, _)| *end);
        if ends.last().is_none_or(|(end, _)| *end < to) {
            ends.push((to, StdStream::Both));
        }
        let checked = ends
            .into_iter()
            .map(|(end, stream)| Ok((stream, self.is_line_start(end)?)));
        checked.collect()
    }
}

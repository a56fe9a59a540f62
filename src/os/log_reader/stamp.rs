//! What the protocol says of a line: its time, run and stream.
//! Owns both directions between the streams of a process and those of the protocol.
//! Never knows the text of a line.

use mainstay_process::StdStream;
use mainstay_protocol::enums::LogStream;
use mainstay_protocol::method::LineStamp;

use super::LogLine;

impl LogLine {
    /// What is known of the line.
    pub(crate) fn stamp(&self) -> LineStamp {
        LineStamp {
            at: self.at,
            run: Some(self.run).filter(|run| *run > 0),
            stream: to_protocol(self.stream),
        }
    }
}

/// Returns the stream for a client; none if it is not known.
pub(crate) fn to_protocol(stream: StdStream) -> Option<LogStream> {
    match stream {
        StdStream::Stdout => Some(LogStream::Stdout),
        StdStream::Stderr => Some(LogStream::Stderr),
        StdStream::Both => None,
    }
}

/// Returns the stream that a client or a runtime names; [`StdStream::Both`] if it names none that
/// is known here.
pub(crate) fn from_protocol(stream: Option<LogStream>) -> StdStream {
    match stream {
        Some(LogStream::Stdout) => StdStream::Stdout,
        Some(LogStream::Stderr) => StdStream::Stderr,
        Some(LogStream::Other(_)) | None => StdStream::Both,
    }
}

//! Lines from a socket, limited in their length.
//! Owns one growing buffer a connection. Never keeps more than one line and one read of bytes.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes requested from the socket at a time.
const READ_BYTES: usize = 16 * 1024;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadLine {
    /// A line, without its newline.
    Text(Vec<u8>),
    /// A line longer than the limit: what follows it cannot be trusted.
    TooLong,
    /// The client closed its end.
    End,
}

/// Reads lines. The cost is linear in the bytes, however many lines arrive at once.
pub(crate) struct LineReader<R> {
    from: R,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were returned already.
    start: usize,
    /// Bytes of the buffer in which no newline follows `start`.
    searched: usize,
    limit: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Reads lines of at most `limit` bytes from `from`.
    pub(crate) fn new(from: R, limit: usize) -> LineReader<R> {
        LineReader {
            from,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            limit,
        }
    }

    /// Limits lines to this number of bytes from now on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Returns the next line. Dropping the future loses nothing. Yields to other tasks, also while
    /// lines are in the buffer.
    pub(crate) async fn next(&mut self) -> std::io::Result<ReadLine> {
        tokio::task::consume_budget().await;
        loop {
            let unsearched = &self.buffer[self.searched..];
            if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
                let end = self.searched + at;
                let line = self.buffer[self.start..end].to_vec();
                self.start = end + 1;
                self.searched = self.start;
                return Ok(ReadLine::Text(line));
            }
            // What was returned is removed once for each read, not for each line.
            self.buffer.drain(..self.start);
            self.start = 0;
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limit {
                return Ok(ReadLine::TooLong);
            }
            if self.buffer.is_empty() && self.buffer.capacity() > READ_BYTES {
                self.buffer = Vec::new(); // a long line does not keep its memory
            }
            self.buffer.reserve(READ_BYTES);
            let mut part = (&mut self.from).take(READ_BYTES as u64);
            if part.read_buf(&mut self.buffer).await? == 0 {
                return Ok(ReadLine::End); // an incomplete line at the end is not a line
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_protocol::MAX_LINE_BYTES;

    fn text(line: &[u8]) -> ReadLine {
        ReadLine::Text(line.to_vec())
    }

    #[tokio::test]
    async fn lines_in_pieces_incomplete_lines_and_giants() {
        let mut lines = LineReader::new(&b"one\ntwo\nhalf"[..], 16);
        assert_eq!(lines.next().await.expect("reads"), text(b"one"));
        assert_eq!(lines.next().await.expect("reads"), text(b"two"));
        assert_eq!(lines.next().await.expect("reads"), ReadLine::End);
        let giant = vec![b'x'; MAX_LINE_BYTES + 2];
        let mut lines = LineReader::new(giant.as_slice(), 16);
        lines.set_limit(MAX_LINE_BYTES);
        assert_eq!(lines.next().await.expect("reads"), ReadLine::TooLong);
    }

    #[tokio::test]
    async fn lines_across_reads_are_whole() {
        let mut bytes = Vec::new();
        let line = |n: usize| vec![b'a' + u8::try_from(n % 26).expect("a letter"); n * 37 % 9000];
        for n in 0..200 {
            bytes.extend_from_slice(&line(n));
            bytes.push(b'\n');
        }
        let mut lines = LineReader::new(bytes.as_slice(), MAX_LINE_BYTES);
        for n in 0..200 {
            assert_eq!(
                lines.next().await.expect("reads"),
                text(&line(n)),
                "line {n}"
            );
        }
        assert_eq!(lines.next().await.expect("reads"), ReadLine::End);
    }

    #[tokio::test]
    async fn a_million_empty_lines_cost_linear_time_and_let_others_run() {
        let bytes = vec![b'\n'; 1_000_000];
        let read = tokio::spawn(async move {
            let mut lines = LineReader::new(bytes.as_slice(), 16);
            let mut count = 0_u32;
            while lines.next().await.expect("reads") != ReadLine::End {
                count += 1;
            }
            count
        });
        let mut turns = 0_u32;
        while !read.is_finished() {
            tokio::task::yield_now().await;
            turns += 1;
        }
        assert_eq!(read.await.expect("counted"), 1_000_000);
        assert!(turns > 1000, "other tasks had {turns} turns");
    }
}

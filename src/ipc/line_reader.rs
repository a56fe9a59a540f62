//! Lines from a socket, limited in their length.
//! Owns one growing buffer a connection, and its share of what all of a principal may have.
//! Never keeps more than one line and one read of bytes, and no unfinished line for long.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Bytes requested from the socket at a time.
const READ_BYTES: usize = 16 * 1024;
/// Time in which a line that was begun has to be complete.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadLine {
    /// A line, without its newline.
    Text(Vec<u8>),
    /// A line longer than the limit: what follows it cannot be trusted.
    TooLong,
    /// A line that does not fit beside the other unfinished lines of its principal.
    NoMemory,
    /// A line that was begun and not completed in time.
    TooSlow,
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
    /// What an unfinished line takes its bytes from; None: only its own limit counts.
    shared: Option<Arc<Semaphore>>,
    /// A permit for each [`READ_BYTES`] of an unfinished line.
    taken: Vec<OwnedSemaphorePermit>,
    /// When the unfinished line in the buffer has to be complete.
    deadline: Option<Instant>,
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
            shared: None,
            taken: Vec::new(),
            deadline: None,
        }
    }

    /// Takes the bytes of unfinished lines from this limit from now on.
    pub(crate) fn share(&mut self, limit: Arc<Semaphore>) {
        self.shared = Some(limit);
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
                self.deadline = None;
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
            if !self.take_share() {
                return Ok(ReadLine::NoMemory);
            }
            self.buffer.reserve(READ_BYTES);
            match self.read().await? {
                None => return Ok(ReadLine::TooSlow),
                Some(0) => return Ok(ReadLine::End), // an incomplete line at the end is not a line
                Some(_) => {}
            }
        }
    }

    /// Takes or gives back what the unfinished line needs of the shared limit; false: there is
    /// none left.
    fn take_share(&mut self) -> bool {
        let Some(shared) = &self.shared else {
            return true;
        };
        let parts = self.buffer.len() / READ_BYTES;
        self.taken.truncate(parts);
        while self.taken.len() < parts {
            match Arc::clone(shared).try_acquire_many_owned(READ_BYTES as u32) {
                Ok(part) => self.taken.push(part),
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads once; None: the unfinished line in the buffer has had its time.
    async fn read(&mut self) -> std::io::Result<Option<usize>> {
        let is_unfinished = !self.buffer.is_empty();
        let mut part = (&mut self.from).take(READ_BYTES as u64);
        let read = part.read_buf(&mut self.buffer);
        if !is_unfinished {
            return read.await.map(Some);
        }
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Instant::now() + LINE_TIMEOUT);
        match tokio::time::timeout_at(deadline, read).await {
            Ok(count) => count.map(Some),
            Err(_) => Ok(None),
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

    #[tokio::test(start_paused = true)]
    async fn a_line_that_was_begun_is_completed_in_time() {
        let (mut to, from) = tokio::io::duplex(64);
        let mut lines = LineReader::new(from, 16);
        let waited = tokio::time::timeout(LINE_TIMEOUT * 3, lines.next()).await;
        assert!(waited.is_err(), "between lines there is no hurry");
        for _ in 0..5 {
            tokio::io::AsyncWriteExt::write_all(&mut to, b"a")
                .await
                .expect("written");
            let quick = tokio::time::timeout(LINE_TIMEOUT / 4, lines.next()).await;
            if let Ok(read) = quick {
                return assert_eq!(read.expect("reads"), ReadLine::TooSlow);
            }
        }
        panic!("a byte now and then keeps it open");
    }

    #[tokio::test]
    async fn unfinished_lines_of_one_principal_share_a_limit() {
        let limit = Arc::new(Semaphore::new(4 * READ_BYTES));
        let long = vec![b'x'; 3 * READ_BYTES + 1];
        let (mut to, from) = tokio::io::duplex(long.len() * 2);
        tokio::io::AsyncWriteExt::write_all(&mut to, &long)
            .await
            .expect("written");
        let mut first = LineReader::new(from, MAX_LINE_BYTES);
        first.share(Arc::clone(&limit));
        let waits = tokio::time::timeout(Duration::from_millis(1), first.next()).await;
        assert!(waits.is_err(), "it is unfinished");
        let mut second = LineReader::new(long.as_slice(), MAX_LINE_BYTES);
        second.share(Arc::clone(&limit));
        assert_eq!(second.next().await.expect("reads"), ReadLine::NoMemory);
        tokio::io::AsyncWriteExt::write_all(&mut to, b"\n")
            .await
            .expect("written");
        assert_eq!(first.next().await.expect("reads"), text(&long));
        let waits = tokio::time::timeout(Duration::from_millis(1), first.next()).await;
        assert!(waits.is_err() && limit.available_permits() >= 4 * READ_BYTES - READ_BYTES);
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

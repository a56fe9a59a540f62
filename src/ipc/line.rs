//! Lines from a socket, bounded in their length.
//! Owns one growing buffer a connection. Never keeps more than one line and one read of bytes.

use tokio::io::{AsyncRead, AsyncReadExt};

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without its end.
    Text(Vec<u8>),
    /// A line longer than allowed: nothing behind it can be trusted.
    TooLong,
    /// The other side is done.
    End,
}

/// Reads lines.
pub(crate) struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no newline.
    searched: usize,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of `from`, of so many bytes at most.
    pub(crate) fn new(from: R, limit: usize) -> Lines<R> {
        Lines {
            from,
            buffer: Vec::new(),
            searched: 0,
            limit,
        }
    }

    /// Lines may have so many bytes from now on.
    pub(crate) fn allow(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next line. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> std::io::Result<Line> {
        loop {
            if let Some(at) = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let end = self.searched + at;
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(end);
                self.searched = 0;
                return Ok(Line::Text(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limit {
                return Ok(Line::TooLong);
            }
            self.buffer.reserve(4096);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(Line::End); // half a frame before the end is no frame
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_protocol::MAX_LINE_BYTES;

    #[tokio::test]
    async fn lines_in_pieces_half_frames_and_giants() {
        let mut lines = Lines::new(&b"one\ntwo\nhalf"[..], 16);
        assert_eq!(
            lines.next().await.expect("reads"),
            Line::Text(b"one".to_vec())
        );
        assert_eq!(
            lines.next().await.expect("reads"),
            Line::Text(b"two".to_vec())
        );
        assert_eq!(lines.next().await.expect("reads"), Line::End);
        let giant = vec![b'x'; MAX_LINE_BYTES + 2];
        let mut lines = Lines::new(giant.as_slice(), 16);
        lines.allow(MAX_LINE_BYTES);
        assert_eq!(lines.next().await.expect("reads"), Line::TooLong);
    }
}

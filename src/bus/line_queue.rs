//! The lines that wait to be written to one connection.
//! Owns the two limits of the queue: lines and bytes.
//! Never grows for a client that does not read: the sender waits, or gets an error.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Lines in a queue.
const LINES_MAX: usize = 1024;
/// Bytes in a queue; a longer line is queued only alone.
const BYTES_MAX: u32 = 2 * 1024 * 1024;

/// Encodes a message as one line of JSON.
pub(crate) fn encode(message: &impl serde::Serialize) -> Vec<u8> {
    // Protocol types have string keys and serialisers that do not fail.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The line was not queued: the connection is closed or, without waiting, the queue is full.
#[derive(Debug)]
pub(crate) struct QueueFull;

/// The sending end of the queue; cheap to clone.
#[derive(Clone)]
pub(crate) struct LineQueue {
    lines: mpsc::Sender<QueuedLine>,
    bytes: Arc<Semaphore>,
}

/// A queued line, and its share of the byte limit until it is dropped.
pub(crate) struct QueuedLine {
    /// Shared if other clients get the same line.
    pub(crate) line: Arc<Vec<u8>>,
    _bytes: OwnedSemaphorePermit,
}

/// Reserved space for one line.
pub(crate) struct SendPermit<'a> {
    slot: mpsc::Permit<'a, QueuedLine>,
    bytes: OwnedSemaphorePermit,
}

impl SendPermit<'_> {
    /// Queues a line that is not longer than what was reserved.
    pub(crate) fn push(self, line: Arc<Vec<u8>>) {
        let _bytes = self.bytes;
        self.slot.send(QueuedLine { line, _bytes });
    }
}

impl LineQueue {
    /// Creates an empty queue; the receiver belongs to the writer of the connection.
    pub(crate) fn new() -> (LineQueue, mpsc::Receiver<QueuedLine>) {
        let (lines, receiver) = mpsc::channel(LINES_MAX);
        let bytes = Arc::new(Semaphore::new(BYTES_MAX as usize));
        (LineQueue { lines, bytes }, receiver)
    }

    /// The number of lines that wait.
    pub(crate) fn len(&self) -> usize {
        LINES_MAX - self.lines.capacity()
    }

    /// Waits for space and queues the line.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(crate) async fn send(&self, line: Vec<u8>) -> Result<(), QueueFull> {
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(weight(line.len()));
        let _bytes = bytes.await.map_err(|_closed| QueueFull)?;
        let line = Arc::new(line);
        let queued = QueuedLine { line, _bytes };
        self.lines.send(queued).await.map_err(|_closed| QueueFull)
    }

    /// Queues the line if there is space.
    ///
    /// # Errors
    /// When there is none, or the connection is closed.
    pub(crate) fn try_send(&self, line: Vec<u8>) -> Result<(), QueueFull> {
        self.try_reserve(line.len())?.push(Arc::new(line));
        Ok(())
    }

    /// Reserves space for a line of this length before it is built.
    ///
    /// # Errors
    /// When there is none, or the connection is closed.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Result<SendPermit<'_>, QueueFull> {
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(weight(bytes));
        let bytes = bytes.map_err(|_full| QueueFull)?;
        let slot = self.lines.try_reserve().map_err(|_full| QueueFull)?;
        Ok(SendPermit { slot, bytes })
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).map_or(BYTES_MAX, |bytes| bytes.min(BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_are_limited_and_free_again_when_written() {
        let (queue, mut lines) = LineQueue::new();
        let half = || vec![b'x'; BYTES_MAX as usize / 2 + 1];
        assert!(queue.try_send(half()).is_ok());
        assert!(queue.try_send(half()).is_err(), "no space for two");
        drop(lines.recv().await);
        assert!(queue.try_send(half()).is_ok());
        drop(lines);
        assert!(queue.send(half()).await.is_err(), "the writer is gone");
    }

    #[tokio::test]
    async fn a_line_longer_than_the_limit_is_queued_alone() {
        let (queue, mut lines) = LineQueue::new();
        let giant = vec![b'x'; BYTES_MAX as usize * 2];
        assert!(queue.send(giant).await.is_ok());
        assert!(queue.try_send(vec![b'x']).is_err());
        let received = lines.recv().await.map(|queued| queued.line.len());
        assert_eq!(received, Some(BYTES_MAX as usize * 2));
    }
}

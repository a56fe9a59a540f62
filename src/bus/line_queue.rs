//! The lines that wait to be written to one connection.
//! Owns the two limits of the queue, lines and bytes, and knows the one it shares with others.
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
    /// The limit of all queues of the client's principal.
    shared: Option<SharedLimit>,
}

/// A queued line, and its share of the byte limits until it is dropped.
pub(crate) struct QueuedLine {
    /// Shared if other clients get the same line.
    pub(crate) line: Arc<Vec<u8>>,
    _bytes: OwnedSemaphorePermit,
    _shared: SharedBytes,
}

/// The bytes that all queues of one principal may hold together.
#[derive(Clone)]
pub(crate) struct SharedLimit {
    pub(crate) all: Arc<Semaphore>,
    /// More of them for queues of which every line was written: who reads does not wait for the
    /// same principal's connections that do not.
    pub(crate) readers: Arc<Semaphore>,
}

/// Bytes of the limit that a principal's queues share; None where they share none.
pub(crate) struct SharedBytes(Option<OwnedSemaphorePermit>);

impl SharedBytes {
    /// As many of them as a line of this length needs; the rest is free again.
    fn shrink(self, length: usize) -> SharedBytes {
        SharedBytes(self.0.and_then(|mut all| match all.num_permits() > length {
            true => all.split(length),
            false => Some(all),
        }))
    }
}

/// Reserved space for one line.
pub(crate) struct SendPermit<'a> {
    slot: mpsc::Permit<'a, QueuedLine>,
    bytes: OwnedSemaphorePermit,
    shared: SharedBytes,
}

impl SendPermit<'_> {
    /// Queues a line that is not longer than what was reserved.
    pub(crate) fn push(self, line: Arc<Vec<u8>>) {
        self.slot.send(QueuedLine {
            line,
            _bytes: self.bytes,
            _shared: self.shared,
        });
    }
}

impl LineQueue {
    /// Creates an empty queue; the receiver belongs to the writer of the connection.
    pub(crate) fn new() -> (LineQueue, mpsc::Receiver<QueuedLine>) {
        let (lines, receiver) = mpsc::channel(LINES_MAX);
        let bytes = Arc::new(Semaphore::new(BYTES_MAX as usize));
        let shared = None;
        (
            LineQueue {
                lines,
                bytes,
                shared,
            },
            receiver,
        )
    }

    /// The number of lines that wait.
    pub(crate) fn len(&self) -> usize {
        LINES_MAX - self.lines.capacity()
    }

    /// The same queue, of which each byte counts in a limit of several queues too.
    pub(crate) fn sharing(self, limit: Option<SharedLimit>) -> LineQueue {
        LineQueue {
            shared: limit,
            ..self
        }
    }

    /// Waits for space and queues the line.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(crate) async fn send(&self, line: Vec<u8>) -> Result<(), QueueFull> {
        let shared = self.reserve_shared(line.len()).await?;
        self.send_reserved(line, shared).await
    }

    /// Waits for that many bytes of the shared limit, before a line is built.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(crate) async fn reserve_shared(&self, bytes: usize) -> Result<SharedBytes, QueueFull> {
        let Some(limit) = &self.shared else {
            return Ok(SharedBytes(None));
        };
        let free = Arc::clone(&limit.all).try_acquire_many_owned(weight(bytes));
        if let Ok(bytes) = free {
            return Ok(SharedBytes(Some(bytes)));
        }
        let is_written = self.bytes.available_permits() == BYTES_MAX as usize;
        let limit = if is_written {
            &limit.readers
        } else {
            &limit.all
        };
        let reserved = Arc::clone(limit).acquire_many_owned(weight(bytes)).await;
        reserved
            .map(|bytes| SharedBytes(Some(bytes)))
            .map_err(|_closed| QueueFull)
    }

    /// Waits for space and queues a line for which bytes of the shared limit were reserved.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(crate) async fn send_reserved(
        &self,
        line: Vec<u8>,
        shared: SharedBytes,
    ) -> Result<(), QueueFull> {
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(weight(line.len()));
        let queued = QueuedLine {
            _bytes: bytes.await.map_err(|_closed| QueueFull)?,
            _shared: shared.shrink(line.len()),
            line: Arc::new(line),
        };
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
        let reserve = |limit: &Arc<Semaphore>| {
            let reserved = Arc::clone(limit).try_acquire_many_owned(weight(bytes));
            reserved.map_err(|_full| QueueFull)
        };
        let all = self.shared.as_ref().map(|limit| reserve(&limit.all));
        let shared = SharedBytes(all.transpose()?);
        let bytes = reserve(&self.bytes)?;
        let slot = self.lines.try_reserve().map_err(|_full| QueueFull)?;
        Ok(SendPermit {
            slot,
            bytes,
            shared,
        })
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
    async fn queues_of_one_principal_share_a_limit() {
        let limit = SharedLimit {
            all: Arc::new(Semaphore::new(100)),
            readers: Arc::new(Semaphore::new(10)),
        };
        let sharing = || {
            let (queue, lines) = LineQueue::new();
            (queue.sharing(Some(limit.clone())), lines)
        };
        let ((one, mut lines), (other, _lines)) = (sharing(), sharing());
        let reserved = one.reserve_shared(100).await.expect("space");
        assert!(other.try_send(vec![b'x']).is_err(), "all is reserved");
        let reads = other.reserve_shared(10).await;
        assert!(reads.is_ok(), "its lines were all written");
        assert!(one.send_reserved(vec![b'x'; 60], reserved).await.is_ok());
        assert!(other.try_send(vec![b'x'; 41]).is_err());
        assert!(
            other.try_send(vec![b'x'; 40]).is_ok(),
            "the rest is free again"
        );
        drop(lines.recv().await);
        assert!(other.try_send(vec![b'x'; 60]).is_ok());
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

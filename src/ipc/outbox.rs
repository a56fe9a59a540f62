//! What waits for one connection's socket.
//! Owns the two bounds of the queue: lines and bytes.
//! Never grows for a reader that does not read: it waits, or says that there is no room.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Lines that may wait.
const LINES: usize = 1024;
/// Bytes that may wait; one line may be longer when it waits alone.
const BYTES: u32 = 2 * 1024 * 1024;

/// The line did not get in: the socket is gone or, without waiting, there is no room.
#[derive(Debug)]
pub(super) struct NotTaken;

/// The end that is written into; cheap to clone.
#[derive(Clone)]
pub(super) struct Outbox {
    lines: mpsc::Sender<Outgoing>,
    room: Arc<Semaphore>,
}

/// A line on its way, and the room it takes until it is dropped.
pub(super) struct Outgoing {
    /// Shared where others get the same one.
    pub(super) line: Arc<Vec<u8>>,
    _room: OwnedSemaphorePermit,
}

/// Room for one line that is yet to be put in.
pub(super) struct Room<'a> {
    place: mpsc::Permit<'a, Outgoing>,
    bytes: OwnedSemaphorePermit,
}

impl Room<'_> {
    /// Puts in a line of no more bytes than were asked for.
    pub(super) fn put(self, line: Arc<Vec<u8>>) {
        let _room = self.bytes;
        self.place.send(Outgoing { line, _room });
    }
}

impl Outbox {
    /// An empty queue and the end the socket's writer takes from.
    pub(super) fn new() -> (Outbox, mpsc::Receiver<Outgoing>) {
        let (lines, outgoing) = mpsc::channel(LINES);
        let room = Arc::new(Semaphore::new(BYTES as usize));
        (Outbox { lines, room }, outgoing)
    }

    /// Waits for room. A writer that gives up makes room, and then this fails.
    pub(super) async fn send(&self, line: Vec<u8>) -> Result<(), NotTaken> {
        let room = Arc::clone(&self.room).acquire_many_owned(weight(line.len()));
        let _room = room.await.map_err(|_closed| NotTaken)?;
        let line = Arc::new(line);
        let outgoing = Outgoing { line, _room };
        self.lines.send(outgoing).await.map_err(|_gone| NotTaken)
    }

    /// Never waits.
    pub(super) fn try_send(&self, line: Vec<u8>) -> Result<(), NotTaken> {
        self.room(line.len())?.put(Arc::new(line));
        Ok(())
    }

    /// Room for a line of so many bytes, if there is some: asked for before one is made.
    pub(super) fn room(&self, bytes: usize) -> Result<Room<'_>, NotTaken> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(weight(bytes));
        let bytes = room.map_err(|_full| NotTaken)?;
        let place = self.lines.try_reserve().map_err(|_full| NotTaken)?;
        Ok(Room { place, bytes })
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).map_or(BYTES, |bytes| bytes.min(BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_are_bounded_and_come_free_when_written() {
        let (outbox, mut outgoing) = Outbox::new();
        let half = || vec![b'x'; BYTES as usize / 2 + 1];
        assert!(outbox.try_send(half()).is_ok());
        assert!(outbox.try_send(half()).is_err(), "no room for two");
        drop(outgoing.recv().await);
        assert!(outbox.try_send(half()).is_ok());
        drop(outgoing);
        assert!(outbox.send(half()).await.is_err(), "nobody writes any more");
    }

    #[tokio::test]
    async fn a_line_longer_than_the_room_goes_alone() {
        let (outbox, mut outgoing) = Outbox::new();
        let giant = vec![b'x'; BYTES as usize * 2];
        assert!(outbox.send(giant).await.is_ok());
        assert!(outbox.try_send(vec![b'x']).is_err());
        assert_eq!(
            outgoing.recv().await.map(|it| it.line.len()),
            Some(BYTES as usize * 2)
        );
    }
}

//! The wire on a Unix socket: bytes and descriptors in and out.
//! Owns the queue of what is not sent yet.
//! Never blocks, never interprets a message.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::sys::socket::{ControlMessage, sendmsg};
use serde::Serialize;

use crate::codec::{CHUNK_BYTES, Decoder, FrameError, encode};
use crate::fds::{MAX_FDS, receive_message};
use crate::kernel::SEND;
use crate::workers::foreign_fd::Closer;

/// Receives once without blocking: bytes to `decoder`, descriptors (close-on-exec) to `fds` in
/// their order.
/// Returns the number of bytes; 0 is the end of the stream.
///
/// # Errors
/// `WouldBlock` when nothing is there; `InvalidData` when descriptors were cut off.
pub fn recv_with_fds(
    socket: &impl AsRawFd,
    decoder: &mut Decoder,
    fds: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut bytes = [0u8; CHUNK_BYTES];
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let received = receive_message(socket, &mut bytes, &mut control)?;
    fds.extend(received.fds);
    if received.is_cut {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "cannot take the descriptors of a message: the limit of open files is reached",
        ));
    }
    let length = received.bytes;
    decoder.push(&bytes[..length]);
    Ok(length)
}

/// Sends once without blocking; `fds` travel with the first byte. Returns the number of bytes.
///
/// # Errors
/// `WouldBlock` when the other side does not read; `BrokenPipe` when it is gone.
pub fn send_with_fds(socket: &impl AsRawFd, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    send_fds(socket, bytes, &raw)
}

/// The same with numbers, which the caller has open.
pub(crate) fn send_fds(socket: &impl AsRawFd, bytes: &[u8], raw: &[RawFd]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let parts = [IoSlice::new(bytes)];
    Ok(sendmsg::<()>(
        socket.as_raw_fd(),
        &parts,
        control,
        SEND,
        None,
    )?)
}

#[derive(Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
    /// They came from strangers.
    closer: Option<Arc<Closer>>,
}

impl Segment {
    fn close_fds(&mut self) {
        match &self.closer {
            Some(closer) => self.fds.drain(..).for_each(|fd| closer.close(fd)),
            None => self.fds.clear(),
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.close_fds();
    }
}

/// What is to be sent and was not yet.
#[derive(Debug, Default)]
pub struct FrameQueue {
    segments: VecDeque<Segment>,
    waiting: usize,
}

impl FrameQueue {
    /// Queues one message; `fds` go with its first byte.
    ///
    /// # Errors
    /// See [`encode`].
    pub fn push<T: Serialize>(&mut self, message: &T, fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        if self.segments.is_empty() || !fds.is_empty() {
            self.segments.push_back(Segment::default());
        }
        let Some(segment) = self.segments.back_mut() else {
            return Ok(());
        };
        let before = segment.bytes.len();
        encode(message, &mut segment.bytes)?;
        segment.fds.extend(fds);
        self.waiting += segment.bytes.len() - before;
        Ok(())
    }

    /// The same with descriptors of strangers: to close one may take for ever.
    ///
    /// # Errors
    /// See [`encode`].
    pub fn push_foreign<T: Serialize>(
        &mut self,
        message: &T,
        fds: Vec<OwnedFd>,
        closer: &Arc<Closer>,
    ) -> Result<(), FrameError> {
        let mut segment = Segment::default();
        (segment.fds, segment.closer) = (fds, Some(Arc::clone(closer)));
        encode(message, &mut segment.bytes)?;
        self.waiting += segment.bytes.len();
        self.segments.extend([segment, Segment::default()]);
        Ok(())
    }

    /// Sends what goes without blocking; true when nothing is left.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn flush(&mut self, socket: &impl AsRawFd) -> io::Result<bool> {
        while let Some(segment) = self.segments.front_mut() {
            let rest = &segment.bytes[segment.sent..];
            if rest.is_empty() {
                self.segments.pop_front();
                continue;
            }
            match send_with_fds(socket, rest, &segment.fds) {
                Ok(sent) => {
                    segment.sent += sent;
                    segment.close_fds();
                    self.waiting -= sent;
                }
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(problem) => return Err(problem),
            }
        }
        Ok(true)
    }

    /// Bytes that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn descriptors_travel_with_their_frame() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut outbox = FrameQueue::default();
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        outbox.push(&1u32, vec![]).unwrap();
        outbox.push(&2u32, vec![file(), file()]).unwrap();
        outbox.push(&3u32, vec![file()]).unwrap();
        assert!(outbox.flush(&ours).unwrap());
        let (mut decoder, mut fds) = (Decoder::default(), VecDeque::new());
        let mut seen = Vec::new();
        while seen.len() < 3 {
            recv_with_fds(&theirs, &mut decoder, &mut fds).unwrap();
            while let Some(frame) = decoder.next::<u32>().unwrap() {
                seen.push((frame, fds.len()));
            }
        }
        assert_eq!(fds.len(), 3);
        assert!(seen.contains(&(1, 0)) || seen[0].0 == 1);
        assert_eq!(outbox.waiting_bytes(), 0);
    }
}

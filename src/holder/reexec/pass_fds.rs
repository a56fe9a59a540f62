//! Any number of descriptors from one table to another, by a pair of datagram sockets.
//! Never waits beyond a deadline.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::fds::{MAX_FDS, receive_message};
use crate::frame::send_fds;
use crate::kernel::control_space;

/// How long all of them may take.
pub(super) const PASS_TIMEOUT: Duration = Duration::from_secs(1);

fn wait(socket: &impl AsFd, flags: PollFlags, end: Instant) -> io::Result<()> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut one = [PollFd::new(socket.as_fd(), flags)];
    let _ = poll(
        &mut one,
        PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO),
    );
    Ok(())
}

/// Sends them, in their order.
pub(crate) fn pass(socket: &(impl AsFd + AsRawFd), fds: &[RawFd]) -> io::Result<()> {
    let end = Instant::now() + PASS_TIMEOUT;
    for part in fds.chunks(MAX_FDS) {
        while let Err(problem) = send_fds(socket, &[0], part) {
            if problem.kind() != io::ErrorKind::WouldBlock {
                return Err(problem);
            }
            wait(socket, PollFlags::POLLOUT, end)?;
            std::thread::sleep(Duration::from_millis(1)); // the queue of the other end is full
        }
    }
    Ok(())
}

/// Receives so many; messages without descriptors are ignored.
pub(crate) fn receive(socket: &(impl AsFd + AsRawFd), count: usize) -> io::Result<Vec<OwnedFd>> {
    let (end, mut control) = (Instant::now() + PASS_TIMEOUT, control_space());
    let mut fds = Vec::new();
    while fds.len() < count {
        match receive_message(socket, &mut [0], &mut control) {
            Ok(received) if received.is_cut => return Err(io::ErrorKind::InvalidData.into()),
            Ok(received) => fds.extend(received.fds),
            Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => {
                wait(socket, PollFlags::POLLIN, end)?;
            }
            Err(problem) => return Err(problem),
        }
    }
    Ok(fds)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use nix::sys::socket::{AddressFamily, SockType, socketpair};

    #[test]
    fn many_arrive_in_their_order() {
        let flags = crate::kernel::SOCKET;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::Datagram, None, flags).unwrap();
        let files: Vec<_> = (0..20).map(|_| tempfile::tempfile().unwrap()).collect();
        let raw: Vec<RawFd> = (0..700).map(|at| files[at % 20].as_raw_fd()).collect();
        let received = std::thread::scope(|scope| {
            let sender = scope.spawn(|| pass(&ours, &raw));
            let received = receive(&theirs, raw.len()).unwrap();
            sender.join().unwrap().unwrap();
            received
        });
        assert_eq!(received.len(), raw.len());
        for (fd, file) in received.iter().zip(files.iter().cycle()) {
            assert_eq!(crate::kernel::is_same_file(fd, file), Some(true));
        }
        assert!(receive(&theirs, 1).is_err());
    }
}

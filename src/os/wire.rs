//! The wire to the holder before the runtime is up: one question, one answer, blocking.
//! Owns the socket, what was read of the next frame, and descriptors that came with one.
//! Never used once the actors run: `held` takes it over.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use mainstay_holder::wire::{Ask, Setup, Tell, World};
use mainstay_holder::{Decoder, encode, recv_with_fds};

/// The wire before the runtime is up: blocking, one question and one answer.
pub(crate) struct Wire {
    pub(super) socket: OwnedFd,
    pub(super) decoder: Decoder,
    pub(super) fds: VecDeque<OwnedFd>,
}

/// Why the wire could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The socket failed.
    #[error("cannot talk to the holder: {0}")]
    Io(#[from] io::Error),
    /// The holder closed it.
    #[error("cannot talk to the holder: it closed the connection")]
    Closed,
    /// A frame made no sense here.
    #[error("cannot understand the holder: {0}")]
    Nonsense(String),
    /// The holder refused the setup; the second field is the exit code to end with.
    #[error("{0}")]
    Refused(String, u8),
}

impl Wire {
    /// Takes over the runtime's end of the wire.
    pub(crate) fn new(socket: OwnedFd) -> Wire {
        Wire {
            socket,
            decoder: Decoder::default(),
            fds: VecDeque::new(),
        }
    }

    /// The first message of the holder, with the listeners when it has them.
    ///
    /// # Errors
    /// When the holder is gone or says something else.
    pub(crate) fn world(&mut self) -> Result<(World, Vec<OwnedFd>), WireError> {
        match self.receive()? {
            Tell::World(world) => {
                let listeners = self.take_fds(world.fds)?;
                Ok((world, listeners))
            }
            other => Err(WireError::Nonsense(format!(
                "expected the world, got {other:?}"
            ))),
        }
    }

    /// Tells the holder where things are; returns the control and the module listener.
    ///
    /// # Errors
    /// `Refused` with the holder's sentence, or when it is gone.
    pub(crate) fn configure(&mut self, setup: Setup) -> Result<Vec<OwnedFd>, WireError> {
        let mut frame = Vec::new();
        encode(&Ask::Configure(setup), &mut frame)
            .map_err(|error| WireError::Nonsense(error.to_string()))?;
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            match nix::unistd::write(&self.socket, rest) {
                Ok(written) => rest = &rest[written..],
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => wait(&self.socket, false)?,
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        match self.receive()? {
            Tell::Configured { fds } => self.take_fds(fds),
            Tell::Refused { message, exit } => Err(WireError::Refused(message, exit)),
            other => Err(WireError::Nonsense(format!(
                "expected an answer, got {other:?}"
            ))),
        }
    }

    fn take_fds(&mut self, count: u32) -> Result<Vec<OwnedFd>, WireError> {
        (0..count)
            .map(|_| self.fds.pop_front())
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| WireError::Nonsense("a descriptor is missing".to_owned()))
    }

    fn receive(&mut self) -> Result<Tell, WireError> {
        loop {
            match self.decoder.next::<Tell>() {
                Ok(Some(tell)) => return Ok(tell),
                Ok(None) => {}
                Err(error) => return Err(WireError::Nonsense(error.to_string())),
            }
            wait(&self.socket, true)?;
            match recv_with_fds(&self.socket, &mut self.decoder, &mut self.fds) {
                Ok(0) => return Err(WireError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The end of the wire that the holder left on its fixed number; only for a process that the holder
/// marked as its runtime, and once. Anything but a socket there is not ours.
#[expect(
    unsafe_code,
    reason = "a descriptor that was inherited is a plain number"
)]
pub(crate) fn inherited() -> Option<OwnedFd> {
    use nix::sys::socket::{getsockopt, sockopt::SockType};
    // SAFETY: the holder marked this process as a runtime, so the number is the open end of the
    // wire, inherited over exec, and nobody else in this process knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(mainstay_holder::wire::WIRE_FD) };
    match getsockopt(&fd, SockType) {
        Ok(_) => Some(fd),
        Err(_) => {
            std::mem::forget(fd); // not ours: not ours to close either
            None
        }
    }
}

fn wait(socket: &OwnedFd, readable: bool) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let flags = if readable {
        PollFlags::POLLIN
    } else {
        PollFlags::POLLOUT
    };
    let mut fds = [PollFd::new(socket.as_fd(), flags)];
    match poll(&mut fds, PollTimeout::from(30_000_u16)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

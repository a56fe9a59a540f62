//! Datagrams to a notify socket, with descriptors or without, and a count of what became of them.
//! Owns one socket without a name. Never waits long for a receiver that is behind.

use std::env;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// The longest a message may wait for room.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// One who sends.
pub(crate) struct Sender {
    socket: UnixDatagram,
    to: UnixAddr,
    sent: u64,
    refused: u64,
}

impl Sender {
    /// To this path; `-` is the socket that this process was given as a module.
    pub(crate) fn to(path: &str) -> io::Result<Sender> {
        let given = || env::var("NOTIFY_SOCKET").map_err(io::Error::other);
        let path = if path == "-" {
            given()?
        } else {
            path.to_owned()
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(WAIT_MAX))?;
        Ok(Sender {
            socket,
            to: UnixAddr::new(path.as_str())?,
            sent: 0,
            refused: 0,
        })
    }

    /// Sends one message.
    pub(crate) fn send(&mut self, text: &str, descriptors: &[RawFd]) -> io::Result<()> {
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = if descriptors.is_empty() {
            &rights[1..]
        } else {
            &rights[..]
        };
        let bytes = [IoSlice::new(text.as_bytes())];
        let socket = self.socket.as_raw_fd();
        match sendmsg(socket, &bytes, rights, MsgFlags::empty(), Some(&self.to)) {
            Ok(_) => self.sent += 1,
            Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::ENOENT | Errno::ETOOMANYREFS) => {}
            Err(Errno::EACCES | Errno::EPERM) => self.refused += 1,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// In words.
    pub(crate) fn count(&self) -> String {
        format!("sent {}, refused {}", self.sent, self.refused)
    }
}

/// Whether an error only says that nobody is there any more, or not yet.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::NotFound
            | ErrorKind::WouldBlock
            | ErrorKind::PermissionDenied
    )
}

//! Notify sockets and sd_notify datagrams: opening and receiving them, and reading their lines.
//! Never judges a sender, never closes a descriptor that came with a datagram.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockType, UnixAddr, bind, socket};
use nix::sys::stat::Mode;

use crate::fds::{own_fd, receive_message};
use crate::kernel::{self, SOCKET, SenderHandle};
use crate::random::random;
use crate::workers::foreign_fd::{Closer, ForeignFd};

/// Of a longer datagram the beginning is taken.
pub(crate) const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;

/// One datagram.
#[derive(Debug)]
pub(crate) struct NotifyDatagram {
    pub(crate) text: String,
    pub(crate) fds: Vec<ForeignFd>,
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    /// The process itself, where the kernel names it by more than its number.
    pub(crate) sender: Option<SenderHandle>,
}

/// Draws the place of the socket of a run. Its directory can be entered by all and read by none: a
/// process that is not told the name does not find it.
pub(crate) fn draw_path(folder: &Path) -> io::Result<PathBuf> {
    Ok(folder.join(random::<8>()?))
}

/// Opens a notify socket. The kernel shows everybody the name that it was bound to, which it has no
/// more when others may send to it. Where a datagram does not say who sent it, its user alone may.
pub(crate) fn open_socket(path: &Path, uid: u32) -> io::Result<ForeignFd> {
    let bound = path.with_file_name(random::<4>()?);
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SOCKET, None)?;
    // What is queued in it is closed with it.
    let socket = ForeignFd::new(own_fd(socket.into_raw_fd()), &Arc::default());
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // Where this is refused, the mode depends on the umask for a moment.
    let _ = nix::sys::stat::fchmod(&socket, Mode::S_IRUSR);
    bind(socket.as_raw_fd(), &UnixAddr::new(&bound)?)?;
    let arrange = || {
        kernel::enable_sender_credentials(&socket)?;
        if !kernel::HAS_SENDER_CREDENTIALS {
            std::os::unix::fs::chown(&bound, Some(uid), None)?;
        }
        fs::rename(&bound, path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(kernel::NOTIFY_MODE))
    };
    if let Err(problem) = arrange() {
        let _ = fs::remove_file(&bound); // it may have its name already
        return Err(problem);
    }
    Ok(socket)
}

/// The next datagram, None when there is none; its descriptors are closed by `closer`.
pub(crate) fn receive(
    socket: &ForeignFd,
    bytes: &mut [u8],
    closer: &Arc<Closer>,
) -> Option<NotifyDatagram> {
    let mut control = kernel::control_space();
    let received = loop {
        match receive_message(socket, bytes, &mut control) {
            Ok(received) => break received,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    };
    let (mut credentials, mut sender) = (None, None);
    for (level, kind, data) in &received.controls {
        credentials = kernel::sender_credentials(*level, *kind, data).or(credentials);
        sender = kernel::sender_handle(*level, *kind, data).or(sender);
    }
    let fds = received.fds.into_iter();
    let fds = fds.map(|fd| ForeignFd::new(fd, closer)).collect();
    let length = received.bytes;
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let (pid, uid) = credentials.unwrap_or((0, u32::MAX));
    Some(NotifyDatagram {
        text,
        fds,
        pid,
        uid,
        sender,
    })
}

/// The value of the last line with this key.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let of = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    text.lines().rev().find_map(of)
}

/// Whether a message carries this exact line.
pub(crate) fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|one| one == line)
}

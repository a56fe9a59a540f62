//! Notify sockets and sd_notify datagrams: opening and receiving them, and reading their lines.
//! Owns nothing.
//! Never judges a sender, never closes a descriptor that came with a datagram.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::fds::receive_message;
use crate::kernel::{self, SenderHandle};
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

/// Where a run sends its messages.
pub(crate) fn socket_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.sock"))
}

/// Opens a notify socket in the place of the one of the run before: what was sent to that one is
/// not for this run. Where a datagram does not say who sent it, its user alone may send one.
pub(crate) fn open_socket(folder: &Path, name: &str, uid: u32) -> io::Result<ForeignFd> {
    // Until it is ready it has a name that others cannot guess.
    let hidden = folder.join(random::<4>()?);
    let socket = UnixDatagram::bind(&hidden)?;
    // What is queued in it is closed with it.
    let socket = ForeignFd::new(socket.into(), &Arc::default());
    let arrange = || {
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        kernel::enable_sender_credentials(&socket)?;
        if !kernel::HAS_SENDER_CREDENTIALS {
            std::os::unix::fs::chown(&hidden, Some(uid), None)?;
        }
        let mode = fs::Permissions::from_mode(kernel::NOTIFY_MODE);
        fs::set_permissions(&hidden, mode)?;
        fs::rename(&hidden, socket_path(folder, name))
    };
    if let Err(problem) = arrange() {
        let _ = fs::remove_file(&hidden); // it may have its name already
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

//! How these kernels make sockets, receive and send.
//! Never waits: a message goes or comes at once, or not at all.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use nix::sys::socket::{MsgFlags, SockFlag};

/// How messages are received and sent. Descriptors are marked to be closed by an exec after they
/// came; every program here ignores SIGPIPE.
pub(crate) const RECEIVE: MsgFlags = MsgFlags::MSG_DONTWAIT;
pub(crate) const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT;
/// How a socket is made: it is marked afterwards.
pub(crate) const SOCKET: SockFlag = SockFlag::empty();
pub(crate) const CLOEXEC_AT_CREATION: bool = false;

/// The address of a datagram socket: an absolute path.
pub(crate) fn datagram_address(name: &OsStr) -> Option<SocketAddr> {
    let is_path = name.as_bytes().starts_with(b"/");
    SocketAddr::from_pathname(name).ok().filter(|_| is_path)
}

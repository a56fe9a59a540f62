//! How this kernel makes sockets, receives and sends.
//! Never waits: a message goes or comes at once, or not at all.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use nix::sys::socket::{MsgFlags, SockFlag};

/// How messages are received and sent; descriptors are closed by an exec.
pub(crate) const RECEIVE: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_CMSG_CLOEXEC);
pub(crate) const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
/// How a socket is made: closed by an exec.
pub(crate) const SOCKET: SockFlag = SockFlag::SOCK_CLOEXEC;
/// Descriptors that the kernel makes are closed by an exec from the start.
pub(crate) const CLOEXEC_AT_CREATION: bool = true;

/// The address of a datagram socket: an absolute path, or `@` and an abstract name.
pub(crate) fn datagram_address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}

//! How this kernel makes sockets, receives and sends.
//! Owns nothing.
//! Never waits: a message goes or comes at once, or not at all.

use nix::sys::socket::{MsgFlags, SockFlag};

/// How messages are received and sent; descriptors are closed by an exec.
pub(crate) const RECEIVE: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_CMSG_CLOEXEC);
pub(crate) const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
/// How a socket is made: closed by an exec.
pub(crate) const SOCKET: SockFlag = SockFlag::SOCK_CLOEXEC;
/// Descriptors that the kernel makes are closed by an exec from the start.
pub(crate) const CLOEXEC_AT_CREATION: bool = true;

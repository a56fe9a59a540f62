//! How these kernels make sockets, receive and send.
//! Owns nothing.
//! Never waits: a message goes or comes at once, or not at all.

use nix::sys::socket::{MsgFlags, SockFlag};

/// How messages are received and sent. Descriptors are marked to be closed by an exec after they
/// came; every program here ignores SIGPIPE.
pub(crate) const RECEIVE: MsgFlags = MsgFlags::MSG_DONTWAIT;
pub(crate) const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT;
/// How a socket is made: it is marked afterwards.
pub(crate) const SOCKET: SockFlag = SockFlag::empty();
pub(crate) const CLOEXEC_AT_CREATION: bool = false;

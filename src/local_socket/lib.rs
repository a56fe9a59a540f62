//! mainstay-local-socket: the sockets between mainstay, its clients and its modules.
//! Owns how a socket file is connected to and listened on: a Unix socket, or on Windows a named
//! pipe whose name is in the file. Never interprets a byte.

#[cfg(feature = "tokio")]
pub mod asynchronous;
pub mod blocking;
#[cfg(feature = "tokio")]
mod listener;

mod connecting;
#[cfg(windows)]
mod windows_blocking;

#[cfg(feature = "tokio")]
pub use listener::Listener;

/// The process and user at the other end of a connection.
pub use interprocess::local_socket::PeerCreds;
/// What asks a connection for its `PeerCreds`.
pub use interprocess::local_socket::traits::StreamCommon;

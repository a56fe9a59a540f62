//! Local sockets: bytes to requests of the protocol, and results to bytes.
//! Owns the connections while they are open.
//! Never answers a request: control does.

mod connection;
mod handshake;
mod handshake_limit;
mod line_reader;
mod listener;

pub(crate) use listener::accept_loop;

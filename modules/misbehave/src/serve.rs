//! Answering on sockets that were handed down (LISTEN_FDS).
//! Owns one thread a socket.
//! Never opens one itself.

use std::io::Write;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The first one; the others follow it.
const FIRST: RawFd = 3;

/// Answers each connection with `NAME PID`.
pub(crate) fn serve() -> Result<(), String> {
    let pid = std::process::id().to_string();
    if std::env::var("LISTEN_PID") != Ok(pid.clone()) {
        return Err("cannot serve: no sockets were handed to this process".to_owned());
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    for (number, name) in (FIRST..).zip(names.split(':')) {
        let line = format!("{name} {pid}\n");
        std::thread::spawn(move || answer_all(number, &line));
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "descriptors that are known by their numbers alone"
)]
fn answer_all(number: RawFd, line: &str) {
    // SAFETY: whoever started this program opened it for this purpose; nothing here closes it.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    while let Ok(peer) = nix::sys::socket::accept(std::os::fd::AsRawFd::as_raw_fd(&socket)) {
        // SAFETY: accept made it, and nobody else knows it.
        let mut peer = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(peer) });
        let _ = peer.write_all(line.as_bytes()); // who left does not want it
    }
}

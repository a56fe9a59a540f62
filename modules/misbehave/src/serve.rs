//! Answering on sockets that were handed down (LISTEN_FDS), and storing a descriptor (FDSTORE).
//! Owns one thread a socket, and one a connection that it keeps.
//! Never opens a socket itself.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, accept, sendmsg, socket,
};

use crate::show;

/// The first one; the others follow it.
const FIRST: RawFd = 3;
/// What it stores is called.
const STORED: &str = "memory";

/// Each descriptor that was handed to this process, with its name.
fn handed() -> Vec<(RawFd, String)> {
    if std::env::var("LISTEN_PID") != Ok(std::process::id().to_string()) {
        return Vec::new();
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned);
    (FIRST..).zip(names).collect()
}

/// Answers each connection with `NAME PID`.
pub(crate) fn serve(keeps: bool) -> Result<(), String> {
    let pid = std::process::id();
    let sockets = handed().into_iter().filter(|(_, name)| name != STORED);
    let sockets: Vec<(RawFd, String)> = sockets.collect();
    if sockets.is_empty() {
        return Err("cannot serve: no sockets were handed to this process".to_owned());
    }
    for (number, name) in sockets {
        let line = format!("{name} {pid}\n");
        std::thread::spawn(move || answer_all(number, &line, keeps));
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "descriptors that are known by their numbers alone"
)]
fn answer_all(number: RawFd, line: &str, keeps: bool) {
    // SAFETY: whoever started this program opened it for this purpose; nothing here closes it.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    while let Ok(peer) = accept(AsRawFd::as_raw_fd(&socket)) {
        // SAFETY: accept made it, and nobody else knows it.
        let mut peer = File::from(unsafe { OwnedFd::from_raw_fd(peer) });
        let _ = peer.write_all(line.as_bytes()); // who left does not want it
        if keeps {
            std::thread::spawn(move || io::copy(&mut peer, &mut io::sink()));
        }
    }
}

/// Prints what an earlier run stored, or stores a file with the pid of this one.
#[expect(
    unsafe_code,
    reason = "descriptors that are known by their numbers alone"
)]
pub(crate) fn store() -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot store a descriptor: {error}");
    let mut stored = handed().into_iter().filter(|(_, name)| name == STORED);
    if let Some((number, _)) = stored.next() {
        // SAFETY: it was handed to this process for this purpose, and nothing else uses it.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(number) });
        let mut text = String::new();
        file.rewind().map_err(cannot)?;
        file.read_to_string(&mut text).map_err(cannot)?;
        show::say(&format!("stored {text}"));
        return Ok(());
    }
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else {
        return Err("cannot store a descriptor: there is no NOTIFY_SOCKET".to_owned());
    };
    let path = std::env::temp_dir().join(format!("stored-{}", std::process::id()));
    let mut options = File::options();
    let mut file = (options.read(true).write(true).create_new(true).open(&path)).map_err(cannot)?;
    std::fs::remove_file(&path).map_err(cannot)?;
    write!(file, "{}", std::process::id()).map_err(cannot)?;
    let send = || -> nix::Result<()> {
        let none = SockFlag::empty();
        let socket = socket(AddressFamily::Unix, SockType::Datagram, none, None)?;
        let text = format!("FDSTORE=1\nFDNAME={STORED}");
        let fds = [file.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let to = UnixAddr::new(place.as_os_str())?;
        let parts = [IoSlice::new(text.as_bytes())];
        sendmsg(
            socket.as_raw_fd(),
            &parts,
            &rights,
            MsgFlags::empty(),
            Some(&to),
        )
        .map(|_| ())
    };
    send().map_err(|errno| cannot(errno.into()))
}

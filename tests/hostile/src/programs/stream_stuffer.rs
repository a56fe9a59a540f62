//! Sends descriptors whose close blocks to a stream socket that expects none, a byte with each:
//! the process that reads it, or that closes the connection unread, is the one to close them.
//! Owns their other ends. Never keeps its own copy, so that the receiver's is the last.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::connection::open;
use super::descriptor_giver::full;
use super::words::{Words, left, say, under_way};

/// How long a connection may take to be given away.
const GIVEN_WITHIN: Duration = Duration::from_millis(20);

/// `stream-stuffer SOCKET COUNT MILLISECONDS`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (path, count, end) = (words.text(0)?, words.number(1)?, words.end(2)?);
    let (mut other_ends, mut streams) = (Vec::new(), Vec::new());
    let (mut given, mut kept) = (0_u64, 0_u64);
    for number in 0..count {
        let Some(mut stream) = open(path)? else {
            continue;
        };
        if number % 2 == 1 {
            // No hello: the connection is closed, and what follows is never read.
            let _closed = stream.write_all(b"x\n");
        }
        let (connection, other_end) = full()?;
        other_ends.push(other_end);
        match give(stream.try_clone()?, connection) {
            true => given += 1,
            false => kept += 1,
        }
        streams.push(stream);
        if number == count / 2 {
            under_way()?;
        }
    }
    thread::sleep(left(end));
    say(&format!("gave {given}, kept {kept}"))
}

/// Gives it away; false if it was refused, or this process waits to close the last copy.
fn give(stream: UnixStream, connection: TcpStream) -> bool {
    let (closed, is_closed) = sync_channel(1);
    thread::spawn(move || {
        let descriptors = [connection.as_raw_fd()];
        let (bytes, rights) = (
            [IoSlice::new(b"{")],
            [ControlMessage::ScmRights(&descriptors)],
        );
        let socket = stream.as_raw_fd();
        let sent = sendmsg::<()>(socket, &bytes, &rights, MsgFlags::MSG_NOSIGNAL, None);
        drop(connection);
        let _waits_no_more = closed.send(sent.is_ok());
    });
    is_closed.recv_timeout(GIVEN_WITHIN).unwrap_or(false)
}

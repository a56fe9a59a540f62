//! Gives away descriptors whose close blocks: connections that linger, with data that nobody reads.
//! Owns their other ends, and with them the time for which a close blocks: as long as it lives.
//! Never keeps its own copy, so that the receiver's is the last.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::datagram::Sender;
use super::words::{Words, left, say, under_way};

/// Seconds that a close waits for its data to be taken.
const LINGER: i32 = 3600;

/// How long a connection may take to be given away.
const GIVEN_WITHIN: Duration = Duration::from_millis(20);

/// A connection that is full, and its other end.
pub(super) fn full() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    setsockopt(&listener, sockopt::RcvBuf, &4096)?;
    let mut given = TcpStream::connect(listener.local_addr()?)?;
    let (other_end, _) = listener.accept()?;
    setsockopt(&given, sockopt::SndBuf, &4096)?;
    let lingers = linger {
        l_onoff: 1,
        l_linger: LINGER,
    };
    setsockopt(&given, sockopt::Linger, &lingers)?;
    given.set_nonblocking(true)?;
    let bytes = [0; 4096];
    while given.write(&bytes).is_ok() {}
    Ok((given, other_end))
}

/// `descriptor-giver SOCKET COUNT MILLISECONDS`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (path, count, end) = (words.text(0)?, words.number(1)?, words.end(2)?);
    let mut other_ends = Vec::new();
    let (mut given, mut kept) = (0_u64, 0_u64);
    for number in 0..count {
        let (connection, other_end) = full()?;
        other_ends.push(other_end);
        let text = match number % 2 {
            0 => format!("STATUS={number}"),
            _ => format!("FDSTORE=1\nFDNAME=given-{number}"),
        };
        match give(Sender::to(path)?, text, connection) {
            true => given += 1,
            false => kept += 1,
        }
        if number == count / 2 {
            under_way()?;
        }
    }
    thread::sleep(left(end));
    say(&format!("gave {given}, kept {kept}"))
}

/// Gives it away; false if this process has the last copy after all, and waits to close it. That
/// wait ends with the process.
fn give(mut sender: Sender, text: String, connection: TcpStream) -> bool {
    let (closed, is_closed) = sync_channel(1);
    thread::spawn(move || {
        // Closed before anybody can have read the message.
        let sent = sender.send(&text, &[connection.as_raw_fd()]);
        drop(connection);
        let _waits_no_more = closed.send(sent.is_ok());
    });
    is_closed.recv_timeout(GIVEN_WITHIN).unwrap_or(false)
}

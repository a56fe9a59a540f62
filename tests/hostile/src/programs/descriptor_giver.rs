//! Gives away descriptors whose close blocks: connections that linger, with data that nobody reads.
//! Owns their other ends, and with them the time for which a close blocks: as long as it lives.
//! Never keeps its own copy, so that the receiver's is the last.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::datagram::Sender;
use super::words::{Words, left, say, under_way};

/// Seconds that a close waits for its data to be taken.
const LINGER: i32 = 3600;

/// A connection that is full, and its other end.
fn full() -> io::Result<(TcpStream, TcpStream)> {
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
    let (count, end) = (words.number(1)?, words.end(2)?);
    let mut sender = Sender::to(words.text(0)?)?;
    let mut other_ends = Vec::new();
    for number in 0..count {
        let (given, other_end) = full()?;
        let text = match number % 2 {
            0 => format!("STATUS={number}"),
            _ => format!("FDSTORE=1\nFDNAME=given-{number}"),
        };
        sender.send(&text, &[given.as_raw_fd()])?;
        if sender.is_let_in() {
            other_ends.push(other_end);
        }
        // If it is the last after all, this waits, and ends with the process.
        thread::spawn(move || drop(given));
        if number == count / 2 {
            under_way()?;
        }
    }
    thread::sleep(left(end));
    say(&sender.count())
}

//! Says in another's name that it is ready, stops, has another main process, gives a descriptor.
//! Owns a pipe that it gives away. Never belongs to the module in whose name it speaks.

use std::env;
use std::io;
use std::os::fd::AsRawFd;
use std::process::Command;

use super::datagram::Sender;
use super::words::{Words, left, say, under_way};

/// `notify-forger SOCKET MILLISECONDS`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (path, end) = (words.text(0)?, words.end(1)?);
    let mut sender = Sender::to(path)?;
    let (pipe, _other_end) = io::pipe()?;
    let main = format!("READY=1\nMAINPID={}", std::process::id());
    let forged = [
        "READY=1",
        "STATUS=forged",
        "READY=1\nSTATUS=forged",
        &main,
        "STOPPING=1",
        "RELOADING=1",
        "WATCHDOG=trigger",
        "WATCHDOG_USEC=1000",
        "EXTEND_TIMEOUT_USEC=1",
        "ERRNO=2\nEXIT_STATUS=7",
    ];
    under_way()?;
    while !left(end).is_zero() {
        for text in forged {
            sender.send(text, &[])?;
        }
        sender.send("FDSTORE=1\nFDNAME=forged", &[pipe.as_raw_fd()])?;
        // One that is gone when its message is read.
        let mut once = Command::new(env::current_exe()?);
        once.args(["notify-once", path, &format!("{main}\nSTATUS=forged")]);
        once.status()?;
    }
    say(&sender.count())
}

/// `notify-once SOCKET TEXT`: sends it and is gone.
pub(crate) fn once(words: &Words) -> io::Result<()> {
    Sender::to(words.text(0)?)?.send(words.text(1)?, &[])
}

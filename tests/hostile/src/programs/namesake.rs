//! A stranger whose session has the number of a process that was a module's, and the module for it.
//! Never has more than two processes at once.

use std::env;
use std::io;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::unistd::setsid;

use super::bystander::wait;
use super::datagram::Sender;
use super::words::{Words, left, say, under_way};

/// Says its number, has another process take its place by MAINPID, and ends.
pub(crate) fn resigner(_: &Words) -> io::Result<()> {
    let mut next = Command::new(env::current_exe()?);
    let next = next.arg("resigner-next").stdout(Stdio::null()).spawn()?;
    say(&format!("first {}", process::id()))?;
    under_way()?;
    let path = env::var("NOTIFY_SOCKET").map_err(io::Error::other)?;
    let text = format!("READY=1\nMAINPID={}", next.id());
    Sender::to(&path)?.send(&text, &[])?;
    // Of one that is gone when its message is read nothing is believed.
    thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// The other process, in a session of its own.
pub(crate) fn resigner_next(words: &Words) -> io::Result<()> {
    setsid()?;
    wait(words)
}

/// `namesake NUMBER MILLISECONDS`: starts processes until one has that number.
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (number, end) = (words.number(0)?, words.end(1)?);
    under_way()?;
    while !left(end).is_zero() {
        let mut leader = Command::new(env::current_exe()?);
        let mut leader = leader.args(["namesake-leader", words.text(0)?]).spawn()?;
        let has_number = u64::from(leader.id()) == number;
        leader.wait()?;
        if has_number {
            return Ok(());
        }
    }
    Err(io::Error::other("cannot get the number in time"))
}

/// Has a session of its number, if it is that one, and leaves a process in it.
pub(crate) fn leader(words: &Words) -> io::Result<()> {
    if u64::from(process::id()) == words.number(0)? {
        setsid()?;
        let mut last = Command::new(env::current_exe()?);
        let last = last.arg("wait").stdout(Stdio::null()).spawn()?;
        say(&last.id().to_string())?;
    }
    Ok(())
}

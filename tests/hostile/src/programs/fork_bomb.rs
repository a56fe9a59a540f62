//! Starts processes that start processes, up to a number, each in a session of its own.
//! Owns its share of the number. Never more than that, and all of them end by themselves.

use std::env;
use std::io;
use std::process::{Command, Stdio};
use std::thread;

use nix::unistd::setsid;

use super::words::{Words, left, under_way};

/// `fork-bomb COUNT MILLISECONDS`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    under_way()?;
    part(words)
}

/// One of them: itself, and half of the rest below each of two others.
pub(crate) fn part(words: &Words) -> io::Result<()> {
    let (count, end) = (words.number(0)?, words.end(1)?);
    let _leads_one_already = setsid();
    let rest = count.saturating_sub(1);
    for share in [rest / 2, rest - rest / 2] {
        if share > 0 {
            let mut next = Command::new(env::current_exe()?);
            next.args(["fork-bomb-part", &share.to_string(), words.text(1)?]);
            next.env_clear().stdout(Stdio::null()).stderr(Stdio::null());
            next.spawn()?;
        }
    }
    thread::sleep(left(end));
    Ok(())
}

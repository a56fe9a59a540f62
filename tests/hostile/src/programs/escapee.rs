//! Leaves its module's tree as far as a process can: a session of its own, no environment, no
//! parent, and no open file in common.
//! Owns the process that stays behind, which ends by itself after some time.
//! Never does anything but wait.

use std::env;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::unistd::setsid;

use super::words::{Words, under_way};

/// `escapee COUNT SECONDS`: lets that many go and waits for its own end.
pub(crate) fn run(words: &Words) -> io::Result<()> {
    for _ in 0..words.number(0)? {
        let mut middle = Command::new(env::current_exe()?);
        middle.args(["escapee-middle", words.text(1)?]).env_clear();
        middle
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        middle.status()?;
    }
    under_way()?;
    loop {
        thread::park();
    }
}

/// The parent that ends at once, in a session of its own.
pub(crate) fn middle(words: &Words) -> io::Result<()> {
    setsid()?;
    let mut last = Command::new(env::current_exe()?);
    last.args(["escapee-last", words.text(0)?]).env_clear();
    last.current_dir("/").spawn()?;
    Ok(())
}

/// The one that is out.
pub(crate) fn last(words: &Words) -> io::Result<()> {
    setsid()?;
    thread::sleep(Duration::from_secs(words.number(0)?));
    Ok(())
}

//! Harmless modules that an attack must not reach: one writes, one is restarted, one waits.
//! Owns nothing but their output. Never does anything that the tests do not count.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::time::{ClockId, clock_gettime};

use super::words::{Words, say};

/// Milliseconds between two lines.
const LINE_INTERVAL: u8 = 2;

/// Writes numbered lines until it is asked to stop; the last line says how many there were.
pub(crate) fn talk(_: &Words) -> io::Result<()> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.thread_block()?;
    let signals = SignalFd::new(&stop)?;
    for number in 1_u64.. {
        say(&format!("line {number}"))?;
        let mut waits = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waits, PollTimeout::from(LINE_INTERVAL))? > 0 {
            return say(&format!("end {number}"));
        }
    }
    Ok(())
}

/// `stamp FILE`: adds the moment of its start and its pid to a file, then waits.
pub(crate) fn stamp(words: &Words) -> io::Result<()> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let now = Duration::from(now).as_nanos();
    let mut file = OpenOptions::new().append(true).open(words.text(0)?)?;
    file.write_all(format!("{now} {}\n", std::process::id()).as_bytes())?;
    wait(words)
}

/// Waits until a signal ends it.
pub(crate) fn wait(_: &Words) -> io::Result<()> {
    loop {
        thread::park();
    }
}

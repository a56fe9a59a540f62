//! A line of processes, each with an empty environment, whose last sends notify messages: to find
//! out whose it is, all of its ancestors have to be looked at.
//! Owns the line. Never leaves a part of it behind: each waits for the next.

use std::env;
use std::io;
use std::process::Command;

use super::datagram_flood;
use super::words::Words;

/// `deep-ancestry SOCKET THREADS MILLISECONDS DEPTH`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let depth = words.number(3)?;
    if depth == 0 {
        return datagram_flood::run(words);
    }
    let mut next = Command::new(env::current_exe()?);
    next.arg("deep-ancestry").args(&words.rest(0)[..3]);
    next.arg((depth - 1).to_string()).env_clear();
    next.status().map(drop)
}

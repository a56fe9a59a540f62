//! Forges notify messages with the mark in its environment by which a module's processes might be
//! recognised, as far as it can be computed from what everybody may know.
//! Owns the guesses. Never reads what only the module's own user may read.

use std::env;
use std::io;
use std::process::{Child, Command, Stdio};

use super::words::{Words, say, under_way};

/// `mark-guesser SOCKET STATE_DIR MODULE MILLISECONDS`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (socket, state_dir, module) = (words.text(0)?, words.text(1)?, words.text(2)?);
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let hash = state_dir.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    let mut forgers: Vec<Child> = Vec::new();
    for mark in (1..=3).map(|generation| format!("{hash:016x}:{module}:{generation}")) {
        let mut forger = Command::new(env::current_exe()?);
        forger.args(["notify-forger", socket, words.text(3)?]);
        forger.env("MAINSTAY_MARK", mark).stdout(Stdio::null());
        forgers.push(forger.spawn()?);
    }
    under_way()?;
    for forger in &mut forgers {
        forger.wait()?;
    }
    say("guessed 3 marks")
}

//! A program whose execution hangs: another process has a lease on it, and does not give it up.
//! Owns that process; the system takes the lease away after 45 seconds.
//! Never leaves it behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const KEEP: &str = "
import fcntl, os, shutil, signal, sys
shutil.copy('/bin/sleep', sys.argv[1]) # here: a child of the tests may not have it open
signal.signal(signal.SIGIO, signal.SIG_IGN)
program = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(program, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('kept', flush=True)
sys.stdin.read()";

pub(crate) struct Leased {
    program: String,
    keeper: Child,
}

impl Leased {
    /// None, and a word about it, where there is no Python to keep it, or no lease on this disk.
    pub(crate) fn new(folder: &Path) -> Option<Leased> {
        let program = folder.join("hangs").to_string_lossy().into_owned();
        let mut python = Command::new("python3");
        python.args(["-c", KEEP, &program]);
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut keeper) = python.spawn() else {
            eprintln!("no python3 here: not tested");
            return None;
        };
        let mut said = String::new();
        let mut out = BufReader::new(keeper.stdout.take().unwrap());
        out.read_line(&mut said).unwrap();
        let leased = Leased { program, keeper };
        if said != "kept\n" {
            eprintln!("no lease can be had here: not tested");
            return None;
        }
        Some(leased)
    }

    pub(crate) fn program(&self) -> &str {
        &self.program
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

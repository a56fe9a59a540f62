//! An attacker from outside: a process that no module is an ancestor of, of another user if the
//! tests are root.
//! Owns the process and its end. Never lets one outlive its test.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use crate::setup::STRANGER;

/// How far attackers stand back when the processor is short.
pub(crate) const NICE: &str = "10";

/// One that runs.
pub(crate) struct Attacker {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Attacker {
    /// Starts one and waits until it is under way.
    pub(crate) fn start(folder: &Path, words: &[&str]) -> Attacker {
        // The kernel shares out the processor; what is tested is what mainstay shares out.
        let mut command = Command::new("nice");
        command.args(["-n", NICE]).arg(folder.join("hostile"));
        if geteuid().is_root() {
            command.uid(STRANGER).gid(STRANGER);
        }
        command.args(words).current_dir("/").env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("an attacker");
        let mut out = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line, "under way\n", "{words:?}");
        Attacker { child, out }
    }

    /// Waits for its own end; what it said.
    pub(crate) fn end(mut self) -> String {
        let mut said = String::new();
        self.out.read_to_string(&mut said).expect("text");
        let end = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().expect("our child").is_none() {
            assert!(Instant::now() < end, "an attacker did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        said
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

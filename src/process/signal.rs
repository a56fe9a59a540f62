//! The number of a signal.
//! Owns the numbers that are the same on every system.
//! Never names the others: their numbers differ between systems, so `os` looks them up.

use core::fmt;

use serde::{Deserialize, Serialize};

/// The number of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(pub i32);

impl Signal {
    /// SIGHUP.
    pub const HANGUP: Signal = Signal(1);
    /// SIGINT.
    pub const INTERRUPT: Signal = Signal(2);
    /// SIGKILL: cannot be caught.
    pub const KILL: Signal = Signal(9);
    /// SIGTERM: asks a process to exit.
    pub const TERMINATE: Signal = Signal(15);
}

/// Its name, if the number means the same on every Unix: a journal may be read on another system.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "SIGHUP",
            2 => "SIGINT",
            3 => "SIGQUIT",
            4 => "SIGILL",
            5 => "SIGTRAP",
            6 => "SIGABRT",
            8 => "SIGFPE",
            9 => "SIGKILL",
            11 => "SIGSEGV",
            13 => "SIGPIPE",
            14 => "SIGALRM",
            15 => "SIGTERM",
            24 => "SIGXCPU",
            25 => "SIGXFSZ",
            other => return write!(f, "signal {other}"),
        };
        f.pad(name)
    }
}

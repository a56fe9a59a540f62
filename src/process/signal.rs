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

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Signal::HANGUP => f.pad("SIGHUP"),
            Signal::INTERRUPT => f.pad("SIGINT"),
            Signal::KILL => f.pad("SIGKILL"),
            Signal::TERMINATE => f.pad("SIGTERM"),
            Signal(number) => write!(f, "signal {number}"),
        }
    }
}

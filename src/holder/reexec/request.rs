//! A request to execute another program, until it is answered.
//! Owns the descriptor of that program.
//! Never performs it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the holder may take to come to rest.
const REST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether it is at rest.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What waits for a file system or a peer, perhaps for ever.
pub(crate) const CLOSING: &str = "descriptors that came from modules are being closed";

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The program has not been asked.
    New,
    /// A child of it reads the state.
    Checking,
    /// It understands the state.
    Checked,
}

/// The request.
#[derive(Debug)]
pub(crate) struct ReexecRequest {
    pub(crate) number: u64,
    pub(crate) program: OwnedFd,
    pub(crate) phase: Phase,
    pub(crate) until: Instant,
}

impl ReexecRequest {
    pub(crate) fn new(number: u64, program: OwnedFd) -> ReexecRequest {
        ReexecRequest {
            number,
            program,
            phase: Phase::New,
            until: Instant::now() + REST_TIMEOUT,
        }
    }

    /// The program understands the state.
    pub(crate) fn checked(&mut self) {
        self.phase = Phase::Checked;
        self.until = Instant::now() + REST_TIMEOUT;
    }

    /// When the loop has to look at it again.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        (self.phase != Phase::Checking).then(|| Instant::now() + LOOK_INTERVAL)
    }
}

/// Why nothing is executed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// That ends by itself.
    Busy(String),
    /// That does not.
    Problem(String),
}

impl Obstacle {
    pub(crate) fn busy(why: &str) -> Obstacle {
        Obstacle::Busy(why.to_owned())
    }
}

impl From<std::io::Error> for Obstacle {
    fn from(error: std::io::Error) -> Obstacle {
        Obstacle::Problem(error.to_string())
    }
}

//! A request to execute another program, until it is answered.
//! Owns the descriptor of that program.
//! Never performs it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the holder may take to come to rest.
const REST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether it is at rest, at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// After a look that held up the loop, this many times as long is the loop's own: a disk that does
/// not answer costs everything else a fifth of the time.
const PAUSE_FACTOR: u32 = 4;

/// What waits for a file system or a peer, perhaps for ever.
pub(super) const CLOSING: &str = "descriptors that came from modules are being closed";

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
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
    pub(super) phase: Phase,
    pub(crate) until: Instant,
    /// Before that it is not looked at again.
    next_look: Instant,
}

impl ReexecRequest {
    pub(crate) fn new(number: u64, program: OwnedFd) -> ReexecRequest {
        let now = Instant::now();
        ReexecRequest {
            number,
            program,
            phase: Phase::New,
            until: now + REST_TIMEOUT,
            next_look: now,
        }
    }

    /// The program understands the state.
    pub(crate) fn checked(&mut self) {
        self.phase = Phase::Checked;
        self.until = Instant::now() + REST_TIMEOUT;
    }

    /// It was looked at until `now`, for so long, and it is not at rest.
    pub(crate) fn looked(&mut self, now: Instant, took: Duration) {
        self.next_look = now + LOOK_INTERVAL.max(took * PAUSE_FACTOR);
    }

    /// When the loop has to look at it again.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        (self.phase != Phase::Checking).then_some(self.next_look)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_held_up_the_loop_is_followed_by_a_longer_pause() {
        let program = std::fs::File::open("/dev/null").expect("there is one");
        let mut request = ReexecRequest::new(1, program.into());
        let now = Instant::now();
        request.looked(now, Duration::ZERO);
        assert_eq!(request.next_look(), Some(now + LOOK_INTERVAL));
        request.looked(now, Duration::from_millis(100));
        assert_eq!(request.next_look(), Some(now + Duration::from_millis(400)));
        request.phase = Phase::Checking;
        assert_eq!(request.next_look(), None);
    }
}

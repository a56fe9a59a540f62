//! How much one run may report by sd_notify, so that no other run waits while it is read.
//! Owns what it spent in the current interval.
//! Never drops a message: while the allowance is spent the socket is not read; senders wait.

use std::time::{Duration, Instant};

/// After this the whole allowance is there again.
const INTERVAL: Duration = Duration::from_millis(100);
/// Messages in an interval, at most.
const MESSAGES_MAX: usize = 64;
/// A longer message counts as several, and so does each descriptor.
const MESSAGE_BYTES: usize = 1024;

/// The allowance of one run.
#[derive(Debug)]
pub(crate) struct NotifyAllowance {
    since: Instant,
    spent: usize,
}

impl NotifyAllowance {
    pub(crate) fn new(now: Instant) -> NotifyAllowance {
        NotifyAllowance {
            since: now,
            spent: 0,
        }
    }

    /// Counts a message of this length with so many descriptors.
    pub(crate) fn spend(&mut self, bytes: usize, fds: usize, now: Instant) {
        if now >= self.since + INTERVAL {
            *self = NotifyAllowance::new(now);
        }
        self.spent += 1 + bytes / MESSAGE_BYTES + fds;
    }

    /// How long the socket is not read; None while something is left.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        let left = (self.since + INTERVAL).saturating_duration_since(now);
        (self.spent >= MESSAGES_MAX && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_spent_by_number_or_by_length_and_comes_back() {
        let begin = Instant::now();
        let mut allowance = NotifyAllowance::new(begin);
        for _ in 1..MESSAGES_MAX {
            allowance.spend(10, 0, begin);
        }
        assert_eq!(allowance.pause(begin), None);
        allowance.spend(10, 0, begin);
        assert_eq!(allowance.pause(begin), Some(INTERVAL));
        assert_eq!(allowance.pause(begin + INTERVAL), None);
        allowance.spend(MESSAGES_MAX * MESSAGE_BYTES, 0, begin + INTERVAL);
        assert_eq!(allowance.pause(begin + INTERVAL), Some(INTERVAL));
        allowance.spend(0, 0, begin + 2 * INTERVAL);
        assert_eq!(allowance.pause(begin + 2 * INTERVAL), None);
    }
}

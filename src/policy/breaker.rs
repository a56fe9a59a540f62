//! A circuit breaker per callee: calls are held back after too many failures in a row.
//! Owns a counter and the time it opens to. Never calls anything, never reads a clock.

use core::time::Duration;

use crate::time::Time;

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// How long it stays open before one call is let through.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// The state of calls to one callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    failures: u32,
    open_until: Option<Time>,
    /// Half-open: one call is on its way, the others wait for what comes of it.
    trying: bool,
}

impl Breaker {
    /// Whether a call may go out now; when it was open long enough, exactly one may.
    pub fn admit(&mut self, now: Time) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now >= until && !self.trying => {
                self.trying = true;
                true
            }
            Some(_) => false,
        }
    }

    /// An admitted call was given up by who made it: nothing is known, another may try.
    pub fn abandon(&mut self) {
        self.trying = false;
    }

    /// What came of an admitted call. Only failures of communication count (no answer, not
    /// there); an error the callee answers with is an answer.
    pub fn note(&mut self, now: Time, answered: bool) {
        self.trying = false;
        if answered {
            *self = Breaker::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.open_until = Some(now.after(OPEN_FOR));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened_at(now: Time) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert!(breaker.admit(now));
            breaker.note(now, false);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_through_later() {
        let mut breaker = opened_at(Time(0));
        assert!(!breaker.admit(Time(1)));
        let later = Time(0).after(OPEN_FOR);
        assert!(breaker.admit(later), "half-open: one");
        assert!(!breaker.admit(later), "and only one");
        breaker.note(later, false);
        assert!(!breaker.admit(later), "it failed: open again");
        let later = later.after(OPEN_FOR);
        assert!(breaker.admit(later));
        breaker.note(later, true);
        assert!(breaker.admit(later) && breaker.admit(later), "closed");
    }

    #[test]
    fn a_try_that_was_given_up_lets_another_try() {
        let mut breaker = opened_at(Time(0));
        let later = Time(0).after(OPEN_FOR);
        assert!(breaker.admit(later) && !breaker.admit(later));
        breaker.abandon();
        assert!(breaker.admit(later));
    }

    #[test]
    fn an_answer_in_between_forgets_the_failures() {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES * 3 {
            breaker.note(Time(0), false);
            breaker.note(Time(0), true);
        }
        assert!(breaker.admit(Time(0)));
    }
}

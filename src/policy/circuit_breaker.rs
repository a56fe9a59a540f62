//! A circuit breaker per callee: calls are held back after too many failures in a row.
//! Owns a counter and the time it opens to. Never calls anything, never reads a clock.

use core::time::Duration;

use crate::mono_time::MonoTime;

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// How long it stays open before one call is let through.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// The state of calls to one callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CircuitBreaker {
    failures: u32,
    open_until: Option<MonoTime>,
    /// Half-open: one call is in flight, and no other is admitted until it has a result.
    half_open: bool,
}

impl CircuitBreaker {
    /// Whether a call may go out now; when it was open long enough, exactly one may.
    pub fn try_acquire(&mut self, now: MonoTime) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now >= until && !self.half_open => {
                self.half_open = true;
                true
            }
            Some(_) => false,
        }
    }

    /// An admitted call was cancelled by its caller: its result is unknown, another call may try.
    pub fn cancel(&mut self) {
        self.half_open = false;
    }

    /// Records the result of an admitted call. Only failures of communication count (no reply, not
    /// connected); an error that the callee replies with is a reply.
    pub fn record_result(&mut self, now: MonoTime, answered: bool) {
        self.half_open = false;
        if answered {
            *self = CircuitBreaker::default();
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

    fn opened_at(now: MonoTime) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..FAILURES {
            assert!(breaker.try_acquire(now));
            breaker.record_result(now, false);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_through_later() {
        let mut breaker = opened_at(MonoTime(0));
        assert!(!breaker.try_acquire(MonoTime(1)));
        let later = MonoTime(0).after(OPEN_FOR);
        assert!(breaker.try_acquire(later), "half-open: one");
        assert!(!breaker.try_acquire(later), "and only one");
        breaker.record_result(later, false);
        assert!(!breaker.try_acquire(later), "it failed: open again");
        let later = later.after(OPEN_FOR);
        assert!(breaker.try_acquire(later));
        breaker.record_result(later, true);
        assert!(
            breaker.try_acquire(later) && breaker.try_acquire(later),
            "closed"
        );
    }

    #[test]
    fn a_try_that_was_given_up_lets_another_try() {
        let mut breaker = opened_at(MonoTime(0));
        let later = MonoTime(0).after(OPEN_FOR);
        assert!(breaker.try_acquire(later) && !breaker.try_acquire(later));
        breaker.cancel();
        assert!(breaker.try_acquire(later));
    }

    #[test]
    fn an_answer_in_between_forgets_the_failures() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..FAILURES * 3 {
            breaker.record_result(MonoTime(0), false);
            breaker.record_result(MonoTime(0), true);
        }
        assert!(breaker.try_acquire(MonoTime(0)));
    }
}

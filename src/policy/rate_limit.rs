//! How often something may happen: a burst, then a steady rate.
//! Owns the tokens that are left.
//! Never reads a clock: time is an argument.

use crate::MonoTime;

/// A bucket of tokens that is refilled steadily.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    burst: f64,
    per_second: f64,
    left: f64,
    refilled_at: MonoTime,
}

impl TokenBucket {
    /// Creates a full bucket.
    #[must_use]
    pub fn new(burst: u32, per_second: f64) -> TokenBucket {
        TokenBucket {
            burst: f64::from(burst),
            per_second,
            left: f64::from(burst),
            refilled_at: MonoTime(0),
        }
    }

    /// Changes the burst and the rate; what is left stays, up to the new burst.
    pub fn resize(&mut self, burst: u32, per_second: f64, now: MonoTime) {
        self.refill(now);
        (self.burst, self.per_second) = (f64::from(burst), per_second);
        self.left = self.left.min(self.burst);
    }

    /// Takes one token; false: none is left.
    pub fn try_take(&mut self, now: MonoTime) -> bool {
        self.refill(now);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }

    /// Whether a token is left.
    pub fn has_token(&mut self, now: MonoTime) -> bool {
        self.refill(now);
        self.left >= 1.0
    }

    /// Whether no token is missing.
    pub fn is_full(&mut self, now: MonoTime) -> bool {
        self.refill(now);
        self.left >= self.burst
    }

    fn refill(&mut self, now: MonoTime) {
        let new = now.since(self.refilled_at).as_secs_f64() * self.per_second;
        self.left = (self.left + new).min(self.burst);
        self.refilled_at = self.refilled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn a_burst_then_the_rate_and_never_more_than_the_burst() {
        let mut bucket = TokenBucket::new(2, 4.0);
        let start = MonoTime(0).after(Duration::from_secs(9));
        assert!(bucket.is_full(start));
        assert!(bucket.try_take(start) && bucket.try_take(start) && !bucket.try_take(start));
        let later = start.after(Duration::from_millis(250));
        assert!(bucket.try_take(later) && !bucket.try_take(later));
        assert!(
            !bucket.try_take(start),
            "a clock that steps back refills nothing"
        );
        let much_later = start.after(Duration::from_secs(60));
        assert!(bucket.is_full(much_later));
        assert!(bucket.try_take(much_later) && bucket.try_take(much_later));
        assert!(!bucket.try_take(much_later));
    }

    #[test]
    fn another_size_grants_nothing_at_once_and_takes_what_is_too_much() {
        let start = MonoTime(0).after(Duration::from_secs(9));
        let mut bucket = TokenBucket::new(5, 5.0);
        assert!(bucket.is_full(start));
        bucket.resize(1, 1.0, start);
        assert!(bucket.try_take(start) && !bucket.try_take(start));
        bucket.resize(10, 10.0, start);
        assert!(!bucket.try_take(start));
        let later = start.after(Duration::from_millis(250));
        assert!(bucket.try_take(later) && bucket.try_take(later) && !bucket.try_take(later));
    }
}

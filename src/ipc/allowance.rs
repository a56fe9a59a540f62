//! How often someone may do something: some at once, then so many a second.
//! Owns what is left of it. Never reads a clock: time is an argument.

use mainstay_policy::MonoTime;

/// A bucket of tokens that is refilled steadily.
pub(crate) struct Allowance {
    at_once: f64,
    per_second: f64,
    left: f64,
    at: MonoTime,
}

impl Allowance {
    /// A full one.
    pub(crate) fn new(at_once: u32, per_second: f64) -> Allowance {
        Allowance {
            at_once: f64::from(at_once),
            per_second,
            left: f64::from(at_once),
            at: MonoTime(0),
        }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: MonoTime) -> bool {
        let come = now.since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + come).min(self.at_once);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

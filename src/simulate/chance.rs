//! Random numbers of one history.
//! Owns the generator (splitmix64, counted up from the seed).
//! Never asks the machine for entropy: the same seed gives the same numbers everywhere.

use std::time::Duration;

use mainstay_policy::backoff::splitmix64;

/// A generator.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        // Neighbouring seeds must not be the same numbers, one later.
        Chance(splitmix64(seed))
    }

    /// From 0 to 1, without 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(1);
        // 53 bits are what a double keeps.
        (splitmix64(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in this share of all cases.
    pub(super) fn happens(&mut self, share: f64) -> bool {
        self.share() < share
    }

    /// A time between both, each as likely.
    pub(super) fn between(&mut self, (least, most): (Duration, Duration)) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.share())
    }

    /// The time until something happens that happens this often, at random moments.
    pub(super) fn until_next(&mut self, mean: Duration) -> Duration {
        // At most 36.7 times the mean: the logarithm of the smallest share.
        let times = -(1.0 - self.share()).ln();
        Duration::try_from_secs_f64(mean.as_secs_f64() * times).unwrap_or(Duration::MAX)
    }
}

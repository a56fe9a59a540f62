//! How long a run has not been used.
//! Owns the time that was seen to pass without use. Never looks itself, never reads a clock.

use core::time::Duration;

use crate::mono_time::MonoTime;

/// The time without use of one run, as far as it was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleClock {
    looked_at: MonoTime,
    unused: Duration,
}

impl IdleClock {
    /// A run is ready: that counts as a use.
    #[must_use]
    pub fn new(now: MonoTime) -> IdleClock {
        IdleClock {
            looked_at: now,
            unused: Duration::ZERO,
        }
    }

    /// Takes in a look; whether the run has not been used for `idle_stop`. Looks come every
    /// `interval`: a longer gap was not watched, and counts as two of them.
    pub fn look(
        &mut self,
        now: MonoTime,
        is_used: bool,
        (interval, idle_stop): (Duration, Duration),
    ) -> bool {
        let passed = now.since(self.looked_at).min(interval.saturating_mul(2));
        self.looked_at = now;
        self.unused = match is_used {
            true => Duration::ZERO,
            false => self.unused.saturating_add(passed),
        };
        !is_used && self.unused >= idle_stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn only_watched_time_without_use_counts() {
        // When, whether it is used, and whether it is idle after that; looked at every 10 s.
        let cases: &[&[(u64, bool, bool)]] = &[
            &[(10, false, false), (20, false, false), (30, false, true)],
            &[(10, false, false), (29, false, false), (30, false, true)],
            &[(20, false, false), (30, true, false), (59, false, false)],
            &[(20, true, false), (30, false, false), (50, false, true)],
            // The machine slept, or mainstay was stopped: whether it was used was not seen.
            &[
                (3600, false, false),
                (3609, false, false),
                (3610, false, true),
            ],
            // Not stopped, because something needs it: it stays idle.
            &[
                (20, false, false),
                (30, false, true),
                (40, false, true),
                (50, true, false),
            ],
        ];
        for case in cases {
            let mut clock = IdleClock::new(MonoTime(0));
            for (at, is_used, is_idle) in *case {
                let now = MonoTime(0).after(SEC(*at));
                let found = clock.look(now, *is_used, (SEC(10), SEC(30)));
                assert_eq!(found, *is_idle, "{case:?} at {at}");
            }
        }
    }

    #[test]
    fn a_shorter_time_holds_from_the_next_look_on() {
        let mut clock = IdleClock::new(MonoTime(0));
        let at = |seconds| MonoTime(0).after(SEC(seconds));
        assert!(!clock.look(at(10), false, (SEC(10), SEC(600))));
        assert!(clock.look(at(11), false, (SEC(10), SEC(5))));
    }
}

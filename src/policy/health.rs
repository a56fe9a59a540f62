//! Probe results to health: thresholds both ways, and a confirmation before a restart.
//! Owns the counters of one probe. Never probes, never reads a clock.

use crate::states::Health;

/// Looks at once after the threshold, before a restart, so that random loss restarts nobody.
const CONFIRMATIONS: u32 = 2;

/// The counters of one probe of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    unhealthy_threshold: u32,
    healthy_threshold: u32,
    failures: u32,
    successes: u32,
    health: Health,
}

/// What to do after a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Go on with the schedule.
    Keep,
    /// Look again at once.
    Confirm,
    /// It failed for good: restart the module.
    Restart,
}

impl Gauge {
    /// Nothing seen yet. Thresholds count results in a row and are at least 1.
    #[must_use]
    pub fn new(unhealthy_threshold: u32, healthy_threshold: u32) -> Gauge {
        Gauge {
            unhealthy_threshold: unhealthy_threshold.max(1),
            healthy_threshold: healthy_threshold.max(1),
            failures: 0,
            successes: 0,
            health: Health::Unknown,
        }
    }

    /// How the module is, by this probe.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes one result. `Degraded` is an answer, not a failure.
    pub fn note(&mut self, seen: Health) -> Answer {
        match seen {
            Health::Unhealthy => self.failed(),
            Health::Healthy | Health::Degraded | Health::Unknown => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                if self.health != Health::Unhealthy || self.successes >= self.healthy_threshold {
                    self.health = seen;
                }
                Answer::Keep
            }
        }
    }

    fn failed(&mut self) -> Answer {
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.unhealthy_threshold {
            if self.health == Health::Healthy {
                self.health = Health::Degraded;
            }
            return Answer::Keep;
        }
        self.health = Health::Unhealthy;
        if self.failures < self.unhealthy_threshold.saturating_add(CONFIRMATIONS) {
            return Answer::Confirm;
        }
        self.failures = 0;
        Answer::Restart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_poll_degrades_and_restarts_nobody() {
        let mut gauge = Gauge::new(3, 1);
        assert_eq!(gauge.note(Health::Healthy), Answer::Keep);
        assert_eq!(gauge.note(Health::Unhealthy), Answer::Keep);
        assert_eq!(gauge.health(), Health::Degraded);
        assert_eq!(gauge.note(Health::Healthy), Answer::Keep);
        assert_eq!(gauge.health(), Health::Healthy);
    }

    #[test]
    fn a_restart_needs_the_threshold_and_two_confirmations() {
        let mut gauge = Gauge::new(2, 1);
        let answers: [Answer; 4] = core::array::from_fn(|_| gauge.note(Health::Unhealthy));
        use Answer::{Confirm, Keep, Restart};
        assert_eq!(answers, [Keep, Confirm, Confirm, Restart]);
        assert_eq!(gauge.health(), Health::Unhealthy);
    }

    #[test]
    fn coming_back_takes_as_many_successes_as_asked() {
        let mut gauge = Gauge::new(1, 2);
        gauge.note(Health::Unhealthy);
        gauge.note(Health::Healthy);
        assert_eq!(gauge.health(), Health::Unhealthy);
        gauge.note(Health::Healthy);
        assert_eq!(gauge.health(), Health::Healthy);
    }
}

//! Probe results to health: thresholds both ways, and a confirmation before a restart.
//! Owns the counters of one probe. Never probes, never reads a clock.

use core::time::Duration;

use crate::mono_time::MonoTime;
use crate::states::Health;

/// Looks at once after the threshold, before a restart, so that random loss restarts nobody.
const RECHECKS: u32 = 2;

/// The counters of one probe of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTracker {
    unhealthy_threshold: u32,
    healthy_threshold: u32,
    failures: u32,
    successes: u32,
    health: Health,
}

/// How a module is by all that reports on it, a probe or the module itself: as bad as the worst
/// of them, and healthy only when each has reported well.
#[must_use]
pub fn combine(reports: impl IntoIterator<Item = Health>) -> Health {
    let (mut worst, mut is_complete) = (Health::Unknown, true);
    for health in reports {
        worst = worst.max(health);
        is_complete &= health != Health::Unknown;
    }
    match worst {
        Health::Healthy if !is_complete => Health::Unknown,
        worst => worst,
    }
}

/// What to do after a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeAction {
    /// Go on with the schedule.
    Continue,
    /// Look again at once.
    Recheck,
    /// It failed for good: restart the module.
    Restart,
}

/// When a probe that fails from now on restarts its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeForecast {
    /// Failures in a row so far.
    pub failures: u32,
    /// Failures that are still to come on the schedule.
    pub scheduled: u32,
    /// Failures that are still to come at once after those, as confirmations.
    pub confirmations: u32,
    /// When the last of them has failed.
    pub at: MonoTime,
}

/// The times of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTimes {
    /// When the next check begins, or the one in flight began.
    pub next: MonoTime,
    /// From the end of a check to the next.
    pub interval: Duration,
    /// How long a failing check takes.
    pub duration: Duration,
}

impl ProbeTracker {
    /// When the module is restarted if every check from now on fails; None: the last one did not.
    #[must_use]
    pub fn forecast(&self, times: ProbeTimes) -> Option<ProbeForecast> {
        if self.failures == 0 {
            return None;
        }
        let scheduled = self.unhealthy_threshold.saturating_sub(self.failures);
        let after = self.failures.saturating_sub(self.unhealthy_threshold);
        let confirmations = RECHECKS.saturating_sub(after);
        let checks = times.duration * (scheduled + confirmations);
        let pauses = times.interval * scheduled.saturating_sub(1);
        Some(ProbeForecast {
            failures: self.failures,
            scheduled,
            confirmations,
            at: times.next.after(checks).after(pauses),
        })
    }

    /// Nothing seen yet. Thresholds count results in a row and are at least 1.
    #[must_use]
    pub fn new(unhealthy_threshold: u32, healthy_threshold: u32) -> ProbeTracker {
        ProbeTracker {
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
    pub fn record(&mut self, seen: Health) -> ProbeAction {
        match seen {
            Health::Unhealthy => self.failed(),
            Health::Healthy | Health::Degraded | Health::Unknown => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                if self.health != Health::Unhealthy || self.successes >= self.healthy_threshold {
                    self.health = seen;
                }
                ProbeAction::Continue
            }
        }
    }

    fn failed(&mut self) -> ProbeAction {
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.unhealthy_threshold {
            if self.health == Health::Healthy {
                self.health = Health::Degraded;
            }
            return ProbeAction::Continue;
        }
        self.health = Health::Unhealthy;
        if self.failures < self.unhealthy_threshold.saturating_add(RECHECKS) {
            return ProbeAction::Recheck;
        }
        self.failures = 0;
        ProbeAction::Restart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_poll_degrades_and_restarts_nobody() {
        let mut gauge = ProbeTracker::new(3, 1);
        assert_eq!(gauge.record(Health::Healthy), ProbeAction::Continue);
        assert_eq!(gauge.record(Health::Unhealthy), ProbeAction::Continue);
        assert_eq!(gauge.health(), Health::Degraded);
        assert_eq!(gauge.record(Health::Healthy), ProbeAction::Continue);
        assert_eq!(gauge.health(), Health::Healthy);
    }

    #[test]
    fn a_restart_needs_the_threshold_and_two_confirmations() {
        let mut gauge = ProbeTracker::new(2, 1);
        let answers: [ProbeAction; 4] = core::array::from_fn(|_| gauge.record(Health::Unhealthy));
        use ProbeAction::{Continue, Recheck, Restart};
        assert_eq!(answers, [Continue, Recheck, Recheck, Restart]);
        assert_eq!(gauge.health(), Health::Unhealthy);
    }

    #[test]
    fn what_is_forecast_happens_if_every_check_fails() {
        let second = Duration::from_secs(1);
        for threshold in 1..4 {
            let mut tracker = ProbeTracker::new(threshold, 1);
            assert_eq!(tracker.record(Health::Healthy), ProbeAction::Continue);
            let times = ProbeTimes {
                next: MonoTime(0),
                interval: 10 * second,
                duration: second,
            };
            assert_eq!(tracker.forecast(times), None);
            let mut forecasts = alloc::vec::Vec::new();
            let mut now = MonoTime(0);
            loop {
                now = now.after(second);
                let action = tracker.record(Health::Unhealthy);
                let next = match action {
                    ProbeAction::Restart => break,
                    ProbeAction::Recheck => now,
                    ProbeAction::Continue => now.after(times.interval),
                };
                let forecast = tracker.forecast(ProbeTimes { next, ..times });
                forecasts.push(forecast.expect("it fails"));
                now = next;
            }
            assert!(forecasts.iter().all(|forecast| forecast.at == now));
            let left = |f: &ProbeForecast| f.scheduled + f.confirmations;
            let counts = forecasts.iter().map(left).rev();
            assert!(counts.eq(1..=threshold + 1), "{forecasts:?}");
        }
    }

    #[test]
    fn a_module_is_healthy_when_each_probe_has_answered_well() {
        use Health::{Degraded, Healthy, Unhealthy, Unknown};
        for (reports, health) in [
            (&[][..], Unknown),
            (&[Unknown], Unknown),
            (&[Healthy], Healthy),
            (&[Healthy, Unknown], Unknown),
            (&[Unknown, Healthy, Healthy], Unknown),
            (&[Healthy, Healthy], Healthy),
            (&[Healthy, Degraded, Unknown], Degraded),
            (&[Unknown, Unhealthy], Unhealthy),
            (&[Degraded, Unhealthy, Healthy], Unhealthy),
        ] {
            assert_eq!(combine(reports.iter().copied()), health, "{reports:?}");
        }
    }

    #[test]
    fn coming_back_takes_as_many_successes_as_asked() {
        let mut gauge = ProbeTracker::new(1, 2);
        gauge.record(Health::Unhealthy);
        gauge.record(Health::Healthy);
        assert_eq!(gauge.health(), Health::Unhealthy);
        gauge.record(Health::Healthy);
        assert_eq!(gauge.health(), Health::Healthy);
    }
}

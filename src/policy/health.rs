//! Probe results to health: thresholds both ways, and a confirmation before a restart.
//! Owns the counters of one probe. Never probes, never reads a clock.

use core::time::Duration;

use mainstay_process::ProbeRole;

use crate::mono_time::MonoTime;
use crate::states::Health;

pub mod schedule;
pub mod score;
pub mod trend;

/// Confirmations after the threshold, at once, before a restart: random loss restarts no module.
const RECHECKS: u32 = 2;
/// A probe that often fails at random gets more, up to so many.
const RECHECKS_MAX: u32 = 8;
/// How improbable it has to be that as many failures in a row are random loss.
const RANDOM_LOSS: f64 = 1e-9;
/// What is assumed before there are results: one failure in so many.
const PRIOR_RESULTS: f64 = 100.0;
/// Older results count less and less from so many on.
const RESULTS_MAX: f64 = 1000.0;

/// The counters of one probe of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeTracker {
    role: ProbeRole,
    unhealthy_threshold: u32,
    healthy_threshold: u32,
    failures: u32,
    successes: u32,
    health: Health,
    has_passed: bool,
    loss: LossEstimate,
}

/// How often a probe fails although the module is well.
#[derive(Debug, Clone, Copy, PartialEq)]
struct LossEstimate {
    results: f64,
    losses: f64,
}

impl LossEstimate {
    const NONE: LossEstimate = LossEstimate {
        results: 0.0,
        losses: 0.0,
    };

    /// Takes in a success after `failures` failures in a row: they were random.
    fn success_after(&mut self, failures: u32) {
        if self.results > RESULTS_MAX {
            (self.results, self.losses) = (self.results / 2.0, self.losses / 2.0);
        }
        self.results += f64::from(failures) + 1.0;
        self.losses += f64::from(failures);
    }

    /// How many failures in a row are no random loss any more.
    fn streak(&self) -> u32 {
        let loss = (self.losses + 1.0) / (self.results + PRIOR_RESULTS);
        let (mut count, mut probability) = (1, loss);
        while probability > RANDOM_LOSS && count < u32::from(u8::MAX) {
            (count, probability) = (count + 1, probability * loss);
        }
        count
    }
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
    /// Continue the schedule.
    Continue,
    /// Probe again at once.
    Recheck,
    /// The probe failed after the threshold too: restart the module.
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
        let confirmations = self.confirmations().saturating_sub(after);
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
            role: ProbeRole::Liveness,
            has_passed: false,
            loss: LossEstimate::NONE,
        }
    }

    /// The same with a role. A failing readiness probe degrades the module and restarts nothing.
    #[must_use]
    pub fn with_role(self, role: ProbeRole) -> ProbeTracker {
        ProbeTracker { role, ..self }
    }

    /// Failures in a row so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether dependents may start as far as this probe says.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.has_passed || self.role != ProbeRole::Readiness
    }

    /// Confirmations before a restart: more for a probe that has often failed at random.
    #[must_use]
    pub fn confirmations(&self) -> u32 {
        let more = self
            .loss
            .streak()
            .saturating_sub(LossEstimate::NONE.streak());
        (RECHECKS + more).min(RECHECKS_MAX)
    }

    /// How the module is, by this probe.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes one result. `Degraded` is an answer, not a failure.
    pub fn record(&mut self, seen: Health) -> ProbeAction {
        if seen == Health::Unhealthy {
            return self.failed();
        }
        self.loss.success_after(self.failures);
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        let is_enough = self.successes >= self.healthy_threshold;
        self.has_passed |= is_enough;
        let is_out = self.health == Health::Unhealthy || !self.has_passed();
        if is_enough || !is_out {
            self.health = seen;
        }
        ProbeAction::Continue
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
        if self.role == ProbeRole::Readiness {
            (self.has_passed, self.health) = (false, Health::Degraded);
            return ProbeAction::Continue;
        }
        self.health = Health::Unhealthy;
        if self.failures
            < self
                .unhealthy_threshold
                .saturating_add(self.confirmations())
        {
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
    fn a_readiness_probe_gates_by_its_thresholds_and_restarts_nothing() {
        use Health::{Degraded, Healthy, Unhealthy, Unknown};
        let mut tracker = ProbeTracker::new(2, 2).with_role(ProbeRole::Readiness);
        assert!(!tracker.has_passed(), "nothing is known yet");
        for (seen, passed, health) in [
            (Unhealthy, false, Unknown),
            (Healthy, false, Unknown),
            (Healthy, true, Healthy),
            (Unhealthy, true, Degraded),
            (Healthy, true, Healthy),
            (Unhealthy, true, Degraded),
            (Unhealthy, false, Degraded),
            (Healthy, false, Degraded),
            (Healthy, true, Healthy),
        ] {
            assert_eq!(tracker.record(seen), ProbeAction::Continue);
            assert_eq!((tracker.has_passed(), tracker.health()), (passed, health));
        }
        let actions = core::iter::repeat_with(|| tracker.record(Unhealthy)).take(1000);
        assert!(actions.eq(core::iter::repeat_n(ProbeAction::Continue, 1000)));
    }

    /// Results with this share of failures, drawn from a seed.
    fn lossy(seed: u64, percent: u64) -> impl Iterator<Item = Health> {
        (0_u64..).map(move |at| {
            let drawn = crate::backoff::splitmix64(seed ^ (at << 20)) % 100;
            match drawn < percent {
                true => Health::Unhealthy,
                false => Health::Healthy,
            }
        })
    }

    #[test]
    fn in_a_month_with_a_tenth_of_the_probes_lost_no_module_is_restarted() {
        let probes = 30 * 24 * 3600 / 30; // the default interval
        for module in 0..20 {
            let mut tracker = ProbeTracker::new(3, 1);
            for seen in lossy(module * 7919, 10).take(probes) {
                assert_ne!(
                    tracker.record(seen),
                    ProbeAction::Restart,
                    "module {module}"
                );
            }
            // It is still noticed when the module hangs.
            let hangs = (1..).find(|_| tracker.record(Health::Unhealthy) == ProbeAction::Restart);
            assert!(
                hangs.is_some_and(|checks| (5..=11).contains(&checks)),
                "{hangs:?}"
            );
        }
    }

    #[test]
    fn a_probe_that_never_failed_is_confirmed_twice() {
        let mut tracker = ProbeTracker::new(3, 1);
        for _ in 0..100_000 {
            tracker.record(Health::Healthy);
        }
        assert_eq!(tracker.confirmations(), 2);
        let checks = (1..).find(|_| tracker.record(Health::Unhealthy) == ProbeAction::Restart);
        assert_eq!(checks, Some(5));
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

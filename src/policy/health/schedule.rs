//! When a probe checks again: jittered, less often on a busy machine, soon after bad news.
//! Owns the length of a pause. Never draws a random number: the seed is an argument.

use core::time::Duration;

use mainstay_process::ProbeRole;

use super::ProbeTracker;
use crate::backoff::splitmix64;

/// What the interval is stretched to at most on a busy machine.
const STRETCH_MAX: f64 = 4.0;
/// The share of an interval that is random, both ways.
const JITTER: f64 = 0.1;
/// The first pause of a readiness probe that has not passed yet; it doubles up to the interval.
const UNREADY_PAUSE: Duration = Duration::from_millis(250);
/// Doublings after which every interval is reached.
const DOUBLINGS_MAX: u32 = 20;

/// How often a probe checks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeRates {
    /// Its role.
    pub role: ProbeRole,
    /// Between two checks.
    pub interval: Duration,
    /// Whether it checks less often on a busy machine.
    pub adaptive: bool,
}

/// By how much the interval is stretched now, without what is random.
#[must_use]
pub fn stretch(rates: &ProbeRates, tracker: &ProbeTracker, load: f64) -> f64 {
    let is_young = rates.role == ProbeRole::Readiness && !tracker.has_passed();
    match rates.adaptive && tracker.failures() == 0 && !is_young {
        true => (1.0 + load.max(0.0)).min(STRETCH_MAX),
        false => 1.0,
    }
}

/// The pause after a result. `load`: tasks that run or wait for a processor, per processor.
#[must_use]
pub fn pause(rates: &ProbeRates, tracker: &ProbeTracker, load: f64, seed: u64) -> Duration {
    let failures = tracker.failures();
    if rates.role == ProbeRole::Readiness && !tracker.has_passed() {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        return (UNREADY_PAUSE * 2_u32.pow(doublings)).min(rates.interval);
    }
    if failures > 0 {
        return rates.interval;
    }
    let stretch = stretch(rates, tracker, load);
    let drawn = (splitmix64(seed) >> 11) as f64 / (1_u64 << 53) as f64;
    let jitter = 1.0 - JITTER + 2.0 * JITTER * drawn;
    let nanos = rates.interval.as_nanos() as f64 * stretch * jitter;
    Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::states::Health;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn rates(role: ProbeRole, adaptive: bool) -> ProbeRates {
        ProbeRates {
            role,
            interval: INTERVAL,
            adaptive,
        }
    }

    #[test]
    fn a_busy_machine_is_probed_less_often_and_a_failing_module_as_often_as_configured() {
        let liveness = rates(ProbeRole::Liveness, true);
        let mut tracker = ProbeTracker::new(3, 1);
        tracker.record(Health::Healthy);
        assert_eq!(stretch(&liveness, &tracker, 1.0), 2.0);
        assert_eq!(
            stretch(&rates(ProbeRole::Liveness, false), &tracker, 1.0),
            1.0
        );
        for (load, stretch) in [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (3.0, 4.0), (1e9, 4.0)] {
            for seed in 0..100 {
                let pause = pause(&liveness, &tracker, load, seed).as_secs_f64();
                let share = pause / INTERVAL.as_secs_f64() / stretch;
                assert!((0.9..=1.1).contains(&share), "{load}: {pause}");
            }
        }
        let fixed = rates(ProbeRole::Liveness, false);
        assert!(pause(&fixed, &tracker, 9.0, 1) <= INTERVAL.mul_f64(1.1));
        tracker.record(Health::Unhealthy);
        assert_eq!(pause(&liveness, &tracker, 9.0, 1), INTERVAL);
    }

    #[test]
    fn pauses_differ_from_module_to_module() {
        let tracker = ProbeTracker::new(3, 1);
        let liveness = rates(ProbeRole::Liveness, true);
        let pauses: std::collections::BTreeSet<Duration> = (0..50)
            .map(|seed| pause(&liveness, &tracker, 0.0, seed))
            .collect();
        assert!(pauses.len() > 45);
    }

    #[test]
    fn a_module_that_is_not_ready_yet_is_asked_again_soon_and_then_less_often() {
        let readiness = rates(ProbeRole::Readiness, true);
        let mut tracker = ProbeTracker::new(3, 1).with_role(ProbeRole::Readiness);
        let pauses = core::array::from_fn(|_| {
            tracker.record(Health::Unhealthy);
            pause(&readiness, &tracker, 3.0, 1).as_millis()
        });
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        for _ in 0..100 {
            tracker.record(Health::Unhealthy);
        }
        assert_eq!(pause(&readiness, &tracker, 3.0, 1), INTERVAL);
    }
}

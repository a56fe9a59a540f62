//! What a program's health is made of: its last outcomes, its queue, the pulse of its main loop.
//! Owns the counts and the rules from counts to a report.
//! Never blocks: the report is asked for by a watchdog.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_sdk::HealthReport;

/// How many outcomes the error rate looks back on.
const OUTCOMES: usize = 20;
/// A main loop turns at least once a second; this long without is a standstill.
const STANDSTILL: Duration = Duration::from_secs(10);

struct Counts {
    outcomes: VecDeque<bool>,
    issue: Option<String>,
    depth: usize,
    turned: Instant,
    note: Option<String>,
}

/// Shared by the main loop, the listeners and the health check.
pub struct Vitals(Mutex<Counts>);

impl Default for Vitals {
    fn default() -> Vitals {
        Vitals(Mutex::new(Counts {
            outcomes: VecDeque::new(),
            issue: None,
            depth: 0,
            turned: Instant::now(),
            note: None,
        }))
    }
}

impl Vitals {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something worked: an earlier failure is forgiven.
    pub fn succeeded(&self) {
        self.lock().outcome(true, None);
    }

    /// Something did not work.
    pub fn failed(&self, issue: String) {
        self.lock().outcome(false, Some(issue));
    }

    /// Something is not as it should be until further notice; None takes it back.
    pub fn note(&self, note: Option<&str>) {
        self.lock().note = note.map(str::to_owned);
    }

    /// An item went into the inbox.
    pub fn queued(&self) {
        self.lock().depth += 1;
    }

    /// An item came out.
    pub fn taken(&self) {
        let mut counts = self.lock();
        counts.depth = counts.depth.saturating_sub(1);
    }

    /// The main loop turned.
    pub fn turned(&self) {
        self.lock().turned = Instant::now();
    }

    /// How the program is.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        self.lock().report(Instant::now())
    }
}

impl Counts {
    fn outcome(&mut self, good: bool, issue: Option<String>) {
        if self.outcomes.len() >= OUTCOMES {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(good);
        self.issue = issue;
    }

    fn report(&self, now: Instant) -> HealthReport {
        let standstill = now.saturating_duration_since(self.turned);
        let bad = self.outcomes.iter().filter(|good| !**good).count();
        let report = if standstill > STANDSTILL {
            HealthReport::unhealthy(format!(
                "the main loop stands still for {} s",
                standstill.as_secs()
            ))
        } else if let Some(issue) = self.issue.as_ref().or(self.note.as_ref()) {
            HealthReport::degraded(issue)
        } else {
            HealthReport::healthy()
        };
        let of = self.outcomes.len().max(1);
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let (rate, depth) = (bad as f64 / of as f64, self.depth as f64);
        report
            .metric("error_rate", rate)
            .metric("queue_depth", depth)
    }
}

#[cfg(test)]
mod tests {
    use mainstay_sdk::HealthStatus;

    use super::*;

    #[test]
    fn a_failure_degrades_until_something_works_again() {
        let vitals = Vitals::default();
        assert_eq!(vitals.report().status(), HealthStatus::Healthy);
        vitals.failed("storage is away".to_owned());
        assert_eq!(vitals.report().status(), HealthStatus::Degraded);
        vitals.succeeded();
        assert_eq!(vitals.report().status(), HealthStatus::Healthy);
        vitals.note(Some("no history"));
        assert_eq!(vitals.report().status(), HealthStatus::Degraded);
    }

    #[test]
    fn a_main_loop_that_stands_still_is_unhealthy() {
        let vitals = Vitals::default();
        let later = Instant::now() + STANDSTILL + Duration::from_secs(1);
        assert_eq!(
            vitals.lock().report(later).status(),
            HealthStatus::Unhealthy
        );
    }
}

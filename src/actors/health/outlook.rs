//! Where the probes of a module stand, for `why`.
//! Owns the answer: what each probe found last, and when it restarts the module if it goes on so.
//! Never judges: policy forecasts.

use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::health::{ProbeForecast, ProbeTimes};
use mainstay_protocol::Timestamp;

use super::HealthActorState;
use crate::config::{ProbeKind, ProbeRole, ProbeSpec};

/// Where one probe stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeOutlook {
    /// What it checks.
    pub(crate) what: String,
    /// What it found last, if that was a failure.
    pub(crate) found: Vec<String>,
    /// What follows if it goes on to fail.
    pub(crate) forecast: Option<ProbeForecast>,
    /// The time of that restart.
    pub(crate) restart_at: Option<Timestamp>,
}

/// When a check ran.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CheckTimes {
    /// When the check in flight began.
    pub(super) began: Option<mainstay_policy::MonoTime>,
    /// How long the last one took.
    pub(super) took: Option<Duration>,
}

impl HealthActorState {
    pub(super) fn outlook(&self, module: ModuleId) -> Vec<ProbeOutlook> {
        let Some(Some(watched)) = self.watched.get(module.index()) else {
            return Vec::new();
        };
        let now = self.ctx.os.now();
        let specs = self.probes(module);
        let states = watched.probes.iter().zip(&specs);
        let outlook = states.map(|(state, spec)| {
            let began = state.times.began;
            let times = ProbeTimes {
                next: state.due.or(began).unwrap_or(now),
                interval: spec.interval,
                duration: state.times.took.unwrap_or(spec.timeout),
            };
            let forecast = state.tracker.forecast(times);
            let forecast = forecast.filter(|_| spec.role == ProbeRole::Liveness);
            ProbeOutlook {
                what: what(spec),
                found: state.issues.clone(),
                restart_at: forecast.map(|it| self.ctx.to_wall_clock(it.at.max(now))),
                forecast,
            }
        });
        outlook.collect()
    }
}

fn what(spec: &ProbeSpec) -> String {
    match &spec.check {
        ProbeKind::Sdk => "health.check over its connection".to_owned(),
        ProbeKind::Watchdog(_) => "watchdog".to_owned(),
        ProbeKind::Probe(probe) => probe.to_string(),
    }
}

//! Where the probes of a module stand, for `why`.
//! Owns the answer: what each probe found last, and when it restarts the module if it goes on so.
//! Never judges: policy forecasts.

use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::health::{ProbeForecast, ProbeTimes};
use mainstay_process::ProbeRole;
use mainstay_protocol::Timestamp;

use super::HealthActorState;
use crate::config::{ProbeKind, ProbeSpec};

/// Where one probe stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeOutlook {
    /// What it checks.
    pub(crate) what: String,
    /// What it found last, if that was a failure.
    pub(crate) found: Vec<String>,
    /// Its interval and what that is stretched to, where the machine is busy.
    pub(crate) stretched: Option<(Duration, Duration)>,
    /// What follows if it goes on to fail.
    pub(crate) forecast: Option<ProbeForecast>,
    /// The time of that restart.
    pub(crate) restart_at: Option<Timestamp>,
}

impl HealthActorState {
    pub(super) fn outlook(&self, module: ModuleId) -> Vec<ProbeOutlook> {
        let Some(Some(monitored)) = self.monitored.get(module.index()) else {
            return Vec::new();
        };
        let now = self.ctx.os.now();
        let specs = self.probes(module);
        let states = monitored.probes.iter().zip(&specs);
        let outlook = states.map(|(state, spec)| {
            let times = ProbeTimes {
                next: state.due.unwrap_or(state.started_at),
                interval: spec.interval,
                duration: state.took.unwrap_or(spec.timeout),
            };
            let forecast = state.tracker.forecast(times);
            let forecast = forecast.filter(|_| spec.role == ProbeRole::Liveness);
            ProbeOutlook {
                what: what(spec),
                found: state.issues.clone(),
                stretched: state
                    .stretched(spec.interval)
                    .map(|now| (spec.interval, now)),
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

//! A running module that is monitored: its probes, its metrics and what was published of it.
//! Owns the bounds on what a module may report. Never probes, never publishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mainstay_policy::health::trend::Series;
use mainstay_policy::health::{ProbeAction, ProbeTracker};
use mainstay_policy::rate_limit::TokenBucket;
use mainstay_policy::{MonoTime, states};
use mainstay_process::ProbeRole;
use mainstay_protocol::health::{ProbeView, Trend};
use mainstay_protocol::method::HealthReportParams;
use mainstay_protocol::{HealthStatus, Timestamp};

use super::super::snapshots::HealthInfo;
use super::super::{convert, probing};
use super::check::ProbeResult;
use crate::config::{ProbeKind, ProbeSpec};
use crate::os::RunHold;

/// Changes of one run that are published at once; a status that flaps is published more slowly.
const CHANGES_AT_ONCE: u32 = 10;
/// How often that is; what counts is how it is then.
pub(super) const CHANGE_EVERY: Duration = Duration::from_secs(10);
/// Metrics of one module; more are dropped.
const METRICS_MAX: usize = 64;
/// Longest name of a metric, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Metrics of one module whose trend is followed: the first by name.
const SERIES_MAX: usize = 16;
/// Issues of one report, and the longest of them in characters.
const ISSUES_MAX: usize = 16;
const ISSUE_CHARS_MAX: usize = 1000;
/// An interval is shown from this factor of the configured one on.
const STRETCH_SHOWN: f64 = 1.5;
/// A metric that reaches its limit within this time is an issue.
const SOON: Duration = Duration::from_hours(1);

/// One probe of one running module.
pub(super) struct ProbeState {
    pub(super) tracker: ProbeTracker,
    /// None while a check is in flight.
    pub(super) due: Option<MonoTime>,
    /// When the newest check began: with the place of the probe, the number of its command.
    pub(super) started_at: MonoTime,
    pub(super) number: u64,
    /// A command of an earlier check has been killed and has not exited.
    lingers: Arc<AtomicBool>,
    pub(super) issues: Vec<String>,
    output: Option<String>,
    /// Checks in a row that failed, or that were not counted because mainstay had stopped the run.
    failures: u32,
    excused: u32,
    response_ms: Option<u64>,
    /// By how much its interval is stretched, because the machine is busy.
    pub(super) stretch: f64,
    /// How long the last check took.
    pub(super) took: Option<Duration>,
    /// Why it pauses.
    pub(super) paused: Option<&'static str>,
}

/// A check that is due.
pub(super) struct DueProbe {
    pub(super) generation: u64,
    pub(super) index: usize,
    pub(super) number: u64,
    pub(super) lingers: Arc<AtomicBool>,
}

/// A running module that is monitored.
pub(super) struct MonitoredModule {
    pub(super) generation: u64,
    /// Since when.
    pub(super) since: MonoTime,
    pub(super) probes: Vec<ProbeState>,
    self_reported: HealthReportParams,
    metrics: BTreeMap<String, f64>,
    series: BTreeMap<String, Series>,
    pub(super) last_check: Option<Timestamp>,
    /// What lifecycle was told: its health, and whether its readiness probes pass.
    pub(super) published: (HealthStatus, bool),
    /// What readers see.
    pub(super) shown: Option<HealthInfo>,
    pub(super) changes: TokenBucket,
    /// When a change is published that came too soon after others.
    pub(super) deferred_publish: Option<MonoTime>,
}

/// A module that reported nothing.
pub(super) fn no_report() -> HealthReportParams {
    HealthReportParams {
        status: HealthStatus::Unknown,
        metrics: BTreeMap::new(),
        issues: Vec::new(),
    }
}

impl ProbeState {
    fn new(now: MonoTime, spec: &ProbeSpec) -> ProbeState {
        let tracker = ProbeTracker::new(spec.unhealthy_threshold, spec.healthy_threshold);
        ProbeState {
            tracker: tracker.with_role(spec.role),
            due: Some(now.after(spec.initial_delay)),
            started_at: now,
            number: 0,
            lingers: Arc::default(),
            issues: Vec::new(),
            output: None,
            failures: 0,
            excused: 0,
            response_ms: None,
            stretch: 1.0,
            took: None,
            paused: None,
        }
    }

    /// Whether a failure is not counted: the run was held. That mainstay itself stops it for a part
    /// of the time excuses as many failures in a row as make a module unhealthy, and no more.
    pub(super) fn is_excused(&mut self, result: &ProbeResult, threshold: u32) -> bool {
        match result.held {
            None => {
                self.excused = 0;
                false
            }
            Some(RunHold::Debugger) => true,
            Some(RunHold::Frozen) => {
                let is_excused = self.excused < threshold;
                self.excused = self.excused.saturating_add(1);
                is_excused
            }
        }
    }

    pub(super) fn record(&mut self, result: &ProbeResult) -> ProbeAction {
        self.failures = match result.health {
            HealthStatus::Unhealthy => self.failures.saturating_add(1),
            _ => 0,
        };
        self.paused = None;
        let issues = bounded_issues(&result.issues);
        let counted = |issue: String| probing::counted(&issue, self.failures);
        self.issues = issues.into_iter().map(counted).collect();
        self.output.clone_from(&result.output);
        (self.response_ms, self.took) = (result.response_ms(), result.took);
        self.tracker
            .record(convert::health_to_policy(result.health))
    }

    /// The interval as it is, where that is notably longer than configured.
    pub(super) fn stretched(&self, interval: Duration) -> Option<Duration> {
        (self.stretch >= STRETCH_SHOWN).then(|| interval.mul_f64(self.stretch))
    }

    fn view(&self, spec: &ProbeSpec) -> ProbeView {
        ProbeView {
            probe: match &spec.check {
                ProbeKind::Probe(probe) => probe.to_string(),
                ProbeKind::Sdk => "its connection".to_owned(),
                ProbeKind::Watchdog(_) => "watchdog".to_owned(),
            },
            role: match spec.role {
                ProbeRole::Startup => "startup",
                ProbeRole::Liveness => "liveness",
                ProbeRole::Readiness => "readiness",
            }
            .to_owned(),
            health: convert::health(self.tracker.health()),
            failures: self.failures,
            response_ms: self.response_ms,
            stretched_ms: (self.stretched(spec.interval))
                .and_then(|interval| u64::try_from(interval.as_millis()).ok()),
            paused: self.paused.map(str::to_owned),
            output: self.output.clone(),
        }
    }
}

impl MonitoredModule {
    pub(super) fn new(
        now: MonoTime,
        generation: u64,
        probes: &[ProbeSpec],
        report: Option<HealthReportParams>,
    ) -> MonitoredModule {
        let mut monitored = MonitoredModule {
            generation,
            since: now,
            probes: probes
                .iter()
                .map(|probe| ProbeState::new(now, probe))
                .collect(),
            self_reported: no_report(),
            metrics: BTreeMap::new(),
            series: BTreeMap::new(),
            last_check: None,
            published: (HealthStatus::Unknown, false),
            shown: None,
            changes: TokenBucket::new(CHANGES_AT_ONCE, 1.0 / CHANGE_EVERY.as_secs_f64()),
            deferred_publish: None,
        };
        if let Some(report) = report {
            monitored.take_report(now, report);
        }
        monitored
    }

    /// Lets a whole interval pass before each probe, and this share of one more. A readiness probe
    /// is not delayed: dependents may wait for it.
    pub(super) fn spread(&mut self, now: MonoTime, specs: &[ProbeSpec], share: f64) {
        for (probe, spec) in self.probes.iter_mut().zip(specs) {
            let pause = spec.interval + spec.interval.mul_f64(share);
            if spec.role != ProbeRole::Readiness {
                probe.due = Some(now.after(pause.max(spec.initial_delay)));
            }
        }
    }

    /// Lets a whole interval pass before each probe.
    pub(super) fn postpone(&mut self, now: MonoTime, specs: &[ProbeSpec]) {
        for (probe, spec) in self.probes.iter_mut().zip(specs) {
            probe.due = probe.due.map(|due| due.max(now.after(spec.interval)));
        }
        self.deferred_publish = self.deferred_publish.map(|at| at.max(now));
    }

    pub(super) fn next_due(&self) -> Option<MonoTime> {
        let due = self.probes.iter().map(|probe| probe.due);
        due.chain([self.deferred_publish]).flatten().min()
    }

    pub(super) fn take_due(&mut self, now: MonoTime) -> impl Iterator<Item = DueProbe> {
        let generation = self.generation;
        let probes = self.probes.iter_mut().enumerate();
        probes.filter_map(move |(index, probe)| {
            probe.due.take_if(|due| *due <= now)?;
            (probe.started_at, probe.number) = (now, now.0 + index as u64);
            Some(DueProbe {
                generation,
                index,
                number: probe.number,
                lingers: Arc::clone(&probe.lingers),
            })
        })
    }

    /// The numbers of the checks in flight.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = u64> {
        let in_flight = self.probes.iter().filter(|probe| probe.due.is_none());
        in_flight.map(|probe| probe.number)
    }

    /// How the module is by each of its probes, and by its own report. A module that reports
    /// without being asked may never do so; a watchdog has to be fed.
    pub(super) fn reports(&self, has_watchdog: bool) -> impl Iterator<Item = states::Health> {
        let own = convert::health_to_policy(self.self_reported.status);
        let own = (has_watchdog || own != states::Health::Unknown).then_some(own);
        let found = self.probes.iter().map(|probe| probe.tracker.health());
        found.chain(own)
    }

    pub(super) fn passes(&self) -> bool {
        self.probes.iter().all(|probe| probe.tracker.has_passed())
    }

    pub(super) fn take_report(&mut self, now: MonoTime, report: HealthReportParams) {
        // A watchdog that is fed says nothing of metrics.
        if !report.metrics.is_empty() {
            self.take_metrics(now, report.metrics, None);
        }
        self.self_reported = HealthReportParams {
            status: report.status,
            metrics: BTreeMap::new(),
            issues: bounded_issues(&report.issues),
        };
    }

    /// Takes in metrics of the module; a name that is not reported again keeps its value.
    pub(super) fn take_metrics(
        &mut self,
        now: MonoTime,
        metrics: BTreeMap<String, f64>,
        response_ms: Option<u64>,
    ) {
        const RESPONSE: &str = "response_time_ms";
        let response = response_ms.filter(|_| !metrics.contains_key(RESPONSE));
        let response = response.map(|ms| (RESPONSE.to_owned(), ms as f64));
        let fits = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        for (name, value) in metrics.into_iter().chain(response) {
            let is_new = !self.metrics.contains_key(&name);
            if !value.is_finite() || !fits(&name) || is_new && self.metrics.len() >= METRICS_MAX {
                continue;
            }
            self.measured(now, &name, value);
            self.metrics.insert(name, value);
        }
    }

    /// Follows the trend of a metric.
    pub(super) fn measured(&mut self, now: MonoTime, name: &str, value: f64) {
        if let Some(series) = self.series.get_mut(name) {
            series.push(now, value);
        } else if self.series.len() < SERIES_MAX {
            let series = self.series.entry(name.to_owned()).or_default();
            series.push(now, value);
        }
    }

    /// What readers see.
    pub(super) fn info(
        &self,
        status: HealthStatus,
        specs: &[ProbeSpec],
        memory_limit: Option<u64>,
    ) -> HealthInfo {
        let trends = self.series.iter().filter_map(|(name, series)| {
            let growth = series.growth()?;
            let limit = memory_limit.filter(|_| name == "memory_bytes");
            let limit = limit.map(|bytes| bytes as f64);
            Some(Trend {
                metric: name.clone(),
                per_hour: (growth.per_second * 3600.0).round(),
                limit,
                limit_in_s: limit.map(|limit| growth.time_to(limit).as_secs()),
            })
        });
        let trends: Vec<Trend> = trends.collect();
        let probes = self.probes.iter();
        let found = probes
            .clone()
            .flat_map(|probe| probe.issues.iter().cloned());
        let issues = found.chain(self.self_reported.issues.iter().cloned());
        let issues = issues.chain(trends.iter().filter_map(trend_issue));
        HealthInfo {
            status,
            issues: issues.collect(),
            metrics: self.metrics.clone(),
            last_check: self.last_check,
            probes: probes
                .zip(specs)
                .map(|(probe, spec)| probe.view(spec))
                .collect(),
            trends,
        }
    }
}

fn trend_issue(trend: &Trend) -> Option<String> {
    let left = Duration::from_secs(trend.limit_in_s?);
    (left < SOON).then(|| {
        let mib = trend.per_hour / f64::from(1 << 20);
        let left = humantime::format_duration(left);
        format!("memory grows by {mib:.0} MiB an hour; it reaches limits.memory_mb in {left}")
    })
}

fn bounded_issues(issues: &[String]) -> Vec<String> {
    let issues = issues.iter().take(ISSUES_MAX);
    issues
        .map(|issue| issue.chars().take(ISSUE_CHARS_MAX).collect())
        .collect()
}

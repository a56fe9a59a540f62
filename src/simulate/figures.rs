//! The figures of all histories together.
//! Owns counts and percentiles. Never says what to do about them: `advice.rs` does.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::StartupFailure;
use serde::Serialize;

use super::history::Outcome;
use super::observer::ModuleTimes;
use super::{Model, ModuleFaults, SimulationOptions, advice};

/// What came of all histories.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) histories: u32,
    pub(crate) seed: u64,
    pub(crate) lasts_ms: u64,
    /// How many of them came up whole.
    pub(crate) converged: u32,
    /// From the start until everything is up; a history that never is counts as longer than any.
    pub(crate) convergence: Percentiles,
    /// How long each time is in which something is down after that.
    pub(crate) recovery: Percentiles,
    pub(crate) recoveries: usize,
    /// The share of the time in which everything is up.
    pub(crate) all_up: f64,
    pub(crate) cascades: u32,
    /// How many were stopped by a rung or group that stops everything.
    pub(crate) stopped: u32,
    /// Histories whose initial startup failed, by the reason.
    pub(crate) startup_failures: BTreeMap<String, u32>,
    /// The seed of the first history that did not come up whole.
    pub(crate) first_not_converged: Option<u64>,
    pub(crate) modules: Vec<ModuleFigures>,
    /// Who is never up in a history, and because of whom.
    pub(crate) never_up: Vec<NeverUp>,
    pub(crate) weakest: Option<Weakest>,
    pub(crate) advice: Vec<String>,
    /// Histories that were cut off because they never rest.
    pub(crate) endless: u32,
    #[serde(skip)]
    pub(super) converged_ns: Vec<u64>,
    #[serde(skip)]
    recovery_ns: Vec<u64>,
    #[serde(skip)]
    times: Vec<ModuleSums>,
    #[serde(skip)]
    pub(super) failed_starts: BTreeMap<ModuleId, u32>,
    #[serde(skip)]
    pub(super) late_starts: u32,
    #[serde(skip)]
    spans: (Duration, Duration),
}

/// Of a distribution, in milliseconds; null: longer than the history, or nothing to measure.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: Option<u64>,
    pub(crate) p99_ms: Option<u64>,
    pub(crate) max_ms: Option<u64>,
}

/// One module.
#[derive(Debug, Serialize)]
pub(crate) struct ModuleFigures {
    pub(crate) module: String,
    pub(crate) faults: ModuleFaults,
    /// Whether it was to be up at all: a lazy module that nobody needs is not.
    pub(crate) is_expected: bool,
    /// The share of the time in which it is up.
    pub(crate) up: f64,
    /// Restarts in a history, on average and at most.
    pub(crate) restarts: f64,
    pub(crate) restarts_max: u32,
    /// Histories in which it was given up at least once.
    pub(crate) given_up: u32,
    pub(crate) first_up: Percentiles,
    /// Runs that a probe ended although they were well, in all histories.
    pub(crate) false_alarms: u32,
    /// How long it hung without being noticed, in all histories.
    pub(crate) unnoticed_ms: u64,
}

/// A module that is never up.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NeverUp {
    pub(crate) module: String,
    /// Because of whom; itself, if of nobody else.
    pub(crate) because_of: String,
    pub(crate) histories: u32,
}

/// Because of whom others are down longest.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Weakest {
    pub(crate) module: String,
    /// Of the time in which modules are down because of others.
    pub(crate) share: f64,
    /// How long others are down because of it, in a history on average.
    pub(crate) costs_ms: u64,
    /// Whom it takes along.
    pub(crate) dependents: Vec<String>,
}

/// The sums of one module.
#[derive(Debug, Default)]
struct ModuleSums {
    is_expected: bool,
    up: Duration,
    restarts: u64,
    restarts_max: u32,
    given_up: u32,
    false_alarms: u32,
    unnoticed: Duration,
    first_up_ns: Vec<u64>,
    blamed: BTreeMap<ModuleId, Duration>,
    never_up: BTreeMap<ModuleId, u32>,
}

impl Figures {
    pub(super) fn new(model: &Model, options: SimulationOptions) -> Figures {
        Figures {
            histories: options.histories,
            seed: options.seed,
            lasts_ms: ms(options.lasts),
            converged: 0,
            convergence: Percentiles::default(),
            recovery: Percentiles::default(),
            recoveries: 0,
            all_up: 0.0,
            cascades: 0,
            stopped: 0,
            startup_failures: BTreeMap::new(),
            first_not_converged: None,
            modules: Vec::new(),
            never_up: Vec::new(),
            weakest: None,
            advice: Vec::new(),
            endless: 0,
            converged_ns: Vec::new(),
            recovery_ns: Vec::new(),
            times: (0..model.plan.slots())
                .map(|_| ModuleSums::default())
                .collect(),
            failed_starts: BTreeMap::new(),
            late_starts: 0,
            spans: (Duration::ZERO, Duration::ZERO),
        }
    }

    /// Takes in one history.
    pub(super) fn add(&mut self, model: &Model, seed: u64, outcome: Outcome) {
        let seen = outcome.observer;
        self.endless += u32::from(outcome.is_endless);
        self.stopped += u32::from(outcome.stopped);
        self.cascades += seen.cascades;
        self.converged += u32::from(seen.converged.is_some());
        self.converged_ns
            .push(seen.converged.map_or(u64::MAX, nanos));
        if seen.converged.is_none() {
            self.first_not_converged.get_or_insert(seed);
        }
        self.recovery_ns
            .extend(seen.recoveries.into_iter().map(nanos));
        self.spans.0 += seen.all_up;
        self.spans.1 += seen.lasted;
        if let Some(reason) = outcome.startup_failure {
            let text = self.startup_failure(model, &reason);
            *self.startup_failures.entry(text).or_default() += 1;
        }
        for (sums, times) in self.times.iter_mut().zip(seen.modules) {
            sums.add(times);
        }
    }

    fn startup_failure(&mut self, model: &Model, reason: &StartupFailure) -> String {
        match reason {
            StartupFailure::RequiredModuleFailed { module } => {
                *self.failed_starts.entry(*module).or_default() += 1;
                format!("{} was given up", model.name(*module))
            }
            StartupFailure::DependencyFailed { module, needed_by } => {
                *self.failed_starts.entry(*module).or_default() += 1;
                let (of, by) = (model.name(*module), model.name(*needed_by));
                format!("{of} was given up, which {by} needs")
            }
            StartupFailure::TimedOut { missing } => {
                self.late_starts += 1;
                let first = missing.first().map_or("", |module| model.name(*module));
                format!("it took too long, {first} was not up")
            }
        }
    }

    /// All histories are in.
    pub(super) fn finish(mut self, model: &Model) -> Figures {
        self.recoveries = self.recovery_ns.len();
        self.convergence = Percentiles::of(&mut self.converged_ns);
        self.recovery = Percentiles::of(&mut self.recovery_ns);
        self.all_up = share(self.spans.0, self.spans.1);
        let lasted = self.spans.1;
        for id in model.ids() {
            let Some(of) = model.module(id) else { continue };
            let sums = &mut self.times[id.index()];
            self.modules.push(ModuleFigures {
                module: model.name(id).to_owned(),
                faults: of.faults.clone(),
                is_expected: sums.is_expected,
                up: share(sums.up, lasted),
                restarts: sums.restarts as f64 / f64::from(self.histories.max(1)),
                restarts_max: sums.restarts_max,
                given_up: sums.given_up,
                first_up: Percentiles::of(&mut sums.first_up_ns),
                false_alarms: sums.false_alarms,
                unnoticed_ms: ms(sums.unnoticed),
            });
            for (root, histories) in &sums.never_up {
                self.never_up.push(NeverUp {
                    module: model.name(id).to_owned(),
                    because_of: model.name(*root).to_owned(),
                    histories: *histories,
                });
            }
        }
        self.weakest = self.weakest_dependency(model);
        self.advice = advice::of(model, &self);
        self
    }

    fn weakest_dependency(&self, model: &Model) -> Option<Weakest> {
        let costs = |id: &ModuleId| self.times[id.index()].blamed.values().sum::<Duration>();
        let all: Duration = model.ids().map(|id| costs(&id)).sum();
        let weakest = model
            .ids()
            .max_by_key(|id| (costs(id), std::cmp::Reverse(*id)))?;
        let cost = costs(&weakest);
        let blamed = self.times[weakest.index()].blamed.keys();
        (cost > Duration::ZERO).then(|| Weakest {
            module: model.name(weakest).to_owned(),
            share: share(cost, all),
            costs_ms: ms(cost) / u64::from(self.histories.max(1)),
            dependents: blamed.map(|id| model.name(*id).to_owned()).collect(),
        })
    }
}

impl ModuleSums {
    fn add(&mut self, times: ModuleTimes) {
        self.is_expected |= times.is_expected;
        self.up += times.up;
        self.restarts += u64::from(times.restarts);
        self.restarts_max = self.restarts_max.max(times.restarts);
        self.given_up += u32::from(times.given_up > 0);
        self.false_alarms += times.false_alarms;
        self.unnoticed += times.unnoticed;
        for (module, span) in times.blamed {
            *self.blamed.entry(module).or_default() += span;
        }
        if !times.is_expected {
            return;
        }
        self.first_up_ns
            .push(times.first_up.map_or(u64::MAX, nanos));
        if times.first_up.is_none()
            && let Some(root) = times.down_because_of
        {
            *self.never_up.entry(root).or_default() += 1;
        }
    }
}

impl Percentiles {
    /// By nearest rank; `u64::MAX` is longer than any.
    fn of(times: &mut [u64]) -> Percentiles {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            let time = times.get(rank - 1).filter(|time| **time != u64::MAX)?;
            Some(ms(Duration::from_nanos(*time)))
        };
        Percentiles {
            p50_ms: at(50),
            p99_ms: at(99),
            max_ms: at(100),
        }
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    match whole {
        Duration::ZERO => 0.0,
        whole => part.as_secs_f64() / whole.as_secs_f64(),
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX - 1)
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

//! What is seen of one history: who is up since when, who is not because of whom.
//! Owns the times of one history. Never changes what happens.

use std::time::Duration;

use mainstay_policy::lifecycle::ModuleInfo;
use mainstay_policy::recovery::{Decision, Failure, Verdict};
use mainstay_policy::states::{Cause, Desired, State};
use mainstay_policy::{Lifecycle, ModuleId, MonoTime};

use super::Model;
use super::history::BEGIN;
use super::processes::SimProcess;

/// What is seen of one module.
#[derive(Default, Clone)]
pub(super) struct ModuleTimes {
    pub(super) up: Duration,
    /// It was to be up at some time.
    pub(super) is_expected: bool,
    pub(super) first_up: Option<Duration>,
    pub(super) restarts: u32,
    pub(super) given_up: u32,
    /// Runs that a probe ended although they were well.
    pub(super) false_alarms: u32,
    /// How long it hung and was taken for well.
    pub(super) unnoticed: Duration,
    /// How long other modules were down because of it: which, and how long.
    pub(super) blamed: Vec<(ModuleId, Duration)>,
    /// Why it is not up at the end.
    pub(super) down_because_of: Option<ModuleId>,
    /// A failure since it was last up.
    has_failed: bool,
}

/// What is seen of one history.
pub(super) struct Observer {
    pub(super) modules: Vec<ModuleTimes>,
    /// From the start until everything was up.
    pub(super) converged: Option<Duration>,
    /// How long each time after that was in which something was down.
    pub(super) recoveries: Vec<Duration>,
    pub(super) all_up: Duration,
    pub(super) lasted: Duration,
    pub(super) cascades: u32,
    last: MonoTime,
    down_since: Option<MonoTime>,
    /// Who is down, because of whom.
    down: Vec<(ModuleId, ModuleId)>,
    /// Who is up; who of them hangs.
    up: Vec<(ModuleId, bool)>,
}

impl Observer {
    pub(super) fn new(slots: usize) -> Observer {
        Observer {
            modules: vec![ModuleTimes::default(); slots],
            converged: None,
            recoveries: Vec::new(),
            all_up: Duration::ZERO,
            lasted: Duration::ZERO,
            cascades: 0,
            last: BEGIN,
            down_since: Some(BEGIN),
            down: Vec::new(),
            up: Vec::new(),
        }
    }

    /// A failure was judged; `is_false_alarm`: of a run that was well.
    pub(super) fn failed(
        &mut self,
        module: ModuleId,
        failure: Failure,
        decision: &Decision,
        is_false_alarm: bool,
    ) {
        let times = &mut self.modules[module.index()];
        times.has_failed = true;
        times.given_up += u32::from(matches!(decision.verdict, Verdict::GiveUp { .. }));
        times.false_alarms += u32::from(failure == Failure::Probe && is_false_alarm);
    }

    /// Counts the time until now, and sees who is up from here on.
    pub(super) fn observe(
        &mut self,
        model: &Model,
        now: MonoTime,
        lifecycle: &Lifecycle,
        processes: &[Option<SimProcess>],
    ) {
        self.count(now);
        if lifecycle.system().stopping {
            // Nobody is wanted any more: who was down before counts.
            return;
        }
        (self.down, self.up) = (Vec::new(), Vec::new());
        for module in model.ids() {
            let info = lifecycle.view(module);
            let times = &mut self.modules[module.index()];
            times.restarts = info.restarts;
            if info.desired == Desired::Down {
                continue;
            }
            times.is_expected = true;
            let process = processes[module.index()].as_ref();
            let hangs = process.is_some_and(|process| process.hangs);
            if is_up(&info) {
                self.up.push((module, hangs));
                times.first_up.get_or_insert(now.since(BEGIN));
                times.has_failed &= hangs;
            }
            if !is_up(&info) || hangs {
                self.down.push((module, root(lifecycle, module)));
            }
        }
        match (self.down.is_empty(), self.down_since) {
            (true, Some(since)) => {
                self.down_since = None;
                match self.converged {
                    Some(_) => self.recoveries.push(now.since(since)),
                    None => self.converged = Some(now.since(BEGIN)),
                }
            }
            (false, None) => self.down_since = Some(now),
            _ => {}
        }
    }

    fn count(&mut self, now: MonoTime) {
        let span = now.since(self.last);
        self.last = now;
        if self.down.is_empty() {
            self.all_up += span;
        }
        for (module, hangs) in &self.up {
            let times = &mut self.modules[module.index()];
            match hangs {
                true => times.unnoticed += span,
                false => times.up += span,
            }
        }
        for (module, root) in &self.down {
            let culprit = &mut self.modules[root.index()];
            // During the first start everybody waits: that alone is nobody's fault.
            let is_at_fault = culprit.has_failed || self.converged.is_some();
            if module == root || !is_at_fault || span.is_zero() {
                continue;
            }
            match culprit.blamed.iter_mut().find(|(of, _)| of == module) {
                Some((_, blamed)) => *blamed += span,
                None => culprit.blamed.push((*module, span)),
            }
        }
    }

    /// The history ends.
    pub(super) fn finish(
        &mut self,
        model: &Model,
        now: MonoTime,
        lifecycle: &Lifecycle,
        processes: &[Option<SimProcess>],
    ) {
        self.observe(model, now, lifecycle, processes);
        for (module, root) in &self.down {
            self.modules[module.index()].down_because_of = Some(*root);
        }
        self.lasted = now.since(BEGIN);
    }
}

/// Running, or done.
fn is_up(info: &ModuleInfo) -> bool {
    matches!(info.state, State::Running | State::Stopped)
}

/// The module because of which this one is down.
fn root(lifecycle: &Lifecycle, module: ModuleId) -> ModuleId {
    let mut at = module;
    // Each step goes to what it needs: no module comes twice.
    for _ in 0..lifecycle.plan().len() {
        let info = lifecycle.view(at);
        let next = match info.state {
            State::Waiting => info
                .held_by_failed
                .or_else(|| info.waiting_on.first().copied()),
            State::Starting | State::Stopping if info.cause == Cause::Dependency => info.by,
            _ => None,
        };
        match next {
            Some(next) if next != at => at = next,
            _ => break,
        }
    }
    at
}

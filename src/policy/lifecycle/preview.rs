//! What an operation would take along, before it is requested.
//! Owns nothing: the operation is applied to a copy, where everything succeeds at once.
//! Never has rules of its own: it shows what the lifecycle does.

use alloc::sync::Arc;
use alloc::vec::Vec;

use mainstay_process::Signal;

use super::{
    ChangeClass, Lifecycle, LifecycleEffect, LifecycleEvent, Operation, ProcedureOrder, ReplanError,
};
use crate::mono_time::MonoTime;
use crate::plan::Plan;
use crate::recovery::Decision;
use crate::run::{Exit, RunEnd, RunReport, RunReportKind};
use crate::spec::{Kind, ModuleId};
use crate::states::{Health, State, Status};

/// What happens to a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewAction {
    /// It is started.
    Start,
    /// It is stopped.
    Stop,
    /// It is stopped, and started later on.
    Restart,
    /// It keeps running and is notified.
    Notify,
    /// Its run fails.
    Fail,
    /// It goes on to wait.
    Wait,
}

/// One step that an operation would lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviewStep {
    /// The module.
    pub module: ModuleId,
    /// What happens to it.
    pub action: PreviewAction,
    /// The module that causes it.
    pub because: ModuleId,
}

/// Nothing waits for time in a preview, so any point in time will do.
pub(super) const NOW: MonoTime = MonoTime(0);

/// More steps than this for each module mean that the copy does not come to rest.
const STEPS_A_MODULE: usize = 16;

/// The end of a run that was to stop.
const STOPPED: RunEnd = RunEnd::Stopped {
    exit: Some(Exit::Code(0)),
    forced: false,
};
/// The end of a run that fails.
const KILLED: RunEnd = RunEnd::Exited(Exit::Signal {
    signal: Signal::KILL,
    core: false,
});

/// What happened in such a world.
#[derive(Debug)]
pub(super) struct Played {
    /// What the first step is because of.
    first: Option<ModuleId>,
    /// Whose every run fails.
    pub(super) fails: Option<ModuleId>,
    steps: Vec<PreviewStep>,
    told: Vec<PreviewStep>,
    /// Runs that failed.
    pub(super) failures: usize,
    /// What was decided about the first failure.
    pub(super) decision: Option<Decision>,
    /// The worst status of the system.
    pub(super) worst: Status,
}

impl Played {
    pub(super) fn because_of(first: Option<ModuleId>) -> Played {
        Played {
            first,
            fails: None,
            steps: Vec::new(),
            told: Vec::new(),
            failures: 0,
            decision: None,
            worst: Status::Healthy,
        }
    }

    /// The steps, each module once, in the order of their first; without those that happen
    /// `anyway`.
    pub(super) fn steps(mut self, anyway: &[PreviewStep]) -> Vec<PreviewStep> {
        // What stops or restarts as well is notified on the way.
        let is_step = |module| self.steps.iter().any(|step| step.module == module);
        self.told.retain(|step| !is_step(step.module));
        self.steps.append(&mut self.told);
        let same = |a: &PreviewStep, b: &PreviewStep| (a.module, a.action) == (b.module, b.action);
        let first = self.first;
        self.steps.retain(|step| {
            first == Some(step.module) || !anyway.iter().any(|other| same(step, other))
        });
        self.steps
    }

    fn push(&mut self, module: ModuleId, action: PreviewAction, because: ModuleId) {
        if !self.steps.iter().any(|step| step.module == module) {
            self.steps.push(PreviewStep {
                module,
                action,
                because,
            });
        }
    }

    /// `module` waits, and does nothing else that is shown.
    pub(super) fn waits(&mut self, module: ModuleId, because: ModuleId) {
        self.push(module, PreviewAction::Wait, because);
    }

    fn runs(&mut self, module: ModuleId, because: ModuleId) {
        match self.steps.iter_mut().find(|step| step.module == module) {
            Some(step) if self.fails != Some(module) => step.action = PreviewAction::Restart,
            Some(_) => {}
            None => self.push(module, PreviewAction::Start, because),
        }
    }

    fn notified(&mut self, module: ModuleId, because: ModuleId) {
        let step = PreviewStep {
            module,
            action: PreviewAction::Notify,
            because,
        };
        if !self.told.contains(&step) {
            self.told.push(step);
        }
    }

    fn saw(&mut self, status: Status) {
        self.worst = self.worst.max(status);
    }
}

impl Lifecycle {
    /// Returns what an operation would take along, in order, each module once. Copies everything.
    #[must_use]
    pub fn preview(&self, module: ModuleId, operation: Operation) -> Vec<PreviewStep> {
        let mut copy = self.without_effects();
        copy.apply(NOW, LifecycleEvent::Requested { module, operation });
        let mut played = Played::because_of(Some(module));
        copy.finish_orders(NOW);
        copy.play(NOW, &mut played);
        played.steps(&self.happens_anyway())
    }

    /// What a plan would take along, in the same way.
    ///
    /// # Errors
    /// As [`Lifecycle::replan`].
    pub fn preview_plan(
        &self,
        plan: impl Into<Arc<Plan>>,
        changes: &[(ModuleId, ChangeClass)],
    ) -> Result<Vec<PreviewStep>, ReplanError> {
        let mut copy = self.without_effects();
        copy.replan(NOW, plan, changes)?;
        let mut played = Played::because_of(None);
        copy.finish_orders(NOW);
        copy.play(NOW, &mut played);
        Ok(played.steps(&self.happens_anyway()))
    }

    /// What happens without the operation: the orders that were given lead to it.
    fn happens_anyway(&self) -> Vec<PreviewStep> {
        let mut copy = self.without_effects();
        let mut played = Played::because_of(None);
        copy.finish_orders(NOW);
        copy.play(NOW, &mut played);
        played.steps(&[])
    }

    /// The orders that were given before are carried out: starts succeed, stops and procedures end.
    pub(super) fn finish_orders(&mut self, now: MonoTime) {
        for module in self.ids() {
            let slot = self.module(module);
            let generation = slot.generation;
            if let Some(procedure) = slot.procedure {
                let (ticket, ok) = (procedure.ticket, true);
                self.apply(now, LifecycleEvent::ProcedureEnded { module, ticket, ok });
            }
            let slot = self.module(module);
            // The order to stop a run that awaits it is one of the steps.
            if slot.is_builtin() || slot.awaits_stop() {
                continue;
            }
            match slot.state {
                State::Starting => self.succeed(now, module, generation),
                State::Stopping => {
                    let end = match (slot.ends_by_itself, slot.spec.kind) {
                        (false, _) => STOPPED,
                        (true, Kind::Task) => self.clean_end(module),
                        (true, _) => KILLED,
                    };
                    self.report(now, module, generation, RunReportKind::Ended(end));
                }
                _ => {}
            }
        }
    }

    /// The exit of a run that is done.
    fn clean_end(&self, module: ModuleId) -> RunEnd {
        let clean = self.module(module).spec.recovery.clean_exit_codes.first();
        RunEnd::Exited(Exit::Code(clean.copied().unwrap_or(0)))
    }

    pub(super) fn without_effects(&self) -> Lifecycle {
        let mut copy = self.clone();
        copy.effects.clear();
        copy
    }

    /// Goes on until nothing is left to do at `now`.
    pub(super) fn play(&mut self, now: MonoTime, played: &mut Played) {
        for _ in 0..STEPS_A_MODULE * (1 + self.modules.len()) {
            let Some(effect) = self.next_effect(now) else {
                break;
            };
            let because = |module| self.module(module).by.or(played.first).unwrap_or(module);
            match effect {
                LifecycleEffect::Run { module, generation } => {
                    played.runs(module, because(module));
                    match played.fails == Some(module) {
                        true => self.fail(now, module, generation, played),
                        false => self.succeed(now, module, generation),
                    }
                }
                LifecycleEffect::Stop {
                    module, generation, ..
                } => {
                    played.push(module, PreviewAction::Stop, because(module));
                    self.report(now, module, generation, RunReportKind::Ended(STOPPED));
                }
                LifecycleEffect::NotifyDependent { module, about, .. } => {
                    played.notified(module, about);
                }
                LifecycleEffect::Prepare(order) => self.prepared(now, order),
                LifecycleEffect::RecoveryDecided {
                    module, decision, ..
                } => {
                    if played.first == Some(module) {
                        played.decision.get_or_insert(decision);
                    }
                }
                LifecycleEffect::StateChanged { .. } => played.saw(self.status()),
                LifecycleEffect::Removed { .. }
                | LifecycleEffect::PlanInForce { .. }
                | LifecycleEffect::DegradedChanged { .. }
                | LifecycleEffect::CascadeStopped { .. }
                | LifecycleEffect::StartupCompleted
                | LifecycleEffect::StartupFailed { .. }
                | LifecycleEffect::AllStopped { .. } => {}
            }
        }
    }

    fn prepared(&mut self, now: MonoTime, order: ProcedureOrder) {
        let ProcedureOrder { module, ticket, .. } = order;
        let ok = true;
        self.apply(now, LifecycleEvent::ProcedureEnded { module, ticket, ok });
    }

    /// A run starts, and is killed.
    pub(super) fn fail(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        generation: u64,
        played: &mut Played,
    ) {
        played.push(module, PreviewAction::Fail, module);
        played.failures += 1;
        let started = RunReportKind::Started { pid: 1 };
        self.report(now, module, generation, started);
        self.report(now, module, generation, RunReportKind::Ended(KILLED));
    }

    fn succeed(&mut self, now: MonoTime, module: ModuleId, generation: u64) {
        self.report(now, module, generation, RunReportKind::Started { pid: 1 });
        self.report(now, module, generation, RunReportKind::Ready);
        if self.module(module).spec.kind == Kind::Task {
            let ended = RunReportKind::Ended(self.clean_end(module));
            self.report(now, module, generation, ended);
        }
        let health = Health::Healthy;
        self.apply(
            now,
            LifecycleEvent::Health {
                module,
                generation,
                health,
                passes: true,
                restart: false,
            },
        );
    }

    fn report(&mut self, now: MonoTime, module: ModuleId, generation: u64, what: RunReportKind) {
        self.apply(
            now,
            LifecycleEvent::Reported {
                module,
                report: RunReport { generation, what },
            },
        );
    }
}

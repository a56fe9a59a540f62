//! What an operation would take along, before it is requested.
//! Owns nothing: the operation is applied to a copy, where everything succeeds at once.
//! Never has rules of its own: it shows what the lifecycle does.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{
    ChangeClass, Lifecycle, LifecycleEffect, LifecycleEvent, Operation, ProcedureOrder, ReplanError,
};
use crate::mono_time::MonoTime;
use crate::plan::Plan;
use crate::recovery::Decision;
use crate::run::{Exit, RunEnd, RunReport, RunReportKind};
use crate::spec::{Kind, ModuleId};
use crate::states::{Health, Status};

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

/// What happened in such a world.
#[derive(Debug)]
pub(super) struct Played {
    /// What the first step is because of.
    first: Option<ModuleId>,
    /// Whose every run fails.
    pub(super) fails: Option<ModuleId>,
    steps: Vec<PreviewStep>,
    told: Vec<PreviewStep>,
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
            decision: None,
            worst: Status::Healthy,
        }
    }

    /// The steps, each module once, in the order of their first.
    pub(super) fn steps(mut self) -> Vec<PreviewStep> {
        // What stops or restarts as well is notified on the way.
        let is_step = |module| self.steps.iter().any(|step| step.module == module);
        self.told.retain(|step| !is_step(step.module));
        self.steps.append(&mut self.told);
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
        copy.play(NOW, &mut played);
        played.steps()
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
        copy.play(NOW, &mut played);
        Ok(played.steps())
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
                    let ending = RunEnd::Stopped {
                        exit: Some(Exit::Code(0)),
                        forced: false,
                    };
                    self.report(now, module, generation, RunReportKind::Ended(ending));
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
        let signal = mainstay_process::Signal(9);
        let exit = Exit::Signal {
            signal,
            core: false,
        };
        played.push(module, PreviewAction::Fail, module);
        let started = RunReportKind::Started { pid: 1 };
        self.report(now, module, generation, started);
        let ended = RunReportKind::Ended(RunEnd::Exited(exit));
        self.report(now, module, generation, ended);
    }

    fn succeed(&mut self, now: MonoTime, module: ModuleId, generation: u64) {
        self.report(now, module, generation, RunReportKind::Started { pid: 1 });
        self.report(now, module, generation, RunReportKind::Ready);
        let spec = self.spec_of(module);
        if spec.kind == Kind::Task {
            let clean = spec.recovery.clean_exit_codes.first();
            let exit = Exit::Code(clean.copied().unwrap_or(0));
            self.report(
                now,
                module,
                generation,
                RunReportKind::Ended(RunEnd::Exited(exit)),
            );
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

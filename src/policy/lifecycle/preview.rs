//! What a wish would take along, before it is made.
//! Owns nothing: the wish is made on a copy, in a world where everything succeeds at once.
//! Never answers from rules of its own: whatever the lifecycle does, this shows.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{
    ChangeClass, Lifecycle, LifecycleEffect, LifecycleEvent, Operation, ProcedureOrder, ReplanError,
};
use crate::mono_time::MonoTime;
use crate::plan::Plan;
use crate::run::{Exit, RunEnd, RunReport, RunReportKind};
use crate::spec::{Kind, ModuleId};
use crate::states::Health;

/// What happens to a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewAction {
    /// It is started.
    Start,
    /// It is stopped.
    Stop,
    /// It is stopped, and started later on.
    Restart,
    /// It goes on and is told.
    Notify,
}

/// One step that a wish would lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviewStep {
    /// To whom.
    pub module: ModuleId,
    /// What.
    pub action: PreviewAction,
    /// Because of whom.
    pub because: ModuleId,
}

/// Nothing waits for time in this world, so any moment will do.
const NOW: MonoTime = MonoTime(0);

/// More steps than this for each module mean that the copy does not come to rest.
const STEPS_A_MODULE: usize = 16;

impl Lifecycle {
    /// What `wish` would take along, in order, each module once. Costs a copy of everything.
    #[must_use]
    pub fn preview(&self, module: ModuleId, operation: Operation) -> Vec<PreviewStep> {
        let mut copy = self.without_effects();
        copy.apply(NOW, LifecycleEvent::Requested { module, operation });
        copy.play(Some(module))
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
        Ok(copy.play(None))
    }

    fn without_effects(&self) -> Lifecycle {
        let mut copy = self.clone();
        copy.effects.clear();
        copy
    }

    /// Goes on until nothing is left to do. `first` is what the first step is because of.
    fn play(mut self, first: Option<ModuleId>) -> Vec<PreviewStep> {
        let now = NOW;
        let because = |copy: &Lifecycle, module| copy.module(module).by.or(first).unwrap_or(module);
        let mut steps: Vec<PreviewStep> = Vec::new();
        let mut told: Vec<PreviewStep> = Vec::new();
        for _ in 0..STEPS_A_MODULE * (1 + self.modules.len()) {
            let Some(effect) = self.next_effect(now) else {
                break;
            };
            match effect {
                LifecycleEffect::Run {
                    module: who,
                    generation,
                } => {
                    let because = because(&self, who);
                    match steps.iter_mut().find(|step| step.module == who) {
                        Some(step) => step.action = PreviewAction::Restart,
                        None => steps.push(PreviewStep {
                            module: who,
                            action: PreviewAction::Start,
                            because,
                        }),
                    }
                    self.succeed(now, who, generation);
                }
                LifecycleEffect::Stop {
                    module: who,
                    generation,
                    ..
                } => {
                    let because = because(&self, who);
                    steps.push(PreviewStep {
                        module: who,
                        action: PreviewAction::Stop,
                        because,
                    });
                    let ending = RunEnd::Stopped {
                        exit: Some(Exit::Code(0)),
                        forced: false,
                    };
                    self.report(now, who, generation, RunReportKind::Ended(ending));
                }
                LifecycleEffect::NotifyDependent {
                    module: who, about, ..
                } => {
                    let step = PreviewStep {
                        module: who,
                        action: PreviewAction::Notify,
                        because: about,
                    };
                    if !told.contains(&step) {
                        told.push(step);
                    }
                }
                LifecycleEffect::Prepare(order) => self.prepared(order),
                LifecycleEffect::Removed { .. }
                | LifecycleEffect::PlanInForce { .. }
                | LifecycleEffect::StateChanged { .. }
                | LifecycleEffect::RecoveryDecided { .. }
                | LifecycleEffect::DegradedChanged { .. }
                | LifecycleEffect::CascadeStopped { .. }
                | LifecycleEffect::StartupCompleted
                | LifecycleEffect::StartupFailed { .. }
                | LifecycleEffect::AllStopped { .. } => {}
            }
        }
        steps.append(&mut told);
        steps
    }

    fn prepared(&mut self, ProcedureOrder { module, ticket, .. }: ProcedureOrder) {
        let ok = true;
        self.apply(NOW, LifecycleEvent::ProcedureEnded { module, ticket, ok });
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

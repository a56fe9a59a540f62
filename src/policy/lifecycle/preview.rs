//! What a wish would take along, before it is made.
//! Owns nothing: the wish is made on a copy, in a world where everything succeeds at once.
//! Never answers from rules of its own: whatever the lifecycle does, this shows.

use alloc::vec::Vec;

use super::{Lifecycle, LifecycleEffect, LifecycleEvent, Operation};
use crate::mono_time::MonoTime;
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

/// More steps than this for each module mean that the copy does not come to rest.
const STEPS_A_MODULE: usize = 16;

impl Lifecycle {
    /// What `wish` would take along, in order, each module once. Costs a copy of everything.
    #[must_use]
    pub fn preview(&self, module: ModuleId, wish: Operation) -> Vec<PreviewStep> {
        let mut copy = self.clone();
        // Nothing waits for time in this world, so any moment will do.
        let now = MonoTime(0);
        while copy.effects.pop_front().is_some() {}
        copy.apply(now, LifecycleEvent::Requested { module, wish });
        let mut steps: Vec<PreviewStep> = Vec::new();
        let mut told: Vec<PreviewStep> = Vec::new();
        for _ in 0..STEPS_A_MODULE * (1 + copy.modules.len()) {
            let Some(effect) = copy.next_effect(now) else {
                break;
            };
            match effect {
                LifecycleEffect::Run {
                    module: who,
                    generation,
                } => {
                    let because = copy.module(who).by.unwrap_or(module);
                    match steps.iter_mut().find(|step| step.module == who) {
                        Some(step) => step.action = PreviewAction::Restart,
                        None => {
                            steps.push(PreviewStep {
                                module: who,
                                action: PreviewAction::Start,
                                because,
                            });
                        }
                    }
                    copy.succeed(now, who, generation);
                }
                LifecycleEffect::Stop {
                    module: who,
                    generation,
                    ..
                } => {
                    let because = copy.module(who).by.unwrap_or(module);
                    steps.push(PreviewStep {
                        module: who,
                        action: PreviewAction::Stop,
                        because,
                    });
                    let ending = RunEnd::Stopped {
                        exit: Some(Exit::Code(0)),
                        forced: false,
                    };
                    copy.report(now, who, generation, RunReportKind::Ended(ending));
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
                LifecycleEffect::Removed { .. }
                | LifecycleEffect::PlanInForce { .. }
                | LifecycleEffect::StateChanged { .. }
                | LifecycleEffect::RecoveryDecided { .. }
                | LifecycleEffect::StartupCompleted
                | LifecycleEffect::StartupFailed { .. }
                | LifecycleEffect::AllStopped { .. } => {}
            }
        }
        steps.append(&mut told);
        steps
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

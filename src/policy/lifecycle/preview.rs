//! What a wish would take along, before it is made.
//! Owns nothing: the wish is made on a copy, in a world where everything succeeds at once.
//! Never answers from rules of its own: whatever the lifecycle does, this shows.

use alloc::vec::Vec;

use super::{Effect, Event, Lifecycle, Wish};
use crate::module::{Ending, Exit, Report, Reported};
use crate::spec::{Kind, ModuleId};
use crate::states::Health;
use crate::time::Time;

/// What happens to a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is started.
    Start,
    /// It is stopped.
    Stop,
    /// It is stopped, and started later on.
    Restart,
    /// It goes on and is told.
    Tell,
}

/// One step that a wish would lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// To whom.
    pub module: ModuleId,
    /// What.
    pub action: Action,
    /// Because of whom.
    pub because: ModuleId,
}

/// More steps than this for each module mean that the copy does not come to rest.
const STEPS_A_MODULE: usize = 16;

impl Lifecycle {
    /// What `wish` would take along, in order, each module once. Costs a copy of everything.
    #[must_use]
    pub fn preview(&self, module: ModuleId, wish: Wish) -> Vec<Step> {
        let mut copy = self.clone();
        // Nothing waits for time in this world, so any moment will do.
        let now = Time(0);
        while copy.out.pop_front().is_some() {}
        copy.note(now, Event::Wished { module, wish });
        let mut steps: Vec<Step> = Vec::new();
        let mut told: Vec<Step> = Vec::new();
        for _ in 0..STEPS_A_MODULE * (1 + copy.slots.len()) {
            let Some(effect) = copy.settle(now) else {
                break;
            };
            match effect {
                Effect::Run {
                    module: who,
                    generation,
                } => {
                    let because = copy.slot(who).by.unwrap_or(module);
                    match steps.iter_mut().find(|step| step.module == who) {
                        Some(step) => step.action = Action::Restart,
                        None => {
                            steps.push(Step {
                                module: who,
                                action: Action::Start,
                                because,
                            });
                        }
                    }
                    copy.succeed(now, who, generation);
                }
                Effect::Halt {
                    module: who,
                    generation,
                    ..
                } => {
                    let because = copy.slot(who).by.unwrap_or(module);
                    steps.push(Step {
                        module: who,
                        action: Action::Stop,
                        because,
                    });
                    let ending = Ending::Halted {
                        exit: Some(Exit::Code(0)),
                        forced: false,
                    };
                    copy.tell(now, who, generation, Reported::Ended(ending));
                }
                Effect::Tell {
                    module: who, about, ..
                } => {
                    let step = Step {
                        module: who,
                        action: Action::Tell,
                        because: about,
                    };
                    if !told.contains(&step) {
                        told.push(step);
                    }
                }
                Effect::Moved { .. }
                | Effect::Judged { .. }
                | Effect::StartupCompleted
                | Effect::StartupFailed { .. }
                | Effect::AllStopped { .. } => {}
            }
        }
        steps.append(&mut told);
        steps
    }

    fn succeed(&mut self, now: Time, module: ModuleId, generation: u64) {
        self.tell(now, module, generation, Reported::Started { pid: 1 });
        self.tell(now, module, generation, Reported::Ready);
        if self.plan.module(module).kind == Kind::Task {
            let clean = self.plan.module(module).recovery.clean_exit_codes.first();
            let exit = Exit::Code(clean.copied().unwrap_or(0));
            self.tell(
                now,
                module,
                generation,
                Reported::Ended(Ending::Exited(exit)),
            );
        }
        let health = Health::Healthy;
        self.note(
            now,
            Event::Health {
                module,
                generation,
                health,
                restart: false,
            },
        );
    }

    fn tell(&mut self, now: Time, module: ModuleId, generation: u64, what: Reported) {
        self.note(
            now,
            Event::Reported {
                module,
                report: Report { generation, what },
            },
        );
    }
}

//! Who falls with whom.
//! Owns the walks from a module to its dependents when it stops, restarts or fails.
//! Never ends a run itself: it marks, and a look ends it in order.

use alloc::sync::Arc;

use super::slot::Fall;
use super::{Effect, Lifecycle, News};
use crate::graph::Dependent;
use crate::spec::{Kind, ModuleId, OnDependencyRestart, Until};
use crate::states::{State, Wanted};

/// Why a module is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    Stopped,
    Failed,
}

impl Lifecycle {
    /// `module` is gone for now and will not come back by itself soon: all that need it, and all
    /// that need them, go back to `waiting` and keep their wish.
    pub(super) fn falls_with(&mut self, module: ModuleId, why: Gone) {
        self.walk.insert(self.plan.rank(module));
        self.fall_from_walk(why);
    }

    /// The same for all modules in `walk`.
    pub(super) fn fall_from_walk(&mut self, why: Gone) {
        let plan = Arc::clone(&self.plan);
        while let Some(rank) = self.walk.pop_first() {
            let gone = plan.order()[rank as usize];
            for dependent in plan.dependents(gone) {
                if !self.leans_on(dependent, gone) {
                    continue;
                }
                let slot = self.slot_mut(dependent.from);
                if slot.wanted == Wanted::Down {
                    continue;
                }
                match slot.state {
                    State::Starting | State::Running => {
                        slot.fall.get_or_insert(Fall::Dependency(gone));
                        self.mark(dependent.from);
                    }
                    State::Waiting | State::Stopping | State::Backoff => {}
                    State::NotStarted | State::Stopped | State::Failed => continue,
                }
                if why == Gone::Stopped || !plan.module(dependent.from).required {
                    self.boot_done(dependent.from);
                }
                self.walk.insert(plan.rank(dependent.from));
            }
        }
    }

    /// Whether `dependent` cannot do without the current run of `module`. Who waited for
    /// completion has it, and a task that is done is all that it can ever be.
    fn leans_on(&self, dependent: &Dependent, module: ModuleId) -> bool {
        let done = self.slot(module).completed && self.plan.module(module).kind == Kind::Task;
        dependent.hard && dependent.until != Until::Completed && !done
    }

    /// `module` ended and will be back: each hard dependent does what its spec says.
    pub(super) fn restarts_under(&mut self, module: ModuleId) {
        let plan = Arc::clone(&self.plan);
        self.walk.insert(plan.rank(module));
        while let Some(rank) = self.walk.pop_first() {
            let about = plan.order()[rank as usize];
            for dependent in plan.dependents(about) {
                let from = dependent.from;
                if !self.leans_on(dependent, about) || !self.slot(from).stands() {
                    continue;
                }
                match plan.module(from).on_dependency_restart {
                    OnDependencyRestart::Ignore => {}
                    OnDependencyRestart::Notify => {
                        self.slot_mut(about).owes_hard = true;
                        let news = News::Restarting;
                        self.out.push_back(Effect::Tell {
                            module: from,
                            about,
                            news,
                        });
                    }
                    OnDependencyRestart::Restart => {
                        self.slot_mut(from).fall = Some(Fall::Dependency(about));
                        self.mark(from);
                        self.walk.insert(plan.rank(from));
                    }
                }
            }
        }
    }

    /// Soft dependents go on without `module` and are told so.
    pub(super) fn tell_failed(&mut self, module: ModuleId) {
        let plan = Arc::clone(&self.plan);
        for dependent in plan.dependents(module) {
            if !dependent.hard && self.slot(dependent.from).stands() {
                self.slot_mut(module).owes_soft = true;
                let (about, news) = (module, News::Failed);
                self.out.push_back(Effect::Tell {
                    module: dependent.from,
                    about,
                    news,
                });
            }
        }
    }

    /// `module` is ready again: whoever was told that it went is told that it is back.
    pub(super) fn tell_back(&mut self, module: ModuleId) {
        let slot = self.slot_mut(module);
        let hard = core::mem::take(&mut slot.owes_hard);
        let soft = core::mem::take(&mut slot.owes_soft);
        if !hard && !soft {
            return;
        }
        let plan = Arc::clone(&self.plan);
        for dependent in plan.dependents(module) {
            let policy = plan.module(dependent.from).on_dependency_restart;
            let was_told = match dependent.hard {
                true => {
                    hard && policy == OnDependencyRestart::Notify
                        && dependent.until != Until::Completed
                }
                false => soft,
            };
            if was_told && self.slot(dependent.from).stands() {
                let (about, news) = (module, News::Back);
                self.out.push_back(Effect::Tell {
                    module: dependent.from,
                    about,
                    news,
                });
            }
        }
    }
}

//! Stop propagation: which modules stop with which.
//! Owns the walks from a module to its dependents when it stops, restarts or fails.
//! Never ends a run itself: it marks modules dirty, and the reconcile step stops them in order.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::managed_module::StopReason;
use super::{DependencyNotice, Lifecycle, LifecycleEffect};
use crate::graph::Dependent;
use crate::spec::{DependencyCondition, Edge, Kind, ModuleId, OnDependencyRestart};
use crate::states::{Desired, State};

/// Why a module can no longer be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DependencyLoss {
    Stopped,
    Failed,
}

impl Lifecycle {
    /// `module` does not run and no restart follows soon: its hard dependents, direct and indirect,
    /// return to `waiting` and stay desired up.
    pub(super) fn propagate_stop(&mut self, module: ModuleId, why: DependencyLoss) {
        self.worklist.insert(self.graph.rank(module));
        self.propagate_worklist(why);
    }

    /// The same for all modules in `worklist`.
    pub(super) fn propagate_worklist(&mut self, why: DependencyLoss) {
        let graph = Arc::clone(&self.graph);
        while let Some(rank) = self.worklist.pop_first() {
            let gone = graph.at(rank);
            for dependent in graph.dependents(gone) {
                if !self.requires_run_of(dependent, gone) || !self.is_in_force(dependent, gone) {
                    continue;
                }
                let slot = self.module_mut(dependent.from);
                let required = slot.spec.required;
                if slot.goal() == Desired::Down {
                    slot.stops_with(gone);
                    continue;
                }
                match slot.state {
                    State::Starting | State::Running => {
                        slot.stop_reason.get_or_insert(StopReason::Dependency(gone));
                        self.mark_dirty(dependent.from);
                    }
                    State::Waiting | State::Stopping | State::Backoff => {}
                    State::NotStarted | State::Stopped | State::Failed => continue,
                }
                if why == DependencyLoss::Stopped || !required {
                    self.leave_initial_start(dependent.from);
                }
                self.worklist.insert(graph.rank(dependent.from));
            }
        }
    }

    /// Whether `dependent` needs the current run of `module`: not if it waited for its completion,
    /// nor if `module` is a task that is done.
    fn requires_run_of(&self, dependent: &Dependent, module: ModuleId) -> bool {
        let slot = self.module(module);
        let done = slot.completed && slot.spec.kind == Kind::Task;
        dependent.hard && dependent.until != DependencyCondition::Completed && !done
    }

    /// The modules that are up or on their way up and need `module`, directly or not, in start
    /// order: without it they stop, or go on to wait.
    #[must_use]
    pub fn affected_by(&self, module: ModuleId) -> Vec<ModuleId> {
        let (mut found, mut more) = (BTreeSet::new(), Vec::from([module]));
        while let Some(gone) = more.pop() {
            if self.get(gone).is_none() {
                continue;
            }
            for dependent in self.graph.dependents(gone) {
                let rank = self.graph.rank(dependent.from);
                if self.is_lost_with(dependent, gone) && found.insert(rank) {
                    more.push(dependent.from);
                }
            }
        }
        found.into_iter().map(|rank| self.graph.at(rank)).collect()
    }

    /// Whether `dependent` cannot be up while `module` is down.
    fn is_lost_with(&self, dependent: &Dependent, module: ModuleId) -> bool {
        let slot = self.module(dependent.from);
        let is_wanted = match slot.state {
            State::Starting | State::Running | State::Waiting => true,
            State::Stopping | State::Backoff => true,
            State::NotStarted | State::Stopped | State::Failed => false,
        };
        let edge = Edge {
            to: module,
            hard: dependent.hard,
            until: dependent.until,
        };
        let waits = || slot.state == State::Waiting && dependent.hard && !self.is_satisfied(&edge);
        is_wanted
            && slot.goal() == Desired::Up
            && self.is_in_force(dependent, module)
            && (self.requires_run_of(dependent, module) || waits())
    }

    /// Whether a module that runs, or is to run, needs a run of `module`.
    pub(super) fn is_needed(&self, module: ModuleId) -> bool {
        let mut dependents = self.graph.dependents(module).iter();
        dependents.any(|dependent| {
            let from = self.module(dependent.from);
            let is_wanted = from.state.is_live()
                || (from.goal() == Desired::Up
                    && matches!(from.state, State::Waiting | State::Backoff));
            is_wanted
                && self.requires_run_of(dependent, module)
                && self.is_in_force(dependent, module)
        })
    }

    /// `module` ended and will be back: each hard dependent does what its spec says.
    pub(super) fn propagate_restart(&mut self, module: ModuleId) {
        let graph = Arc::clone(&self.graph);
        self.worklist.insert(graph.rank(module));
        while let Some(rank) = self.worklist.pop_first() {
            let about = graph.at(rank);
            for dependent in graph.dependents(about) {
                let from = dependent.from;
                let concerned =
                    self.requires_run_of(dependent, about) && self.is_in_force(dependent, about);
                if !concerned {
                    continue;
                }
                let slot = self.module_mut(from);
                let policy = slot.spec.on_dependency_restart;
                if slot.goal() == Desired::Down && policy == OnDependencyRestart::Restart {
                    slot.stops_with(about);
                }
                if !slot.is_active() {
                    continue;
                }
                match policy {
                    OnDependencyRestart::Ignore => {}
                    OnDependencyRestart::Notify => {
                        self.module_mut(about).hard_notice_due = true;
                        let news = DependencyNotice::Restarting;
                        self.effects.push_back(LifecycleEffect::NotifyDependent {
                            module: from,
                            about,
                            news,
                        });
                    }
                    OnDependencyRestart::Restart => {
                        self.module_mut(from).stop_reason = Some(StopReason::Dependency(about));
                        self.mark_dirty(from);
                        self.worklist.insert(graph.rank(from));
                    }
                }
            }
        }
    }

    /// Notifies the soft dependents, which keep running without `module`.
    pub(super) fn notify_failed(&mut self, module: ModuleId) {
        let graph = Arc::clone(&self.graph);
        for dependent in graph.dependents(module) {
            let concerned = !dependent.hard && self.is_in_force(dependent, module);
            if concerned && self.module(dependent.from).is_active() {
                self.module_mut(module).soft_notice_due = true;
                let (about, news) = (module, DependencyNotice::Failed);
                self.effects.push_back(LifecycleEffect::NotifyDependent {
                    module: dependent.from,
                    about,
                    news,
                });
            }
        }
    }

    /// `module` is ready again: dependents that were notified of its stop are notified.
    pub(super) fn notify_recovered(&mut self, module: ModuleId) {
        let slot = self.module_mut(module);
        let hard = core::mem::take(&mut slot.hard_notice_due);
        let soft = core::mem::take(&mut slot.soft_notice_due);
        if !hard && !soft {
            return;
        }
        let graph = Arc::clone(&self.graph);
        for dependent in graph.dependents(module) {
            let policy = self.module(dependent.from).spec.on_dependency_restart;
            let was_told = match dependent.hard {
                true => {
                    hard && policy == OnDependencyRestart::Notify
                        && dependent.until != DependencyCondition::Completed
                }
                false => soft,
            };
            let was_told = was_told && self.is_in_force(dependent, module);
            if was_told && self.module(dependent.from).is_active() {
                let (about, news) = (module, DependencyNotice::Recovered);
                self.effects.push_back(LifecycleEffect::NotifyDependent {
                    module: dependent.from,
                    about,
                    news,
                });
            }
        }
    }
}

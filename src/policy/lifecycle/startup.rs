//! The initial startup.
//! Owns which modules it still waits for, and when it has ended or failed.
//! Never decides about a module's failure: recovery does, and reports the result here.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Lifecycle, LifecycleEffect, StartupFailure, SystemPhase};
use crate::graph::Dependent;
use crate::mono_time::MonoTime;
use crate::spec::{DependencyCondition, Edge, ModuleId, StartMode};
use crate::states::{Cause, Desired, State};

impl Lifecycle {
    pub(super) fn boot(&mut self, now: MonoTime) {
        if self.phase != SystemPhase::New {
            return;
        }
        self.phase = SystemPhase::Starting;
        self.startup_by = now.after(self.plan.system().startup_timeout);
        self.start_eager(now, Cause::Boot, |_, _| true);
        self.count_initial_starts(|_, _| true);
    }

    /// The initial startup waits for the starting modules that `choose` picks.
    pub(super) fn count_initial_starts(&mut self, choose: impl Fn(&Lifecycle, ModuleId) -> bool) {
        for module in self.ids() {
            let slot = self.module(module);
            let rises = matches!(slot.state, State::Waiting | State::Starting);
            if slot.goal() == Desired::Up && rises && !slot.in_initial_start && choose(self, module)
            {
                self.module_mut(module).in_initial_start = true;
                self.booting += 1;
            }
        }
    }

    /// Starts the builtins, and makes every eager module that `choose` picks desired up, with all
    /// that it needs. What is in `worklist` already gets what it needs too.
    pub(super) fn start_eager(
        &mut self,
        now: MonoTime,
        cause: Cause,
        choose: impl Fn(&Lifecycle, ModuleId) -> bool,
    ) {
        let eager = |own: &Lifecycle, module: ModuleId| {
            own.module(module).spec.start == StartMode::Eager && choose(own, module)
        };
        for module in self.ids() {
            let slot = self.module_mut(module);
            if slot.is_builtin() {
                slot.desired = Desired::Up;
                if slot.state != State::Running && slot.in_plan {
                    self.set_state(now, module, State::Running, cause, None);
                }
            } else if eager(self, module) {
                self.worklist.insert(self.graph.rank(module));
            }
        }
        self.collect_dependencies(Lifecycle::comes_along);
        while let Some(rank) = self.to_start.pop_first() {
            let module = self.graph.at(rank);
            if eager(self, module) {
                self.set_desired_up(now, module, cause, None);
            } else if self.is_untouched(module) {
                let dependents = self.graph.dependents(module).iter();
                let needed_by = dependents.filter(|it| it.hard).map(|it| it.from).next();
                self.set_desired_up(now, module, Cause::Dependency, needed_by);
            }
        }
    }

    /// Whether what a module needs is started, because it will be up.
    pub(super) fn comes_along(&self, module: ModuleId) -> bool {
        self.module(module).goal() == Desired::Up || self.is_untouched(module)
    }

    /// Whether a module that others need is started because of that: neither a return of the
    /// runtime nor a new plan brings back what a person stopped.
    pub(super) fn is_untouched(&self, module: ModuleId) -> bool {
        let slot = self.module(module);
        let never = slot.state == State::NotStarted && slot.desired_revision == 0;
        never && slot.in_plan && slot.desired == Desired::Down
    }

    /// The initial startup no longer waits for `module`.
    pub(super) fn leave_initial_start(&mut self, module: ModuleId) {
        if core::mem::take(&mut self.module_mut(module).in_initial_start) {
            self.booting -= 1;
            self.next_changed_record.insert(self.graph.rank(module));
        }
    }

    /// `module` failed, or ended before it was ready. The initial startup no longer waits for what
    /// needs it, and fails if a required module does. While a restart is scheduled it continues.
    pub(super) fn fail_initial_starts(&mut self, now: MonoTime, module: ModuleId) {
        let slot = self.module(module);
        if self.phase != SystemPhase::Starting || slot.retry_at.is_some() || !slot.is_failed_need()
        {
            return;
        }
        if let Some(needed_by) = self.skip_initial_starts(module) {
            self.startup_failed(now, StartupFailure::DependencyFailed { module, needed_by });
        }
    }

    /// `module` is held: the initial startup waits neither for it nor for what needs it.
    pub(super) fn start_without_held(&mut self, module: ModuleId) {
        if self.phase == SystemPhase::Starting {
            self.leave_initial_start(module);
            self.skip_initial_starts(module);
        }
    }

    /// The initial startup no longer waits for what needs `module`. Returns a required one of them.
    fn skip_initial_starts(&mut self, module: ModuleId) -> Option<ModuleId> {
        let graph = Arc::clone(&self.graph);
        let mut missed = None;
        self.worklist.insert(graph.rank(module));
        while let Some(rank) = self.worklist.pop_first() {
            let about = graph.at(rank);
            for dependent in graph.dependents(about) {
                let from = dependent.from;
                if !self.waits_in_vain(dependent, about) {
                    continue;
                }
                self.worklist.insert(graph.rank(from));
                let slot = self.module(from);
                if slot.in_initial_start && slot.spec.required {
                    missed.get_or_insert(from);
                }
                self.leave_initial_start(from);
            }
        }
        missed
    }

    /// Whether `dependent` is down, or will be, and needs what `module` does not become.
    fn waits_in_vain(&self, dependent: &Dependent, module: ModuleId) -> bool {
        let slot = self.module(dependent.from);
        let Dependent { hard, until, .. } = *dependent;
        let edge = Edge {
            to: module,
            hard,
            until,
        };
        let comes_back = match slot.state {
            State::Waiting => true,
            State::Starting | State::Running | State::Stopping | State::Backoff => {
                until != DependencyCondition::Completed
            }
            State::NotStarted | State::Stopped | State::Failed => false,
        };
        hard && comes_back
            && slot.goal() == Desired::Up
            && self.is_in_force(dependent, module)
            && !self.is_satisfied(&edge)
    }

    /// Nothing is left to look at: a phase may be over. True if there is an effect.
    pub(super) fn finish_phase(&mut self, now: MonoTime) -> bool {
        match self.phase {
            SystemPhase::Starting if self.booting == 0 => {
                self.phase = SystemPhase::Up;
                // From here on no module waits for the start slot.
                while let Some(rank) = self.for_turn.pop_first() {
                    self.dirty.insert(rank);
                }
                self.effects.push_back(LifecycleEffect::StartupCompleted);
                true
            }
            SystemPhase::Stopping if self.live_runs == 0 => {
                self.finish_stop(now);
                true
            }
            SystemPhase::New
            | SystemPhase::Starting
            | SystemPhase::Up
            | SystemPhase::Stopping
            | SystemPhase::Stopped => false,
        }
    }

    /// The time for the initial startup has expired. If optional modules are missing the system is
    /// degraded; if a required one is, the startup has failed.
    pub(super) fn startup_timed_out(&mut self, now: MonoTime) {
        let missing = self.ids().filter(|id| self.module(*id).in_initial_start);
        let missing: Vec<ModuleId> = missing.collect();
        if missing.iter().any(|id| self.module(*id).spec.required) {
            self.startup_failed(now, StartupFailure::TimedOut { missing });
        } else {
            missing
                .into_iter()
                .for_each(|module| self.leave_initial_start(module));
            self.startup_by = MonoTime::NEVER;
        }
    }

    pub(super) fn startup_failed(&mut self, now: MonoTime, reason: StartupFailure) {
        self.effects
            .push_back(LifecycleEffect::StartupFailed { reason });
        self.stop_all(now, self.plan.system().shutdown_timeout);
    }
}

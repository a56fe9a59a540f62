//! The first start of everything.
//! Owns whom it still waits for, and when it is over or has failed.
//! Never judges a module's failure: recovery does, and tells here what came of it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Effect, Lifecycle, Phase, StartupFailure};
use crate::spec::{Kind, ModuleId, Start};
use crate::states::{Cause, State, Wanted};
use crate::time::Time;

impl Lifecycle {
    pub(super) fn boot(&mut self, now: Time) {
        if self.phase != Phase::New {
            return;
        }
        self.phase = Phase::Starting;
        self.startup_by = now.after(self.plan.system().startup_timeout);
        self.raise_eager(now, |_, _| true);
        self.count_booting(|_, _| true);
    }

    /// The first start waits for those on their way up that `choose` picks.
    pub(super) fn count_booting(&mut self, choose: impl Fn(&Lifecycle, ModuleId) -> bool) {
        let plan = Arc::clone(&self.plan);
        for module in plan.ids() {
            let slot = self.slot(module);
            let rises = matches!(slot.state, State::Waiting | State::Starting);
            if slot.wanted == Wanted::Up && rises && !slot.booting && choose(self, module) {
                self.slot_mut(module).booting = true;
                self.booting += 1;
            }
        }
    }

    /// Brings the builtins up, and wishes up every eager module that `choose` picks.
    pub(super) fn raise_eager(&mut self, now: Time, choose: impl Fn(&Lifecycle, ModuleId) -> bool) {
        let plan = Arc::clone(&self.plan);
        for module in plan.ids() {
            let spec = plan.module(module);
            if spec.kind == Kind::Builtin {
                self.slot_mut(module).wanted = Wanted::Up;
                self.moved(now, module, State::Running, Cause::Boot, None);
            } else if spec.start == Start::Eager && choose(self, module) {
                self.walk.insert(plan.rank(module));
            }
        }
        self.gather_needs();
        while let Some(rank) = self.rising.pop_first() {
            let module = plan.order()[rank as usize];
            let spec = plan.module(module);
            if spec.start == Start::Eager && choose(self, module) {
                self.raise(now, module, Cause::Boot, None);
            } else if self.slot(module).wanted == Wanted::Down {
                let needed_by = plan
                    .dependents(module)
                    .iter()
                    .find(|dependent| dependent.hard);
                self.raise(
                    now,
                    module,
                    Cause::Dependency,
                    needed_by.map(|found| found.from),
                );
            }
        }
    }

    /// The first start no longer waits for `module`.
    pub(super) fn boot_done(&mut self, module: ModuleId) {
        if core::mem::take(&mut self.slot_mut(module).booting) {
            self.booting -= 1;
            self.changed.insert(self.plan.rank(module));
        }
    }

    /// Nothing is left to look at: a phase may be over. True if there is an effect.
    pub(super) fn conclude(&mut self, now: Time) -> bool {
        match self.phase {
            Phase::Starting if self.booting == 0 => {
                self.phase = Phase::Up;
                // From here on nobody waits for a turn.
                while let Some(rank) = self.for_turn.pop_first() {
                    self.dirty.insert(rank);
                }
                self.out.push_back(Effect::StartupCompleted);
                true
            }
            Phase::Down if self.live == 0 => {
                self.all_down(now);
                true
            }
            Phase::New | Phase::Starting | Phase::Up | Phase::Down | Phase::Over => false,
        }
    }

    /// The time for the first start is over. Without optional modules the system is degraded,
    /// without a required one it has not started.
    pub(super) fn startup_timed_out(&mut self, now: Time) {
        let plan = Arc::clone(&self.plan);
        let order = plan.order().iter().copied();
        let missing: Vec<ModuleId> = order.filter(|id| self.slot(*id).booting).collect();
        if missing.iter().any(|module| plan.module(*module).required) {
            self.startup_failed(now, StartupFailure::TimedOut { missing });
        } else {
            missing
                .into_iter()
                .for_each(|module| self.boot_done(module));
            self.startup_by = Time::NEVER;
        }
    }

    pub(super) fn startup_failed(&mut self, now: Time, reason: StartupFailure) {
        self.out.push_back(Effect::StartupFailed { reason });
        self.stop_all(now, self.plan.system().shutdown_timeout);
    }
}

//! The ordered stop of everything.
//! Owns the total budget and its end. The order needs no code here: each reconcile step waits for
//! the dependents. Never admits a request in between: from here on all are desired down.

use core::time::Duration;

use super::{Lifecycle, LifecycleEffect, SystemPhase, SystemStop};
use crate::mono_time::MonoTime;
use crate::states::{Cause, Desired, State};
use crate::stop_budget::{StopBudget, reserve};

impl Lifecycle {
    /// Requests everything down within `budget`. A later call can only shorten that; once the time
    /// has expired it requests the stop of what still runs again.
    pub(super) fn stop_all(&mut self, now: MonoTime, budget: Duration) {
        let by = now.after(budget.saturating_sub(reserve(budget)));
        let before = self.stop.as_ref().map(|stop| stop.by);
        let is_longer = before.is_some_and(|before| now < before && before <= by);
        if self.phase == SystemPhase::Stopped || is_longer {
            return;
        }
        let by = before.map_or(by, |before| before.min(by));
        let usable = by.since(now);
        self.phase = SystemPhase::Stopping;
        let shares = StopBudget::new(&self.graph, usable, |module| {
            let slot = self.module(module);
            (!slot.is_builtin() && slot.state.is_live()).then_some(&*slot.spec)
        });
        self.stop = Some(SystemStop { by, shares });
        for module in self.ids() {
            if self.module(module).is_builtin() {
                continue;
            }
            self.leave_initial_start(module);
            let slot = self.module_mut(module);
            slot.desired = Desired::Down;
            let is_ordered = slot.state == State::Stopping && !slot.ends_by_itself;
            let generation = slot.generation;
            self.update_counts(module);
            self.mark_dirty(module);
            if is_ordered {
                self.emit_stop(now, module, generation);
            }
        }
    }

    /// No run is out any more: the builtins go last.
    pub(super) fn finish_stop(&mut self, now: MonoTime) {
        self.phase = SystemPhase::Stopped;
        for module in self.ids().rev() {
            let slot = self.module(module);
            if slot.is_builtin() && slot.state == State::Running {
                self.module_mut(module).desired = Desired::Down;
                self.set_state(now, module, State::Stopped, Cause::Shutdown, None);
            }
        }
        self.effects.push_back(LifecycleEffect::AllStopped {
            forced: self.forced,
        });
    }
}

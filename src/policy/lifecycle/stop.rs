//! The ordered stop of everything.
//! Owns the total budget and its end. The order itself needs no code here: each look waits for
//! the dependents. Never lets a wish in between: from here on all are wished down.

use alloc::sync::Arc;
use core::time::Duration;

use super::{Effect, Lifecycle, Phase, Stop};
use crate::shutdown::{Shares, reserve};
use crate::states::{Cause, State, Wanted};
use crate::time::Time;

impl Lifecycle {
    /// Wishes everything down within `budget`. A second call can only shorten the first.
    pub(super) fn stop_all(&mut self, now: Time, budget: Duration) {
        let usable = budget.saturating_sub(reserve(budget));
        let by = now.after(usable);
        if self.phase == Phase::Over || self.stop.as_ref().is_some_and(|stop| stop.by <= by) {
            return;
        }
        self.phase = Phase::Down;
        let plan = Arc::clone(&self.plan);
        let shares = Shares::new(&plan, usable, |module| {
            !self.is_builtin(module) && self.slot(module).state.is_live()
        });
        self.stop = Some(Stop { by, shares });
        for module in plan.ids() {
            if self.is_builtin(module) {
                continue;
            }
            self.boot_done(module);
            let slot = self.slot_mut(module);
            slot.wanted = Wanted::Down;
            let (state, generation) = (slot.state, slot.generation);
            self.retally(module);
            self.mark(module);
            if state == State::Stopping {
                self.order_halt(now, module, generation);
            }
        }
    }

    /// No run is out any more: the builtins go last.
    pub(super) fn all_down(&mut self, now: Time) {
        self.phase = Phase::Over;
        let plan = Arc::clone(&self.plan);
        for &module in plan.order().iter().rev() {
            if self.is_builtin(module) && self.slot(module).state == State::Running {
                self.slot_mut(module).wanted = Wanted::Down;
                self.moved(now, module, State::Stopped, Cause::Shutdown, None);
            }
        }
        self.out.push_back(Effect::AllStopped {
            forced: self.forced,
        });
    }
}

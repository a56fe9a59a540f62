//! What a wish does: to its module, to what it needs, to those that need it.
//! Owns the intent number: every wish outranks what recovery had in mind before.
//! Never runs or ends anything: it changes what is wanted, and looks do the rest.

use alloc::sync::Arc;

use super::fall::Gone;
use super::slot::Fall;
use super::{Lifecycle, Phase, Wish};
use crate::spec::{ModuleId, Start};
use crate::states::{Cause, State, Wanted};
use crate::time::Time;

impl Lifecycle {
    pub(super) fn wished(&mut self, now: Time, module: ModuleId, wish: Wish) {
        let refused = matches!(self.phase, Phase::Down | Phase::Over);
        if refused || !self.plan.has(module) || self.is_builtin(module) {
            return;
        }
        let asleep = self.is_asleep(module);
        let slot = self.slot_mut(module);
        match wish {
            Wish::Start => self.wish_up(now, module),
            Wish::Wake if asleep => self.wish_up(now, module),
            Wish::Wake => {}
            Wish::Stop => {
                slot.intent += 1;
                slot.wanted = Wanted::Down;
                slot.ledger.forget();
                self.mark(module);
                self.retally(module);
                self.boot_done(module);
                self.falls_with(module, Gone::Stopped);
                // Soft dependents wait for it no longer.
                self.wake_dependents(module);
            }
            Wish::Restart => {
                slot.ledger.forget();
                if slot.state.is_up() {
                    // Before its own fall: those that fall with it must be marked first.
                    self.restarts_under(module);
                    self.slot_mut(module).fall = Some(Fall::Requested);
                    self.mark(module);
                }
                self.wish_up(now, module);
            }
        }
    }

    /// Wishes `module` up, and all that it needs and has not.
    fn wish_up(&mut self, now: Time, module: ModuleId) {
        self.walk.insert(self.plan.rank(module));
        self.gather_needs();
        while let Some(rank) = self.rising.pop_first() {
            let other = self.plan.order()[rank as usize];
            if other == module {
                self.slot_mut(module).intent += 1;
                self.raise(now, module, Cause::Requested, None);
            } else if self.is_down_for_good(other) {
                self.slot_mut(other).intent += 1;
                self.raise(now, other, Cause::Dependency, Some(module));
            }
        }
    }

    /// From the modules in `walk` to all that they need: they gather in `rising`.
    pub(super) fn gather_needs(&mut self) {
        let plan = Arc::clone(&self.plan);
        while let Some(rank) = self.walk.pop_last() {
            self.rising.insert(rank);
            let module = plan.order()[rank as usize];
            if self.slot(module).stands() {
                continue;
            }
            for edge in plan.dependencies(module) {
                if edge.hard && !self.is_satisfied(edge) && !self.is_builtin(edge.to) {
                    self.walk.insert(plan.rank(edge.to));
                }
            }
        }
    }

    /// Whether a call or a connection starts it: a lazy one that was never started, or that ended
    /// by itself as it may. One that was stopped on purpose stays down, and one that failed is left
    /// to recovery.
    fn is_asleep(&self, module: ModuleId) -> bool {
        let slot = self.slot(module);
        let fresh = slot.state == State::NotStarted && slot.intent == 0;
        let ended_by_itself = slot.state == State::Stopped && slot.wanted == Wanted::Up;
        self.plan.module(module).start == Start::Lazy && (fresh || ended_by_itself)
    }

    /// Whether only a wish brings it back: not wished for, or ended as it may.
    fn is_down_for_good(&self, module: ModuleId) -> bool {
        let slot = self.slot(module);
        slot.wanted == Wanted::Down || slot.state == State::Stopped
    }

    /// Wishes one module up, whatever it is doing.
    pub(super) fn raise(
        &mut self,
        now: Time,
        module: ModuleId,
        cause: Cause,
        by: Option<ModuleId>,
    ) {
        let slot = self.slot_mut(module);
        slot.wanted = Wanted::Up;
        match slot.state {
            State::NotStarted | State::Stopped | State::Backoff | State::Failed => {
                slot.ledger.forget();
                slot.needs_token = false;
                self.moved(now, module, State::Waiting, cause, by);
            }
            State::Waiting => {
                slot.needs_token = false;
                (slot.cause, slot.by) = (cause, by);
                self.mark(module);
            }
            // An order to end it may have been due and is no more.
            State::Starting | State::Running => {
                self.mark(module);
                self.wake_dependents(module);
            }
            State::Stopping => {
                slot.fall = Some(Fall::Requested);
                self.mark(module);
            }
        }
        self.retally(module);
    }
}

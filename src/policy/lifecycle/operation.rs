//! What a wish does: to its module, to what it needs, to those that need it.
//! Owns the intent number: every wish outranks what recovery had in mind before.
//! Never runs or ends anything: it changes what is wanted, and looks do the rest.

use alloc::sync::Arc;

use super::managed_module::StopReason;
use super::propagation::DependencyLoss;
use super::{Lifecycle, Operation, SystemPhase};
use crate::mono_time::MonoTime;
use crate::spec::{ModuleId, StartMode};
use crate::states::{Cause, Desired, State};

impl Lifecycle {
    pub(super) fn apply_operation(&mut self, now: MonoTime, module: ModuleId, wish: Operation) {
        let refused = matches!(self.phase, SystemPhase::Stopping | SystemPhase::Stopped);
        if refused || !self.plan.has(module) || self.is_builtin(module) {
            return;
        }
        let asleep = self.can_be_activated(module);
        let slot = self.module_mut(module);
        match wish {
            Operation::Start => self.request_start(now, module),
            Operation::Wake if asleep => self.request_start(now, module),
            Operation::Wake => {}
            Operation::Stop => {
                slot.desired_revision += 1;
                slot.desired = Desired::Down;
                slot.recovery.reset();
                self.mark_dirty(module);
                self.update_counts(module);
                self.leave_initial_start(module);
                self.propagate_stop(module, DependencyLoss::Stopped);
                // Soft dependents wait for it no longer.
                self.mark_waiting_dependents(module);
            }
            Operation::Restart => {
                slot.recovery.reset();
                if slot.state.is_up() {
                    // Before its own fall: those that fall with it must be marked first.
                    self.propagate_restart(module);
                    self.module_mut(module).stop_reason = Some(StopReason::Requested);
                    self.mark_dirty(module);
                }
                self.request_start(now, module);
            }
        }
    }

    /// Wishes `module` up, and all that it needs and has not.
    fn request_start(&mut self, now: MonoTime, module: ModuleId) {
        self.worklist.insert(self.plan.rank(module));
        self.collect_dependencies();
        while let Some(rank) = self.to_start.pop_first() {
            let other = self.plan.order()[rank as usize];
            if other == module {
                self.module_mut(module).desired_revision += 1;
                self.set_desired_up(now, module, Cause::Requested, None);
            } else if self.needs_request(other) {
                self.module_mut(other).desired_revision += 1;
                self.set_desired_up(now, other, Cause::Dependency, Some(module));
            }
        }
    }

    /// From the modules in `walk` to all that they need: they gather in `rising`.
    pub(super) fn collect_dependencies(&mut self) {
        let plan = Arc::clone(&self.plan);
        while let Some(rank) = self.worklist.pop_last() {
            self.to_start.insert(rank);
            let module = plan.order()[rank as usize];
            if self.module(module).is_active() {
                continue;
            }
            for edge in plan.dependencies(module) {
                if edge.hard && !self.is_satisfied(edge) && !self.is_builtin(edge.to) {
                    self.worklist.insert(plan.rank(edge.to));
                }
            }
        }
    }

    /// Whether a call or a connection starts it: a lazy one that was never started, or that ended
    /// by itself as it may. One that was stopped on purpose stays down, and one that failed is left
    /// to recovery.
    fn can_be_activated(&self, module: ModuleId) -> bool {
        let slot = self.module(module);
        let fresh = slot.state == State::NotStarted && slot.desired_revision == 0;
        let ended_by_itself = slot.state == State::Stopped && slot.desired == Desired::Up;
        self.plan.module(module).start == StartMode::Lazy && (fresh || ended_by_itself)
    }

    /// Whether only a wish brings it back: not wished for, or ended as it may.
    fn needs_request(&self, module: ModuleId) -> bool {
        let slot = self.module(module);
        slot.desired == Desired::Down || slot.state == State::Stopped
    }

    /// Wishes one module up, whatever it is doing.
    pub(super) fn set_desired_up(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        cause: Cause,
        by: Option<ModuleId>,
    ) {
        let slot = self.module_mut(module);
        slot.desired = Desired::Up;
        match slot.state {
            State::NotStarted | State::Stopped | State::Backoff | State::Failed => {
                slot.recovery.reset();
                slot.needs_token = false;
                self.set_state(now, module, State::Waiting, cause, by);
            }
            State::Waiting => {
                slot.needs_token = false;
                (slot.cause, slot.by) = (cause, by);
                self.mark_dirty(module);
            }
            // An order to end it may have been due and is no more.
            State::Starting | State::Running => {
                self.mark_dirty(module);
                self.mark_waiting_dependents(module);
            }
            State::Stopping => {
                slot.stop_reason = Some(StopReason::Requested);
                self.mark_dirty(module);
            }
        }
        self.update_counts(module);
    }
}

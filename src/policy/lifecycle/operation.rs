//! What an operation does: to its module, to what that needs, to its dependents.
//! Owns the desired revision: every request outranks what recovery decided before.
//! Never starts or stops anything: it changes the desired state, and the reconcile step acts.

use super::managed_module::StopReason;
use super::propagation::DependencyLoss;
use super::{Lifecycle, Operation, SystemPhase};
use crate::mono_time::MonoTime;
use crate::spec::ModuleId;
use crate::states::{Cause, Desired, State};

impl Lifecycle {
    pub(super) fn apply_operation(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        operation: Operation,
    ) {
        let refused = matches!(self.phase, SystemPhase::Stopping | SystemPhase::Stopped);
        let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
            return;
        };
        if refused || slot.is_builtin() || !slot.in_plan {
            return;
        }
        let asleep = slot.can_be_activated();
        match operation {
            Operation::Start => self.request_start(now, module),
            Operation::Wake if asleep => self.request_start(now, module),
            // The end of its run may not be known yet.
            Operation::Wake => {
                slot.is_called |= matches!(slot.state, State::Running | State::Stopping);
            }
            Operation::Recover => self.accept_proposal(now, module),
            Operation::Stop => {
                slot.desired_revision += 1;
                slot.desired = Desired::Down;
                slot.forgive();
                self.forgive_groups(module);
                self.mark_dirty(module);
                self.update_counts(module);
                self.leave_initial_start(module);
                self.propagate_stop(module, DependencyLoss::Stopped);
                // Soft dependents wait for it no longer.
                self.mark_waiting_dependents(module);
            }
            Operation::Restart => {
                slot.forgive();
                if slot.state.is_live() && slot.dependents_must_be_told() {
                    // Before its own fall: those that fall with it must be marked first.
                    self.propagate_restart(module);
                    self.module_mut(module).stop_reason = Some(StopReason::Requested);
                    self.mark_dirty(module);
                }
                self.request_start(now, module);
            }
        }
    }

    /// Makes `module` desired up, and all that it needs and that is not up.
    fn request_start(&mut self, now: MonoTime, module: ModuleId) {
        self.worklist.insert(self.graph.rank(module));
        self.collect_dependencies(|_, _| true);
        while let Some(rank) = self.to_start.pop_first() {
            let other = self.graph.at(rank);
            if other == module {
                self.module_mut(module).desired_revision += 1;
                self.set_desired_up(now, module, Cause::Requested, None);
            } else if self.module(other).needs_request() {
                self.module_mut(other).desired_revision += 1;
                self.set_desired_up(now, other, Cause::Dependency, Some(module));
            }
        }
    }

    /// A run has ended: starts its module again if a connection or call came meanwhile that
    /// nothing else answers.
    pub(super) fn answer_call(&mut self, now: MonoTime, module: ModuleId) {
        let slot = self.module_mut(module);
        if core::mem::take(&mut slot.is_called) && slot.can_be_activated() {
            self.request_start(now, module);
        }
    }

    /// A request forgives the groups of `module` too, and takes it out of restarts that it shares.
    fn forgive_groups(&mut self, module: ModuleId) {
        self.group_budgets.reset(self.plan.groups(), module);
        self.leave_shared_restarts(module);
    }

    /// From the modules in `worklist` to all that they need, and by way of those that `through`
    /// picks to all that these need: they gather in `to_start`.
    pub(super) fn collect_dependencies(&mut self, through: impl Fn(&Lifecycle, ModuleId) -> bool) {
        while let Some(rank) = self.worklist.pop_last() {
            self.to_start.insert(rank);
            let module = self.graph.at(rank);
            if self.module(module).is_active() {
                continue;
            }
            let spec = self.next_spec_of(module);
            for edge in spec.edges.iter().filter(|edge| edge.hard) {
                let unmet = !self.is_satisfied(edge) && !self.module(edge.to).is_builtin();
                if unmet && through(self, edge.to) {
                    self.worklist.insert(self.graph.rank(edge.to));
                }
            }
        }
    }

    /// Makes one module desired up, whatever its state.
    pub(super) fn set_desired_up(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        cause: Cause,
        by: Option<ModuleId>,
    ) {
        self.forgive_groups(module);
        // A requested start waits for no token, even if the one before it did.
        self.for_token.remove(&self.token_queue_key(module));
        let slot = self.module_mut(module);
        slot.desired = Desired::Up;
        match slot.state {
            State::NotStarted | State::Stopped | State::Backoff | State::Failed => {
                slot.forgive();
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
                // What was to stop after it waits for it no longer.
                self.mark_blocked_dependencies(module);
                // Its attempts may be forgiven since the last change.
                self.arm(module);
            }
            State::Stopping => {
                // The end of this run is no failure any more: they would not be notified then.
                if slot.dependents_must_be_told() {
                    self.propagate_restart(module);
                }
                self.module_mut(module).stop_reason = Some(StopReason::Requested);
                self.mark_dirty(module);
            }
        }
        self.update_counts(module);
    }
}

//! The reports of a run: it exists, it is ready, it has ended.
//! Owns what the end means: as requested, a stop that was decided here, or a failure.
//! Never queries: a report of another run than the current one changes nothing.

use super::managed_module::StopReason;
use super::{Lifecycle, SystemPhase};
use crate::mono_time::MonoTime;
use crate::recovery::Failure;
use crate::run::{Exit, RunEnd, RunReport, RunReportKind};
use crate::spec::{Kind, ModuleId, StartMode};
use crate::states::{Cause, Desired, Health, State};

impl Lifecycle {
    pub(super) fn apply_report(&mut self, now: MonoTime, module: ModuleId, report: RunReport) {
        let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
            return;
        };
        if report.generation != slot.generation || !slot.state.is_live() {
            return;
        }
        match report.what {
            RunReportKind::Started { pid } => {
                slot.pid = Some(pid);
                self.mark_waiting_dependents(module);
            }
            RunReportKind::Extended { deadline } => match &mut slot.stop_deadlines {
                Some((by, limit)) => *by = deadline.min(*limit),
                None if slot.state == State::Starting => {
                    slot.ready_deadline = Some(deadline);
                    self.mark_dirty(module);
                }
                None => {}
            },
            RunReportKind::Ready => {
                if slot.state == State::Starting {
                    slot.recovery.ready(now);
                    slot.was_ready = true;
                    self.release_start_slot(now, module);
                    self.leave_initial_start(module);
                    self.set_state(now, module, State::Running, Cause::Startup, None);
                    self.notify_degraded(module);
                    self.notify_recovered(module);
                }
            }
            RunReportKind::Ending { cause } => {
                if slot.state.is_up() {
                    slot.ends_by_itself = true;
                    self.set_state(now, module, State::Stopping, cause, None);
                }
            }
            RunReportKind::Ended(ending) => {
                slot.last = Some(ending);
                self.apply_run_end(now, module, Some(ending));
            }
        }
    }

    /// Applies the health of a run. A liveness failure ends the run; recovery decides what follows.
    pub(super) fn apply_health(
        &mut self,
        module: ModuleId,
        generation: u64,
        (health, passes): (Health, bool),
        liveness_failed: bool,
    ) {
        let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
            return;
        };
        if generation != slot.generation || !slot.state.is_up() {
            return;
        }
        (slot.health, slot.passes) = (health, passes);
        if liveness_failed && !slot.is_builtin() && slot.is_active() {
            slot.stop_reason = Some(StopReason::Probe);
            self.mark_dirty(module);
        }
        self.update_counts(module);
        self.mark_waiting_dependents(module);
    }

    /// Stops a run that exceeds a limit; recovery decides what follows when it has ended.
    pub(super) fn apply_limit(&mut self, module: ModuleId, generation: u64, stop: bool) {
        let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
            return;
        };
        if generation == slot.generation && !slot.is_builtin() && slot.is_active() {
            slot.stop_reason = Some(StopReason::Limit { stop });
            self.mark_dirty(module);
        }
    }

    /// Stops a lazy module that was not used for long, unless another one that is to run needs
    /// it. The next use starts it.
    pub(super) fn apply_idle(&mut self, module: ModuleId, generation: u64) {
        let Some(Some(slot)) = self.modules.get(module.index()) else {
            return;
        };
        let rests = self.phase == SystemPhase::Up
            && generation == slot.generation
            && slot.state == State::Running
            && slot.is_active()
            && slot.spec.start == StartMode::Lazy
            && !slot.is_builtin();
        if rests && !self.is_needed(module) {
            self.module_mut(module).stop_reason = Some(StopReason::Idle);
            self.mark_dirty(module);
        }
    }

    /// The run is no longer starting: its restart token and start slot go to the next.
    fn release_start_slot(&mut self, now: MonoTime, module: ModuleId) {
        self.module_mut(module).ready_deadline = None;
        self.return_token(module);
        if self.turn == Some(module) {
            self.turn = None;
            self.turn_at = now.after(self.plan.system().module_start_delay);
        }
    }

    /// The run has ended. `ending` is None when it is unknown how.
    pub(super) fn apply_run_end(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        ending: Option<RunEnd>,
    ) {
        self.release_start_slot(now, module);
        self.mark_blocked_dependencies(module);
        let killed = matches!(ending, Some(RunEnd::Stopped { forced: true, .. }));
        if self.phase == SystemPhase::Stopping && killed {
            self.forced += 1;
        }
        let spec = self.spec_of(module);
        let recovery = &spec.recovery;
        let clean = matches!(ending, Some(RunEnd::Exited(Exit::Code(code)))
            if recovery.clean_exit_codes.contains(&code));
        let is_task = spec.kind == Kind::Task;
        let stop_cause = self.stop_cause(module);
        let stopping = self.phase == SystemPhase::Stopping;
        let slot = self.module_mut(module);
        (slot.pid, slot.health, slot.exit_unknown) = (None, Health::Unknown, false);
        slot.stop_deadlines = None;
        let stop_reason = slot.stop_reason.take();
        let is_ordered =
            slot.state == State::Stopping && !core::mem::take(&mut slot.ends_by_itself);
        let stopped = is_ordered || stop_reason.is_some();
        let stuck = slot.is_stuck() && ending.is_some();
        slot.completed = clean && !is_ordered;
        match (slot.goal(), stop_reason) {
            (Desired::Down, _) if stuck && !stopping => {
                self.set_state(now, module, State::Failed, Cause::Timeout, None);
            }
            (Desired::Up, _) if stuck => {
                self.decide_recovery(now, module, Failure::Exited(Exit::Stuck));
            }
            (Desired::Down, _) => {
                slot.recovery.run_over(recovery, now);
                (slot.hard_notice_due, slot.soft_notice_due) = (false, false);
                self.set_state(now, module, State::Stopped, stop_cause, None);
            }
            (Desired::Up, Some(StopReason::Probe)) => {
                self.judge_unless_held(now, module, Failure::Probe);
            }
            (Desired::Up, Some(StopReason::GroupFailed(by))) => {
                slot.recovery.run_over(recovery, now);
                self.give_up(now, module, (Cause::Group, Some(by)), None);
            }
            (Desired::Up, Some(StopReason::Limit { stop })) => {
                self.decide_recovery(now, module, Failure::Limit { stop });
            }
            (Desired::Up, Some(StopReason::Idle)) => {
                slot.recovery.run_over(recovery, now);
                self.set_state(now, module, State::Stopped, Cause::Idle, None);
            }
            (Desired::Up, _) if stopped => {
                slot.recovery.run_over(recovery, now);
                self.run_again(now, module, stop_reason);
            }
            (Desired::Up, _) if clean && is_task => {
                slot.recovery.run_over(recovery, now);
                self.leave_initial_start(module);
                self.set_state(now, module, State::Stopped, Cause::Exit, None);
            }
            (Desired::Up, _) => {
                let failure = ending.map_or(Failure::ExitUnknown, Failure::from);
                self.judge_unless_held(now, module, failure);
            }
        }
        self.member_ended(module);
        self.answer_call(now, module);
    }

    /// A run that was to end has ended, and another one follows.
    fn run_again(&mut self, now: MonoTime, module: ModuleId, stop_reason: Option<StopReason>) {
        use StopReason::{Dependency, Group, Reload};
        let needs_token = matches!(stop_reason, Some(Dependency(_) | Group(_) | Reload));
        self.module_mut(module).needs_token = needs_token;
        let (cause, by) = match stop_reason {
            Some(Group(by)) => (Cause::Group, Some(by)),
            // It may have ended by itself before the order to stop.
            Some(Dependency(by)) => (Cause::Dependency, Some(by)),
            Some(Reload) => (Cause::Reload, None),
            _ => (Cause::Requested, None),
        };
        self.set_state(now, module, State::Waiting, cause, by);
        if matches!(stop_reason, None | Some(StopReason::Adopted)) {
            // Why it had to end died with a runtime; its dependents may not know of it.
            self.propagate_restart(module);
        }
    }
}

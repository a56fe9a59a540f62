//! What the lifecycle knows of one module.
//! Owns the fields and the questions that need no other module.
//! Never decides.

use alloc::sync::Arc;

use super::adopt::ModuleRecord;
use super::info::Severity;
use crate::mono_time::MonoTime;
use crate::recovery::{Failure, RecoveryState};
use crate::run::RunEnd;
use crate::spec::{Kind, ModuleId, ModuleSpec, StartMode, Strategy};
use crate::states::{Cause, Desired, Health, State};

/// Why a run must stop although its module is desired up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// What it needs is going.
    Dependency(ModuleId),
    /// A restart was asked for.
    Requested,
    /// A liveness probe failed often enough, and its rechecks too.
    Probe,
    /// It exceeds a limit: stopped permanently, or restarted.
    Limit {
        /// Permanently.
        stop: bool,
    },
    /// The runtime before had begun to end it.
    Adopted,
    /// The plan has another spec for it, which only a new run can follow.
    Reload,
    /// It restarts with a module that failed.
    Group(ModuleId),
    /// It is stopped and marked failed because a member of its group failed.
    GroupFailed(ModuleId),
    /// It was not used for a long time; the next use starts it.
    Idle,
}

/// What a person may accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proposal {
    /// The rung of the ladder.
    pub(super) strategy: Strategy,
    /// What failed.
    pub(super) failure: Failure,
}

/// What has to be done before the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Procedure {
    /// Its number, which distinguishes a late result from that of another procedure.
    pub(super) ticket: u32,
    /// A reset (true), or taking one back.
    pub(super) reset: bool,
    /// When it has taken too long.
    pub(super) by: MonoTime,
}

/// One module, from outside its run.
#[derive(Debug, Clone)]
pub(super) struct ManagedModule {
    /// What it runs by.
    pub(super) spec: Arc<ModuleSpec>,
    /// The number of the plan that `spec` is from.
    pub(super) plan: u64,
    /// Whether the newest plan has it. One that was removed is stopped, whatever is desired.
    pub(super) in_plan: bool,
    pub(super) state: State,
    pub(super) desired: Desired,
    pub(super) cause: Cause,
    pub(super) by: Option<ModuleId>,
    pub(super) since: MonoTime,
    /// Grows with every request.
    pub(super) desired_revision: u64,
    pub(super) generation: u64,
    pub(super) pid: Option<u32>,
    pub(super) health: Health,
    /// Its readiness probes pass.
    pub(super) passes: bool,
    /// Its last run ended by itself with a clean code; latched until the next run.
    pub(super) completed: bool,
    /// Its run ends although no order ended it.
    pub(super) ends_by_itself: bool,
    /// A connection or call came while its run was ending: it is started when that has ended.
    pub(super) is_called: bool,
    /// Its current or last run was ready at some time.
    pub(super) was_ready: bool,
    pub(super) stop_reason: Option<StopReason>,
    /// The deadline for the stop of the current run, and the latest to which it can be extended.
    pub(super) stop_deadlines: Option<(MonoTime, MonoTime)>,
    pub(super) recovery: RecoveryState,
    /// `auto = false`: what a person may accept.
    pub(super) proposal: Option<Proposal>,
    /// Its features are switched off until a run is stable.
    pub(super) is_degraded: bool,
    /// What has to be done before its next run.
    pub(super) procedure: Option<Procedure>,
    /// Procedures so far.
    pub(super) tickets: u32,
    /// A reset was made, and no run since has proved itself.
    pub(super) on_trial: bool,
    /// The end of backoff, or the next probation.
    pub(super) retry_at: Option<MonoTime>,
    /// No run of it is to start until then.
    pub(super) held_until: Option<MonoTime>,
    /// The deadline for the start of the current run.
    pub(super) ready_deadline: Option<MonoTime>,
    /// The dependency that holds it in `waiting`: a place among its edges.
    pub(super) waiting_on_edge: u32,
    /// The dependent that must end first: a place among its dependents.
    pub(super) stop_blocked_by: u32,
    pub(super) needs_token: bool,
    /// It holds a restart token, until then at most.
    pub(super) token_until: Option<MonoTime>,
    /// The initial startup waits for it.
    pub(super) in_initial_start: bool,
    /// Hard dependents that keep running were notified that it restarts.
    pub(super) hard_notice_due: bool,
    /// Soft dependents were notified that it failed.
    pub(super) soft_notice_due: bool,
    /// Recorded as running, but no process was found; its exit may still be reported.
    pub(super) exit_unknown: bool,
    pub(super) adopted: bool,
    /// Runs after the first that no request led to.
    pub(super) restarts: u32,
    /// Runs after the first that a request or a new plan led to.
    pub(super) requested_restarts: u32,
    pub(super) last: Option<RunEnd>,
    /// What it is counted as in the status of the system.
    pub(super) severity: Severity,
    /// Counted among the modules that block their dependents until a person acts.
    pub(super) counts_as_failed_need: bool,
}

impl ManagedModule {
    pub(super) fn new(spec: &Arc<ModuleSpec>, plan: u64) -> ManagedModule {
        ManagedModule {
            spec: Arc::clone(spec),
            plan,
            in_plan: true,
            state: State::NotStarted,
            desired: Desired::Down,
            cause: Cause::Boot,
            by: None,
            since: MonoTime(0),
            desired_revision: 0,
            generation: 0,
            pid: None,
            health: Health::Unknown,
            passes: false,
            completed: false,
            ends_by_itself: false,
            is_called: false,
            was_ready: false,
            stop_reason: None,
            stop_deadlines: None,
            recovery: RecoveryState::default(),
            proposal: None,
            is_degraded: false,
            procedure: None,
            tickets: 0,
            on_trial: false,
            retry_at: None,
            held_until: None,
            ready_deadline: None,
            waiting_on_edge: 0,
            stop_blocked_by: 0,
            needs_token: false,
            token_until: None,
            in_initial_start: false,
            hard_notice_due: false,
            soft_notice_due: false,
            exit_unknown: false,
            adopted: false,
            restarts: 0,
            requested_restarts: 0,
            last: None,
            severity: Severity::None,
            counts_as_failed_need: false,
        }
    }

    /// A module that a plan has again, or for the first time: `record` is empty then. What a person
    /// asked of it holds still, and what it completed is completed.
    pub(super) fn returned(
        now: MonoTime,
        (spec, plan): (&Arc<ModuleSpec>, u64),
        record: ModuleRecord,
    ) -> ManagedModule {
        let ended = matches!(record.state, State::Stopped | State::Failed);
        let stays = ended && (record.desired == Desired::Down || record.completed);
        let mut module = ManagedModule {
            desired: record.desired,
            desired_revision: record.desired_revision,
            generation: record.generation,
            completed: record.completed,
            restarts: record.restarts,
            requested_restarts: record.requested_restarts,
            state: if stays {
                State::Stopped
            } else {
                State::NotStarted
            },
            ..ManagedModule::new(spec, plan)
        };
        module.restore_recovery(now, &record);
        module
    }

    /// Takes over what recovery knew of it.
    pub(super) fn restore_recovery(&mut self, now: MonoTime, record: &ModuleRecord) {
        self.recovery = RecoveryState::restore(&self.spec.recovery, now, record.recovery);
        let failure = Failure::ExitUnknown;
        let proposal = |strategy| Proposal { strategy, failure };
        self.proposal = record.proposal.map(proposal);
        (self.is_degraded, self.on_trial) = (record.degraded, record.on_trial);
    }

    pub(super) fn is_builtin(&self) -> bool {
        self.spec.kind == Kind::Builtin
    }

    /// Whether its run, if one is out, has to end.
    pub(super) fn must_stop(&self) -> bool {
        self.goal() == Desired::Down || self.stop_reason.is_some()
    }

    /// Whether its run, which has to end, has not been ordered to.
    pub(super) fn awaits_stop(&self) -> bool {
        (self.state.is_up() || self.ends_by_itself) && self.must_stop()
    }

    /// A request resets attempts, rung, probation, proposal and degraded mode.
    pub(super) fn forgive(&mut self) {
        self.recovery.reset();
        (self.proposal, self.is_degraded, self.on_trial) = (None, false, false);
    }

    /// What it is brought to: as desired, but down when the plan has it no more.
    pub(super) fn goal(&self) -> Desired {
        match self.in_plan {
            true => self.desired,
            false => Desired::Down,
        }
    }

    /// Whether a run is out that has to end before the newest plan is in force.
    pub(super) fn is_outdated(&self, newest_plan: u64) -> bool {
        self.plan != newest_plan && self.state.is_live() && !self.is_builtin()
    }

    /// Continues under the spec of another plan, which also limits the attempts made so far.
    pub(super) fn follow(&mut self, now: MonoTime, spec: &Arc<ModuleSpec>, plan: u64) {
        if self.spec.recovery != spec.recovery {
            self.recovery = RecoveryState::restore(&spec.recovery, now, self.recovery.save());
        }
        self.spec = Arc::clone(spec);
        (self.plan, self.in_plan, self.waiting_on_edge) = (plan, true, 0);
    }

    /// Whether it has a run that has no reason to stop.
    pub(super) fn is_active(&self) -> bool {
        self.state.is_up() && !self.must_stop()
    }

    /// It is to stop on request, and what it needs is going: a request to start it before it has
    /// stopped finds that it needs a new run.
    pub(super) fn stops_with(&mut self, dependency: ModuleId) {
        if self.state.is_up() {
            self.stop_reason
                .get_or_insert(StopReason::Dependency(dependency));
        }
    }

    /// Whether its dependents have not been notified that a new run follows this one: no stop was
    /// decided, or one whose reason they are notified of when the run has ended.
    pub(super) fn dependents_must_be_told(&self) -> bool {
        let untold = matches!(
            self.stop_reason,
            Some(StopReason::Probe | StopReason::Limit { .. } | StopReason::GroupFailed(_))
        );
        let undecided = self.ends_by_itself && self.stop_reason.is_none();
        let adopted = Some(StopReason::Adopted) == self.stop_reason;
        self.state.is_up() || undecided || untold || adopted
    }

    /// Whether its last run could not be ended at all.
    pub(super) fn is_stuck(&self) -> bool {
        self.last.is_some_and(RunEnd::is_stuck)
    }

    /// Whether a call or a connection starts it: a lazy module that was never started, or that
    /// ended with a clean exit code. One that was stopped on request stays down, and one that
    /// failed is left to recovery.
    pub(super) fn can_be_activated(&self) -> bool {
        let never_started = self.state == State::NotStarted && self.desired_revision == 0;
        let ended_by_itself = self.state == State::Stopped && self.goal() == Desired::Up;
        self.spec.start == StartMode::Lazy && (never_started || ended_by_itself)
    }

    /// Whether it does not come back by itself: desired down, ended with a clean exit code, or
    /// given up. Probation does not count: a request does not wait for it.
    pub(super) fn needs_request(&self) -> bool {
        self.goal() == Desired::Down || matches!(self.state, State::Stopped | State::Failed)
    }

    /// Whether it ended with a clean exit code although it is desired up, so that a dependent
    /// that needs it starts it again. One that ended before it was ready would do so once more.
    pub(super) fn can_be_resumed(&self) -> bool {
        self.state == State::Stopped && self.goal() == Desired::Up && self.was_ready
    }

    /// The earliest time at which a dependent starts it again.
    pub(super) fn resumed_from(&self) -> MonoTime {
        let backoff = &self.spec.recovery.backoff;
        self.since.after(backoff.initial.max(backoff.floor))
    }

    /// Whether it cannot become what its dependents wait for without a request: it was given up,
    /// or it exited with a clean code before it was ready.
    pub(super) fn is_failed_need(&self) -> bool {
        let ended = self.state == State::Stopped && !self.was_ready;
        self.goal() == Desired::Up && (self.state == State::Failed || ended)
    }

    /// When something about it changes with time alone while it is in this state: its token goes
    /// back, or its attempts become fewer.
    pub(super) fn own_deadline(&self) -> Option<MonoTime> {
        match self.state {
            State::Starting | State::Stopping => self.token_until,
            State::Running => {
                let credit = self.recovery.next_credit(&self.spec.recovery);
                credit.into_iter().chain(self.restored_at()).min()
            }
            State::NotStarted
            | State::Waiting
            | State::Stopped
            | State::Backoff
            | State::Failed => None,
        }
    }

    /// Until when it is held, if it is now.
    pub(super) fn hold(&self, now: MonoTime) -> Option<MonoTime> {
        self.held_until.filter(|until| now < *until)
    }

    /// When a degraded run is stable, and its features are switched on again.
    pub(super) fn restored_at(&self) -> Option<MonoTime> {
        let is_degraded = self.is_degraded && self.state == State::Running;
        let since = self.recovery.ready_since().unwrap_or(self.since);
        is_degraded.then(|| since.after(self.spec.recovery.stable_after))
    }

    /// Whether the system is incomplete without it when it is desired down.
    pub(super) fn counts_as_missing(&self) -> bool {
        let eager = self.spec.start == StartMode::Eager;
        self.spec.required && eager && self.state != State::NotStarted
    }

    /// Whether the run that is being ended is not followed by another one before the next use.
    pub(super) fn rests_after_stop(&self) -> bool {
        self.stop_reason == Some(StopReason::Idle) && !self.is_called
    }

    /// Whether a run is out that is being ended, or will be.
    pub(super) fn is_stopping(&self) -> bool {
        self.state == State::Stopping || (self.state.is_up() && self.must_stop())
    }
}

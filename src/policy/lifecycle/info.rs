//! What the lifecycle shows of modules and of the system.
//! Owns these values and the running counts behind the status.
//! Never changes a decision.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::managed_module::ManagedModule;
use super::{Lifecycle, SystemPhase};
use crate::mono_time::MonoTime;
use crate::run::RunEnd;
use crate::spec::{ModuleId, Strategy};
use crate::states::{Cause, Desired, Health, State, Status};

/// One module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModuleInfo {
    /// The observed state.
    pub state: State,
    /// The desired state.
    pub desired: Desired,
    /// When that state began.
    pub since: MonoTime,
    /// Why that state began.
    pub cause: Cause,
    /// The module that led to it.
    pub by: Option<ModuleId>,
    /// The number of its current or last run; 0 before the first.
    pub generation: u64,
    /// Whether its run ends although no order ended it.
    pub ends_by_itself: bool,
    /// Whether its last run ended by itself with a clean code.
    pub completed: bool,
    /// Its main process.
    pub pid: Option<u32>,
    /// Whether it is ready.
    pub ready: bool,
    /// Its health.
    pub health: Health,
    /// Attempts that count against the restart budget.
    pub attempts: u32,
    /// No run of it is to start until then.
    pub held_until: Option<MonoTime>,
    /// When an attempt is restored, if its run lasts.
    pub earns_at: Option<MonoTime>,
    /// Whether its run is on probation and not stable yet.
    pub on_trial: bool,
    /// Runs after the first that no request led to.
    pub restarts: u32,
    /// Runs after the first that a request or a new plan led to.
    pub requested_restarts: u32,
    /// The dependencies whose conditions it waits for.
    pub waiting_on: Vec<ModuleId>,
    /// What it needs, at some remove, and what was given up or ended before it was ready: until
    /// that changes it waits in vain.
    pub held_by_failed: Option<ModuleId>,
    /// It waits for one of the restart tokens that these hold.
    pub token_holders: Vec<ModuleId>,
    /// The end of backoff, or the next probation.
    pub retry_at: Option<MonoTime>,
    /// How its last run ended.
    pub last_ending: Option<RunEnd>,
    /// How many operations were requested.
    pub desired_revision: u64,
    /// `auto = false`: what a person may accept.
    pub proposal: Option<Strategy>,
    /// Whether its features are switched off.
    pub degraded: bool,
}

/// The system as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SystemInfo {
    /// Its status.
    pub status: Status,
    /// Required modules that are failed.
    pub failing: Vec<ModuleId>,
    /// Modules that make it degraded.
    pub degraded: Vec<ModuleId>,
    /// Required modules that are desired up and do not run, although none has failed: without
    /// them it is degraded too.
    pub missing: Vec<ModuleId>,
    /// Other modules that wait for what they need: the status is as without them.
    pub waiting_optional: Vec<ModuleId>,
    /// Required modules that were stopped on request: without them it is degraded too.
    pub stopped: Vec<ModuleId>,
    /// Other modules that were stopped on request: the status is as without them.
    pub stopped_optional: Vec<ModuleId>,
    /// Whether initial startup has not finished.
    pub starting: bool,
    /// Whether the ordered stop has started.
    pub stopping: bool,
}

/// How much trouble a module is for the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Severity {
    #[default]
    None,
    Degraded,
    /// Required, desired up, and not running.
    Missing,
    /// Desired up and waiting, and the system may be healthy without it.
    WaitingOptional,
    /// On request.
    Stopped,
    /// On request, and the system may be healthy without it.
    StoppedOptional,
    Failing,
}

/// How many modules are troubled, kept up to date so that the status costs nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct StatusCounts {
    degraded: u32,
    missing: u32,
    waiting_optional: u32,
    stopped: u32,
    stopped_optional: u32,
    failing: u32,
    /// Modules that block their dependents until a person acts.
    failed_needs: u32,
}

impl StatusCounts {
    fn is_incomplete(&self) -> bool {
        self.degraded + self.missing + self.stopped > 0
    }

    /// Counts a module as `severity` that was counted as `before`.
    fn replace(&mut self, before: Severity, severity: Severity) {
        for (severity, more, less) in [(severity, 1, 0), (before, 0, 1)] {
            let count = match severity {
                Severity::None => continue,
                Severity::Degraded => &mut self.degraded,
                Severity::Missing => &mut self.missing,
                Severity::WaitingOptional => &mut self.waiting_optional,
                Severity::Stopped => &mut self.stopped,
                Severity::StoppedOptional => &mut self.stopped_optional,
                Severity::Failing => &mut self.failing,
            };
            *count = *count + more - less;
        }
    }
}

impl Lifecycle {
    /// One module. A module that does not exist was never started.
    #[must_use]
    pub fn view(&self, module: ModuleId) -> ModuleInfo {
        let Some(slot) = self.get(module) else {
            return ModuleInfo::default();
        };
        ModuleInfo {
            state: slot.state,
            desired: slot.desired,
            since: slot.since,
            cause: slot.cause,
            by: slot.by,
            generation: slot.generation,
            ends_by_itself: slot.ends_by_itself,
            completed: slot.completed,
            pid: slot.pid,
            ready: slot.state == State::Running,
            health: slot.health,
            attempts: slot.recovery.attempts(),
            earns_at: (slot.state == State::Running)
                .then(|| slot.own_deadline())
                .flatten(),
            on_trial: slot.recovery.is_half_open(),
            restarts: slot.restarts,
            requested_restarts: slot.requested_restarts,
            waiting_on: self.waiting_on(slot),
            held_by_failed: self.held_by_failed(slot),
            token_holders: self.awaited_holders(module, slot),
            retry_at: slot.retry_at,
            held_until: slot.held_until,
            last_ending: slot.last,
            desired_revision: slot.desired_revision,
            proposal: slot.proposal.map(|proposal| proposal.strategy),
            degraded: slot.is_degraded,
        }
    }

    fn waiting_on(&self, slot: &ManagedModule) -> Vec<ModuleId> {
        if slot.state != State::Waiting {
            return Vec::new();
        }
        let edges = slot.spec.edges.iter();
        // A soft edge stops blocking at the reconcile step after its deadline, which has run by
        // now.
        edges
            .filter(|edge| self.edge_blocks(edge, slot.since, slot.since))
            .map(|edge| edge.to)
            .collect()
    }

    /// The failed module that a waiting one needs. Costs nothing while none has failed.
    pub(super) fn held_by_failed(&self, slot: &ManagedModule) -> Option<ModuleId> {
        if self.tally.failed_needs == 0 {
            return None;
        }
        let (mut seen, mut more) = (BTreeSet::new(), Vec::from([slot]));
        while let Some(slot) = more.pop() {
            if slot.state != State::Waiting || slot.goal() == Desired::Down {
                continue;
            }
            for edge in slot.spec.edges.iter().filter(|edge| edge.hard) {
                let need = self.module(edge.to);
                if self.is_satisfied(edge) || !seen.insert(edge.to) {
                    continue;
                }
                if need.is_failed_need() {
                    return Some(edge.to);
                }
                more.push(need);
            }
        }
        None
    }

    fn awaited_holders(&self, module: ModuleId, slot: &ManagedModule) -> Vec<ModuleId> {
        let is_queued = slot.state == State::Waiting && slot.goal() == Desired::Up;
        match is_queued && self.for_token.contains(&self.token_queue_key(module)) {
            true => self.token_holders.clone(),
            false => Vec::new(),
        }
    }

    /// How the system is; constant cost.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.phase {
            SystemPhase::Stopping | SystemPhase::Stopped => Status::Stopping,
            SystemPhase::New | SystemPhase::Starting => Status::Starting,
            SystemPhase::Up if self.tally.failing > 0 => Status::Critical,
            SystemPhase::Up if self.tally.is_incomplete() => Status::Degraded,
            SystemPhase::Up => Status::Healthy,
        }
    }

    /// How the system is, and because of whom, in start order.
    #[must_use]
    pub fn system(&self) -> SystemInfo {
        let of = |trouble: Severity, count: u32| {
            let such = self.ids().filter(|id| self.module(*id).severity == trouble);
            such.take(count as usize).collect() // all is well most of the time
        };
        let status = self.status();
        SystemInfo {
            status,
            failing: of(Severity::Failing, self.tally.failing),
            degraded: of(Severity::Degraded, self.tally.degraded),
            missing: of(Severity::Missing, self.tally.missing),
            waiting_optional: of(Severity::WaitingOptional, self.tally.waiting_optional),
            stopped: of(Severity::Stopped, self.tally.stopped),
            stopped_optional: of(Severity::StoppedOptional, self.tally.stopped_optional),
            starting: status == Status::Starting,
            stopping: status == Status::Stopping,
        }
    }

    /// Counts `module` again after a change of its state, desired state or health.
    pub(super) fn update_counts(&mut self, module: ModuleId) {
        let stopping = matches!(self.phase, SystemPhase::Stopping | SystemPhase::Stopped);
        let slot = self.module_mut(module);
        // A try on probation has not succeeded before its run is stable.
        let on_trial = slot.recovery.is_half_open() && slot.goal() == Desired::Up;
        let required = slot.spec.required;
        let severity = match (slot.state, slot.health) {
            _ if !slot.in_plan => Severity::None,
            (State::Failed, _) if required => Severity::Failing,
            (State::Failed, _) => Severity::Degraded,
            _ if on_trial && required => Severity::Failing,
            _ if on_trial => Severity::Degraded,
            _ if slot.desired == Desired::Down && !stopping && slot.counts_as_missing() => {
                Severity::Stopped
            }
            _ if slot.desired == Desired::Down && !stopping && slot.state != State::NotStarted => {
                Severity::StoppedOptional
            }
            _ if slot.desired == Desired::Down => Severity::None,
            (State::Backoff, _) | (State::Running, Health::Degraded | Health::Unhealthy) => {
                Severity::Degraded
            }
            (State::Running, _) if slot.is_degraded => Severity::Degraded,
            (State::Stopping, _) if slot.rests_after_stop() => Severity::None,
            (State::Waiting | State::Starting | State::Stopping, _) if required => {
                Severity::Missing
            }
            (State::Waiting, _) => Severity::WaitingOptional,
            _ => Severity::None,
        };
        let before = core::mem::replace(&mut slot.severity, severity);
        let is_failed_need = slot.is_failed_need();
        let was = core::mem::replace(&mut slot.counts_as_failed_need, is_failed_need);
        self.tally.replace(before, severity);
        self.tally.failed_needs += u32::from(is_failed_need);
        self.tally.failed_needs -= u32::from(was);
    }
}

//! What others may see of the lifecycle.
//! Owns the views and the running tally of troubled modules.
//! Never changes a decision.

use alloc::vec::Vec;

use super::managed_module::ManagedModule;
use super::{Lifecycle, SystemPhase};
use crate::mono_time::MonoTime;
use crate::run::RunEnd;
use crate::spec::ModuleId;
use crate::states::{Cause, Desired, Health, State, Status};

/// One module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModuleInfo {
    /// Where it stands.
    pub state: State,
    /// The desired state.
    pub desired: Desired,
    /// Since when it is in that state.
    pub since: MonoTime,
    /// Why.
    pub cause: Cause,
    /// The module that led to it.
    pub by: Option<ModuleId>,
    /// Its current or last run; 0 before the first.
    pub generation: u64,
    /// Its process.
    pub pid: Option<u32>,
    /// Whether it is ready.
    pub ready: bool,
    /// How it is.
    pub health: Health,
    /// Attempts that count at the moment.
    pub attempts: u32,
    /// Runs after the first.
    pub restarts: u32,
    /// The dependencies that hold it in `waiting`.
    pub waiting_on: Vec<ModuleId>,
    /// The end of backoff, or the next probation.
    pub retry_at: Option<MonoTime>,
    /// How its last run ended.
    pub last_ending: Option<RunEnd>,
    /// How many wishes there were.
    pub desired_revision: u64,
}

/// Everything together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemInfo {
    /// How it is.
    pub status: Status,
    /// Required modules that are failed.
    pub failing: Vec<ModuleId>,
    /// Those that make it degraded.
    pub degraded: Vec<ModuleId>,
    /// Required modules that were stopped on request: without them it is degraded too.
    pub stopped: Vec<ModuleId>,
    /// Whether the first start is not over.
    pub starting: bool,
    /// Whether the ordered stop is on its way, or over.
    pub stopping: bool,
}

/// How much trouble a module is for the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Severity {
    #[default]
    None,
    Degraded,
    /// On request.
    Stopped,
    Failing,
}

/// How many modules are troubled, kept up to date so that the status costs nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct StatusCounts {
    degraded: u32,
    stopped: u32,
    failing: u32,
}

impl StatusCounts {
    /// Counts a module as `severity` that was counted as `before`.
    fn replace(&mut self, before: Severity, severity: Severity) {
        for (severity, more, less) in [(severity, 1, 0), (before, 0, 1)] {
            let count = match severity {
                Severity::None => continue,
                Severity::Degraded => &mut self.degraded,
                Severity::Stopped => &mut self.stopped,
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
            pid: slot.pid,
            ready: slot.state == State::Running,
            health: slot.health,
            attempts: slot.recovery.attempts(),
            restarts: slot.restarts,
            waiting_on: self.waiting_on(slot),
            retry_at: slot.retry_at,
            last_ending: slot.last,
            desired_revision: slot.desired_revision,
        }
    }

    fn waiting_on(&self, slot: &ManagedModule) -> Vec<ModuleId> {
        if slot.state != State::Waiting {
            return Vec::new();
        }
        let edges = slot.spec.edges.iter();
        // A soft edge whose time is over lets go at the next look, which has been by now.
        edges
            .filter(|edge| self.edge_blocks(edge, slot.since, slot.since))
            .map(|edge| edge.to)
            .collect()
    }

    /// How the system is; constant cost.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.phase {
            SystemPhase::Stopping | SystemPhase::Stopped => Status::Stopping,
            SystemPhase::New | SystemPhase::Starting => Status::Starting,
            SystemPhase::Up if self.tally.failing > 0 => Status::Critical,
            SystemPhase::Up if self.tally.degraded + self.tally.stopped > 0 => Status::Degraded,
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
            stopped: of(Severity::Stopped, self.tally.stopped),
            starting: status == Status::Starting,
            stopping: status == Status::Stopping,
        }
    }

    /// Counts `module` anew after a change of its state, wish or health.
    pub(super) fn update_counts(&mut self, module: ModuleId) {
        let stopping = matches!(self.phase, SystemPhase::Stopping | SystemPhase::Stopped);
        let slot = self.module_mut(module);
        let severity = match (slot.state, slot.health) {
            _ if !slot.in_plan => Severity::None,
            (State::Failed, _) if slot.spec.required => Severity::Failing,
            (State::Failed, _) => Severity::Degraded,
            _ if slot.desired == Desired::Down && !stopping && slot.counts_as_missing() => {
                Severity::Stopped
            }
            _ if slot.desired == Desired::Down => Severity::None,
            (State::Backoff, _) | (State::Running, Health::Degraded | Health::Unhealthy) => {
                Severity::Degraded
            }
            _ => Severity::None,
        };
        let before = core::mem::replace(&mut slot.severity, severity);
        self.tally.replace(before, severity);
    }
}

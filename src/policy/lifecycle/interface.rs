//! The types of the lifecycle: its events and its effects.
//! Owns the types that actors and simulator share. Never holds a rule.

use alloc::vec::Vec;
use core::time::Duration;

use super::{AdoptedProcess, ModuleRecord};
use crate::mono_time::MonoTime;
use crate::recovery::{Decision, Failure};
use crate::run::RunReport;
use crate::spec::ModuleId;
use crate::states::{Cause, Health, State};

/// What is requested of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Be up.
    Start,
    /// Be down.
    Stop,
    /// End, then be up.
    Restart,
    /// Be up if it is asleep: a call or a connection asks. Anything else is left as it is.
    Wake,
    /// Recover as proposed (`auto = false`). Without a proposal nothing happens.
    Recover,
}

/// A request or an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LifecycleEvent {
    /// Every eager module becomes desired up, with what it needs; the initial startup begins.
    Boot,
    /// An operation was requested.
    Requested {
        /// The module.
        module: ModuleId,
        /// What is requested.
        operation: Operation,
    },
    /// Ordered stop of everything.
    StopAll {
        /// Replaces the configured one.
        budget: Option<Duration>,
    },
    /// From the module's own state machine.
    Reported {
        /// The module.
        module: ModuleId,
        /// What the run reports.
        report: RunReport,
    },
    /// From the health actor.
    Health {
        /// The module.
        module: ModuleId,
        /// The run that was looked at.
        generation: u64,
        /// How it is.
        health: Health,
        /// Whether its readiness probes pass.
        passes: bool,
        /// A liveness probe failed often enough, and its rechecks too.
        restart: bool,
    },
    /// No run of a module is to start until then; None: it is released.
    Held {
        /// The module.
        module: ModuleId,
        /// Until when at the latest.
        until: Option<MonoTime>,
    },
    /// What [`LifecycleEffect::Prepare`] requested has ended.
    ProcedureEnded {
        /// The module.
        module: ModuleId,
        /// The number of the procedure.
        ticket: u32,
        /// Whether it could be done.
        ok: bool,
    },
    /// From the resources actor: a run exceeds a limit and is on the last rungs of its ladder.
    LimitExceeded {
        /// The module.
        module: ModuleId,
        /// The run that was sampled.
        generation: u64,
        /// Stop it permanently instead of restarting it.
        stop: bool,
    },
    /// From the resources actor: a run was not used for as long as its module may be idle.
    Idle {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
    },
    /// The runtime returned; once per known module, before `Boot` or `Resume`.
    Adopted {
        /// The module.
        module: ModuleId,
        /// What the runtime before knew.
        record: ModuleRecord,
        /// Its process, if it lives.
        alive: Option<AdoptedProcess>,
    },
    /// After the `Adopted` events, instead of `Boot`: continue from there.
    Resume,
    /// Time passed.
    TimerFired,
}

/// What a new plan does with a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeClass {
    /// It is new.
    Added,
    /// It is gone: its run is stopped.
    Removed,
    /// A run continues under the new spec.
    Live,
    /// A run ends, and the next one follows the new spec.
    Restart,
}

/// Why a plan cannot follow the one that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplanError {
    /// Nothing runs yet, or everything is being stopped.
    NotRunning,
    /// A plan with this number or a higher one runs already.
    Superseded {
        /// The number of the newest plan.
        newest: u64,
    },
    /// A module became a builtin, or ceased to be one.
    BuiltinChanged {
        /// The module.
        module: ModuleId,
    },
}

/// What a dependent that keeps running is notified of, about a module it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyNotice {
    /// It ended and will be back.
    Restarting,
    /// It is ready again.
    Recovered,
    /// It failed, and no restart is scheduled.
    Failed,
}

/// Why the initial startup failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupFailure {
    /// A required module failed, and no restart is scheduled.
    RequiredModuleFailed {
        /// The module.
        module: ModuleId,
    },
    /// A required module needs one that failed: it will not start.
    DependencyFailed {
        /// The failed one.
        module: ModuleId,
        /// The required one that needs it, directly or not.
        needed_by: ModuleId,
    },
    /// The system's start took longer than it may.
    TimedOut {
        /// The modules that are not ready, in start order.
        missing: Vec<ModuleId>,
    },
}

/// What is to be done before the next run of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcedureOrder {
    /// The module.
    pub module: ModuleId,
    /// The run that failed.
    pub generation: u64,
    /// The number of the procedure.
    pub ticket: u32,
    /// Clear what `reset` declares (true), or take that back.
    pub reset: bool,
    /// What an earlier reset set aside stays as the state to come back to.
    pub keeps_earlier: bool,
}

/// What the actors have to do, or to report.
#[derive(Debug, Clone, PartialEq)]
pub enum LifecycleEffect {
    /// Run a module; its reports carry this generation.
    Run {
        /// The module.
        module: ModuleId,
        /// The run, newer than every one before.
        generation: u64,
    },
    /// Stop the run of a module. Repeated with a shorter grace when its time got shorter.
    Stop {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
        /// From now to the kill.
        grace: Duration,
        /// From now to the latest kill, whatever more time it asks for.
        limit: Duration,
    },
    /// Notify a dependent that keeps running about a module it depends on.
    NotifyDependent {
        /// The dependent.
        module: ModuleId,
        /// About whom.
        about: ModuleId,
        /// What is to be known of that module.
        news: DependencyNotice,
    },
    /// A state change to publish and journal.
    StateChanged {
        /// The module.
        module: ModuleId,
        /// What it left.
        from: State,
        /// What it is in.
        to: State,
        /// Why the state changed.
        cause: Cause,
        /// The module that led to it.
        by: Option<ModuleId>,
    },
    /// A failure was judged.
    RecoveryDecided {
        /// The module.
        module: ModuleId,
        /// What happened.
        failure: Failure,
        /// Attempts that count at the moment, the one that follows included.
        attempt: u32,
        /// What follows, and for whom.
        decision: Decision,
    },
    /// Something is to be done before the next run of a module; the result comes back as
    /// [`LifecycleEvent::ProcedureEnded`].
    Prepare(ProcedureOrder),
    /// A module that is ready runs with features switched off, or with all of them again.
    DegradedChanged {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
        /// Which of both.
        degraded: bool,
    },
    /// Too many modules failed within a window: the branches that they are in stop, and are failed
    /// until their start is requested.
    CascadeStopped {
        /// The modules that failed.
        failed: Vec<ModuleId>,
        /// They, and all that depend on them, in start order.
        branch: Vec<ModuleId>,
    },
    /// The initial startup has ended: every eager module is ready, done, or (optional) failed.
    StartupCompleted,
    /// The initial startup failed; what runs is being stopped.
    StartupFailed {
        /// Why it failed.
        reason: StartupFailure,
    },
    /// A module that the newest plan does not have has no run any more. Its record must be kept as
    /// long as the former plan, with which a returning runtime may have to continue.
    Removed {
        /// The module.
        module: ModuleId,
    },
    /// Every run that the newest plan replaced has ended.
    PlanInForce {
        /// Its number.
        plan: u64,
    },
    /// Everything is down after `StopAll` or a failed start.
    AllStopped {
        /// How many had to be killed.
        forced: u32,
    },
}

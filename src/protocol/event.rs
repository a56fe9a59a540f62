//! Events: what happened, why, and because of which earlier event.
//! Owns the closed list of kinds (`noun.past_participle`) and the shape of one event.
//! Never assigns a sequence number: the journal does.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Timestamp;
use crate::enums::wire_enum;

wire_enum! {
    /// What an event tells.
    EventKind {
        /// A plan has a module that the plan before did not have; payload `{plan}`.
        ModuleAdded = "module.added",
        /// A plan no longer has a module; payload `{plan}`. Its run is stopped after this event.
        ModuleRemoved = "module.removed",
        /// A module has another name; payload `{from, plan}`. Its events before have the one in
        /// `from`.
        ModuleRenamed = "module.renamed",
        /// A module changed its state; payload `{from, to, text?, by?, waiting_on?, forced?}`:
        /// `by` is the module or group that led to it, `waiting_on` names what a waiting module
        /// needs, `forced` says how a run ended that had to be killed in its stop.
        ModuleStateChanged = "module.state_changed",
        /// A module is ready; payload `{after_ms}`.
        ModuleReady = "module.ready",
        /// A module's process ended; payload `{pid, code, signal, core_dumped, ran_ms?, text?}`;
        /// `text` says how when there is neither code nor signal.
        ModuleExited = "module.exited",
        /// A module's health changed; payload `{from, to, issues}`.
        ModuleHealthChanged = "module.health_changed",
        /// A module climbed the throttle ladder; payload `{from, to, text?}`.
        ModuleThrottled = "module.throttled",
        /// A module came down the throttle ladder; payload `{from, to, text?}`.
        ModuleReleased = "module.released",
        /// Features of a module were switched off, or what it depends on restarted; payload
        /// `{text, features?, load_factor?}`.
        ModuleDegraded = "module.degraded",
        /// What was degraded is whole again; payload `{text?}`.
        ModuleRestored = "module.restored",
        /// Output of a module does not reach its file; payload `{total_bytes, reason}`: lost since
        /// mainstay started.
        ModuleOutputLost = "module.output_lost",
        /// It reaches its file again; payload `{total_bytes}`.
        ModuleOutputRestored = "module.output_restored",
        /// The main process exited in a stop, and the rest of its tree got the stop signal; payload
        /// `{signal, processes: [{pid, command}], total}`: some of the processes, and how many
        /// there were.
        ModuleTreeSignalled = "module.tree_signalled",
        /// The main process was stopped by a signal of another process and still is; payload
        /// `{signal, pid}`, the signal by its name.
        ModuleSuspended = "module.suspended",
        /// It was continued, and is not stopped by a signal any more.
        ModuleContinued = "module.continued",
        /// Files that a module is made of changed (`watch`); payload `{path?, count, restart}`: the
        /// first of them, how many changes there were, and whether it is restarted for it.
        ModuleFilesChanged = "module.files_changed",
        /// A command around a run failed; payload `{hook, command, text, output}`: `text` says how
        /// it ended, `output` is the end of what it wrote.
        ModuleHookFailed = "module.hook_failed",
        /// What a run did before it was killed was written down; payload `{path, reason, bytes}`:
        /// `path` is a directory, `reason` a noun (`a stop by force`).
        ForensicsWritten = "forensics.written",
        /// A fault was injected on request; payload `{action, pid, for_ms?}`. An administrative
        /// row.
        ChaosInjected = "chaos.injected",
        /// A person or a program set or unset a value; payload `{key, before, after, hidden?,
        /// persisted?, plan}`: the values are null where they are not shown. An administrative row.
        ConfigSet = "config.set",
        /// A plan was applied; payload `{plan, text?}`.
        ConfigApplied = "config.applied",
        /// A plan proved itself; payload `{plan}`.
        ConfigCommitted = "config.committed",
        /// A changed configuration was refused; payload `{text}`.
        ConfigRejected = "config.rejected",
        /// The last committed plan was restored; payload `{plan, text}`.
        ConfigRolledBack = "config.rolled_back",
        /// A configuration problem went away.
        ConfigProblemCleared = "config.problem_cleared",
        /// A recovery began; payload `{failure, attempt, delay_ms, max_attempts?, strategy?,
        /// along?, system?}`: `failure` is a noun (`a crash`), `max_attempts` is 0 or missing when
        /// there is no limit, `strategy` the rung of the ladder, `along` the members of its group
        /// that restart with it, `system` whether everything restarts.
        RecoveryStarted = "recovery.started",
        /// `recovery.auto = false`: a person may accept this; payload `{text, strategy}`.
        RecoveryProposed = "recovery.proposed",
        /// One step of it is over; payload `{text, step?, ok?}`.
        RecoveryStepCompleted = "recovery.step_completed",
        /// It succeeded; payload `{text?}`.
        RecoveryCompleted = "recovery.completed",
        /// It failed, or the ladder ended; payload `{text, probation_ms?, along?}`: `along` names
        /// the members of its group that stop with it.
        RecoveryFailed = "recovery.failed",
        /// A group used up its budget; payload `{group, text?}`.
        GroupExceeded = "group.exceeded",
        /// Too many modules were given up within a window; payload `{failed, stopped}`: those, and
        /// all that depend on them.
        CascadeStopped = "cascade.stopped",
        /// Something a person should know, for a UI to show; payload `{text}`.
        UserNotified = "user.notified",
        /// The system's status changed; payload `{from, to, reason}`.
        SystemStatusChanged = "system.status_changed",
        /// The machine or the runtime cannot keep up; payload `{text}`.
        SystemOverloaded = "system.overloaded",
        /// The machine slept; payload `{slept_ms}`.
        SystemResumed = "system.resumed",
        /// An actor of the runtime died and was started again: a bug of ours; payload
        /// `{actor, error}`.
        ActorRestarted = "actor.restarted",
        /// The runtime started; payload `{version, pid, plan}`.
        RuntimeStarted = "runtime.started",
        /// The runtime died and is back; payload `{adopted, exits, away_ms, reason}`.
        RuntimeReturned = "runtime.returned",
        /// The runtime was replaced by another program on request; payload
        /// `{number, program, from, to}`: its path, and the versions. An administrative row.
        RuntimeUpgraded = "runtime.upgraded",
        /// The other program was not ready in time, and the one before runs again; payload
        /// `{number, program, from, to, reason}`. An administrative row.
        RuntimeUpgradeFailed = "runtime.upgrade_failed",
        /// After that the holder executes the program of the runtime, with the same process and all
        /// that it keeps; payload `{from, to}`: the versions.
        HolderUpgraded = "holder.upgraded",
        /// The holder keeps the program before; payload `{from, to, reason}`.
        HolderUpgradeFailed = "holder.upgrade_failed",
        /// The holder died and another one goes on in its place: no module was touched; payload
        /// `{pid, before}`: their processes.
        HolderReplaced = "holder.replaced",
        /// A person or a program asked for an operation; payload `{operation}`: `start`, `stop`,
        /// `restart`; without a module it concerns the whole system. An administrative row.
        OperationRequested = "operation.requested",
        /// What came of it; payload `{operation, result, text?, after_ms?}`: `result` is `done`,
        /// `unchanged`, `failed`, `overtaken` or `refused`; `cause_seq` names the request. An
        /// administrative row.
        OperationFinished = "operation.finished",
        /// A client was refused; payload `{code, method, client?, count?}`: `count` where many
        /// were, within a minute.
        ClientRefused = "client.refused",
        /// Events were lost; payload `{lost, from, to, text, actions?}`: `lost` is null when it
        /// cannot be known (a crash, a damaged file); `actions` is there when administrative rows
        /// are among them: how many, or null when it cannot be known. An administrative row.
        JournalGap = "journal.gap",
    }
}

/// One event, as subscribers and `events` see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Event {
    /// Position in the journal; grows, may skip.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The module it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The run of that module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why, for events that have a cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<crate::StateCause>,
    /// The event that led to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause_seq: Option<u64>,
    /// Who asked, for wishes and administrative actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What the kind says it carries.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub payload: Value,
}

//! Modules and the system as clients see them.
//! Owns the field names, which scripts rely on; golden files hold them.
//! Never carries a secret, an environment or a command line argument.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::enums::{
    DesiredState, HealthStatus, ModuleImportance, ModuleKind, ModuleState, Rung, SystemStatus,
    wire_enum,
};
use crate::health::Trend;
use crate::{StateCause, Timestamp};

/// One module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ModuleView {
    /// Its name.
    pub module: String,
    /// What it is for, as configured.
    pub description: String,
    /// Its version, as configured; empty when not.
    pub version: String,
    /// service, task or builtin.
    pub kind: ModuleKind,
    /// The observed state.
    pub state: ModuleState,
    /// The desired state.
    pub desired: DesiredState,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Why it is in this state.
    pub cause: Option<StateCause>,
    /// Why it failed or stopped last, in the words of `why`; null once it is started on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How it is.
    pub health: HealthStatus,
    /// 0 to 100; 100 is well.
    pub score: u8,
    /// What is wrong with its health, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<String>,
    /// The metrics that it reports, for instance `queue_depth`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// Metrics that grow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trends: Vec<Trend>,
    /// The longest interval of its probes that is stretched because the machine is busy, in
    /// milliseconds; null: all are as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes_stretched_ms: Option<u64>,
    /// Its main process.
    pub pid: Option<u32>,
    /// Counts its starts over the life of the state directory.
    pub generation: u64,
    /// Starts without a request since this mainstay started: after failures, with what it needs,
    /// with its group.
    pub restarts: u64,
    /// Restarts on request, or for a changed configuration, since this mainstay started.
    #[serde(default)]
    pub requested_restarts: u64,
    /// Why its current or last run was started, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_because: Option<String>,
    /// Recent failures that still count against `recovery.max_attempts`.
    pub attempts: u32,
    /// Whether the system is critical without it.
    pub required: bool,
    /// The order in which modules are throttled.
    pub importance: ModuleImportance,
    /// Hard dependencies.
    pub requires: Vec<String>,
    /// Soft dependencies.
    #[serde(default)]
    pub wants: Vec<String>,
    /// The dependencies it waits for right now.
    pub waiting_on: Vec<String>,
    /// The failed module that it requires, directly or not: it cannot start until that one is
    /// restarted.
    #[serde(default)]
    pub failed_need: Option<String>,
    /// What it waits for, as text: dependencies and their conditions, or a restart token; while it
    /// is starting, what makes it ready.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// The time of the next start.
    pub next_attempt_at: Option<Timestamp>,
    /// Until when it is held: no run of it starts before that, unless it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Timestamp>,
    /// The requester of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// The status text it reported (`STATUS=`).
    pub status_text: Option<String>,
    /// Features that are off.
    pub degraded: Vec<String>,
    /// The features that are configured, and whether each is on for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, bool>,
    /// `recovery.auto = false`: what `recovery.accept` would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<String>,
    /// How it is throttled.
    pub throttle: Throttle,
    /// What it uses; null until it was sampled.
    pub usage: Option<Usage>,
    /// How its last run ended.
    pub last_exit: Option<LastExit>,
    /// The signal that its main process is stopped by, as `SIGSTOP`: it runs and does nothing.
    #[serde(default)]
    pub suspended_by: Option<String>,
    /// Bytes of output that were dropped because the disk could not keep up, since the last start.
    #[serde(default)]
    pub output_dropped_bytes: u64,
}

impl ModuleView {
    /// Whether it is a task that has completed, and was not stopped on request since.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.kind == ModuleKind::Task
            && self.state == ModuleState::Stopped
            && self.desired == DesiredState::Up
    }
}

/// How a module is throttled, and by what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Throttle {
    /// Its rung of the throttle ladder.
    pub rung: Rung,
    /// What enforces limits here, for instance `cgroup2`, `governor`, `none`.
    pub mechanism: String,
}

/// What a module's whole process tree uses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Usage {
    /// Percent of one core.
    pub cpu_percent: f64,
    /// Bytes; see `memory_kind`.
    pub memory_bytes: u64,
    /// How memory was measured.
    #[serde(default)]
    pub memory_kind: MemoryKind,
    /// Open file descriptors or handles; null where the platform does not tell cheaply.
    pub file_handles: Option<u64>,
    /// Threads; null where the platform does not tell cheaply.
    pub threads: Option<u64>,
    /// Processes.
    pub processes: u64,
    /// Bytes a second read from and written to disks; null where that is not counted.
    #[serde(default)]
    pub io_bytes_per_s: Option<u64>,
}

wire_enum! {
    /// How memory was measured.
    MemoryKind {
        /// Resident set: shared pages count in every process.
        Rss = "rss",
        /// Proportional set: shared pages are shared out.
        Pss = "pss",
        /// What the control group accounts.
        Cgroup = "cgroup",
    }
}

impl Default for MemoryKind {
    /// What a version reported that had no other kind.
    fn default() -> MemoryKind {
        MemoryKind::Rss
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LastExit {
    /// Exit code; null when a signal ended it.
    pub code: Option<i32>,
    /// Signal number; null when it exited by itself.
    pub signal: Option<i32>,
    /// The time of the end.
    pub at: Timestamp,
    /// How long the run took, in milliseconds; null when it could not start.
    #[serde(default)]
    pub ran_ms: Option<u64>,
    /// As text, for instance `exit code 1` or `killed by SIGKILL`, or why it could not start.
    #[serde(default)]
    pub text: String,
}

/// The system as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SystemView {
    /// Its name.
    pub name: String,
    /// How it is.
    pub status: SystemStatus,
    /// Why it is not healthy, what was stopped on request, and what waits and is not required; null
    /// when there is none of these.
    pub reason: Option<String>,
    /// Required modules that failed.
    pub failing_modules: Vec<String>,
    /// What a person should know.
    pub issues: Vec<String>,
    /// mainstay's version.
    pub version: String,
    /// The last upgrade since `up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeView>,
    /// The number of the plan in force.
    pub plan: u64,
    /// Why the files on disk are not in force; null when they are.
    pub config_problem: Option<String>,
    /// Keys that `config set` set and no file has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtime_values: Vec<String>,
    /// The runtime's process.
    pub pid: u32,
    /// The holder's process.
    pub holder_pid: u32,
    /// The version of the holder's program; null where that is not known.
    #[serde(default)]
    pub holder_version: Option<String>,
    /// Milliseconds since `up`.
    pub uptime_ms: u64,
    /// Modules by state, without those that are part of mainstay.
    pub modules: ModuleCounts,
    /// What the machine uses.
    pub usage: MachineUsage,
    /// What mainstay itself uses.
    pub self_usage: SelfUsage,
}

wire_enum! {
    /// What became of an upgrade.
    UpgradeOutcome {
        /// The new program is not ready yet.
        Pending = "pending",
        /// The new program is in use.
        Done = "done",
        /// The new program was not ready in time: the one before is in use again.
        RolledBack = "rolled_back",
    }
}

/// An upgrade of the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UpgradeView {
    /// Upgrades are counted from 1, from `up` on.
    pub number: u32,
    /// What became of it.
    pub outcome: UpgradeOutcome,
    /// Why it was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The path of the new program.
    pub program: String,
    /// The version before.
    pub from: String,
    /// The version of the new program.
    pub to: String,
    /// When it was requested.
    pub requested_at: Timestamp,
}

/// How many modules are in each state; a completed task is done, not stopped.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[expect(missing_docs, reason = "the names are the states")]
pub struct ModuleCounts {
    pub total: usize,
    pub not_started: usize,
    pub waiting: usize,
    pub starting: usize,
    pub running: usize,
    pub stopping: usize,
    pub stopped: usize,
    /// Those of `stopped` that a request stopped.
    #[serde(default)]
    pub stopped_on_request: usize,
    #[serde(default)]
    pub done: usize,
    pub backoff: usize,
    pub failed: usize,
}

/// What the machine uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MachineUsage {
    /// Percent of one core; all cores busy is 100 × cores.
    pub cpu_percent: f64,
    /// Processors that mainstay may use.
    #[serde(default)]
    pub cores: u64,
    /// Tasks that run or wait for a processor, over the last minute; null where not counted.
    #[serde(default)]
    pub load: Option<f64>,
    /// Bytes in use.
    pub memory_bytes: u64,
    /// Bytes of memory there are.
    #[serde(default)]
    pub memory_total_bytes: u64,
    /// Bytes in use on the volume of the state directory.
    pub disk_bytes: u64,
    /// Bytes a second, received and sent.
    pub network_bytes_per_s: u64,
}

/// What mainstay itself uses, runtime and holder together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SelfUsage {
    /// Percent of one core.
    pub cpu_percent: f64,
    /// Resident bytes.
    pub memory_bytes: u64,
}

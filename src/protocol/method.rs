//! Parameters and results of methods and notifications.
//! Owns their shape; [`crate::methods`] is the table of the methods.
//! Never decides whether a request is granted.

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::explain::{
    NotStartedGroup, NotStartedModule, NotStartedResult, WhatIfAction, WhatIfParams, WhatIfResult,
    WhyEvidence, WhyLink, WhyNext, WhyParams, WhyResult,
};

use crate::enums::{AccessLevel, HealthStatus, LogStream, ModuleState, wire_enum};
use crate::{Event, EventKind, ModuleView, Timestamp};

/// Names of methods and notifications in JSON.
pub mod name {
    pub use crate::methods::name::*;

    /// Notification: an event, of the journal to clients, of the bus to modules.
    pub const EVENT: &str = "event";
    /// Notification to clients: output of a module.
    pub const LOG: &str = "log";
    /// Notification to clients: an event of the bus.
    pub const BUS_EVENT: &str = "bus.event";
    /// Call to a module: its health.
    pub const HEALTH_CHECK: &str = "health.check";
    /// Call to a module: what another module calls.
    pub const CALL: &str = "call";
    /// Call to a module: switch a feature off or on.
    pub const FEATURE_SET: &str = "feature.set";
    /// Call to a module: may these settings take the place of those before?
    pub const CONFIG_PREPARE: &str = "config.prepare";
    /// Call to a module: use the settings that were prepared.
    pub const CONFIG_COMMIT: &str = "config.commit";
    /// Call to a module: forget the settings that were prepared.
    pub const CONFIG_ABORT: &str = "config.abort";
    /// Call to a module: work with this share of the load.
    pub const LOAD_REDUCE: &str = "load.reduce";
}

/// Methods of the design whose feature is not built yet: refused with `not_available_yet`.
pub const PLANNED_METHODS: &[&str] = &["secret.list", "report.create"];

/// Parameters of `hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Hello {
    /// Name and version of the client, for the journal.
    pub client: String,
    /// The protocol version the client speaks.
    pub protocol: u32,
    /// What a module got in `MAINSTAY_TOKEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Result of `hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Welcome {
    /// For instance `mainstay 0.1.0`.
    pub server: String,
    /// The protocol version spoken from here on.
    pub protocol: u32,
    /// What this connection may do.
    pub level: AccessLevel,
    /// The module this connection belongs to, if a token was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

/// Parameters of `module.get`, `why` and others that name one module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ModuleParams {
    /// The module.
    pub module: String,
}

/// Parameters of `module.list` and `graph`. Without any, everything comes at once, or is refused
/// as `too_long`; with any, as many of the modules behind `after` as fit into a line, and none
/// when there are no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PageParams {
    /// The last module of the page before; nothing for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Parameters of `feature.set`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FeatureParams {
    /// The feature.
    pub name: String,
    /// Whether it is on, or what the module understands.
    #[serde(default)]
    pub value: Value,
}

/// Parameters of `load.reduce`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LoadParams {
    /// The share of the load that is left: 0 to 1.
    pub factor: f64,
}

/// Result of `feature.set` and `load.reduce`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Handled {
    /// Whether the module has a handler for it.
    pub handled: bool,
}

/// Parameters of `module.start`, `module.stop`, `module.restart`, `recovery.accept`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChangeParams {
    /// The module.
    pub module: String,
    /// Report what would happen, and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Reply when the change is reached (running, stopped or failed), not when it is accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
}

/// Result of a change: the steps for this and other modules, in order, and the module's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChangeResult {
    /// The steps, in order.
    pub steps: Vec<ChangeStep>,
    /// The module after the change was noted, or reached with `wait`.
    pub module: ModuleView,
    /// With `wait`: the opposite request that ended the wait, and its requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overtaken_by: Option<String>,
}

/// One step of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChangeStep {
    /// The module.
    pub module: String,
    /// start, stop, restart or notify.
    pub action: ChangeAction,
    /// Why this step is taken, as text.
    pub reason: String,
}

/// Parameters of `module.signal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SignalParams {
    /// The module.
    pub module: String,
    /// The signal by its name or number: `SIGHUP`, `HUP` or `1`.
    pub signal: String,
}

/// Result of `module.signal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SignalResult {
    /// The name of the signal.
    pub signal: String,
    /// The process that it was sent to.
    pub pid: u32,
}

/// Parameters of `module.hold`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HoldParams {
    /// The module.
    pub module: String,
    /// For how long at most, in milliseconds; a week at most.
    pub for_ms: u64,
}

/// Parameters of `system.upgrade`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UpgradeParams {
    /// The absolute path of the program.
    pub program: String,
}

/// Result of `system.upgrade`: the program is accepted and replaces the runtime now, which closes
/// the connection. `system.status` says later what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UpgradeResult {
    /// The version that runs.
    pub from: String,
    /// The version of the program.
    pub to: String,
}

/// Result of `module.hold` and `module.release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HoldResult {
    /// Until when it is held at the latest; null: it is not.
    pub held_until: Option<Timestamp>,
}

wire_enum! {
    /// What a change does to one module.
    ChangeAction {
        /// It is started.
        Start = "start",
        /// It is stopped.
        Stop = "stop",
        /// It is stopped and started.
        Restart = "restart",
        /// It keeps running and is notified.
        Notify = "notify",
        /// Its run fails.
        Fail = "fail",
        /// It waits already, and goes on to wait.
        Wait = "wait",
    }
}

/// Parameters of methods that need none, and the result of those that only acknowledge: `{}`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Empty {}

/// Parameters of `system.stop`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StopParams {
    /// The total budget in milliseconds; default `mainstay.shutdown_timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EventsParams {
    /// Only those after this sequence number. `events.subscribe` first replays them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Only those that happened at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_time: Option<Timestamp>,
    /// Only these kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<EventKind>,
    /// Only of this module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Only administrative rows: requests with requester and result, and gaps in the history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub administrative: bool,
    /// `events.list`: at most this many, the newest (default 100, at most 10 000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Result of `events.list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EventsResult {
    /// Oldest first.
    pub events: Vec<Event>,
}

/// Result of `events.subscribe`; notifications named `event` follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SubscribeResult {
    /// The newest committed event at the time of subscribing.
    pub seq: u64,
}

/// Parameters of `logs.read`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogsParams {
    /// The module.
    pub module: String,
    /// The newest lines (default 100, at most 10 000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<usize>,
    /// Go on with notifications named `log`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// Of the past, only lines of this time or later, and those whose time is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Of the past, only lines of this time or earlier, and those whose time is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Of the past, only lines of this run (generation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// Only lines of this stream; known where `logs.streams` is "split".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    /// Of the past, only lines that match this regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
}

/// Result of `logs.read`, and parameters of the notification `log`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogLines {
    /// The module.
    pub module: String,
    /// Lines without their newline; bytes that are not UTF-8 are replaced.
    pub lines: Vec<String>,
    /// With `logs.format = "json"`: for each line, the object it is, or null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Option<Value>>,
    /// For each line, when, by which run and to which stream it was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stamps: Vec<LineStamp>,
    /// Bytes that were lost before these lines.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_bytes: u64,
    /// The file that holds the newest output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// When, by which run and to which stream a line was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LineStamp {
    /// When mainstay read the beginning of the line, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The run (generation), if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// The stream, if that is known: where `logs.streams` is "split".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Result of `graph`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GraphView {
    /// Modules in start order.
    pub modules: Vec<GraphNode>,
    /// From dependent to dependency.
    pub edges: Vec<GraphEdge>,
}

/// A module in the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GraphNode {
    /// The module.
    pub module: String,
    /// Its wave: 0 needs nothing.
    pub wave: usize,
    /// The observed state; null while mainstay is not running.
    pub state: Option<ModuleState>,
    /// Whether it is a task that has completed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

/// An edge in the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GraphEdge {
    /// The dependent module.
    pub from: String,
    /// The module it depends on.
    pub to: String,
    /// `requires` or `wants`.
    pub hard: bool,
    /// started, ready, healthy or completed.
    pub until: String,
}

/// Parameters of `module.status` (from a module).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StatusParams {
    /// One line a person reads.
    pub text: String,
}

/// The health that a module reports: parameters of `module.health`, result of `health.check`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HealthReportParams {
    /// How it is.
    pub status: HealthStatus,
    /// Numbers, for instance `queue_depth`, `error_rate`, `response_time_ms`.
    #[serde(default)]
    pub metrics: std::collections::BTreeMap<String, f64>,
    /// The issues, as text.
    #[serde(default)]
    pub issues: Vec<String>,
}

/// Parameters of `bus.publish` and `bus.send`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PublishParams {
    /// Names joined by dots, for instance `samples.cpu`. `mainstay.*` is reserved.
    pub subject: String,
    /// Anything.
    pub payload: Value,
}

/// Result of `bus.publish` and `bus.send`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PublishResult {
    /// How many subscribers it was queued for.
    pub delivered: usize,
    /// How many were too slow for it.
    pub dropped: usize,
}

/// Parameters of `bus.subscribe`, after which notifications named `event` with a `BusEvent`
/// follow, and of `bus.tap`, after which they are named `bus.event`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BusSubscribeParams {
    /// Subjects: `*` matches one name; at the end, one or more.
    pub subjects: Vec<String>,
}

/// Parameters of the notification `event` on a module's connection, and of `bus.event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BusEvent {
    /// The subject it was published under.
    pub subject: String,
    /// The publisher: a module, `mainstay` for the runtime, or a user's client.
    pub from: String,
    /// The time at which it was published.
    pub at: Timestamp,
    /// Anything.
    pub payload: Value,
    /// Events this subscriber was too slow for, since the last one it got.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lag: u64,
}

/// Parameters of `bus.call` and `bus.request`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BusCallParams {
    /// The called module.
    pub module: String,
    /// What of it.
    pub method: String,
    /// Anything.
    #[serde(default)]
    pub params: Value,
    /// Deadline in milliseconds (default 5000, at most 60 000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Parameters of `call`, towards the called module; its result is the result of `bus.call`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CallParams {
    /// The calling module.
    pub from: String,
    /// What is called.
    pub method: String,
    /// Anything.
    #[serde(default)]
    pub params: Value,
}

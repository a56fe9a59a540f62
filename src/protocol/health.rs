//! The health of modules and of the system, as clients see it.
//! Owns the types of the method `health.report`.
//! Never carries an environment, a command line argument or a configuration value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::enums::{HealthStatus, ModuleState, SystemStatus};
use crate::view::{MachineUsage, SelfUsage};

/// Parameters of `health.report`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HealthParams {
    /// Report this module alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The last module of the page before; nothing for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// The health of the system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SystemHealth {
    /// How it is.
    pub status: SystemStatus,
    /// Why it is not healthy, and what was stopped on request; null when there is neither.
    pub reason: Option<String>,
    /// Required modules that failed.
    pub failing_modules: Vec<String>,
    /// Milliseconds since `up`.
    pub uptime_ms: u64,
    /// What a person should know.
    pub issues: Vec<String>,
    /// What the machine uses.
    pub usage: MachineUsage,
    /// What mainstay itself uses.
    pub self_usage: SelfUsage,
    /// Its modules.
    pub modules: Vec<HealthReport>,
}

/// The health of one module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HealthReport {
    /// Its name.
    pub module: String,
    /// The observed state.
    pub state: ModuleState,
    /// How it is.
    pub status: HealthStatus,
    /// 0 to 100; 100 is well.
    pub score: u8,
    /// What the points missing to 100 are lost for.
    pub deductions: Vec<Deduction>,
    /// When it was last probed or reported by itself.
    pub last_check: Option<Timestamp>,
    /// What it uses and what it reports: `cpu_percent`, `memory_bytes`, `queue_depth` and so on.
    pub metrics: BTreeMap<String, f64>,
    /// What is wrong, as text.
    pub issues: Vec<String>,
    /// Metrics that grow.
    pub trends: Vec<Trend>,
    /// Its probes.
    pub probes: Vec<ProbeView>,
}

/// Points of a score that are lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Deduction {
    /// How many.
    pub points: u8,
    /// For what.
    pub text: String,
}

/// A metric that grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Trend {
    /// Its name, for instance `memory_bytes`.
    pub metric: String,
    /// By how much it grows in an hour.
    pub per_hour: f64,
    /// The limit that it grows towards; null: it has none.
    pub limit: Option<f64>,
    /// Seconds until it reaches its limit if it goes on like this.
    pub limit_in_s: Option<u64>,
}

/// A probe and its last result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbeView {
    /// What is probed, for instance `tcp 127.0.0.1:80`.
    pub probe: String,
    /// startup, liveness or readiness.
    pub role: String,
    /// How the module is by this probe.
    pub health: HealthStatus,
    /// Failures in a row.
    pub failures: u32,
    /// How long the last check took, in milliseconds.
    pub response_ms: Option<u64>,
    /// The interval as it is now, in milliseconds; null: as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stretched_ms: Option<u64>,
    /// Why probes pause; null: they do not.
    pub paused: Option<String>,
    /// What the last failing check printed.
    pub output: Option<String>,
}

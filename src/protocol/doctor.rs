//! What a machine can enforce of limits, and what else a person should know of it.
//! Owns the types of the method `doctor`.
//! Never says how a module is: that is its view.

use serde::{Deserialize, Serialize};

/// What `doctor` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DoctorReport {
    /// Each limit that a module can have.
    pub limits: Vec<LimitSupport>,
    /// What was looked at beside limits.
    pub checks: Vec<MachineCheck>,
}

/// How one limit is enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LimitSupport {
    /// The key under `limits`.
    pub limit: String,
    /// What enforces it; null: it is measured and reported.
    pub mechanism: Option<String>,
    /// What happens to a module at its limit.
    pub effect: String,
    /// Why there is no stricter mechanism; null: there is none.
    pub missing: Option<String>,
    /// How to get it.
    pub remedy: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MachineCheck {
    /// What was checked.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub text: String,
    /// What to do; null: nothing.
    pub remedy: Option<String>,
}

/// The metrics of a system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MetricsText {
    /// In the text format of OpenMetrics.
    pub text: String,
}

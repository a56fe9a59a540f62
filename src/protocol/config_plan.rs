//! Plans on the wire: what the files would change, what is applied, and what came of it.
//! Owns their shape.
//! Never carries a hidden value: what modules are given in confidence is named, not shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config_values::ConfigOrigin;
use crate::enums::wire_enum;
use crate::method::ChangeStep;

/// Parameters of `config.plan`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigPlanParams {
    /// An absolute path: a file instead of `mainstay.toml`, or a folder instead of the
    /// configuration folder; without it, the files as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Result of `config.plan`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigPlan {
    /// The number of the plan in force.
    pub plan: u64,
    /// Nothing would change.
    pub unchanged: bool,
    /// Keys of the system that differ.
    pub system: Vec<KeyChange>,
    /// Modules that differ, in the order in which the changes are applied.
    pub modules: Vec<ModuleChange>,
    /// What happens to whom, in order.
    pub steps: Vec<ChangeStep>,
    /// Keys whose values wait for the next `mainstay up`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
}

/// A module that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ModuleChange {
    /// The module.
    pub module: String,
    /// How it differs.
    pub change: PlanChange,
    /// The name it has in the plan in force, if the change gives it another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<String>,
    /// What the change does to its run; null: it is added or removed.
    pub class: Option<KeyClass>,
    /// The module with which it is taken along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// It was stopped on request and stays so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays_stopped: bool,
    /// Its keys that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyChange>,
}

/// A key that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KeyChange {
    /// For instance `module.storage.command`.
    pub path: String,
    /// What the change does to what runs.
    pub class: KeyClass,
    /// The value in force.
    pub before: Value,
    /// The value that would be.
    pub after: Value,
    /// The values are not shown: they may be confidential.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// Where the new value is set.
    pub origin: ConfigOrigin,
}

wire_enum! {
    /// How a module differs from the plan in force.
    PlanChange {
        /// It is new.
        Added = "added",
        /// It is gone.
        Removed = "removed",
        /// Keys of it differ.
        Changed = "changed",
        /// A module that it requires is restarted with its dependents.
        TakenAlong = "taken_along",
    }
}

wire_enum! {
    /// What a change does to a module that runs.
    KeyClass {
        /// It is applied in place.
        Live = "live",
        /// The module is notified and may apply it itself.
        Notify = "notify",
        /// The module is restarted.
        Restart = "restart",
        /// The module and its dependents are restarted.
        RestartDependents = "restart_dependents",
    }
}

/// Parameters of `config.apply`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigApplyParams {
    /// Refuse if another plan than this one is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_plan: Option<u64>,
    /// Return when the plan is committed or rolled back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
}

/// Result of `config.apply` and of other methods that change the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigApplied {
    /// The plan that is in force.
    pub plan: u64,
    /// What came of the request.
    pub result: ApplyResult,
    /// Why it was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How long it is watched before it is committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_ms: Option<u64>,
}

wire_enum! {
    /// What came of a request to change the plan.
    ApplyResult {
        /// Nothing differs.
        Unchanged = "unchanged",
        /// It is in force and watched.
        Applied = "applied",
        /// With `wait`: it was watched and committed.
        Committed = "committed",
        /// With `wait`: a module failed, and the plan before is in force again.
        RolledBack = "rolled_back",
        /// With `wait`: a newer plan followed.
        Superseded = "superseded",
    }
}

//! Requests that change the configuration by themselves, and the plans that are kept.
//! Owns their shape.
//! Never carries a value that may be confidential back: only towards mainstay.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Timestamp;
use crate::config_plan::{ConfigApplied, ConfigPlan};
use crate::enums::wire_enum;

/// Parameters of `config.set`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigSetParams {
    /// The key, for instance `health.interval`.
    pub path: String,
    /// The value as it would stand in a file; what is no TOML is text.
    pub value: String,
    /// Write it into the file that sets the key, instead of keeping it above all files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub persist: bool,
    /// What else is said of the change.
    #[serde(flatten)]
    pub options: ConfigChangeOptions,
}

/// Parameters of `config.unset`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigUnsetParams {
    /// The key, or a table of keys.
    pub path: String,
    /// Remove it from its file too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub persist: bool,
    /// What else is said of the change.
    #[serde(flatten)]
    pub options: ConfigChangeOptions,
}

/// Parameters of `config.rollback`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigRollbackParams {
    /// The number of a plan of the history; without it, the newest committed one that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<u64>,
    /// What else is said of the change.
    #[serde(flatten)]
    pub options: ConfigChangeOptions,
}

/// What is said of every change of the configuration.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct ConfigChangeOptions {
    /// Return what would change, and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Refuse if another plan than this one is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_plan: Option<u64>,
    /// Return when the plan is committed or rolled back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
}

/// Result of a change of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigChanged {
    /// What came of it; null in a dry run.
    pub applied: Option<ConfigApplied>,
    /// Of `config.rollback`: the plan whose content is in force again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<PlanRecord>,
    /// In a dry run: what it would change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<ConfigPlan>,
}

/// Result of `config.history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigHistory {
    /// The plans that are kept, oldest first.
    pub plans: Vec<PlanRecord>,
}

/// A plan that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanRecord {
    /// Its number.
    pub plan: u64,
    /// When it was applied.
    pub at: Timestamp,
    /// Who asked for it, or what led to it.
    pub requester: String,
    /// What it changed, one text each.
    pub changes: Vec<String>,
    /// What became of it.
    pub outcome: PlanOutcome,
    /// More of that, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// It is in force.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_force: bool,
}

wire_enum! {
    /// What became of a plan.
    PlanOutcome {
        /// It was committed.
        Committed = "committed",
        /// It is in force and watched.
        Watched = "watched",
        /// It was rolled back, refused or replaced before it was committed.
        Dropped = "dropped",
    }
}

/// Parameters of `config.diff`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigDiffParams {
    /// The number of a kept plan; without it, the plan in force against the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Another one; without it, the plan in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Parameters of `config.prepare`, towards a module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SettingsParams {
    /// Its whole table `settings`, as it is to be.
    pub settings: Value,
}

/// Result of `config.prepare`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SettingsAnswer {
    /// What the module says.
    pub verdict: SettingsVerdict,
    /// Why it refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

wire_enum! {
    /// What a module says to new settings.
    SettingsVerdict {
        /// It uses them from `config.commit` on.
        Accepted = "accepted",
        /// It cannot use them: nothing is changed anywhere.
        Refused = "refused",
        /// It can only begin with them.
        Restart = "restart",
        /// It has no handler for them.
        Unhandled = "unhandled",
    }
}

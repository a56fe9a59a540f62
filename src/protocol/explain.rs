//! Parameters and results of `why`, `why.not_started` and `what_if`.
//! Owns their shape; fields are only added.
//! Never carries an environment, a command line or a secret.

use serde::{Deserialize, Serialize};

use crate::enums::{ModuleState, SystemStatus, wire_enum};
use crate::method::ChangeStep;
use crate::{EventKind, Timestamp};

/// Parameters of `why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WhyParams {
    /// The module.
    pub module: String,
    /// The whole history that is kept of the module, instead of what led to its state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

/// Result of `why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WhyResult {
    /// The module.
    pub module: String,
    /// The observed state.
    pub state: ModuleState,
    /// In one sentence: what it does, and why.
    #[serde(default)]
    pub summary: String,
    /// From what it waits for to the root cause, one sentence a module.
    #[serde(default)]
    pub because: Vec<String>,
    /// What was seen: the end of its log, what its probes found, a forensics bundle.
    #[serde(default)]
    pub evidence: Vec<WhyEvidence>,
    /// What recovery has tried since the module last ran well or was last requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<String>,
    /// What led there, oldest first.
    pub chain: Vec<WhyLink>,
    /// What happens next, and when.
    pub next: Option<WhyNext>,
    /// The modules that are up or on their way up and need it, directly or not: without it they
    /// stop, or go on to wait. Those of `what_if` `stop`.
    #[serde(default)]
    pub affects: Vec<String>,
    /// Commands that change it.
    #[serde(default)]
    pub commands: Vec<String>,
}

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WhyEvidence {
    /// Where it comes from, as text.
    pub source: String,
    /// When it was seen, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What was seen, line by line.
    pub lines: Vec<String>,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WhyLink {
    /// The event.
    pub seq: u64,
    /// The time of the event.
    pub at: Timestamp,
    /// Its kind.
    pub kind: EventKind,
    /// The module it happened to.
    pub module: Option<String>,
    /// As text.
    pub text: String,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WhyNext {
    /// As text.
    pub text: String,
    /// When, if it is known.
    pub at: Option<Timestamp>,
    /// `at` is computed from how long earlier checks took.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

/// Result of `why.not_started`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NotStartedResult {
    /// The modules that are not up, by root cause.
    pub groups: Vec<NotStartedGroup>,
}

/// Modules that are not up for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NotStartedGroup {
    /// The module that is the root cause; null: none is, each rests for itself.
    pub root: Option<String>,
    /// The root cause, as text.
    pub text: String,
    /// What to type.
    pub commands: Vec<String>,
    /// The modules, in start order.
    pub modules: Vec<NotStartedModule>,
}

/// One module that is not up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NotStartedModule {
    /// The module.
    pub module: String,
    /// Its state.
    pub state: ModuleState,
    /// What it waits for, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

wire_enum! {
    /// What is supposed to happen.
    WhatIfAction {
        /// It is stopped on request.
        Stop = "stop",
        /// Its run is killed once.
        Kill = "kill",
        /// Each of its runs fails from now on, until it is given up.
        Fail = "fail",
    }
}

/// Parameters of `what_if`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WhatIfParams {
    /// What is supposed to happen.
    pub action: WhatIfAction,
    /// To which module.
    pub module: String,
}

/// Result of `what_if`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WhatIfResult {
    /// What would happen to which module, in this order.
    pub steps: Vec<ChangeStep>,
    /// What recovery would decide; null: nothing fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<String>,
    /// The worst status of the system meanwhile.
    pub worst: SystemStatus,
    /// The status of the system afterwards.
    pub status: SystemStatus,
    /// Why it would not be healthy, and what would be stopped on request; null when there is
    /// neither.
    pub reason: Option<String>,
}

//! Parameters and result of `chaos.inject`: a fault of a real process, on request.
//! Owns their shape.
//! Never decides whether it is permitted: `[chaos] allowed` and the access level do.

use serde::{Deserialize, Serialize};

use crate::enums::wire_enum;

wire_enum! {
    /// What happens to the main process of a module.
    ChaosAction {
        /// It is killed.
        Kill = "kill",
        /// It is stopped by a signal, as if it hung, and continued after `for_ms`.
        Hang = "hang",
        /// It is stopped for short times again and again, for `for_ms`.
        Slow = "slow",
    }
}

/// Parameters of `chaos.inject`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChaosParams {
    /// What happens.
    pub action: ChaosAction,
    /// To which module.
    pub module: String,
    /// How long it hangs or is slow, in milliseconds; 10 seconds if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// Result of `chaos.inject`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChaosResult {
    /// The process it happened to.
    pub pid: u32,
    /// The number of the run.
    pub generation: u64,
}

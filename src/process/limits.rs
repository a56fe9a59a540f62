//! What a process may use, and how the kernel weighs it against others.
//! Owns the one set of limits: configuration fills it, the holder applies it.
//! Never applies anything.

use serde::{Deserialize, Serialize};

/// What a process may use; None: as mainstay itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Open files: RLIMIT_NOFILE, soft and hard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_handles: Option<u64>,
    /// Scheduling priority, from -20 (most CPU time) to 19.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
}

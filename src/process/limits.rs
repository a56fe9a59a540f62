//! What a process and a whole run may use, and how the kernel weighs them against others.
//! Owns both sets of limits: configuration fills them, the holder applies them.
//! Never applies anything.

use alloc::vec::Vec;
use core::fmt;

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
    /// Whom the kernel kills first when memory runs out: from -1000 (never) to 1000 (first).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The processors that it may run on, a bit each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_affinity: Option<CpuSet>,
}

/// Words of 64 processors each.
pub const CPU_SET_WORDS: usize = 16;

/// A set of processors, the lowest bit of the first word is processor 0.
pub type CpuSet = [u64; CPU_SET_WORDS];

/// What the processes of a run may use together; None: no limit. The holder sets what a control
/// group or job can enforce here and ignores the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunLimits {
    /// CPU time, in thousandths of one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_permille: Option<u64>,
    /// Bytes of memory above which the run is slowed down and its memory reclaimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<u64>,
    /// Bytes of memory above which the kernel kills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// The number of threads of all its processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// The number of its processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Bytes a second read from each disk, and as many written to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_bytes_per_s: Option<u64>,
    /// Others come first, for processors and disks.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub background: bool,
}

impl fmt::Display for Limits {
    /// As in a configuration: `file_handles = 1024, nice = 5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut write = |name: &str, value: Option<i128>| -> fmt::Result {
            if let Some(value) = value {
                write!(f, "{separator}{name} = {value}")?;
                separator = ", ";
            }
            Ok(())
        };
        write("file_handles", self.file_handles.map(i128::from))?;
        write("nice", self.nice.map(i128::from))?;
        write("oom_score_adj", self.oom_score_adj.map(i128::from))?;
        let Some(set) = self.cpu_affinity else {
            return Ok(());
        };
        let is_in = |cpu: &usize| set[cpu / 64] & (1 << (cpu % 64)) != 0;
        let cpus = (0..CPU_SET_WORDS * 64).filter(is_in);
        write!(
            f,
            "{separator}cpu_affinity = {:?}",
            cpus.collect::<Vec<_>>()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn limits_are_shown_as_they_are_written() {
        assert_eq!(Limits::default().to_string(), "");
        let limits = Limits {
            file_handles: Some(u64::MAX),
            nice: None,
            oom_score_adj: Some(-5),
            cpu_affinity: Some([5; CPU_SET_WORDS].map(|word| word & 4)),
        };
        let text = "file_handles = 18446744073709551615, oom_score_adj = -5, cpu_affinity = [2, ";
        assert!(limits.to_string().starts_with(text), "{limits}");
        let limits = Limits {
            cpu_affinity: None,
            ..limits
        };
        let text = "file_handles = 18446744073709551615, oom_score_adj = -5";
        assert_eq!(limits.to_string(), text);
    }

    #[test]
    fn limits_that_only_a_newer_side_knows_are_ignored() {
        let limits: Limits =
            serde_json::from_str(r#"{"nice":5,"io_weight":3}"#).expect("it is read");
        assert_eq!((limits.nice, limits.file_handles), (Some(5), None));
    }
}

//! What process trees and the machine use, as numbers.
//! Owns these types; each platform fills what it counts.
//! Never makes a rate of them: that takes two samples.

use std::collections::HashMap;
use std::path::PathBuf;

use mainstay_policy::MonoTime;
use mainstay_process::Instance;
use mainstay_protocol::view::MemoryKind;

use super::machine::Listening;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct SampleRequest {
    /// Runs, whole trees.
    pub(crate) modules: Vec<Instance>,
    /// Processes of mainstay itself.
    pub(crate) own: Vec<u32>,
    /// A directory on the volume that is looked at.
    pub(crate) volume: PathBuf,
    /// Where modules listen that are stopped when they are not used.
    pub(crate) listening: Vec<Listening>,
    /// Give back memory that only the start needed, once the sample is taken.
    pub(crate) release_memory: bool,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// The time of the measurement.
    pub(crate) at: MonoTime,
    /// Of each run that is alive: its generation, and what its tree uses.
    pub(crate) modules: HashMap<Instance, (u64, TreeUsage)>,
    /// Whether the sockets of each of `listening` are used; who is not in it cannot be seen.
    pub(crate) used_sockets: HashMap<Instance, bool>,
    /// Of mainstay itself.
    pub(crate) own: TreeUsage,
    /// Of the machine.
    pub(crate) machine: MachineSample,
}

/// What a process tree uses, summed. None: not counted here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TreeUsage {
    /// CPU time in nanoseconds, of children that have ended too.
    pub(crate) cpu_ns: u64,
    /// Bytes.
    pub(crate) memory_bytes: u64,
    /// How the bytes were counted.
    pub(crate) memory_kind: MemoryKind,
    /// Threads.
    pub(crate) threads: Option<u64>,
    /// Processes.
    pub(crate) processes: u64,
    /// Open descriptors or handles.
    pub(crate) file_handles: Option<u64>,
    /// Bytes read from and written to disks since the processes started.
    pub(crate) io_bytes: Option<u64>,
}

/// What the machine as a whole uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct MachineSample {
    /// CPU time in nanoseconds since boot; 0: not counted here.
    pub(crate) cpu_ns: u64,
    /// Cores that mainstay may use.
    pub(crate) cores: u64,
    /// Tasks that run or wait for a processor, over the last minute; None: not counted here.
    pub(crate) load: Option<f64>,
    /// Bytes in use.
    pub(crate) memory_bytes: u64,
    /// Bytes there are.
    pub(crate) memory_total: u64,
    /// Bytes received and sent since boot; 0: not counted here.
    pub(crate) network_bytes: u64,
    /// Bytes in use on the volume.
    pub(crate) disk_bytes: u64,
    /// Share of the last 10 seconds, in percent, in which some task waited for a processor; None:
    /// the kernel does not say.
    pub(crate) cpu_pressure: Option<f64>,
    /// Share in which all tasks waited for memory.
    pub(crate) memory_pressure: Option<f64>,
}

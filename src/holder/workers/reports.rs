//! What the threads of the holder report to its loop.
//! Owns the descriptors in it until the loop takes them.
//! Never holds what a process outside the run sent, nor a descriptor of the notify thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mainstay_process::{StdStream, TreeProcess};

use crate::kernel::{Cgroup, ProcessHandle};

/// What was started.
#[derive(Debug)]
pub(crate) struct SpawnedProcess {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    pub(crate) pinned: Option<ProcessHandle>,
    pub(crate) ready: Option<OwnedFd>,
    /// The writing end of its input; nothing is written to it.
    pub(crate) stdin: Option<OwnedFd>,
    /// It has a notify socket.
    pub(crate) notifies: bool,
    pub(crate) group: Option<Arc<Cgroup>>,
    pub(crate) stream: Option<u64>,
    pub(crate) kill_after_ms: u64,
    pub(crate) mark: String,
}

/// What a tapped instance wrote.
#[derive(Debug)]
pub(crate) struct TapOutput {
    pub(crate) id: u32,
    pub(crate) generation: u64,
    pub(crate) stream: StdStream,
    pub(crate) text: String,
    /// Bytes that were dropped before it.
    pub(crate) dropped_bytes: u64,
}

/// A message of a run, its sender verified.
#[derive(Debug)]
pub(crate) struct NotifyMessage {
    pub(crate) id: u32,
    pub(crate) generation: u64,
    /// The sender; 0 where the kernel does not name it.
    pub(crate) pid: i32,
    pub(crate) text: String,
    /// The process that MAINPID names, if it is another one and one of the run.
    pub(crate) new_main: Option<NewMain>,
    /// What it requests that is not done, and why.
    pub(crate) rejected: Vec<String>,
}

/// A process that is to be the main process of its run.
#[derive(Debug)]
pub(crate) struct NewMain {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
}

/// The instance and the mark of a run that was swept: the next one may run by then.
pub(crate) type SweptRun = (u32, String);

/// What a look at the rest of a tree found.
#[derive(Debug)]
pub(crate) struct TreeFound {
    pub(crate) id: u32,
    pub(crate) generation: u64,
    /// The signal that its processes were sent by this look.
    pub(crate) signalled: Option<i32>,
    pub(crate) processes: Vec<TreeProcess>,
    pub(crate) total: u32,
}

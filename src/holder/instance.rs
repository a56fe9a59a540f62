//! What one instance has of the system: its process, descriptors and control group.
//! Owns them until the roster drops the instance.
//! Never knows whether the instance may run, or what the runtime was sent: the roster does.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mainstay_process::{Exit, Instance};

use crate::activation::ActivationSockets;
use crate::kernel::{Cgroup, ProcessHandle};
use crate::process;
use crate::workers::sweep::ProcessTree;

/// A running process; its numbers are those of the roster.
#[derive(Debug)]
pub(crate) struct RunningProcess {
    pub(crate) generation: u64,
    /// The process that was started, and when: number of the session and group of the tree.
    pub(crate) first: (i32, u64),
    /// The main process: that one, or the one it named by MAINPID.
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    pub(crate) pinned: Option<ProcessHandle>,
    pub(crate) ready: Option<OwnedFd>,
    /// Bytes without a newline that came by it.
    pub(crate) ready_bytes: usize,
    /// Kept as long as it runs: its input has no end until then.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "it is kept open")
    )]
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stream: Option<u64>,
    pub(crate) mark: String,
    /// Wishes it sent by notify that were not granted.
    pub(crate) ignored: u32,
    /// It was sent its stop signal: it is not frozen any more.
    pub(crate) stopping: bool,
    /// It has a notify socket.
    pub(crate) notifies: bool,
    /// The process whose end is known, and whether all that was sent before is known too.
    pub(crate) drained: Option<(i32, bool)>,
    /// How and when the main process exited, while the rest of its tree is being stopped.
    pub(crate) main_exit: Option<(Exit, Duration)>,
    /// It was started by a holder before this one: it is no child, and is watched by its handle.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux has successors")
    )]
    pub(crate) inherited: bool,
}

/// A process that was started and is not the main process any more.
#[derive(Debug)]
pub(crate) struct FormerMain {
    pub(crate) id: u32,
    /// Embedded only: standalone every child is waited for.
    pub(crate) pinned: Option<ProcessHandle>,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct InstanceResources {
    pub(crate) name: Instance,
    /// The number by which the processes of its newest run are known.
    pub(crate) tag: u64,
    pub(crate) run: Option<Box<RunningProcess>>,
    /// Where it listens, running or not.
    pub(crate) sockets: ActivationSockets,
    pub(crate) group: Option<Arc<Cgroup>>,
    /// The group has limits, which the next run is not to inherit.
    pub(crate) limited: bool,
    pub(crate) oom_kills: u64,
    pub(crate) tapped: bool,
    /// Tapped bytes that were dropped because the runtime did not read.
    pub(crate) tap_dropped: u64,
}

impl InstanceResources {
    pub(crate) fn new(name: Instance) -> InstanceResources {
        InstanceResources {
            name,
            tag: 0,
            run: None,
            sockets: ActivationSockets::default(),
            group: None,
            limited: false,
            oom_kills: 0,
            tapped: false,
            tap_dropped: 0,
        }
    }

    pub(crate) fn pinned(&self) -> Option<&ProcessHandle> {
        self.run.as_ref().and_then(|run| run.pinned.as_ref())
    }
}

impl RunningProcess {
    /// Signals the main process, unless it is reaped: its number cannot mean another one.
    pub(crate) fn signal(&self, signal: i32) {
        match &self.pinned {
            _ if self.main_exit.is_some() => {}
            Some(pinned) => drop(pinned.signal(signal)),
            None => process::kill(self.pid, signal),
        }
    }
}

/// The tree of a run: below the process that was started, and below the one it named instead.
pub(crate) fn trees_of(id: u32, run: &RunningProcess) -> impl Iterator<Item = ProcessTree> {
    let main = (run.pid, run.start_time);
    let other = (main != run.first).then_some(main);
    let processes = [Some(run.first), other].into_iter().flatten();
    processes.map(move |(pid, start_time)| ProcessTree {
        id,
        pid,
        start_time,
        mark: run.mark.clone(),
        group: None,
    })
}

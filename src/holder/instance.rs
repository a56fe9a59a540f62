//! One instance as the holder knows it: its run, its record, what it last said and how it ended.
//! Owns its descriptors while it lives.
//! Never decides whether it should live.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use mainstay_process::{Exited, ProcessEvent, ProcessEventKind};

use crate::activation::ActivationSockets;
use crate::fd_store::FdStore;
use crate::foreign_fd::Closer;
use crate::kernel::{Cgroup, ProcessHandle};
use crate::messages::HolderMessage;
use crate::notify::NotifyState;

/// A living process.
#[derive(Debug)]
pub(crate) struct RunningProcess {
    /// The process that was started, and when: number of the session and group of the tree.
    pub(crate) first: (i32, u64),
    /// The main process: that one, or the one it named by MAINPID.
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    pub(crate) uid: u32,
    pub(crate) pinned: Option<ProcessHandle>,
    pub(crate) ready: Option<OwnedFd>,
    pub(crate) stream: Option<u64>,
    pub(crate) mark: String,
    pub(crate) timed_out: bool,
    /// Wishes it sent by notify that were not granted.
    pub(crate) ignored: u32,
    /// It has a notify socket.
    pub(crate) notifies: bool,
    /// The process whose end is known, and whether all that was sent before is known too.
    pub(crate) drained: Option<(i32, bool)>,
}

/// A process that was started and is not the main process any more.
#[derive(Debug)]
pub(crate) struct FormerMain {
    pub(crate) id: u32,
    /// Embedded only: standalone every child is waited for.
    pub(crate) pinned: Option<ProcessHandle>,
}

/// An ended process of which something is still awaited before its end is told.
#[derive(Debug)]
pub(crate) struct PendingExit {
    pub(crate) exited: Exited,
    pub(crate) sweep: bool,
    pub(crate) output: bool,
}

/// What was asked for before the process was there.
#[derive(Debug, Default)]
pub(crate) struct DeferredRequests {
    pub(crate) kill: bool,
    pub(crate) signal: Option<(i32, bool)>,
    /// When its birth is over time, if nobody but us ends it.
    pub(crate) end_by: Option<Instant>,
    pub(crate) timed_out: bool,
}

/// Where it stands.
#[derive(Debug)]
pub(crate) enum InstancePhase {
    Idle,
    Starting(DeferredRequests),
    Running(Box<RunningProcess>),
    Ending(Box<PendingExit>),
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: mainstay_process::Instance,
    pub(crate) generation: u64,
    /// The number by which the processes of its newest run are known.
    pub(crate) tag: u64,
    pub(crate) phase: InstancePhase,
    pub(crate) record: Option<String>,
    /// How the last run ended, until the next one starts: a runtime may be lost with the news.
    pub(crate) last_exit: Option<Exited>,
    /// The lasting part of what this run said by notify.
    pub(crate) notify_state: NotifyState,
    /// Descriptors for its next runs.
    pub(crate) store: FdStore,
    /// Where it listens, running or not.
    pub(crate) sockets: ActivationSockets,
    /// Closes what its runs, and only they, passed on.
    pub(crate) closer: Arc<Closer>,
    pub(crate) group: Option<Arc<Cgroup>>,
    pub(crate) oom_kills: u64,
    pub(crate) tapped: bool,
    /// Tapped bytes that were dropped because the runtime did not read.
    pub(crate) tap_dropped: u64,
    pub(crate) forgotten: bool,
}

impl Instance {
    pub(crate) fn new(name: mainstay_process::Instance) -> Instance {
        Instance {
            name,
            generation: 0,
            tag: 0,
            phase: InstancePhase::Idle,
            record: None,
            last_exit: None,
            notify_state: NotifyState::default(),
            store: FdStore::default(),
            sockets: ActivationSockets::default(),
            closer: Arc::default(),
            group: None,
            oom_kills: 0,
            tapped: false,
            tap_dropped: 0,
            forgotten: false,
        }
    }

    /// What happened to its current run, as a message.
    pub(crate) fn event(&self, what: ProcessEventKind) -> HolderMessage {
        HolderMessage::Process(ProcessEvent {
            instance: self.name.clone(),
            generation: self.generation,
            what,
        })
    }

    pub(crate) fn pinned(&self) -> Option<&ProcessHandle> {
        self.run().and_then(|run| run.pinned.as_ref())
    }

    /// How its newest run ended, if it did, told or not.
    pub(crate) fn ended(&self) -> Option<&Exited> {
        match &self.phase {
            InstancePhase::Ending(ending) => Some(&ending.exited),
            InstancePhase::Idle => self.last_exit.as_ref(),
            InstancePhase::Starting(_) | InstancePhase::Running(_) => None,
        }
    }

    pub(crate) fn run(&self) -> Option<&RunningProcess> {
        match &self.phase {
            InstancePhase::Running(run) => Some(run),
            InstancePhase::Idle | InstancePhase::Starting(_) | InstancePhase::Ending(_) => None,
        }
    }
}

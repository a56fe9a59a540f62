//! Instances in the state: each with what it has of the system.
//! Never asks the kernel for a process by number: what was pinned stays pinned.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mainstay_process::{Exit, Instance};
use serde::{Deserialize, Serialize};

use super::groups::GroupState;
use super::kept_fds::{KeptFd, KeptFds};
use crate::activation::{ActivationSockets, KeptSocket};
use crate::instance::{FormerMain, InstanceResources, RunningProcess};
use crate::kernel::ProcessHandle;
use crate::messages::BoundSocket;
use crate::workers::foreign_fd::ForeignFd;

/// An instance.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstanceState {
    pub(crate) id: u32,
    name: Instance,
    pub(crate) tag: u64,
    pub(crate) run: Option<RunState>,
    sockets: Vec<(BoundSocket, KeptFd)>,
    wants_activation: bool,
    group: Option<GroupState>,
    limited: bool,
    oom_kills: u64,
    tapped: bool,
    tap_dropped: u64,
}

/// Its run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunState {
    generation: u64,
    first: (i32, u64),
    pid: i32,
    start_time: u64,
    pub(crate) pinned: Option<KeptFd>,
    ready: Option<KeptFd>,
    ready_bytes: usize,
    stdin: Option<KeptFd>,
    stream: Option<u64>,
    pub(crate) mark: String,
    ignored: u32,
    stopping: bool,
    notifies: bool,
    drained: Option<(i32, bool)>,
    /// It is no child of this process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inherited: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    main_exit: Option<(Exit, Duration)>,
}

impl RunState {
    fn of(run: &RunningProcess, kept: &mut KeptFds) -> RunState {
        RunState {
            generation: run.generation,
            first: run.first,
            pid: run.pid,
            start_time: run.start_time,
            pinned: run.pinned.as_ref().map(|one| kept.keep(&one.0)),
            ready: run.ready.as_ref().map(|fd| kept.keep(fd)),
            ready_bytes: run.ready_bytes,
            stdin: run.stdin.as_ref().map(|fd| kept.keep(fd)),
            stream: run.stream,
            mark: run.mark.clone(),
            ignored: run.ignored,
            stopping: run.stopping,
            notifies: run.notifies,
            drained: run.drained,
            inherited: run.inherited,
            main_exit: run.main_exit,
        }
    }

    fn restore(self) -> io::Result<RunningProcess> {
        let pinned = self.pinned.map(KeptFd::take).transpose()?;
        Ok(RunningProcess {
            generation: self.generation,
            first: self.first,
            pid: self.pid,
            start_time: self.start_time,
            pinned: pinned.map(ProcessHandle),
            ready: self.ready.map(KeptFd::take).transpose()?,
            ready_bytes: self.ready_bytes,
            stdin: self.stdin.map(KeptFd::take).transpose()?,
            stream: self.stream,
            mark: self.mark,
            ignored: self.ignored,
            stopping: self.stopping,
            notifies: self.notifies,
            // One that was in flight has died with its holder.
            drained: self.drained.filter(|(_, done)| *done),
            main_exit: self.main_exit,
            inherited: self.inherited,
        })
    }
}

impl InstanceState {
    pub(crate) fn of(id: u32, one: &InstanceResources, kept: &mut KeptFds) -> InstanceState {
        let sockets = one.sockets.kept.iter();
        InstanceState {
            id,
            name: one.name.clone(),
            tag: one.tag,
            run: one.run.as_ref().map(|run| RunState::of(run, kept)),
            sockets: sockets
                .map(|socket| (socket.bound.clone(), kept.keep(&*socket.fd)))
                .collect(),
            wants_activation: one.sockets.wants_activation,
            group: one.group.as_ref().map(|one| GroupState::of(one, kept)),
            limited: one.limited,
            oom_kills: one.oom_kills,
            tapped: one.tapped,
            tap_dropped: one.tap_dropped,
        }
    }

    pub(crate) fn restore(self) -> io::Result<InstanceResources> {
        let mut sockets = ActivationSockets::default();
        for (bound, fd) in self.sockets {
            let fd = Arc::new(ForeignFd::new(fd.take()?, &sockets.closer));
            sockets.kept.push(KeptSocket { bound, fd });
        }
        sockets.wants_activation = self.wants_activation;
        let group = self.group.map(GroupState::restore).transpose()?;
        Ok(InstanceResources {
            name: self.name,
            tag: self.tag,
            run: self.run.map(RunState::restore).transpose()?.map(Box::new),
            sockets,
            group: group.map(Arc::new),
            limited: self.limited,
            oom_kills: self.oom_kills,
            tapped: self.tapped,
            tap_dropped: self.tap_dropped,
        })
    }
}

/// A process that was started and is not the main process any more.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FormerMainState {
    pub(crate) pid: i32,
    id: u32,
    pinned: Option<KeptFd>,
}

impl FormerMainState {
    pub(crate) fn of(pid: i32, one: &FormerMain, kept: &mut KeptFds) -> FormerMainState {
        let pinned = one.pinned.as_ref().map(|pinned| kept.keep(&pinned.0));
        let id = one.id;
        FormerMainState { pid, id, pinned }
    }

    pub(crate) fn restore(self) -> io::Result<FormerMain> {
        let pinned = self.pinned.map(KeptFd::take).transpose()?;
        Ok(FormerMain {
            id: self.id,
            pinned: pinned.map(ProcessHandle),
        })
    }
}

//! One start, what all starts share, and what a thread that starts processes is busy with.
//! Owns the descriptors of a start that waits.
//! Never starts anything.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use mainstay_process::{Instance, SpawnRequest};

use crate::engine_queue::EngineQueue;
use crate::kernel::{Cgroup, CgroupTree};
use crate::process;
use crate::spawn::prepare::BaseEnvironment;
use crate::succession::ExecBarrier;
use crate::threads::lock;
use crate::workers::foreign_fd::NamedFd;
use crate::workers::mark::MarkSecret;
use crate::workers::notify_receiver::NotifyReceiver;
use crate::workers::output::OutputDrain;

/// One start.
#[derive(Debug)]
pub(crate) struct SpawnJob {
    pub(crate) id: u32,
    pub(crate) name: Instance,
    pub(crate) spawn: Box<SpawnRequest>,
    pub(crate) tag: u64,
    pub(crate) group: Option<Arc<Cgroup>>,
    /// The sockets of the instance.
    pub(crate) sockets: Vec<NamedFd>,
    /// Receives what it sends by sd_notify, and has what it stored.
    pub(crate) receiver: Option<Arc<NotifyReceiver>>,
    pub(crate) tapped: bool,
}

impl SpawnJob {
    /// The user that it is started for.
    pub(crate) fn user(&self) -> u32 {
        let other = self.spawn.credentials.as_ref().map(|who| who.uid);
        other.unwrap_or_else(|| nix::unistd::getuid().as_raw())
    }
}

/// What all starts share.
#[derive(Debug)]
pub(crate) struct SpawnContext {
    pub(crate) inherited: BaseEnvironment,
    pub(crate) groups: Option<CgroupTree>,
    pub(crate) notify_folder: PathBuf,
    pub(crate) marks: MarkSecret,
    pub(crate) nofile: libc::rlimit,
    pub(crate) dev_null: OwnedFd,
    /// None: embedded, or where no other holder can go on.
    pub(crate) barrier: Option<ExecBarrier>,
    pub(crate) logs: Arc<OutputDrain>,
    pub(crate) queue: Arc<EngineQueue>,
    /// Children are watched by a handle: the application reaps its own.
    pub(crate) embedded: bool,
    /// Never use clone3.
    pub(crate) plain_fork: bool,
}

/// What a thread is busy with.
#[derive(Debug, Default)]
pub(super) struct SpawnInFlight {
    /// Its child, until that is reported; [`UNKNOWN`] in the moment of the fork.
    pub(super) child_pid: AtomicI32,
    /// Whose it is, until another thread may have reaped it.
    pub(super) instance: Mutex<Option<u32>>,
}

impl SpawnInFlight {
    /// Kills a child that may hang before its program runs: on a file system that does not answer.
    pub(super) fn abort(&self, is: impl FnOnce(u32) -> bool) {
        let instance = lock(&self.instance); // held, it is not reaped: the number is its own
        let pid = self.child_pid.load(Ordering::SeqCst);
        if pid > 0 && instance.is_some_and(is) {
            process::kill(pid, libc::SIGKILL);
        }
    }
}

//! One instance as the receiver of notify messages knows it: its socket, store and closers.
//! Owns their descriptors.
//! Never decides whether a sender belongs to the run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_process::Instance;

use crate::workers::fd_store::FdStore;
use crate::workers::foreign_fd::{Closer, ForeignFd};
use crate::workers::membership::RunTree;
use crate::workers::notify::NotifyDatagram;
use crate::workers::notify_allowance::NotifyAllowance;

/// How long a run may keep its own messages waiting for processes in the moment of their exec.
pub(super) const EXEC_WAIT_MAX: Duration = Duration::from_millis(100);
/// While a message waits for that.
pub(super) const EXEC_POLL_INTERVAL: Duration = Duration::from_millis(1);
/// How often it is looked whether refused descriptors were closed.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);
/// Descriptors of an instance, and of the strangers that send to its socket, that may wait to be
/// closed: with more, its socket takes none. Other runs do not notice.
const CLOSING_MAX: usize = 128;
const STRANGERS_CLOSING_MAX: usize = 256;

/// What outlives the runs of an instance.
#[derive(Debug, Default)]
pub(crate) struct InstanceFds {
    pub(crate) store: FdStore,
    /// Closes what its runs, and only they, sent.
    pub(crate) closer: Arc<Closer>,
    /// Closes what others sent to its sockets.
    pub(crate) strangers: Arc<Closer>,
}

impl InstanceFds {
    /// How many descriptors do not close, if they are too many.
    pub(crate) fn excess(&self) -> Option<usize> {
        let (own, strangers) = (self.closer.count(), self.strangers.count());
        let most = if own > CLOSING_MAX { own } else { strangers };
        (own > CLOSING_MAX || strangers > STRANGERS_CLOSING_MAX).then_some(most)
    }
}

/// The notify socket of a run.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) generation: u64,
    pub(crate) name: Instance,
    pub(crate) socket: ForeignFd,
    pub(crate) path: PathBuf,
    /// The user of the run.
    pub(crate) uid: u32,
    /// By what its processes are known, once it has started: until then nothing is read.
    pub(crate) tree: Option<RunTree>,
    /// Waits for a process in the moment of its exec.
    pub(crate) deferred: Option<NotifyDatagram>,
    pub(crate) exec_wait_left: Duration,
    /// The processes whose ends wait until the socket is drained.
    pub(crate) draining: Vec<i32>,
    /// No descriptors are taken.
    pub(crate) refusing: bool,
    /// It is not read: the kernel cannot refuse descriptors.
    pub(crate) paused: bool,
    pub(crate) allowance: NotifyAllowance,
    /// It is not read until its allowance is there again.
    pub(crate) throttled: bool,
    pub(crate) watched: bool,
}

impl Source {
    pub(crate) fn new(
        (generation, name, uid): (u64, Instance, u32),
        socket: ForeignFd,
        path: PathBuf,
    ) -> Source {
        Source {
            generation,
            name,
            socket,
            path,
            uid,
            tree: None,
            deferred: None,
            exec_wait_left: EXEC_WAIT_MAX,
            draining: Vec::new(),
            refusing: false,
            paused: false,
            allowance: NotifyAllowance::new(Instant::now()),
            throttled: false,
            watched: false,
        }
    }

    /// Whether its socket is to be watched.
    pub(crate) fn is_read(&self) -> bool {
        self.tree.is_some() && self.deferred.is_none() && !self.paused && !self.throttled
    }

    /// How long it may be left alone.
    pub(crate) fn timeout(&self, now: Instant) -> Option<Duration> {
        let deferred = self.deferred.as_ref().map(|_| EXEC_POLL_INTERVAL);
        let throttled = self
            .throttled
            .then(|| self.allowance.pause(now).unwrap_or_default());
        let refusing = self.refusing.then_some(REFUSAL_INTERVAL);
        [deferred, throttled, refusing].into_iter().flatten().min()
    }
}

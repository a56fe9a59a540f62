//! The thread of sd_notify in the state: its sockets, and what modules have stored.
//! Owns what is on its way between the table of that thread and the shared one.
//! Never executes with a stored descriptor whose close may take for ever: all threads end by then.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{getsockopt, sockopt::SockType};

use super::kept_fds::{KeptFd, KeptFds};
use super::notify_state::{HandedOver, NotifyThreadState, SourceState, StoredState};
use super::pass_fds::{PASS_TIMEOUT, pass, receive};
use super::request::{CLOSING, Obstacle};
use crate::kernel::is_pipe;
use crate::workers::foreign_fd::{Closer, ForeignFd, is_closing};
use crate::workers::notify_command::Command;
use crate::workers::notify_receiver::NotifyReceiver;
use crate::workers::notify_source::Source;
use crate::workers::notify_thread::NotifyThread;

/// The thread waits until this is dropped.
pub(crate) struct NotifyPause {
    state: NotifyThreadState<usize>,
    fds: Vec<ForeignFd>,
    _continues: SyncSender<()>,
}

impl NotifyPause {
    pub(crate) fn into_state(
        self,
        kept: &mut KeptFds,
    ) -> (NotifyThreadState<KeptFd>, (Vec<ForeignFd>, SyncSender<()>)) {
        let fds = self.fds;
        let state = self.state.map(|at| kept.keep(&fds[at]));
        (state, (fds, self._continues))
    }
}

impl NotifyReceiver {
    /// Has the thread wait, and takes what it has.
    pub(crate) fn pause(&self) -> Result<NotifyPause, Obstacle> {
        let (reply, replied) = sync_channel(1);
        let (continues, goes_on) = sync_channel(1);
        self.send(Command::HandOver(reply, goes_on));
        let late = || Obstacle::busy("messages of modules are read");
        let answer = replied.recv_timeout(PASS_TIMEOUT).map_err(|_| late())?;
        let (state, count) = answer?;
        let fds = receive(&self.control, count)?;
        let closer = Arc::<Closer>::default();
        let fds = fds.into_iter().map(|fd| ForeignFd::new(fd, &closer));
        Ok(NotifyPause {
            state,
            fds: fds.collect(),
            _continues: continues,
        })
    }

    /// Gives a thread that has just been started what another one had.
    pub(crate) fn resume(&self, state: NotifyThreadState<KeptFd>) -> io::Result<()> {
        let mut raw: Vec<RawFd> = Vec::new();
        let state = state.map(|fd| {
            raw.push(fd.raw());
            raw.len() - 1
        });
        let (ready, is_ready) = sync_channel(1);
        let (done, is_done) = sync_channel(1);
        self.send(Command::Resume(state, raw.len(), ready, done));
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        is_ready.recv_timeout(PASS_TIMEOUT).map_err(late)?;
        pass(&self.control, &raw)?;
        is_done.recv_timeout(PASS_TIMEOUT).map_err(late)?
    }
}

impl NotifyThread {
    /// Passes on what there is, and waits until the other side is gone.
    pub(crate) fn hand_over(&self, reply: &SyncSender<HandedOver>, goes_on: &Receiver<()>) {
        let mut raw = Vec::new();
        let state = self.state(&mut raw).map(|state| (state, raw.len()));
        let has_state = state.is_ok();
        if reply.send(state).is_ok() && has_state && pass(&self.control, &raw).is_ok() {
            let _gone = goes_on.recv();
        }
    }

    fn state(&self, raw: &mut Vec<RawFd>) -> Result<NotifyThreadState<usize>, Obstacle> {
        let mut place = |fd: &ForeignFd| {
            raw.push(fd.as_raw_fd());
            raw.len() - 1
        };
        let mut sources = Vec::new();
        for (id, one) in &self.sources {
            if one.deferred.is_some() || !one.draining.is_empty() || one.refusing {
                return Err(Obstacle::busy("messages of modules are read"));
            }
            sources.push(SourceState {
                id: *id,
                generation: one.generation,
                name: one.name.clone(),
                uid: one.uid,
                socket: place(&one.socket),
                path: one.path.clone(),
                tree: one.tree.clone(),
            });
        }
        // Also what this thread dropped since the loop looked, and of instances that are gone.
        if is_closing() {
            return Err(Obstacle::busy(CLOSING));
        }
        let mut stored = Vec::new();
        for (id, one) in &self.instances {
            for kept in &one.store.kept {
                if !closes_at_once(&kept.fd) {
                    let name = &kept.name;
                    return Err(Obstacle::Problem(format!(
                        "a module has stored a descriptor ({name}) that is no socket, no pipe and \
                         no file in memory: closing it may take for ever; have it removed with \
                         FDSTOREREMOVE=1"
                    )));
                }
                stored.push(StoredState {
                    id: *id,
                    name: kept.name.clone(),
                    watched: kept.watched,
                    fd: place(&kept.fd),
                });
            }
        }
        Ok(NotifyThreadState { sources, stored })
    }

    /// Takes what another thread had.
    pub(crate) fn resume(
        &mut self,
        state: NotifyThreadState<usize>,
        count: usize,
        ready: &SyncSender<()>,
    ) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready.send(()).map_err(gone)?;
        let fds = receive(&self.control, count)?;
        let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let mut next = |at: usize| fds.get_mut(at).and_then(Option::take).ok_or_else(missing);
        for one in state.sources {
            let socket = ForeignFd::new(next(one.socket)?, &Arc::default());
            let run = (one.generation, one.name, one.uid);
            let mut source = Source::new(run, socket, one.path);
            source.tree = one.tree;
            self.sources.insert(one.id, source);
            self.instances.entry(one.id).or_default();
            self.watch(one.id);
        }
        for one in state.stored {
            let instance = self.instances.entry(one.id).or_default();
            let fd = ForeignFd::new(next(one.fd)?, &instance.closer);
            let watch = (&self.poller, one.id);
            let store = &mut instance.store;
            store.put(watch, Some(&one.name), vec![fd], one.watched);
            self.publish_store(one.id);
        }
        Ok(())
    }
}

/// Whether no file system is asked when it is closed.
fn closes_at_once(fd: &ForeignFd) -> bool {
    is_pipe(fd) || getsockopt(fd, SockType).is_ok() || fcntl(fd, FcntlArg::F_GET_SEALS).is_ok()
}

//! The thread that writes `holder.json` and creates removed directories again.
//! Owns the claimed directories and the watch on them.
//! Never holds up the engine, and sleeps until something changes.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::kernel::{DirWatch, LoopWaker};
use crate::threads::{lock, thread};
use crate::workers::claimed_dirs::ClaimedDirs;

/// Time between the first sign that something was removed and the check: `rm -r` takes a while.
const SETTLE_TIME: Duration = Duration::from_millis(50);
/// Time until a failed restoration is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A file by its name, device and number.
type StaleFile = (PathBuf, (u64, u64));

#[derive(Debug, Default)]
pub(crate) struct State {
    /// The newest `holder.json`, not written yet.
    pub(crate) status: Option<Vec<u8>>,
    /// The newest mode of the control socket, not set yet.
    pub(crate) control_mode: Option<u32>,
    /// Files that are to be removed, each by its identity too.
    pub(crate) dropped: Vec<StaleFile>,
    release: bool,
    released: bool,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    changed: Condvar,
    waker: LoopWaker,
    /// None after the release.
    pub(crate) dirs: Mutex<Option<ClaimedDirs>>,
}

/// The engine's handle of the thread.
#[derive(Debug, Clone)]
pub(crate) struct DirKeeper(pub(crate) Arc<Shared>);

impl DirKeeper {
    pub(crate) fn start(dirs: ClaimedDirs, queue: Arc<EngineQueue>) -> io::Result<DirKeeper> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            waker: LoopWaker::new()?,
            dirs: Mutex::new(Some(dirs)),
        });
        // Where nothing can be watched, for want of watches, nothing is restored.
        let watch = DirWatch::new().ok();
        let thread_shared = Arc::clone(&shared);
        thread("directories", move || {
            let keeper = Keeper {
                shared: thread_shared,
                watch,
                queue,
                status: Vec::new(),
                problem: None,
            };
            keeper.run();
        })?;
        Ok(DirKeeper(shared))
    }

    /// Writes this as `holder.json`, unless a newer one comes before its turn.
    pub(crate) fn write_status(&self, json: Vec<u8>) {
        lock(&self.0.state).status = Some(json);
        self.0.waker.wake();
    }

    /// Changes who can connect to the control socket.
    pub(crate) fn set_control_mode(&self, mode: u32) {
        lock(&self.0.state).control_mode = Some(mode);
        self.0.waker.wake();
    }

    /// Removes these files, unless their names belong to other files by now.
    pub(crate) fn remove_files(&self, files: Vec<StaleFile>) {
        if !files.is_empty() {
            lock(&self.0.state).dropped.extend(files);
            self.0.waker.wake();
        }
    }

    /// Removes what must not stay and ends the thread; waits for `timeout` at most.
    pub(crate) fn release(self, timeout: Duration) {
        let mut state = lock(&self.0.state);
        state.release = true;
        self.0.waker.wake();
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, timeout, |state| !state.released);
        drop(waited);
    }
}

struct Keeper {
    shared: Arc<Shared>,
    watch: Option<DirWatch>,
    queue: Arc<EngineQueue>,
    /// The last one that was written.
    status: Vec<u8>,
    /// Why the last restoration failed.
    problem: Option<String>,
}

impl Keeper {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        if let Some(dirs) = &*lock(&shared.dirs) {
            self.watch_all(dirs);
        }
        // What was removed before they were watched is found too.
        let mut check_at = Some(Instant::now() + SETTLE_TIME);
        loop {
            self.wait(check_at);
            shared.waker.clear();
            let mut held = lock(&shared.dirs);
            let Some(dirs) = &mut *held else {
                return;
            };
            let (status, mode, dropped, release) = {
                let mut state = lock(&shared.state);
                let dropped = std::mem::take(&mut state.dropped);
                let mode = state.control_mode.take();
                (state.status.take(), mode, dropped, state.release)
            };
            dropped.iter().for_each(remove_file);
            if let Some(mode) = mode {
                dirs.set_control_mode(mode);
            }
            if let Some(status) = status {
                dirs.write_status(&status);
                self.status = status;
            }
            if release {
                held.take().into_iter().for_each(ClaimedDirs::release);
                lock(&shared.state).released = true;
                return shared.changed.notify_all();
            }
            if check_at.is_some_and(|at| at <= Instant::now()) {
                check_at = self.check(dirs);
            }
            if self.take_signs() {
                check_at = check_at.or(Some(Instant::now() + SETTLE_TIME));
            }
        }
    }

    fn watch_all(&self, dirs: &ClaimedDirs) {
        if let Some(watch) = &self.watch {
            dirs.paths().into_iter().for_each(|path| watch.add(path));
        }
    }

    fn wait(&self, until: Option<Instant>) {
        let timeout = match until {
            None => PollTimeout::NONE,
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                let left = left.as_millis().min(60_000) as u16 + 1;
                PollTimeout::from(left)
            }
        };
        let waker = PollFd::new(self.shared.waker.as_fd(), PollFlags::POLLIN);
        match &self.watch {
            Some(watch) => {
                let watch = PollFd::new(watch.as_fd(), PollFlags::POLLIN);
                let _ = poll(&mut [waker, watch], timeout); // a signal is no reason to stop
            }
            None => {
                let _ = poll(&mut [waker], timeout);
            }
        }
    }

    /// Returns whether something may have been removed.
    fn take_signs(&self) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        let signs = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        watch.clear();
        signs
    }

    /// Creates again what is missing; returns when to try that again.
    fn check(&mut self, dirs: &mut ClaimedDirs) -> Option<Instant> {
        if dirs.is_in_place() {
            return None;
        }
        let restored = dirs.restore();
        self.watch_all(dirs);
        let listeners = restored.and_then(|()| {
            let listeners = dirs.listeners();
            listeners.map_err(|problem| format!("cannot share the sockets: {problem}"))
        });
        let problem = listeners.as_ref().err().cloned();
        let retry = problem.as_ref().map(|_| Instant::now() + RETRY_INTERVAL);
        if problem.is_none() {
            dirs.write_status(&self.status);
        }
        // The same problem is told once.
        if problem.is_none() || problem != self.problem {
            self.queue.send(EngineEvent::Directories(listeners));
        }
        self.problem = problem;
        retry
    }
}

fn remove_file((path, identity): &StaleFile) {
    let found = path.symlink_metadata();
    if found.is_ok_and(|found| (found.dev(), found.ino()) == *identity) {
        let _ = std::fs::remove_file(path); // gone is what is wanted
    }
}

//! Waits until something in the folder of the logs changes.
//! Owns the watch: inotify on Linux, a pause elsewhere.
//! Never reads a log, and wakes nobody while nothing is written.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// The pause where changes are not reported.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A watch over one folder.
pub(crate) struct LogWatch {
    #[cfg(target_os = "linux")]
    inotify: Option<nix::sys::inotify::Inotify>,
    #[cfg(target_os = "linux")]
    folder: std::path::PathBuf,
    #[cfg(target_os = "linux")]
    state: std::sync::Mutex<WatchState>,
}

#[cfg(target_os = "linux")]
enum WatchState {
    Absent,
    Watched(nix::sys::inotify::WatchDescriptor),
    Over,
}

impl LogWatch {
    /// A watch over a folder, which may not be there yet.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(unused_variables, reason = "only Linux watches the folder")
    )]
    pub(crate) fn new(folder: &Path) -> LogWatch {
        LogWatch {
            #[cfg(target_os = "linux")]
            inotify: {
                use nix::sys::inotify::{InitFlags, Inotify};
                Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()
            },
            #[cfg(target_os = "linux")]
            folder: folder.to_owned(),
            #[cfg(target_os = "linux")]
            state: std::sync::Mutex::new(WatchState::Absent),
        }
    }

    /// Watches no more: from now on a wait is a pause. The kernel is through with a watch only
    /// after some 20 ms, for which the end of the process would wait.
    pub(crate) fn end(&self) {
        #[cfg(target_os = "linux")]
        if let Some(inotify) = &self.inotify
            && let WatchState::Watched(watch) =
                std::mem::replace(&mut *self.state(), WatchState::Over)
        {
            let _gone_with_its_folder = inotify.rm_watch(watch);
        }
    }

    #[cfg(target_os = "linux")]
    fn state(&self) -> std::sync::MutexGuard<'_, WatchState> {
        use std::sync::PoisonError;
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the folder was watched before this call; None: it is not watched.
    #[cfg(target_os = "linux")]
    fn begin(&self, inotify: &nix::sys::inotify::Inotify) -> Option<bool> {
        use nix::sys::inotify::AddWatchFlags;
        let mut state = self.state();
        match *state {
            WatchState::Over => None,
            WatchState::Watched(_) => Some(true),
            WatchState::Absent => {
                let flags = AddWatchFlags::IN_MODIFY
                    | AddWatchFlags::IN_CREATE
                    | AddWatchFlags::IN_MOVED_TO
                    | AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_ONLYDIR;
                *state = WatchState::Watched(inotify.add_watch(&self.folder, flags).ok()?);
                Some(false)
            }
        }
    }

    /// Returns the names of the files that changed, or none if it may be any; at the latest after
    /// the timeout.
    #[cfg(target_os = "linux")]
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Option<BTreeSet<OsString>> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use nix::sys::inotify::AddWatchFlags;
        use std::os::fd::AsFd;
        let Some(inotify) = self.inotify.as_ref() else {
            return pause(timeout);
        };
        match self.begin(inotify) {
            None => return pause(timeout),
            Some(false) => return None, // what happened before is looked at now
            Some(true) => {}
        }
        let limit = timeout.map_or(PollTimeout::NONE, |timeout| {
            PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        let _interrupted = poll(&mut fds, limit); // then nothing changed
        let mut names = BTreeSet::new();
        let mut is_known = true;
        while let Ok(events) = inotify.read_events() {
            for event in events {
                let gone = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_IGNORED;
                let mut state = self.state();
                if event.mask.intersects(gone) && !matches!(*state, WatchState::Over) {
                    *state = WatchState::Absent;
                }
                drop(state);
                is_known &= event.name.is_some();
                names.extend(event.name);
            }
        }
        is_known.then_some(names)
    }

    /// Returns after the timeout, or now and then.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Option<BTreeSet<OsString>> {
        pause(timeout)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread that has nothing else to do"
)]
fn pause(timeout: Option<Duration>) -> Option<BTreeSet<OsString>> {
    std::thread::sleep(timeout.unwrap_or(POLL_INTERVAL).min(POLL_INTERVAL));
    None
}

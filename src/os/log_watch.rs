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
    is_watched: bool,
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
            is_watched: false,
        }
    }

    /// Returns the names of the files that changed, or none if it may be any; at the latest after
    /// the timeout.
    #[cfg(target_os = "linux")]
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Option<BTreeSet<OsString>> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use nix::sys::inotify::AddWatchFlags;
        use std::os::fd::AsFd;
        let Some(inotify) = self.inotify.as_ref() else {
            return pause(timeout);
        };
        if !self.is_watched {
            let flags = AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_ONLYDIR;
            self.is_watched = inotify.add_watch(&self.folder, flags).is_ok();
            if !self.is_watched {
                return pause(timeout);
            }
            return None; // what happened before is looked at now
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
                self.is_watched &= !event.mask.intersects(gone);
                is_known &= event.name.is_some();
                names.extend(event.name);
            }
        }
        is_known.then_some(names)
    }

    /// Returns after the timeout, or now and then.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Option<BTreeSet<OsString>> {
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

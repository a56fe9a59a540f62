//! What the thread of sd_notify has, for a successor: it goes from that thread to the runtime, for
//! what modules and strangers sent is in its table alone. Owns the form of these messages.
//! Never waits for the runtime.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::fds::MAX_FDS;
use crate::frame::send_fds;
use crate::reexec::kept_fds::KeptFd;
use crate::reexec::notify_state::{NotifyThreadState, SourceState, StoredState};
use crate::workers::notify_thread::NotifyThread;

/// How soon it is tried again to send what found no room.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

impl NotifyThread {
    /// From here on all is sent to this socket.
    pub(crate) fn mirror_all(&mut self, socket: Option<OwnedFd>) {
        self.mirror.socket = socket;
        let ids = self.sources.keys().chain(self.instances.keys());
        ids.for_each(|id| self.mirror.stored(*id));
    }

    pub(crate) fn mirror_timeout(&self) -> Option<Duration> {
        self.mirror.is_due().then_some(RETRY_INTERVAL)
    }

    /// Sends what has changed.
    pub(crate) fn update_mirror(&mut self) {
        for id in self.mirror.take() {
            let Some(socket) = &self.mirror.socket else {
                return;
            };
            let (state, fds) = self.part(id);
            let Ok(text) = serde_json::to_vec(&(id, state)) else {
                continue;
            };
            match send_fds(socket, &text, &fds) {
                Ok(_) => {}
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => {
                    self.mirror.stored(id);
                }
                Err(_) => self.mirror.socket = None, // that runtime has ended
            }
        }
    }

    fn part(&self, id: u32) -> (NotifyThreadState<usize>, Vec<RawFd>) {
        let mut fds = Vec::new();
        let mut place = |fd: RawFd| {
            fds.push(fd);
            fds.len() - 1
        };
        let source = self.sources.get(&id).map(|one| SourceState {
            id,
            generation: one.generation,
            name: one.name.clone(),
            uid: one.uid,
            socket: place(one.socket.as_raw_fd()),
            path: one.path.clone(),
            tree: one.tree.clone(),
        });
        let store = self.instances.get(&id).map(|one| &one.store.kept);
        let store = store.into_iter().flatten().take(MAX_FDS - 1);
        let stored = store.map(|kept| StoredState {
            id,
            name: kept.name.clone(),
            watched: kept.watched,
            fd: place(kept.fd.as_raw_fd()),
        });
        let stored = stored.collect();
        let sources = source.into_iter().collect();
        (NotifyThreadState { sources, stored }, fds)
    }
}

/// Adds such a message, whose descriptors have these numbers, to what is passed on.
pub(super) fn add(
    text: &str,
    raw: &[RawFd],
    all: &mut NotifyThreadState<KeptFd>,
) -> Result<(), String> {
    let read = serde_json::from_str::<(u32, NotifyThreadState<usize>)>(text);
    let (_, part) = read.map_err(|problem| problem.to_string())?;
    let mut missing = false;
    let part = part.map(|place| {
        missing |= place >= raw.len();
        KeptFd::new(raw.get(place).copied().unwrap_or(-1))
    });
    if missing {
        return Err("a descriptor is missing".to_owned());
    }
    all.sources.extend(part.sources);
    all.stored.extend(part.stored);
    Ok(())
}

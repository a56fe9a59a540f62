//! Directories, locks and listening sockets of a system, as the engine uses them.
//! Owns duplicates of the listeners; the rest belongs to the thread of `dir_keeper`.
//! Never opens or writes anything after the setup: what may block is done by that thread.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::engine_queue::EngineQueue;
use crate::messages::{BoundSocket, HolderSetup};
use crate::status_file::HolderStatus;
use crate::workers::claimed_dirs::ClaimedDirs;
use crate::workers::dir_keeper::DirKeeper;

/// How long the files of a system may take to be removed when the holder exits.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the engine needs of them.
#[derive(Debug)]
pub(crate) struct SystemDirs {
    notify_folder: PathBuf,
    listeners: Vec<OwnedFd>,
    pub(crate) keeper: DirKeeper,
}

impl SystemDirs {
    /// Creates and locks everything and starts the thread that keeps it.
    ///
    /// # Errors
    /// In a sentence: a directory cannot be created or is not safe, a lock is held, a path is too
    /// long.
    pub(crate) fn claim(
        setup: &HolderSetup,
        queue: Arc<EngineQueue>,
    ) -> Result<SystemDirs, String> {
        let claimed = ClaimedDirs::claim(setup)?;
        let failed = |problem: io::Error| format!("cannot start its thread: {problem}");
        SystemDirs::start(claimed, queue).map_err(failed)
    }

    /// Starts the thread that keeps what is claimed.
    pub(crate) fn start(claimed: ClaimedDirs, queue: Arc<EngineQueue>) -> io::Result<SystemDirs> {
        Ok(SystemDirs {
            notify_folder: claimed.notify_folder(),
            listeners: claimed.listeners()?,
            keeper: DirKeeper::start(claimed, queue)?,
        })
    }

    pub(crate) fn notify_folder(&self) -> PathBuf {
        self.notify_folder.clone()
    }

    /// Returns duplicates of the listeners, for a runtime.
    pub(crate) fn listeners(&self) -> io::Result<Vec<OwnedFd>> {
        self.listeners.iter().map(OwnedFd::try_clone).collect()
    }

    /// Takes the listeners that were bound again, after the directories were removed.
    pub(crate) fn replace_listeners(&mut self, listeners: Vec<OwnedFd>) {
        self.listeners = listeners;
    }

    /// Replaces `holder.json`, soon.
    pub(crate) fn write_status(&self, status: &HolderStatus<'_>) {
        self.keeper.write_status(status.to_json());
    }

    /// Removes the files of sockets that no longer listen, soon.
    pub(crate) fn remove_sockets(&self, sockets: Vec<BoundSocket>) {
        let path = |one: BoundSocket| Some((one.socket.address.into(), one.file?));
        let files = sockets.into_iter().filter_map(path);
        self.keeper.remove_files(files.collect());
    }

    /// Removes what must not stay.
    pub(crate) fn release(self) {
        self.keeper.release(RELEASE_TIMEOUT);
    }
}

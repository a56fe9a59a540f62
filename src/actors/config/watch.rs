//! Saved files: when they are looked at, and what is done about them.
//! Owns the task that waits for changes; it ends with the actor.
//! Never reads a file: that is done away from the actors.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::ActorRef;
use tokio::task::AbortHandle;

use super::{ConfigActorState, ConfigMsg, ReloadRequest};
use crate::config::ReloadMode;
use crate::os::folder_watch::{Changes, FolderWatch};

/// Time until files with a problem are read again, before the problem is reported.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// The watch over the files of the configuration.
pub(super) struct FileWatch {
    folders: Arc<Mutex<FolderWatch>>,
    task: AbortHandle,
}

impl FileWatch {
    pub(super) fn folders(&self) -> Arc<Mutex<FolderWatch>> {
        Arc::clone(&self.folders)
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ConfigActorState {
    /// Begins to watch, and looks whether the files changed before that.
    pub(super) fn begin_watch(&mut self, myself: &ActorRef<ConfigMsg>) {
        if self.watch.is_some() {
            return;
        }
        let changes: Arc<Changes> = Arc::default();
        let folders = FolderWatch::new(Arc::clone(&changes));
        let myself = myself.clone();
        let task = tokio::spawn(async move {
            loop {
                changes.settled().await;
                if myself.cast(ConfigMsg::Saved).is_err() {
                    return;
                }
            }
        });
        self.watch = Some(FileWatch {
            folders: Arc::new(Mutex::new(folders)),
            task: task.abort_handle(),
        });
        self.queue(self.saved());
    }

    /// What a saved file asks for.
    pub(super) fn saved(&self) -> ReloadRequest {
        ReloadRequest {
            compare_only: self.ctx.configuration().system.reload == ReloadMode::Manual,
            ..ReloadRequest::default()
        }
    }
}

/// Reads the files once more before a problem of them is reported.
pub(super) fn look_again(myself: &ActorRef<ConfigMsg>, mut request: Box<ReloadRequest>) {
    request.is_second_look = true;
    let myself = myself.clone();
    tokio::spawn(async move {
        tokio::time::sleep(SECOND_LOOK).await;
        let _actor_ended = myself.cast(ConfigMsg::Reload(*request));
    });
}

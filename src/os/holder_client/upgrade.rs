//! The upgrade of the runtime, as a request to the holder.
//! Owns the request that is not answered yet, and whether this runtime is to end.
//! Never ends the runtime: the composition root does.

use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use mainstay_holder::messages::HolderRequest;
use tokio::sync::{Notify, oneshot};

use super::{HolderClient, lock};
use crate::os::OsEvent;
use crate::os::program::UpgradeRequest;

/// Time the holder has to answer; one that does not know the request never does.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The upgrade that was requested last.
#[derive(Default)]
pub(super) struct PendingUpgrade {
    asker: Mutex<Option<oneshot::Sender<Result<(), String>>>>,
    accepted: Notify,
}

impl HolderClient {
    /// Completes when an upgrade has been accepted: this runtime has to end.
    pub(crate) async fn upgrade_accepted(&self) {
        self.upgrade.accepted.notified().await;
    }

    pub(super) fn request_upgrade(
        &self,
        upgrade: UpgradeRequest,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let (sender, answer) = oneshot::channel();
        let mut asker = lock(&self.upgrade.asker);
        if asker.as_ref().is_some_and(|asker| !asker.is_closed()) {
            let text = "another upgrade is in flight".to_owned();
            return Box::pin(std::future::ready(Err(text)));
        }
        *asker = Some(sender);
        drop(asker);
        let request = HolderRequest::Upgrade {
            program: upgrade.program,
            note: upgrade.note,
        };
        #[cfg(unix)]
        let fds = vec![upgrade.file.into()];
        #[cfg(windows)]
        let fds = Vec::new();
        self.send_request_with(&request, fds);
        Box::pin(async move {
            match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Err(format!(
                    "the holder did not answer within {} s; it may be one that cannot do it: run \
                     `mainstay down`, then start mainstay again with that program",
                    ANSWER_TIMEOUT.as_secs()
                )),
            }
        })
    }

    pub(super) fn upgrade_answered(&self, problem: Option<String>) -> Option<OsEvent> {
        let accepted = problem.is_none();
        if let Some(asker) = lock(&self.upgrade.asker).take() {
            let _the_client_left = asker.send(problem.map_or(Ok(()), Err));
        }
        if accepted {
            self.upgrade.accepted.notify_one();
        }
        None
    }
}

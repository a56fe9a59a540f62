//! The last requests of a runtime that ends in order.
//! Owns how long they are waited for.
//! Never decides that the runtime ends.

use std::time::Duration;

use super::HolderClient;
use crate::os::Os;

/// Time the last request has to be sent.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

impl HolderClient {
    /// Sends the exit request of the holder and waits until it is sent.
    pub(crate) async fn exit_holder_and_wait(&self, code: u8) {
        self.send_and_wait(|client| client.exit_holder(code)).await;
    }

    /// Waits until every request is sent: this runtime ends, and another one follows.
    pub(crate) async fn sent_before_end(&self) {
        self.send_and_wait(HolderClient::pong).await;
    }

    async fn send_and_wait(&self, send: impl FnOnce(&HolderClient)) {
        let last = async {
            // An earlier message may have left a permit.
            let _stale = tokio::time::timeout(Duration::ZERO, self.sent.notified()).await;
            send(self);
            self.sent.notified().await;
        };
        let _or_gone = tokio::time::timeout(LEAVE_TIMEOUT, last).await;
    }
}

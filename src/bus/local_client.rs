//! A bus client without a socket: for tasks of an embedding application.
//! Owns its queue, with the limits of a connection's queue.
//! Never serves calls: the caller gets an error.

use std::sync::{Arc, Weak};

use mainstay_policy::ModuleId;
use mainstay_protocol::method::{BusEvent, name};
use mainstay_protocol::rpc::Response;
use mainstay_protocol::{ErrorCode, RequestError, RpcMessage, RpcRequest};
use tokio::sync::mpsc;

use super::Bus;
use super::line_queue::{LineQueue, QueuedLine};

/// A subscription of a task; it leaves the bus when it is dropped.
pub(crate) struct LocalBusClient {
    bus: Weak<Bus>,
    module: ModuleId,
    connection: u64,
    lines: mpsc::Receiver<QueuedLine>,
}

impl LocalBusClient {
    /// Connects the module and subscribes; an earlier connection of the module is dropped.
    ///
    /// # Errors
    /// As [`Bus::subscribe`].
    pub(crate) fn join(
        bus: &Arc<Bus>,
        module: ModuleId,
        subjects: Vec<String>,
    ) -> Result<LocalBusClient, RequestError> {
        let (queue, lines) = LineQueue::new();
        let client = LocalBusClient {
            bus: Arc::downgrade(bus),
            module,
            connection: bus.join(module, queue),
            lines,
        };
        bus.subscribe(module, client.connection, subjects)?;
        Ok(client)
    }

    /// Returns the next event; None when another connection replaced this one or the bus is gone.
    pub(crate) async fn next(&mut self) -> Option<BusEvent> {
        loop {
            let queued = self.lines.recv().await?;
            let Ok(RpcMessage::Request(request)) = RpcMessage::parse(&queued.line) else {
                continue; // it sends no requests, so that no response is for it
            };
            if request.method != name::EVENT {
                self.decline(request);
            } else if let Ok(event) = serde_json::from_value(request.params) {
                return Some(event);
            }
        }
    }

    fn decline(&self, request: RpcRequest) {
        let text = "cannot serve calls: the module is a task of the application";
        let error = RequestError::new(ErrorCode::ModuleError, text);
        if let Some(bus) = self.bus.upgrade() {
            let response = Response::refusal(request.id, error);
            bus.on_response(self.module, self.connection, response);
        }
    }
}

impl Drop for LocalBusClient {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.leave(self.module, self.connection);
        }
    }
}

impl std::fmt::Debug for LocalBusClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalBusClient")
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

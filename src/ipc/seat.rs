//! A module's place on the bus without a socket: for tasks of an application.
//! Owns its queue, bounded as a connection's. Never serves calls: who calls it is told so.

use std::sync::{Arc, Weak};

use mainstay_policy::ModuleId;
use mainstay_protocol::method::{BusEvent, name};
use mainstay_protocol::rpc::Reply;
use mainstay_protocol::{Message, Refusal, RefusalCode, Request};
use tokio::sync::mpsc;

use super::bus::Bus;
use super::connection::next_connection;
use super::outbox::{Outbox, Outgoing};

/// A place on the bus; left when it is dropped.
pub(crate) struct Seat {
    bus: Weak<Bus>,
    module: ModuleId,
    connection: u64,
    lines: mpsc::Receiver<Outgoing>,
}

impl Seat {
    /// Takes the module's place and subscribes; an earlier one of the same module is over.
    ///
    /// # Errors
    /// `invalid_params` for a pattern that is none, or for too many of them.
    pub(crate) fn take(
        bus: &Arc<Bus>,
        module: ModuleId,
        subjects: Vec<String>,
    ) -> Result<Seat, Refusal> {
        let (outbox, lines) = Outbox::new();
        let seat = Seat {
            bus: Arc::downgrade(bus),
            module,
            connection: next_connection(),
            lines,
        };
        bus.join(module, seat.connection, outbox);
        bus.subscribe(module, seat.connection, subjects)?;
        Ok(seat)
    }

    /// The next event; None when the place was taken or the bus is gone.
    pub(crate) async fn next(&mut self) -> Option<BusEvent> {
        loop {
            let line = self.lines.recv().await?;
            let Ok(Message::Request(request)) = Message::parse(&line.line) else {
                continue; // it asks nothing, so nobody answers it
            };
            if request.method != name::EVENT {
                self.decline(request);
            } else if let Ok(event) = serde_json::from_value(request.params) {
                return Some(event);
            }
        }
    }

    fn decline(&self, request: Request) {
        let text = "cannot serve calls: it is a task of the application";
        let refusal = Refusal::new(RefusalCode::ModuleError, text);
        if let Some(bus) = self.bus.upgrade() {
            bus.answered(
                self.module,
                self.connection,
                Reply::refusal(request.id, refusal),
            );
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.leave(self.module, self.connection);
        }
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat")
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

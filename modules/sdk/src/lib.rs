//! mainstay-sdk: what a module of a mainstay application says and hears.
//! Owns the connection to mainstay, sd_notify, the watchdog and the module's closures.
//! Never blocks the module for ever and never ends it: outside mainstay everything is a no-op.
//!
//! ```
//! use mainstay_sdk::{HealthReport, Module};
//!
//! let module = Module::connect();
//! module.health(|| HealthReport::healthy().metric("queue_depth", 0.0));
//! module.serve("greet", |call| Ok(serde_json::json!(format!("hello, {}", call.from))));
//! module.subscribe(&["samples.*"], |event| println!("{}: {}", event.subject, event.payload));
//! module.ready();
//! module.status("counting stars");
//! ```
//!
//! Blocking, on plain threads. When mainstay is restarted the connection comes back by itself:
//! subscriptions, readiness and the last status are said again, up to 1024 published messages
//! wait meanwhile, then the oldest are dropped and counted ([`Module::dropped`]). A message that
//! was sent and not confirmed is sent again, so a subscriber may see it twice.
//!
//! On Windows the connection is a named pipe; that it compiles is all that was tried of it.
//! Variables such as `NOTIFY_SOCKET` stay in the environment; a module that starts programs of
//! its own removes them from theirs.

mod asks;
mod error;
mod events;
mod health;
mod link;
mod module;
mod notify;
mod outbox;
mod queue;
mod surroundings;
mod watchdog;

pub use error::{CallError, Error};
pub use health::HealthReport;
pub use mainstay_protocol::method::{BusEvent as Event, CallParams as Call};
pub use mainstay_protocol::{ErrorCode, HealthStatus, RequestError};
pub use module::Module;
pub use surroundings::Surroundings;

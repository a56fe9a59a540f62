//! mainstay-sdk: the library that a module of a mainstay application links.
//! Owns the connection to mainstay, sd_notify, the watchdog and the module's handlers.
//! Never blocks a module without a timeout and never ends it: without mainstay it does nothing.
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
//! The interface is blocking and uses plain threads. After a restart of mainstay the SDK connects
//! again and repeats subscriptions, readiness and the last status. Until then it keeps up to 1024
//! published messages; further ones replace the oldest, which are counted ([`Module::dropped`]).
//! A message that was sent and not confirmed is sent again: a subscriber may receive it twice.
//!
//! On Windows the connection is a named pipe. Variables such as `NOTIFY_SOCKET` stay in the
//! environment; a module that starts other programs removes them from their environment.

mod callbacks;
mod config_change;
mod environment;
mod error;
mod event_dispatch;
mod health_report;
mod module;
mod notify_socket;
mod outbox;
mod queue;
mod reconnect;
mod watchdog;

pub use config_change::ConfigChange;
pub use environment::ModuleEnvironment;
pub use error::{CallError, Error};
pub use health_report::HealthReport;
pub use mainstay_protocol::method::{BusEvent as Event, CallParams as Call};
pub use mainstay_protocol::{ErrorCode, HealthStatus, RequestError};
pub use module::Module;

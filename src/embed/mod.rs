//! mainstay inside of an application: the same supervision without a process of its own.
//! Owns the public handle, its builder and what a task sees. Never decides: the actors do.
//!
//! ```text
//! Builder ─► runtime.rs: prepare, hold, build, begin ─► Runtime ─► ipc::requests, ipc::view
//!                              │
//!                os/direct.rs: tasks on threads of their own,
//!                              processes through mainstay_holder::embed
//! ```

mod builder;
mod context;
mod guard;
mod handle;

pub use builder::{Builder, StartError};
pub use context::{Context, Events, TaskError};
pub use handle::{Outcome, Runtime};

//! mainstay inside of an application: the same supervision without a process of its own.
//! Owns the public handle, its builder and what a task sees. Never decides: the actors do.
//!
//! ```text
//! RuntimeBuilder ─► runtime.rs: prepare, connect, build, start ─► Runtime ─► control
//!                              │
//!                os/embedded.rs: tasks on threads of their own,
//!                              processes through mainstay_holder::embed
//! ```

mod builder;
mod guard;
mod handle;
mod task_context;

pub use builder::{RuntimeBuilder, StartError};
pub use handle::{Runtime, ShutdownReport};
pub use task_context::{TaskContext, TaskError, TaskSubscription};

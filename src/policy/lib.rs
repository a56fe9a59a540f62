//! mainstay-policy: what should happen next.
//! Owns every decision, as values; time, randomness and facts are arguments.
//! Never reads a clock, a file or the network: `no_std` lets the compiler keep that promise.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod backoff;
pub mod breaker;
#[cfg(test)]
mod fixture;
pub mod graph;
pub mod health;
pub mod lifecycle;
pub mod module;
pub mod plan;
pub mod recovery;
pub mod shutdown;
pub mod spec;
pub mod states;
pub mod time;

pub use lifecycle::Lifecycle;
pub use module::Module;
pub use plan::{Plan, PlanError};
pub use spec::{ModuleId, ModuleSpec, SystemSpec};
pub use states::{Cause, Health, State, Status, Wanted};
pub use time::Time;

//! mainstay-policy: what should happen next.
//! Owns every decision, as values; time, randomness and events are arguments.
//! Never reads a clock, a file or the network: `no_std` lets the compiler keep that promise.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod backoff;
mod cascade;
pub mod circuit_breaker;
pub mod cpu_governor;
pub mod diff;
pub mod feature;
#[cfg(test)]
mod fixture;
pub mod graph;
pub mod group;
pub mod health;
pub mod idle;
pub mod lifecycle;
pub mod module_ids;
pub mod mono_time;
pub mod plan;
pub mod rate_limit;
pub mod recovery;
pub mod reload;
pub mod resources;
pub mod run;
pub mod spec;
pub mod states;
pub mod stop_budget;

pub use lifecycle::Lifecycle;
pub use module_ids::ModuleIds;
pub use mono_time::MonoTime;
pub use plan::{Plan, PlanError};
pub use run::RunMachine;
pub use spec::{ModuleId, ModuleSpec, SystemSpec};
pub use states::{Cause, Desired, Health, State, Status};

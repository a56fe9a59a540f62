//! mainstay-policy: what should happen next.
//! Owns every decision, as values; time, randomness and facts are arguments.
//! Never reads a clock, a file or the network: `no_std` lets the compiler keep that promise.

#![no_std]

extern crate alloc;

pub mod spec;
pub mod time;

pub use spec::{ModuleId, ModuleSpec, SystemSpec};
pub use time::Time;

//! chaos: the seeded simulators of mainstay's policy and of its holder, and their checkers.
//! Owns virtual time, the fake processes and the faults; one seed is one history.
//! Never decides what a module should do: that is what it tests.

#[cfg(unix)]
pub mod actors;
pub mod checker;
pub mod choices;
pub mod coverage;
pub mod explain;
pub mod fault;
pub mod holder;
mod minimise;
pub mod plans;
pub mod report;
pub mod rng;
pub mod shrink;
pub mod sim;
pub mod trace;
pub mod violation;
pub mod world;

pub use sim::{InjectedBug, SimOptions, Summary, run};
pub use violation::Violation;

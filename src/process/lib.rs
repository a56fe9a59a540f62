//! mainstay-process: what can be said about a process.
//! Owns the types that policy, holder, runtime and configuration share, and their form in JSON.
//! Never decides and never touches the system: `no_std` lets the compiler keep that promise.
//!
//! A list that travels between two programs has a variant for what the other side knows and this
//! one does not: an older side survives a newer one. Fields are only added, with a default.

#![no_std]

extern crate alloc;

mod exit;
mod instance;
mod limits;
pub mod log_index;
mod probe;
mod process_event;
mod signal;
mod spawn_request;
mod start_failure;

pub use exit::Exit;
pub use instance::{Instance, InvalidInstance};
pub use limits::{CPU_SET_WORDS, CpuSet};
pub use limits::{Limits, RunLimits};
pub use probe::{ListenerOwner, Probe, ProbeRole};
pub use process_event::{EarlierExit, Exited, ProcessEvent, ProcessEventKind, TreeProcess};
pub use signal::Signal;
pub use spawn_request::{
    ActivationSocket, Credentials, Isolation, Output, SpawnRequest, StdStream, Stdin,
};
pub use start_failure::{StartFailure, StartStep};

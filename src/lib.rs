//! mainstay: a local-first supervision runtime. *Keep it running, and be able to say why.*
//!
//! Where things are:
//!
//! | room | what it is |
//! |---|---|
//! | [`config`] | files to values: layers, provenance, every problem at once |
//! | `policy` (crate [`mainstay_policy`]) | pure decisions: what should happen next |
//! | `actors` | own the state and perform the decisions |
//! | `os` | the machine: processes (through the holder), clocks, looks |
//! | `holder` (crate [`mainstay_holder`]) | the small parent process that owns the modules |
//! | [`journal`] | what happened, and why |
//! | `embed` | [`Runtime`]: all of this inside of an application |
//! | `ipc`, [`mainstay_protocol`], [`mainstay_client`] | the local socket |
//! | `cli` (feature `cli`) | one file a verb |
//!
//! An application that embeds a [`Runtime`] turns the default feature `cli` off
//! (`default-features = false`): without it there is no command line, no binary and no clap.
//!
//! A restart decision is taken in `policy/recovery.rs`, [`mainstay_policy::recovery::decide`].

#![cfg_attr(
    not(feature = "cli"),
    expect(dead_code, unused_imports, reason = "the command line uses them")
)]

mod actors;
mod bus;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
mod control;
mod embed;
#[cfg(feature = "cli")]
mod import;
mod ipc;
pub mod journal;
mod os;
mod os_text;
mod plan_store;
mod runtime;
mod secrets;

#[cfg(all(unix, feature = "simulation"))]
pub use runtime::simulation;

pub use embed::{
    Runtime, RuntimeBuilder, ShutdownReport, StartError, TaskContext, TaskError, TaskSubscription,
};

//! mainstay: a local-first supervision runtime. *Keep it running, and be able to say why.*
//!
//! [`Runtime`] is mainstay inside of an application: it supervises the processes and the tasks of a
//! configuration until [`Runtime::stop_system`], and answers the command line `mainstay` meanwhile.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use mainstay::{Runtime, TaskContext, TaskError};
//!
//! /// Runs until it is cancelled; an error is a failed run, which is restarted with backoff.
//! async fn indexer(ctx: TaskContext) -> Result<(), TaskError> {
//!     ctx.ready();
//!     ctx.cancelled().await;
//!     Ok(())
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Runtime::builder()
//!     .config("config") // the folder of mainstay.toml, with `[module.web]` and its command
//!     .task("indexer", indexer)
//!     .start()
//!     .await?;
//! runtime.wait_started().await?;
//! for module in runtime.modules() {
//!     println!("{} is {}", module.module, module.state);
//! }
//! let report = runtime.stop_system(Duration::from_secs(10)).await;
//! println!("{report:?}");
//! # Ok(())
//! # }
//! ```
//!
//! An application turns the default feature `cli` off (`default-features = false`): without it
//! there is no command line, no binary and no clap. A program that talks to a running mainstay uses
//! the crate [`mainstay_client`], a module that mainstay starts the crate `mainstay-sdk`.
//!
//! # Rooms
//!
//! | room | what it is |
//! |---|---|
//! | [`config`] | files to values: layers, the origin of each value, all problems at once |
//! | `policy` (crate [`mainstay_policy`]) | pure decisions: what happens next |
//! | `actors` | own the state and perform the decisions |
//! | `os` | the machine: processes (through the holder), clocks, samples |
//! | `holder` (crate [`mainstay_holder`]) | the small parent of all module processes |
//! | [`journal`] | what happened, and because of what |
//! | `control` | what can be requested: permission, rate limit, the requests by family |
//! | `embed` | [`Runtime`] |
//! | `ipc`, [`mainstay_protocol`], [`mainstay_client`] | the local sockets, their JSON, clients |
//! | `simulate` (feature `cli`) | a plan under faults, in virtual time |
//! | `cli` (feature `cli`) | one file for each verb |
//!
//! A restart is decided in [`mainstay_policy::recovery::decide`]. `docs/ARCHITECTURE.md` says where
//! everything else is, and follows an exit and a request through the code.

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
#[cfg(feature = "cli")]
mod service;
#[cfg(feature = "cli")]
mod simulate;

#[cfg(all(unix, feature = "simulation"))]
pub use runtime::simulation;

/// The types of requests, results and events, which [`Runtime`] takes and returns.
pub use mainstay_protocol as protocol;

pub use embed::{
    Runtime, RuntimeBuilder, ShutdownReport, StartError, TaskContext, TaskError, TaskSubscription,
};

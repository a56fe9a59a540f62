//! The real daemon, end to end: one binary for all integration tests.
//! Owns the list of them. Never a test itself.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests start programs, wait for them and look at the clock themselves"
)]

mod abandoned;
mod allowances;
mod audit;
mod away;
mod bus;
mod campaign;
mod changes;
#[cfg(unix)]
mod clients;
mod config_verbs;
mod configuration;
#[cfg(target_os = "linux")]
mod control_groups;
mod daemon;
#[cfg(target_os = "linux")]
mod deaths;
mod decisions;
mod delivery;
mod directories;
mod docs;
#[cfg(unix)]
mod edit_campaign;
mod embedded;
mod events;
mod exits;
mod features;
mod first_light;
mod first_plan;
mod first_process;
mod foreground;
#[cfg(unix)]
mod forensics;
mod fuzzed;
mod health;
#[cfg(target_os = "linux")]
mod hidden;
mod history;
mod holds;
mod hygiene;
mod idle_stop;
mod import;
mod ipc;
mod ipc_levels;
#[cfg(target_os = "linux")]
mod isolation;
mod journal;
#[cfg(target_os = "linux")]
mod limited_programs;
mod limits;
mod live_keys;
#[cfg(unix)]
mod logs;
mod matrix;
mod memory;
mod namespaces;
mod notify;
mod odd_files;
#[cfg(target_os = "linux")]
mod odd_limits;
mod output;
mod pitfalls;
mod private;
mod probes;
mod process_limit;
mod raw;
mod readiness;
mod real_programs;
mod recovery;
mod reload;
#[cfg(unix)]
mod reload_faults;
mod renames;
#[cfg(unix)]
mod report;
mod runtime_log;
#[cfg(unix)]
mod saved_files;
mod secrets;
mod service;
mod service_manager;
#[cfg(unix)]
mod sessions;
mod sockets;
mod stopping;
mod strangers;
mod streams;
#[cfg(target_os = "linux")]
mod succession;
#[cfg(target_os = "linux")]
mod takeover;
#[cfg(target_os = "linux")]
mod terminal;
mod tidy;
mod tree_stops;
mod trees;
mod upgrade;
#[cfg(target_os = "linux")]
mod upgrade_of_holder;
mod verbs;
mod watched_sources;
mod why;

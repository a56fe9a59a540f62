//! The real daemon, end to end: one binary for all integration tests.
//! Owns the list of them. Never a test itself.
mod embedded;
#![expect(
    clippy::disallowed_methods,
    reason = "the tests start programs, wait for them and look at the clock themselves"
)]

mod daemon;
mod exits;
mod first_light;
mod ipc;
mod ipc_levels;
mod raw;
mod readiness;
mod tidy;

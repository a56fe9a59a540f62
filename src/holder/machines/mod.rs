//! The decisions of the holder as state machines: no process, descriptor or clock behind them.
//! Owns which run of an instance exists and when the runtime is started, pinged and killed.
//! Never calls the system: time is an argument, and each effect is performed by the engine.

pub mod notify_state;
pub mod roster;
pub mod runtime_supervisor;

pub use notify_state::NotifyState;
pub use roster::{FenceError, Roster, RosterEffect};
pub use runtime_supervisor::{RuntimeExit, RuntimeSupervisor, SupervisorEffect, SystemState};

/// Whole milliseconds, for a message.
pub(crate) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

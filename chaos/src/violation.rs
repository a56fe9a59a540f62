//! What must never happen.
//! Owns the list; `tests/seeds.rs` breaks things on purpose to see most of them found.
//! Never looks for it: `check` does.

use mainstay_policy::{ModuleId, State};

/// What must never happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A process was ordered while one lived, or with an old generation.
    TwoProcesses(ModuleId),
    /// A module was run before what it needs.
    StartedTooEarly(ModuleId, ModuleId),
    /// A module was run though it is wished down, or nobody wished it up.
    StartedThoughDown(ModuleId),
    /// A module was run while its last run was not over.
    RunTwice(ModuleId),
    /// More attempts in the window than allowed.
    BudgetExceeded(ModuleId),
    /// More restarts on their way than there are tokens.
    TooManyRestarts(ModuleId),
    /// A module was halted before one that depends on it.
    StopOrder(ModuleId, ModuleId),
    /// A halt took longer than its grace.
    StopHangs(ModuleId),
    /// The stop of everything took longer than its budget, or left a process.
    StopTooLong,
    /// Everything was reported as stopped, but was not, or twice.
    NotStopped,
    /// A quiet system has a deadline that is no probation.
    NotQuiet(Option<ModuleId>),
    /// Long after the last fault a module is not where its wish wants it.
    WishNotReached(ModuleId, State),
    /// One event led to effects without end, or a seed to steps without end.
    Endless,
}

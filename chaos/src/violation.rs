//! What must never happen.
//! Owns the list; `tests/seeds.rs` breaks things on purpose to see each of them found.
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
    /// A module is not wished for what somebody wished it last.
    WishLost(ModuleId),
    /// A module goes on under a newer run of what it needs, though it is to restart with that.
    LeftBehind(ModuleId, ModuleId),
    /// A module runs on by a spec that a plan replaced.
    OldRun(ModuleId),
    /// A module was forgotten while it ran, or though the plan has it.
    RemovedTooEarly(ModuleId),
    /// A group restarted its members more often than it may.
    GroupExceeded(ModuleId),
    /// A module went on though another's failure was to end it too, or started before all had
    /// ended that restart with it.
    RestartShared(ModuleId),
    /// A module was run before what had to be done before it.
    StartedUnprepared(ModuleId),
    /// One event led to effects without end, or a seed to steps without end.
    Endless,
}

impl Violation {
    /// How many there are.
    pub const COUNT: usize = 20;

    /// Its place in the list, for those who count them.
    #[must_use]
    pub fn number(&self) -> usize {
        match self {
            Violation::TwoProcesses(_) => 0,
            Violation::StartedTooEarly(..) => 1,
            Violation::StartedThoughDown(_) => 2,
            Violation::RunTwice(_) => 3,
            Violation::BudgetExceeded(_) => 4,
            Violation::TooManyRestarts(_) => 5,
            Violation::StopOrder(..) => 6,
            Violation::StopHangs(_) => 7,
            Violation::StopTooLong => 8,
            Violation::NotStopped => 9,
            Violation::NotQuiet(_) => 10,
            Violation::WishNotReached(..) => 11,
            Violation::WishLost(_) => 12,
            Violation::LeftBehind(..) => 13,
            Violation::Endless => 14,
            Violation::OldRun(_) => 15,
            Violation::RemovedTooEarly(_) => 16,
            Violation::GroupExceeded(_) => 17,
            Violation::RestartShared(_) => 18,
            Violation::StartedUnprepared(_) => 19,
        }
    }
}

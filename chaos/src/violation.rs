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
    /// A module was given up though it had tries left.
    GaveUpTooEarly(ModuleId),
    /// A failure was taken for what it is not: as an end that may be, or as one to try again.
    WrongVerdict(ModuleId),
    /// A module was given up without a try to come that its specification asks for.
    NoProbation(ModuleId),
    /// A module was run before its delay was over, or its turn.
    StartedTooSoon(ModuleId),
    /// A required module was given up in the first start, and the start went on.
    StartNotFailed(ModuleId),
    /// The status of the system is better than this required module is.
    FalseStatus(ModuleId),
    /// A start that hangs kept its restart token.
    TokenHeld(ModuleId),
    /// A process that does not feed its watchdog lives on.
    WatchdogSleeps(ModuleId),
    /// A module goes on although what it needs was given up.
    NeedGone(ModuleId, ModuleId),
    /// A run that has lasted for long still owes attempts.
    AttemptsKept(ModuleId),
    /// Time alone did not do to a module what was forecast, or did what was not.
    ForecastBroken(ModuleId),
    /// A module was run while it was held.
    StartedThoughHeld(ModuleId),
    /// One event led to effects without end, or a seed to steps without end.
    Endless,
    /// The same seed gave another history.
    NotDeterministic,
}

impl Violation {
    /// How many there are.
    pub const COUNT: usize = 33;

    /// How many of them are found by what is broken around the policy; planted bugs find the rest.
    pub const AROUND: usize = 20;

    /// The module that it names, if it names one.
    #[must_use]
    pub fn module(&self) -> Option<ModuleId> {
        match self {
            Violation::TwoProcesses(module)
            | Violation::StartedTooEarly(module, _)
            | Violation::StartedThoughDown(module)
            | Violation::RunTwice(module)
            | Violation::BudgetExceeded(module)
            | Violation::TooManyRestarts(module)
            | Violation::StopOrder(module, _)
            | Violation::StopHangs(module)
            | Violation::WishNotReached(module, _)
            | Violation::WishLost(module)
            | Violation::LeftBehind(module, _)
            | Violation::OldRun(module)
            | Violation::RemovedTooEarly(module)
            | Violation::GroupExceeded(module)
            | Violation::RestartShared(module)
            | Violation::StartedUnprepared(module)
            | Violation::GaveUpTooEarly(module)
            | Violation::WrongVerdict(module)
            | Violation::NoProbation(module)
            | Violation::StartedTooSoon(module)
            | Violation::StartNotFailed(module)
            | Violation::FalseStatus(module)
            | Violation::TokenHeld(module)
            | Violation::WatchdogSleeps(module)
            | Violation::NeedGone(module, _)
            | Violation::AttemptsKept(module)
            | Violation::StartedThoughHeld(module)
            | Violation::ForecastBroken(module) => Some(*module),
            Violation::NotQuiet(module) => *module,
            Violation::StopTooLong
            | Violation::NotStopped
            | Violation::Endless
            | Violation::NotDeterministic => None,
        }
    }

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
            Violation::GaveUpTooEarly(_) => 20,
            Violation::WrongVerdict(_) => 21,
            Violation::NoProbation(_) => 22,
            Violation::StartedTooSoon(_) => 23,
            Violation::StartNotFailed(_) => 24,
            Violation::FalseStatus(_) => 25,
            Violation::TokenHeld(_) => 26,
            Violation::WatchdogSleeps(_) => 27,
            Violation::NeedGone(..) => 28,
            Violation::AttemptsKept(_) => 29,
            Violation::NotDeterministic => 30,
            Violation::ForecastBroken(_) => 31,
            Violation::StartedThoughHeld(_) => 32,
        }
    }
}

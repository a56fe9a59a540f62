//! What must never happen to the real actors.
//! Owns the list and its sentences. Never looks for it: the history does.

use std::fmt;

use mainstay_policy::State;

/// What must never happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActorViolation {
    /// A process was ordered while another run of its module has one.
    TwoProcesses(String, u64),
    /// A module was started before what it needs.
    StartedTooEarly(String, String),
    /// A module was started after it was stopped on request.
    StartedThoughDown(String),
    /// A request was never answered.
    NotAnswered(String),
    /// A reload has no outcome.
    ReloadNotAnswered(&'static str),
    /// The runtime gave up although few actors died.
    RuntimeGaveUp,
    /// The runtime could not be started.
    NoStart(String),
    /// Everything was reported as stopped, and a process is left.
    ProcessLeft(String),
    /// The stop of everything took longer than it may.
    StopTooLong,
    /// Long after the last fault a module is not where it is desired.
    WishNotReached(String, State),
    /// What is published of a module is not true.
    FalseState(String, State),
    /// The status is better than the modules are.
    FalseStatus(String),
    /// The last request for a module is not what is desired.
    WishLost(String),
    /// A module waits, and what it needs is there.
    WaitsForNothing(String),
    /// A plan that was applied is neither committed nor rolled back.
    PlanNotCommitted,
    /// A process runs that no plan has.
    NotInPlan(String),
    /// A process hangs, and its watchdog let it.
    WatchdogSleeps(String),
    /// An actor that died was not started again.
    ActorDead(String),
    /// The journal cannot be written.
    Journal(String),
    /// More waits for the runtime than may.
    Overflow,
}

impl ActorViolation {
    /// The module that it names.
    #[must_use]
    pub fn module(&self) -> Option<&str> {
        match self {
            ActorViolation::TwoProcesses(module, _)
            | ActorViolation::StartedTooEarly(module, _)
            | ActorViolation::StartedThoughDown(module)
            | ActorViolation::ProcessLeft(module)
            | ActorViolation::WishNotReached(module, _)
            | ActorViolation::FalseState(module, _)
            | ActorViolation::FalseStatus(module)
            | ActorViolation::WishLost(module)
            | ActorViolation::WaitsForNothing(module)
            | ActorViolation::NotInPlan(module)
            | ActorViolation::WatchdogSleeps(module)
            | ActorViolation::NotAnswered(module) => Some(module),
            ActorViolation::ReloadNotAnswered(_)
            | ActorViolation::RuntimeGaveUp
            | ActorViolation::NoStart(_)
            | ActorViolation::StopTooLong
            | ActorViolation::PlanNotCommitted
            | ActorViolation::ActorDead(_)
            | ActorViolation::Journal(_)
            | ActorViolation::Overflow => None,
        }
    }
}

impl fmt::Display for ActorViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.module().unwrap_or_default();
        let text = match self {
            ActorViolation::TwoProcesses(_, run) => {
                return write!(f, "a process of {m} was ordered while run {run} has one");
            }
            ActorViolation::StartedTooEarly(_, need) => {
                return write!(f, "{m} was started before {need} was what {m} needs of it");
            }
            ActorViolation::ReloadNotAnswered(what) => return write!(f, "a reload has no {what}"),
            ActorViolation::NoStart(why) => return write!(f, "the runtime cannot start: {why}"),
            ActorViolation::WishNotReached(_, state) => {
                return write!(f, "long after the last fault {m} is {state:?}");
            }
            ActorViolation::FalseState(_, state) => {
                return write!(f, "{m} is published as {state:?}, which is not true");
            }
            ActorViolation::ActorDead(actor) => {
                return write!(f, "the actor {actor} died and was not started again");
            }
            ActorViolation::Journal(why) => {
                return write!(f, "the journal cannot be written: {why}");
            }
            ActorViolation::StartedThoughDown(_) => "was started after it was stopped on request",
            ActorViolation::NotAnswered(_) => "has a request that was never answered",
            ActorViolation::ProcessLeft(_) => "still runs though everything was reported stopped",
            ActorViolation::FalseStatus(_) => "is not running, and the system is called healthy",
            ActorViolation::WishLost(_) => "is not desired as it was requested last",
            ActorViolation::WaitsForNothing(_) => "waits, and nothing that it needs is missing",
            ActorViolation::NotInPlan(_) => "runs, and no plan has it",
            ActorViolation::WatchdogSleeps(_) => "hangs, and its watchdog does nothing",
            ActorViolation::RuntimeGaveUp => "the runtime gave up although few actors had died",
            ActorViolation::StopTooLong => "the stop of everything took longer than its budget",
            ActorViolation::PlanNotCommitted => "a plan is neither committed nor rolled back",
            ActorViolation::Overflow => "more events wait for the runtime than may",
        };
        write!(f, "{}", format!("{m} {text}").trim_start())
    }
}

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
        match self {
            ActorViolation::TwoProcesses(module, run) => {
                write!(
                    f,
                    "a process of {module} was ordered while run {run} has one"
                )
            }
            ActorViolation::StartedTooEarly(module, need) => {
                write!(
                    f,
                    "{module} was started before {need} was what {module} needs of it"
                )
            }
            ActorViolation::StartedThoughDown(module) => {
                write!(f, "{module} was started after it was stopped on request")
            }
            ActorViolation::NotAnswered(module) => {
                write!(f, "a request for {module} was never answered")
            }
            ActorViolation::ReloadNotAnswered(what) => write!(f, "a reload has no {what}"),
            ActorViolation::RuntimeGaveUp => {
                write!(f, "the runtime gave up although few actors had died")
            }
            ActorViolation::NoStart(why) => write!(f, "the runtime cannot start: {why}"),
            ActorViolation::ProcessLeft(module) => {
                write!(
                    f,
                    "everything was reported as stopped, and {module} still runs"
                )
            }
            ActorViolation::StopTooLong => {
                write!(f, "the stop of everything took longer than its budget")
            }
            ActorViolation::WishNotReached(module, state) => {
                write!(f, "long after the last fault {module} is {state:?}")
            }
            ActorViolation::FalseState(module, state) => {
                write!(f, "{module} is published as {state:?}, which is not true")
            }
            ActorViolation::FalseStatus(module) => {
                write!(
                    f,
                    "the system is published as healthy, and {module} is not running"
                )
            }
            ActorViolation::WishLost(module) => {
                write!(
                    f,
                    "the last request for {module} is not what is desired of it"
                )
            }
            ActorViolation::WaitsForNothing(module) => {
                write!(f, "{module} waits, and nothing that it needs is missing")
            }
            ActorViolation::PlanNotCommitted => {
                write!(
                    f,
                    "a plan that was applied is neither committed nor rolled back"
                )
            }
            ActorViolation::NotInPlan(module) => {
                write!(f, "{module} runs, and no plan has it")
            }
            ActorViolation::WatchdogSleeps(module) => {
                write!(f, "{module} hangs, and its watchdog does nothing")
            }
            ActorViolation::ActorDead(actor) => {
                write!(f, "the actor {actor} died and was not started again")
            }
            ActorViolation::Journal(why) => write!(f, "the journal cannot be written: {why}"),
            ActorViolation::Overflow => write!(f, "more events wait for the runtime than may"),
        }
    }
}

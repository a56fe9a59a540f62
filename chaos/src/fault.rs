//! What people and accidents do to a system.
//! Owns the list, and the words for a person. Never happens by itself: `sim` performs it.

use std::fmt;
use std::time::Duration;

use mainstay_policy::lifecycle::Operation;
use mainstay_policy::run::RunEvent;
use mainstay_policy::{Health, ModuleId};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// A request.
    Request(ModuleId, Operation),
    /// A health check reports; true: for a restart.
    Health(ModuleId, Health, bool),
    /// A process reports something.
    Report(ModuleId, ProcessReport),
    /// A run exceeds a limit; true: it is stopped permanently.
    Limit(ModuleId, bool),
    /// A run was not used for long.
    Idle(ModuleId),
    /// A module is held for a time; zero: it is released.
    Hold(ModuleId, Duration),
    /// Everything is stopped within a time.
    StopAll(Duration),
    /// The runtime dies after this number of further events.
    RuntimeDeath(u64),
    /// The machine is suspended.
    Sleep(Duration),
    /// The plan changes, by this state of the generator.
    Replan(u64),
}

/// What a process reports without a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ProcessReport {
    /// Another process is its main one.
    MainChanged(u32),
    /// It is about to end.
    Stopping,
    /// It requests more time.
    Extend(Duration),
    /// It triggers its watchdog.
    WatchdogTriggered,
    /// It feeds its watchdog.
    WatchdogFed,
}

impl ProcessReport {
    /// As the run hears it.
    #[must_use]
    pub fn of(self, generation: u64) -> RunEvent {
        match self {
            ProcessReport::MainChanged(pid) => RunEvent::MainChanged { generation, pid },
            ProcessReport::Stopping => RunEvent::StoppingReported { generation },
            ProcessReport::Extend(by) => RunEvent::TimeoutExtended { generation, by },
            ProcessReport::WatchdogTriggered => RunEvent::WatchdogTriggered { generation },
            ProcessReport::WatchdogFed => RunEvent::WatchdogFed { generation },
        }
    }
}

impl Fault {
    /// The module that it is about.
    #[must_use]
    pub fn module(&self) -> Option<ModuleId> {
        match self {
            Fault::Request(module, _)
            | Fault::Health(module, ..)
            | Fault::Report(module, _)
            | Fault::Hold(module, _)
            | Fault::Idle(module)
            | Fault::Limit(module, _) => Some(*module),
            Fault::StopAll(_) | Fault::RuntimeDeath(_) | Fault::Sleep(_) | Fault::Replan(_) => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Request(module, operation) => {
                write!(
                    f,
                    "request: {} m{}",
                    format!("{operation:?}").to_lowercase(),
                    module.0
                )
            }
            Fault::Health(module, health, restart) => {
                let restart = if *restart { ", for a restart" } else { "" };
                write!(f, "health of m{}: {health:?}{restart}", module.0)
            }
            Fault::Report(module, report) => write!(f, "m{} reports {report:?}", module.0),
            Fault::Limit(module, true) => write!(f, "m{} is over a limit, to stop", module.0),
            Fault::Limit(module, false) => write!(f, "m{} is over a limit", module.0),
            Fault::Idle(module) => write!(f, "m{} was not used for long", module.0),
            Fault::Hold(module, span) if span.is_zero() => write!(f, "m{} is released", module.0),
            Fault::Hold(module, span) => write!(f, "m{} is held for {span:.1?}", module.0),
            Fault::StopAll(budget) => write!(f, "request: stop everything within {budget:.1?}"),
            Fault::RuntimeDeath(after) => write!(f, "the runtime dies after {after} more events"),
            Fault::Sleep(span) => write!(f, "the machine sleeps for {span:.1?}"),
            Fault::Replan(_) => write!(f, "the plan changes"),
        }
    }
}

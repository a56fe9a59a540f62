//! Inputs and outputs of a run: events, effects, and how it ended.
//! Owns the types that actors, lifecycle and simulator share. Never holds a rule.

use core::time::Duration;

use mainstay_process::{Exit, StartFailure};

use crate::mono_time::MonoTime;
use crate::states::Cause;

/// How a run ended, as reported to the lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// The program never ran.
    NotStarted(StartFailure),
    /// The process ended by itself.
    Exited(Exit),
    /// It was ended because it did not become ready in time.
    StartTimeout,
    /// It was ended because it did not feed its watchdog (or asked for it with `trigger`).
    Watchdog,
    /// It was halted by order.
    Stopped {
        /// How its process ended; None when there was none.
        exit: Option<Exit>,
        /// Whether the kill was needed.
        forced: bool,
    },
}

impl RunEnd {
    /// Whether the run could not be ended at all.
    #[must_use]
    pub fn is_stuck(self) -> bool {
        matches!(
            self,
            RunEnd::Exited(Exit::Stuck)
                | RunEnd::Stopped {
                    exit: Some(Exit::Stuck),
                    ..
                }
        )
    }
}

/// A request or an event. What carries a generation is about that run and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEvent {
    /// Run, as this generation; it is newer than every one before.
    StartRequested {
        /// The number of the run.
        generation: u64,
    },
    /// End the run, with its tree and its `after_stop` commands, within `grace`.
    StopRequested {
        /// The number of the run.
        generation: u64,
        /// From now to the end.
        grace: Duration,
        /// From now to the latest end, whatever more time it asks for.
        limit: Duration,
    },
    /// The `before_start` commands are over.
    Prepared {
        /// The number of the run.
        generation: u64,
        /// Whether all of them exited 0.
        ok: bool,
    },
    /// The `after_stop` commands are over.
    CleanedUp {
        /// The number of the run.
        generation: u64,
    },
    /// The process exists and its program runs.
    Spawned {
        /// The number of the run.
        generation: u64,
        /// Its process.
        pid: u32,
    },
    /// Another process of the run is its main process from now on.
    MainChanged {
        /// The number of the run.
        generation: u64,
        /// The process.
        pid: u32,
    },
    /// There is no process.
    SpawnFailed {
        /// The number of the run.
        generation: u64,
        /// How it failed.
        failure: StartFailure,
    },
    /// The process is gone.
    Exited {
        /// The number of the run.
        generation: u64,
        /// How it exited.
        exit: Exit,
    },
    /// READY=1, `module.ready`, log line matched, s6 newline.
    ReadyReported {
        /// The number of the run.
        generation: u64,
    },
    /// The answer to [`RunEffect::Probe`].
    Probed {
        /// The number of the run.
        generation: u64,
        /// Whether it is ready.
        ok: bool,
    },
    /// The module asks for more time to start or to stop.
    TimeoutExtended {
        /// The number of the run.
        generation: u64,
        /// The time from now to the new deadline.
        by: Duration,
    },
    /// A debugger holds it: it can neither become ready nor feed its watchdog.
    Held {
        /// The number of the run.
        generation: u64,
        /// How far a deadline is moved, from now.
        by: Duration,
    },
    /// The module is alive.
    WatchdogFed {
        /// The number of the run.
        generation: u64,
    },
    /// The reply to [`RunEffect::DrainNotify`]: every message sent before that has been applied.
    NotifyDrained {
        /// The number of the run.
        generation: u64,
    },
    /// The module says that it is about to end by itself.
    StoppingReported {
        /// The number of the run.
        generation: u64,
    },
    /// The module chooses its watchdog; zero switches it off.
    WatchdogSet {
        /// The number of the run.
        generation: u64,
        /// The longest pause between two feedings.
        every: Duration,
    },
    /// The module asks to be treated as if its watchdog had run out.
    WatchdogTriggered {
        /// The number of the run.
        generation: u64,
    },
    /// Time passed.
    TimerFired,
    /// The runtime returned: take over a living process as it is.
    Adopted {
        /// The number of the run.
        generation: u64,
        /// Its process.
        pid: u32,
        /// Whether it was ready.
        ready: bool,
        /// The start deadline it had; None: a full one.
        ready_deadline: Option<MonoTime>,
    },
}

/// What is to be done. None of them can fail here: a failure comes back as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEffect {
    /// Run the `before_start` commands; answered by [`RunEvent::Prepared`].
    Prepare {
        /// The number of the run.
        generation: u64,
    },
    /// Make the process; answered by [`RunEvent::Spawned`] or [`RunEvent::SpawnFailed`].
    Spawn {
        /// The number of the run.
        generation: u64,
    },
    /// Check once whether it is ready; at most one check is in flight.
    Probe {
        /// The number of the run.
        generation: u64,
        /// Its startup probes, instead of what `ready` names.
        startup: bool,
    },
    /// Drain its pending notify messages; answered by [`RunEvent::NotifyDrained`]. A
    /// deadline counts as missed only then: its messages may be late although the module was not.
    DrainNotify {
        /// The number of the run.
        generation: u64,
    },
    /// Stop signal, then SIGCONT, to whatever runs: the process or a hook.
    Terminate {
        /// The number of the run.
        generation: u64,
        /// When nothing of it may be left, whatever happens until then.
        within: Duration,
    },
    /// The whole tree, now: of the process or of a hook.
    Kill {
        /// The number of the run.
        generation: u64,
    },
    /// Run the `after_stop` commands; answered by [`RunEvent::CleanedUp`].
    CleanUp {
        /// The number of the run.
        generation: u64,
    },
    /// Report to the lifecycle.
    Report(RunReport),
}

/// A report to the lifecycle, always about the generation that it requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunReport {
    /// The number of the run.
    pub generation: u64,
    /// What happened to it.
    pub what: RunReportKind,
}

/// What happened to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunReportKind {
    /// Its process exists; reported again when another one takes its place.
    Started {
        /// The process.
        pid: u32,
    },
    /// It asked for more time to start or to stop.
    Extended {
        /// The new deadline.
        deadline: MonoTime,
    },
    /// It is ready.
    Ready,
    /// It ends although no order ended it: it is being killed, or cleaned up after. `Ended`
    /// follows.
    Ending {
        /// Why, as far as is known.
        cause: Cause,
    },
    /// It has ended; reported exactly once for every start request.
    Ended(RunEnd),
}

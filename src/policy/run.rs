//! One module's run: from the order to run to the last trace of its process.
//! Owns one run at a time (a generation) and its deadlines. Never decides whether to run again:
//! `lifecycle` does; never reads a clock or touches the OS.

use core::time::Duration;

use crate::mono_time::MonoTime;
use crate::recovery::Failure;
use crate::spec::{Kind, ModuleSpec, Readiness};
use crate::states::Cause;

mod interface;
#[cfg(test)]
mod tests;
mod transitions;

pub use interface::{RunEffect, RunEnd, RunEvent, RunReport, RunReportKind};
pub use mainstay_process::{Exit, StartFailure, StartStep};

use transitions::starting;

/// The age of a process from which on it is ready when a command says so: another process may have
/// answered, and one that finds its port taken ends within this time.
pub const COMMAND_CONFIRMATION: Duration = Duration::from_millis(500);
/// The pause after the first failed readiness check; doubles up to [`READINESS_INTERVAL_MAX`].
const READINESS_INTERVAL_MIN: Duration = Duration::from_millis(25);
/// The longest pause between two readiness checks.
const READINESS_INTERVAL_MAX: Duration = Duration::from_millis(500);
/// The least time that is left to an adopted start, however late it is: for one readiness check,
/// and for the notify messages that arrived meanwhile.
pub(crate) const ADOPTED_MIN: Duration = Duration::from_secs(2);
/// Of the time of a stop, the part that is kept for the `after_stop` commands of a process that has
/// to be killed, and the most of it.
const CLEAN_UP_SHARE: u32 = 10;
const CLEAN_UP_MAX: Duration = Duration::from_secs(1);
/// What they have even if the process did not die in time.
const CLEAN_UP_MIN: Duration = Duration::from_millis(100);
/// How long a drain of the notify socket is awaited before a deadline is judged without it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a kill is repeated while the process does not die.
const KILL_RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// One module's run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunMachine {
    generation: u64,
    /// The interval the module chose for itself in this run.
    watchdog: Option<Duration>,
    /// It reported STOPPING=1; `watchdog_deadline` is when it has to have exited.
    stopping_reported: bool,
    /// A deadline has expired, and the notify socket is being drained for an earlier message.
    draining: bool,
    /// Until then the answer is awaited: it may be lost.
    drained_by: MonoTime,
    /// A new main process that was not reported yet.
    new_main_pid: Option<u32>,
    /// A new deadline of its start or its stop that was not reported yet.
    extended: bool,
    /// The lifecycle knows that it ends: it ordered that, or it was reported.
    ending_known: bool,
    actual: RunPhase,
}

/// The phase of the run. `Requested` and `Ended` never outlive a `next_effect`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum RunPhase {
    Idle,
    Requested {
        ready_deadline: MonoTime,
        prepared: bool,
    },
    Preparing {
        ready_deadline: MonoTime,
    },
    Spawning {
        ready_deadline: MonoTime,
        told: bool,
    },
    Starting(StartingRun),
    Running {
        pid: u32,
        watchdog_deadline: MonoTime,
    },
    Stopping(StoppingRun),
    /// `clean_up_by`: when the `after_stop` commands are killed; None: there is nothing to clean.
    Ended {
        ending: RunEnd,
        clean_up_by: Option<MonoTime>,
    },
    CleaningUp {
        ending: RunEnd,
        kill_at: MonoTime,
    },
}

/// A process that is not ready yet.
#[derive(Debug, Clone, Copy, PartialEq)]
struct StartingRun {
    pid: u32,
    started_reported: bool,
    ready_deadline: MonoTime,
    look: ReadinessCheck,
    /// It is ready as far as it says; its startup probes are checked.
    in_startup: bool,
}

/// How readiness shows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ReadinessCheck {
    /// Ready if it still runs then.
    At(MonoTime),
    /// Ready when it reports so.
    Reported(bool),
    /// Ready when a check succeeds that ends at `counts_at` or later: the next check, the pause
    /// after it, whether one is in flight.
    Polling {
        next: MonoTime,
        pause: Duration,
        in_flight: bool,
        counts_at: MonoTime,
    },
}

/// A run that is being stopped.
#[derive(Debug, Clone, Copy, PartialEq)]
struct StoppingRun {
    left: StopTarget,
    why: StopTrigger,
    terminated: bool,
    /// The one deadline: of the signal, the rest of the tree and the `after_stop` commands.
    deadline: MonoTime,
    /// The next kill; with `after_stop` commands a little before the deadline.
    kill_at: MonoTime,
    /// No request for more time moves the deadline after this.
    limit_at: MonoTime,
    forced: bool,
}

/// What has to exit before the run has ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum StopTarget {
    /// The `before_start` commands.
    Hook,
    /// A spawn request without a result.
    Spawn,
    Process {
        pid: u32,
    },
}

/// Why a run is being stopped.
#[derive(Debug, Clone, Copy, PartialEq)]
enum StopTrigger {
    Ordered,
    StartTimeout,
    Watchdog,
}

impl Default for RunMachine {
    fn default() -> RunMachine {
        RunMachine::new()
    }
}

impl RunMachine {
    /// Nothing runs, nothing is asked.
    #[must_use]
    pub fn new() -> RunMachine {
        RunMachine {
            generation: 0,
            watchdog: None,
            stopping_reported: false,
            draining: false,
            drained_by: MonoTime::NEVER,
            new_main_pid: None,
            extended: false,
            ending_known: false,
            actual: RunPhase::Idle,
        }
    }

    /// Records a request or an event. An event of another generation changes nothing.
    pub fn apply(&mut self, spec: &ModuleSpec, now: MonoTime, event: RunEvent) {
        match event {
            RunEvent::StartRequested { generation } => {
                if self.actual == RunPhase::Idle && generation > self.generation {
                    let ready_deadline = now.after(spec.startup_timeout);
                    self.begin(
                        generation,
                        RunPhase::Requested {
                            ready_deadline,
                            prepared: false,
                        },
                    );
                }
            }
            RunEvent::Adopted {
                generation,
                pid,
                ready,
                ready_deadline,
            } => {
                if self.actual == RunPhase::Idle && generation >= self.generation {
                    self.begin(generation, RunPhase::Idle);
                    let ready_deadline = ready_deadline.unwrap_or(now.after(spec.startup_timeout));
                    let ready_deadline = ready_deadline.max(now.after(ADOPTED_MIN));
                    self.actual = match ready {
                        true => self.running(spec, now, pid),
                        false => starting(spec, now, pid, ready_deadline, false, true),
                    };
                }
            }
            RunEvent::StopRequested { generation, .. }
            | RunEvent::Prepared { generation, .. }
            | RunEvent::CleanedUp { generation }
            | RunEvent::Spawned { generation, .. }
            | RunEvent::MainChanged { generation, .. }
            | RunEvent::SpawnFailed { generation, .. }
            | RunEvent::Exited { generation, .. }
            | RunEvent::ReadyReported { generation }
            | RunEvent::Probed { generation, .. }
            | RunEvent::TimeoutExtended { generation, .. }
            | RunEvent::Held { generation, .. }
            | RunEvent::WatchdogFed { generation }
            | RunEvent::NotifyDrained { generation }
            | RunEvent::StoppingReported { generation }
            | RunEvent::WatchdogSet { generation, .. }
            | RunEvent::WatchdogTriggered { generation } => {
                if generation == self.generation {
                    self.apply_to_run(spec, now, event);
                }
            }
            RunEvent::TimerFired => {}
        }
    }

    /// Something about the run it is in, or was in last.
    fn apply_to_run(&mut self, spec: &ModuleSpec, now: MonoTime, event: RunEvent) {
        match event {
            RunEvent::StopRequested { grace, limit, .. } => {
                self.stop_requested(spec, now, grace, limit)
            }
            RunEvent::Prepared { ok, .. } => self.prepared(ok),
            RunEvent::CleanedUp { .. } => {
                if let RunPhase::CleaningUp { ending, .. } = self.actual {
                    self.actual = RunPhase::Ended {
                        ending,
                        clean_up_by: None,
                    };
                }
            }
            RunEvent::Spawned { pid, .. } => self.spawned(spec, now, pid),
            RunEvent::MainChanged { pid, .. } => self.main_pid_changed(pid),
            RunEvent::SpawnFailed { failure, .. } => self.spawn_failed(failure),
            RunEvent::Exited { exit, .. } => self.exited(exit),
            RunEvent::ReadyReported { .. } => match &mut self.actual {
                // Its notify message may arrive before the event of its process.
                RunPhase::Spawning { told, .. }
                | RunPhase::Starting(StartingRun {
                    look: ReadinessCheck::Reported(told),
                    ..
                }) => *told = true,
                _ => {}
            },
            RunEvent::Probed { ok, .. } => self.probed(now, ok),
            // More time buys nothing for a watchdog: that is fed, or not.
            RunEvent::TimeoutExtended { .. } if self.is_ready() && !self.stopping_reported => {}
            RunEvent::TimeoutExtended { by, .. } | RunEvent::Held { by, .. } => {
                self.extend(spec, now, by);
            }
            RunEvent::WatchdogFed { .. } => self.watchdog_fed(spec, now),
            RunEvent::NotifyDrained { .. } => self.notify_drained(spec, now),
            RunEvent::StoppingReported { .. } => self.stopping_reported(spec, now),
            RunEvent::WatchdogSet { every, .. } => {
                self.watchdog = Some(every);
                self.watchdog_fed(spec, now);
            }
            RunEvent::WatchdogTriggered { .. } => {
                if let RunPhase::Starting(StartingRun { pid, .. }) | RunPhase::Running { pid, .. } =
                    self.actual
                {
                    let left = StopTarget::Process { pid };
                    self.stop_by_itself(spec, now, left, StopTrigger::Watchdog);
                }
            }
            RunEvent::StartRequested { .. } | RunEvent::Adopted { .. } | RunEvent::TimerFired => {}
        }
    }

    /// Closes the gap, one effect at a time; call until None.
    pub fn next_effect(&mut self, spec: &ModuleSpec, now: MonoTime) -> Option<RunEffect> {
        let generation = self.generation;
        if self.draining && now >= self.drained_by {
            self.notify_drained(spec, now);
        }
        if let Some(pid) = self.new_main_pid.take() {
            return self.report(RunReportKind::Started { pid });
        }
        if core::mem::take(&mut self.extended)
            && let Some(deadline) = self.extendable_deadline()
        {
            return self.report(RunReportKind::Extended { deadline });
        }
        if let Some(cause) = self.ending_cause().filter(|_| !self.ending_known) {
            self.ending_known = true;
            return self.report(RunReportKind::Ending { cause });
        }
        match self.actual {
            RunPhase::Idle => None,
            RunPhase::Requested {
                ready_deadline,
                prepared: false,
            } if spec.has_before_start => {
                self.actual = RunPhase::Preparing { ready_deadline };
                Some(RunEffect::Prepare { generation })
            }
            RunPhase::Requested { ready_deadline, .. } => {
                self.actual = RunPhase::Spawning {
                    ready_deadline,
                    told: false,
                };
                Some(RunEffect::Spawn { generation })
            }
            RunPhase::Preparing { ready_deadline } if now >= ready_deadline => {
                self.deadline_passed(spec, now, StopTarget::Hook, StopTrigger::StartTimeout)
            }
            RunPhase::Spawning { ready_deadline, .. } if now >= ready_deadline => {
                self.deadline_passed(spec, now, StopTarget::Spawn, StopTrigger::StartTimeout)
            }
            RunPhase::Preparing { .. } | RunPhase::Spawning { .. } => None,
            RunPhase::Starting(starting) => self.next_starting_effect(spec, now, starting),
            RunPhase::Running {
                watchdog_deadline, ..
            } if now >= watchdog_deadline => self.drain_notify(now),
            RunPhase::Running { .. } => None,
            RunPhase::Stopping(stopping) => self.next_stopping_effect(now, stopping),
            RunPhase::Ended {
                ending,
                clean_up_by: Some(deadline),
            } if spec.has_after_stop => {
                let kill_at = deadline.min(now.after(spec.shutdown_timeout));
                let kill_at = kill_at.max(now.after(CLEAN_UP_MIN));
                self.actual = RunPhase::CleaningUp { ending, kill_at };
                Some(RunEffect::CleanUp { generation })
            }
            RunPhase::Ended { ending, .. } => {
                self.actual = RunPhase::Idle;
                self.report(RunReportKind::Ended(ending))
            }
            RunPhase::CleaningUp { ending, kill_at } if now >= kill_at => {
                self.actual = RunPhase::CleaningUp {
                    ending,
                    kill_at: now.after(KILL_RETRY_INTERVAL),
                };
                Some(RunEffect::Kill { generation })
            }
            RunPhase::CleaningUp { .. } => None,
        }
    }

    /// When `next_effect` next has something to do without news. The actor keeps one alarm for it.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoTime> {
        let at = match self.actual {
            _ if self.new_main_pid.is_some() || self.extended => MonoTime(0),
            RunPhase::Preparing { ready_deadline } | RunPhase::Spawning { ready_deadline, .. } => {
                ready_deadline
            }
            RunPhase::Starting(StartingRun { look, .. }) if self.draining => match look {
                ReadinessCheck::Polling {
                    next,
                    in_flight: false,
                    ..
                } => next.min(self.drained_by),
                _ => self.drained_by,
            },
            RunPhase::Running { .. } if self.draining => self.drained_by,
            RunPhase::Starting(StartingRun {
                ready_deadline,
                look,
                ..
            }) => match look {
                ReadinessCheck::At(at) => at.min(ready_deadline),
                ReadinessCheck::Polling {
                    next,
                    in_flight: false,
                    ..
                } => next.min(ready_deadline),
                ReadinessCheck::Reported(_) | ReadinessCheck::Polling { .. } => ready_deadline,
            },
            RunPhase::Running {
                watchdog_deadline: feed_by,
                ..
            } => feed_by,
            RunPhase::Idle => MonoTime::NEVER,
            RunPhase::Stopping(StoppingRun { kill_at, .. })
            | RunPhase::CleaningUp { kill_at, .. } => kill_at,
            RunPhase::Requested { .. } | RunPhase::Ended { .. } => MonoTime(0),
        };
        (at != MonoTime::NEVER).then_some(at)
    }

    /// Its process, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self.actual {
            RunPhase::Starting(StartingRun { pid, .. })
            | RunPhase::Running { pid, .. }
            | RunPhase::Stopping(StoppingRun {
                left: StopTarget::Process { pid },
                ..
            }) => Some(pid),
            RunPhase::Idle
            | RunPhase::Requested { .. }
            | RunPhase::Preparing { .. }
            | RunPhase::Spawning { .. }
            | RunPhase::Stopping(_)
            | RunPhase::Ended { .. }
            | RunPhase::CleaningUp { .. } => None,
        }
    }

    /// The run it is in, or was in last; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether nothing of a run is left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.actual == RunPhase::Idle
    }

    /// Whether it is being ended.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        matches!(self.actual, RunPhase::Stopping(_))
    }

    /// Why a run that hangs is being ended, a noun; None: for another reason, or not at all.
    #[must_use]
    pub fn hang_reason(&self) -> Option<&'static str> {
        match self.actual {
            RunPhase::Stopping(StoppingRun { why, .. }) => match why {
                StopTrigger::Ordered => None,
                StopTrigger::StartTimeout => Some("a start that took too long"),
                StopTrigger::Watchdog => Some("a watchdog that was not fed"),
            },
            _ => None,
        }
    }

    /// Why it ends, in the terms of the lifecycle; None: it does not, or nothing is left of it.
    #[must_use]
    pub fn ending_cause(&self) -> Option<Cause> {
        match self.actual {
            RunPhase::Stopping(StoppingRun { why, .. }) => Some(match why {
                StopTrigger::Ordered => Cause::Exit,
                StopTrigger::StartTimeout => Cause::Timeout,
                StopTrigger::Watchdog => Cause::Watchdog,
            }),
            RunPhase::CleaningUp { ending, .. } => Some(Failure::from(ending).cause()),
            _ => None,
        }
    }

    /// Whether it is ready and not being ended.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.actual, RunPhase::Running { .. })
    }

    /// The deadline that the module can ask more time for: of its start or of its stop.
    fn extendable_deadline(&self) -> Option<MonoTime> {
        match self.actual {
            RunPhase::Stopping(StoppingRun { deadline, .. }) => Some(deadline),
            _ => self.ready_deadline(),
        }
    }

    /// When it must have fed its watchdog, if it is ready and has one.
    #[must_use]
    pub fn watchdog_deadline(&self) -> Option<MonoTime> {
        match self.actual {
            RunPhase::Running {
                watchdog_deadline, ..
            } => (watchdog_deadline != MonoTime::NEVER).then_some(watchdog_deadline),
            _ => None,
        }
    }

    /// The deadline of its start.
    #[must_use]
    pub fn ready_deadline(&self) -> Option<MonoTime> {
        match self.actual {
            RunPhase::Requested { ready_deadline, .. }
            | RunPhase::Preparing { ready_deadline }
            | RunPhase::Spawning { ready_deadline, .. }
            | RunPhase::Starting(StartingRun { ready_deadline, .. }) => Some(ready_deadline),
            RunPhase::Idle
            | RunPhase::Running { .. }
            | RunPhase::Stopping(_)
            | RunPhase::Ended { .. }
            | RunPhase::CleaningUp { .. } => None,
        }
    }
}

//! One module's run: from the order to run to the last trace of its process.
//! Owns one run at a time (a generation) and its deadlines. Never decides whether to run again:
//! `lifecycle` does; never reads a clock or touches the OS.

use core::time::Duration;

use crate::spec::{Kind, ModuleSpec, Readiness};
use crate::time::Time;

mod steps;
#[cfg(test)]
mod tests;
mod words;

pub use words::{Effect, Ending, Event, Exit, Report, Reported, StartFailure, Step};

use steps::starting;

/// The pause after the first negative look at readiness; doubles up to [`LOOK_MAX`].
const LOOK_FIRST: Duration = Duration::from_millis(25);
/// The longest pause between two looks at readiness.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// What is left at least of an adopted start, however late it is: one look, and what it said
/// meanwhile.
pub(crate) const ADOPTED_MIN: Duration = Duration::from_secs(2);
/// How often a kill is repeated while the process does not die.
const KILL_AGAIN: Duration = Duration::from_secs(2);

/// One module's run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Module {
    generation: u64,
    /// The interval the module chose for itself in this run.
    watchdog: Option<Duration>,
    /// It said that it is about to end; `feed_by` is when it has to be gone.
    leaving: bool,
    /// A deadline is over, and whether it said something in time is being asked.
    listening: bool,
    /// A new main process that was not reported yet.
    moved_to: Option<u32>,
    /// A new deadline of its start that was not reported yet.
    extended: bool,
    actual: Actual,
}

/// Where the run stands. `Asked` and `Over` never outlive a `settle`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Actual {
    Idle,
    Asked {
        ready_by: Time,
        prepared: bool,
    },
    Preparing {
        ready_by: Time,
    },
    Spawning {
        ready_by: Time,
        told: bool,
    },
    Starting(Starting),
    Running {
        pid: u32,
        feed_by: Time,
    },
    Stopping(Stopping),
    /// `clean_up`: how long the `after_stop` commands may take; None: there is nothing to clean.
    Over {
        ending: Ending,
        clean_up: Option<Duration>,
    },
    Cleaning {
        ending: Ending,
        kill_at: Time,
    },
}

/// A process that is not ready yet.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Starting {
    pid: u32,
    announced: bool,
    ready_by: Time,
    look: Look,
}

/// How readiness shows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Look {
    /// By living until then.
    At(Time),
    /// By being told.
    Told(bool),
    /// By looking: the next look, the pause after it, and whether one is on its way.
    Probing {
        next: Time,
        pause: Duration,
        in_flight: bool,
    },
}

/// A run that is being ended by us.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stopping {
    left: Left,
    why: Why,
    terminated: bool,
    /// What it was given; the `after_stop` commands get as much again.
    grace: Duration,
    kill_at: Time,
    /// No request for more time moves the kill behind this.
    limit_at: Time,
    forced: bool,
}

/// What has to go before the run is over.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Left {
    /// The `before_start` commands.
    Hook,
    /// An order to spawn whose answer is still out.
    Spawn,
    Process {
        pid: u32,
    },
}

/// Why a run is being ended by us.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Why {
    Ordered,
    StartTimeout,
    Watchdog,
}

impl Default for Module {
    fn default() -> Module {
        Module::new()
    }
}

impl Module {
    /// Nothing runs, nothing is asked.
    #[must_use]
    pub fn new() -> Module {
        Module {
            generation: 0,
            watchdog: None,
            leaving: false,
            listening: false,
            moved_to: None,
            extended: false,
            actual: Actual::Idle,
        }
    }

    /// Records a wish or a fact. News of another generation than ours changes nothing.
    pub fn note(&mut self, spec: &ModuleSpec, now: Time, event: Event) {
        match event {
            Event::RunAsked { generation } => {
                if self.actual == Actual::Idle && generation > self.generation {
                    let ready_by = now.after(spec.startup_timeout);
                    self.begin(
                        generation,
                        Actual::Asked {
                            ready_by,
                            prepared: false,
                        },
                    );
                }
            }
            Event::Adopted {
                generation,
                pid,
                ready,
                ready_by,
            } => {
                if self.actual == Actual::Idle && generation >= self.generation {
                    self.begin(generation, Actual::Idle);
                    let ready_by = ready_by.unwrap_or(now.after(spec.startup_timeout));
                    let ready_by = ready_by.max(now.after(ADOPTED_MIN));
                    self.actual = match ready {
                        true => self.running(spec, now, pid),
                        false => starting(spec, now, pid, ready_by, false, true),
                    };
                }
            }
            Event::HaltAsked { generation, .. }
            | Event::Prepared { generation, .. }
            | Event::CleanedUp { generation }
            | Event::Spawned { generation, .. }
            | Event::MainChanged { generation, .. }
            | Event::SpawnFailed { generation, .. }
            | Event::Exited { generation, .. }
            | Event::ReadyTold { generation }
            | Event::Probed { generation, .. }
            | Event::TimeoutExtended { generation, .. }
            | Event::WatchdogFed { generation }
            | Event::Listened { generation }
            | Event::Leaving { generation }
            | Event::WatchdogSet { generation, .. }
            | Event::WatchdogTriggered { generation } => {
                if generation == self.generation {
                    self.hear(spec, now, event);
                }
            }
            Event::Woke => {}
        }
    }

    /// Something about the run it is in, or was in last.
    fn hear(&mut self, spec: &ModuleSpec, now: Time, event: Event) {
        match event {
            Event::HaltAsked { grace, limit, .. } => self.halt(now, grace, limit),
            Event::Prepared { ok, .. } => self.prepared(ok),
            Event::CleanedUp { .. } => {
                if let Actual::Cleaning { ending, .. } = self.actual {
                    self.actual = Actual::Over {
                        ending,
                        clean_up: None,
                    };
                }
            }
            Event::Spawned { pid, .. } => self.spawned(spec, now, pid),
            Event::MainChanged { pid, .. } => self.main_changed(pid),
            Event::SpawnFailed { failure, .. } => self.spawn_failed(failure),
            Event::Exited { exit, .. } => self.exited(exit),
            Event::ReadyTold { .. } => match &mut self.actual {
                // The socket it speaks on may be faster than the news of its process.
                Actual::Spawning { told, .. }
                | Actual::Starting(Starting {
                    look: Look::Told(told),
                    ..
                }) => *told = true,
                _ => {}
            },
            Event::Probed { ok, .. } => self.probed(now, ok),
            Event::TimeoutExtended { by, .. } => self.extend(now, by),
            Event::WatchdogFed { .. } => self.feed(spec, now),
            Event::Listened { .. } => self.listened(spec, now),
            Event::Leaving { .. } => self.leave(spec, now),
            Event::WatchdogSet { every, .. } => {
                self.watchdog = Some(every);
                self.feed(spec, now);
            }
            Event::WatchdogTriggered { .. } => {
                if let Actual::Starting(Starting { pid, .. }) | Actual::Running { pid, .. } =
                    self.actual
                {
                    let grace = spec.shutdown_timeout;
                    self.stop(Left::Process { pid }, Why::Watchdog, now, grace, grace);
                }
            }
            Event::RunAsked { .. } | Event::Adopted { .. } | Event::Woke => {}
        }
    }

    /// Closes the gap, one effect at a time; call until None.
    pub fn settle(&mut self, spec: &ModuleSpec, now: Time) -> Option<Effect> {
        let generation = self.generation;
        if let Some(pid) = self.moved_to.take() {
            return self.report(Reported::Started { pid });
        }
        if core::mem::take(&mut self.extended)
            && let Some(ready_by) = self.ready_by()
        {
            return self.report(Reported::Extended { ready_by });
        }
        match self.actual {
            Actual::Idle => None,
            Actual::Asked {
                ready_by,
                prepared: false,
            } if spec.has_before_start => {
                self.actual = Actual::Preparing { ready_by };
                Some(Effect::Prepare { generation })
            }
            Actual::Asked { ready_by, .. } => {
                self.actual = Actual::Spawning {
                    ready_by,
                    told: false,
                };
                Some(Effect::Spawn { generation })
            }
            Actual::Preparing { ready_by } if now >= ready_by => {
                self.late(spec, now, Left::Hook, Why::StartTimeout)
            }
            Actual::Spawning { ready_by, .. } if now >= ready_by => {
                self.late(spec, now, Left::Spawn, Why::StartTimeout)
            }
            Actual::Preparing { .. } | Actual::Spawning { .. } => None,
            Actual::Starting(starting) => self.settle_starting(spec, now, starting),
            Actual::Running { feed_by, .. } if now >= feed_by => self.listen(),
            Actual::Running { .. } => None,
            Actual::Stopping(stopping) => self.settle_stopping(now, stopping),
            Actual::Over {
                ending,
                clean_up: Some(limit),
            } if spec.has_after_stop => {
                let kill_at = now.after(limit.min(spec.shutdown_timeout));
                self.actual = Actual::Cleaning { ending, kill_at };
                Some(Effect::CleanUp { generation })
            }
            Actual::Over { ending, .. } => {
                self.actual = Actual::Idle;
                self.report(Reported::Ended(ending))
            }
            Actual::Cleaning { ending, kill_at } if now >= kill_at => {
                self.actual = Actual::Cleaning {
                    ending,
                    kill_at: now.after(KILL_AGAIN),
                };
                Some(Effect::Kill { generation })
            }
            Actual::Cleaning { .. } => None,
        }
    }

    /// When `settle` next has something to do without news. The actor keeps one alarm for it.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let at = match self.actual {
            _ if self.moved_to.is_some() || self.extended => Time(0),
            Actual::Preparing { ready_by } | Actual::Spawning { ready_by, .. } => ready_by,
            Actual::Starting(Starting { look, .. }) if self.listening => match look {
                Look::Probing {
                    next,
                    in_flight: false,
                    ..
                } => next,
                _ => Time::NEVER,
            },
            Actual::Running { .. } if self.listening => Time::NEVER,
            Actual::Starting(Starting { ready_by, look, .. }) => match look {
                Look::At(at) => at.min(ready_by),
                Look::Probing {
                    next,
                    in_flight: false,
                    ..
                } => next.min(ready_by),
                Look::Told(_) | Look::Probing { .. } => ready_by,
            },
            Actual::Running { feed_by, .. } => feed_by,
            Actual::Idle => Time::NEVER,
            Actual::Stopping(Stopping { kill_at, .. }) | Actual::Cleaning { kill_at, .. } => {
                kill_at
            }
            Actual::Asked { .. } | Actual::Over { .. } => Time(0),
        };
        (at != Time::NEVER).then_some(at)
    }

    /// Its process, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self.actual {
            Actual::Starting(Starting { pid, .. })
            | Actual::Running { pid, .. }
            | Actual::Stopping(Stopping {
                left: Left::Process { pid },
                ..
            }) => Some(pid),
            Actual::Idle
            | Actual::Asked { .. }
            | Actual::Preparing { .. }
            | Actual::Spawning { .. }
            | Actual::Stopping(_)
            | Actual::Over { .. }
            | Actual::Cleaning { .. } => None,
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
        self.actual == Actual::Idle
    }

    /// Whether it is ready and not being ended.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.actual, Actual::Running { .. })
    }

    /// When its start is over time.
    #[must_use]
    pub fn ready_by(&self) -> Option<Time> {
        match self.actual {
            Actual::Asked { ready_by, .. }
            | Actual::Preparing { ready_by }
            | Actual::Spawning { ready_by, .. }
            | Actual::Starting(Starting { ready_by, .. }) => Some(ready_by),
            Actual::Idle
            | Actual::Running { .. }
            | Actual::Stopping(_)
            | Actual::Over { .. }
            | Actual::Cleaning { .. } => None,
        }
    }
}

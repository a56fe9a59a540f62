//! The transitions of one run: what each request, event and deadline makes of it.
//! Owns the way from one `RunPhase` to the next. Never returns an effect that its state forgot.

use core::time::Duration;

use mainstay_process::Probe;

use super::{
    CLEAN_UP_MAX, CLEAN_UP_SHARE, COMMAND_CONFIRMATION, DRAIN_TIMEOUT, Exit, KILL_RETRY_INTERVAL,
    Kind, ModuleSpec, MonoTime, READINESS_INTERVAL_MAX, READINESS_INTERVAL_MIN, Readiness,
    ReadinessCheck, RunEffect, RunEnd, RunMachine, RunPhase, RunReport, RunReportKind,
    StartFailure, StartStep, StartingRun, StopTarget, StopTrigger, StoppingRun,
};

impl RunMachine {
    pub(super) fn begin(&mut self, generation: u64, actual: RunPhase) {
        *self = RunMachine {
            generation,
            actual,
            ..RunMachine::new()
        };
    }

    /// An order to end: the kill comes after `grace`, or up to `limit` if it asks for more time.
    pub(super) fn stop_requested(
        &mut self,
        spec: &ModuleSpec,
        now: MonoTime,
        grace: Duration,
        limit: Duration,
    ) {
        self.ending_known = true;
        let deadlines = (now.after(grace), now.after(limit.max(grace)));
        let left = match &mut self.actual {
            RunPhase::Idle | RunPhase::Ended { .. } => return,
            &mut RunPhase::Requested { prepared, .. } => {
                let ending = RunEnd::Stopped {
                    exit: None,
                    forced: false,
                };
                let clean_up_by = prepared.then_some(deadlines.0);
                self.actual = RunPhase::Ended {
                    ending,
                    clean_up_by,
                };
                return;
            }
            RunPhase::Preparing { .. } => StopTarget::Hook,
            RunPhase::Spawning { .. } => StopTarget::Spawn,
            &mut (RunPhase::Starting(StartingRun { pid, .. }) | RunPhase::Running { pid, .. }) => {
                StopTarget::Process { pid }
            }
            RunPhase::Stopping(stopping) => {
                stopping.why = StopTrigger::Ordered;
                stopping.limit_at = stopping.limit_at.min(deadlines.1);
                if deadlines.0 < stopping.deadline {
                    stopping.deadline = deadlines.0;
                    stopping.kill_at = stopping.kill_at.min(kill_at(spec, now, deadlines.0));
                }
                return;
            }
            RunPhase::CleaningUp { kill_at, .. } => {
                *kill_at = (*kill_at).min(deadlines.0);
                return;
            }
        };
        self.stop(spec, now, left, StopTrigger::Ordered, deadlines);
    }

    pub(super) fn prepared(&mut self, ok: bool) {
        self.actual = match self.actual {
            RunPhase::Preparing { ready_deadline } if ok => RunPhase::Requested {
                ready_deadline,
                prepared: true,
            },
            RunPhase::Preparing { .. } => {
                let failure = StartFailure {
                    step: StartStep::Prepare,
                    errno: 0,
                };
                over(RunEnd::NotStarted(failure))
            }
            RunPhase::Stopping(stopping) if stopping.left == StopTarget::Hook => {
                stopping.over(None)
            }
            unchanged => unchanged,
        };
    }

    pub(super) fn spawned(&mut self, spec: &ModuleSpec, now: MonoTime, pid: u32) {
        match &mut self.actual {
            &mut RunPhase::Spawning {
                ready_deadline,
                told,
            } => {
                self.actual = starting(spec, now, pid, ready_deadline, told, false);
            }
            RunPhase::Stopping(StoppingRun {
                left: left @ StopTarget::Spawn,
                ..
            }) => {
                *left = StopTarget::Process { pid };
            }
            _ => {}
        }
    }

    /// The process changes, the run does not.
    pub(super) fn main_pid_changed(&mut self, now: u32) {
        if let RunPhase::Starting(StartingRun { pid, .. })
        | RunPhase::Running { pid, .. }
        | RunPhase::Stopping(StoppingRun {
            left: StopTarget::Process { pid },
            ..
        }) = &mut self.actual
            && *pid != now
        {
            *pid = now;
            self.new_main_pid = Some(now);
        }
    }

    pub(super) fn spawn_failed(&mut self, failure: StartFailure) {
        self.actual = match self.actual {
            RunPhase::Spawning { .. } => over(RunEnd::NotStarted(failure)),
            RunPhase::Stopping(stopping) if stopping.left == StopTarget::Spawn => {
                match stopping.why {
                    StopTrigger::Ordered => stopping.over(None),
                    StopTrigger::StartTimeout | StopTrigger::Watchdog => {
                        over(RunEnd::NotStarted(failure))
                    }
                }
            }
            unchanged => unchanged,
        };
    }

    pub(super) fn exited(&mut self, exit: Exit) {
        self.actual = match self.actual {
            // Its end may overtake the news of its start; the start is then stale.
            RunPhase::Spawning { .. } | RunPhase::Starting(_) | RunPhase::Running { .. } => {
                over(RunEnd::Exited(exit))
            }
            RunPhase::Stopping(stopping) if stopping.left != StopTarget::Hook => {
                stopping.over(Some(exit))
            }
            unchanged => unchanged,
        };
    }

    pub(super) fn probed(&mut self, now: MonoTime, ok: bool) {
        let RunPhase::Starting(StartingRun { look, .. }) = &mut self.actual else {
            return;
        };
        if let ReadinessCheck::Polling {
            pause,
            in_flight: true,
            counts_at,
            ..
        } = *look
        {
            let (next, pause) = match ok {
                true if now >= counts_at => return *look = ReadinessCheck::Reported(true),
                true => (counts_at, pause),
                false => (now.after(pause), (pause * 2).min(READINESS_INTERVAL_MAX)),
            };
            *look = ReadinessCheck::Polling {
                next,
                pause,
                in_flight: false,
                counts_at,
            };
        }
    }

    /// Extends the time to start or to stop, if that is requested before it has expired.
    pub(super) fn extend(&mut self, spec: &ModuleSpec, now: MonoTime, by: Duration) {
        let asked = now.after(by);
        match &mut self.actual {
            RunPhase::Preparing {
                ready_deadline: deadline,
            }
            | RunPhase::Spawning {
                ready_deadline: deadline,
                ..
            }
            | RunPhase::Starting(StartingRun {
                ready_deadline: deadline,
                ..
            })
            | RunPhase::Running {
                watchdog_deadline: deadline,
                ..
            } if now < *deadline || self.draining => *deadline = (*deadline).max(asked),
            RunPhase::Stopping(stopping) if !stopping.forced && now < stopping.kill_at => {
                let deadline = asked.min(stopping.limit_at);
                if deadline <= stopping.deadline {
                    return;
                }
                stopping.deadline = deadline;
                stopping.kill_at = kill_at(spec, now, deadline);
            }
            _ => return,
        }
        self.draining = false;
        self.extended = self.extendable_deadline().is_some();
    }

    /// It ends by itself: no watchdog any more, but it has to be gone in the time of a stop.
    pub(super) fn stopping_reported(&mut self, spec: &ModuleSpec, now: MonoTime) {
        if let RunPhase::Running {
            watchdog_deadline: feed_by,
            ..
        } = &mut self.actual
            && (now < *feed_by || self.draining)
            && !self.stopping_reported
        {
            *feed_by = now.after(spec.shutdown_timeout);
            (self.stopping_reported, self.draining) = (true, false);
        }
    }

    pub(super) fn watchdog_fed(&mut self, spec: &ModuleSpec, now: MonoTime) {
        // Fed too late is not fed: the watchdog has bitten by then.
        if let RunPhase::Running {
            pid,
            watchdog_deadline: feed_by,
        } = self.actual
            && (now < feed_by || self.draining)
            && !self.stopping_reported
        {
            self.draining = false;
            self.actual = self.running(spec, now, pid);
        }
    }

    /// Before a deadline counts as missed, requests once what is still in flight.
    pub(super) fn drain_notify(&mut self, now: MonoTime) -> Option<RunEffect> {
        let generation = self.generation;
        if !self.draining {
            self.drained_by = now.after(DRAIN_TIMEOUT);
        }
        (!core::mem::replace(&mut self.draining, true))
            .then_some(RunEffect::DrainNotify { generation })
    }

    /// Nothing is in flight any more: a deadline that has still expired is missed.
    pub(super) fn notify_drained(&mut self, spec: &ModuleSpec, now: MonoTime) {
        if !core::mem::take(&mut self.draining) {
            return;
        }
        let (pid, why) = match self.actual {
            RunPhase::Running {
                pid,
                watchdog_deadline: feed_by,
            } if now >= feed_by && self.stopping_reported => (pid, StopTrigger::Ordered),
            RunPhase::Running {
                pid,
                watchdog_deadline: feed_by,
            } if now >= feed_by => (pid, StopTrigger::Watchdog),
            RunPhase::Starting(StartingRun {
                pid,
                ready_deadline,
                ..
            }) if now >= ready_deadline => (pid, StopTrigger::StartTimeout),
            _ => return,
        };
        self.stop_by_itself(spec, now, StopTarget::Process { pid }, why);
    }

    pub(super) fn running(&self, spec: &ModuleSpec, now: MonoTime, pid: u32) -> RunPhase {
        let every = self
            .watchdog
            .or(spec.watchdog)
            .filter(|every| !every.is_zero());
        RunPhase::Running {
            pid,
            watchdog_deadline: every.map_or(MonoTime::NEVER, |every| now.after(every)),
        }
    }

    /// Stops the run until the first of `deadlines`, or the second if it asks for more time.
    fn stop(
        &mut self,
        spec: &ModuleSpec,
        now: MonoTime,
        left: StopTarget,
        why: StopTrigger,
        deadlines: (MonoTime, MonoTime),
    ) {
        self.draining = false;
        self.actual = RunPhase::Stopping(StoppingRun {
            left,
            why,
            terminated: false,
            deadline: deadlines.0,
            kill_at: kill_at(spec, now, deadlines.0),
            limit_at: deadlines.1,
            forced: false,
        });
    }

    /// Stops the run although no stop was requested.
    pub(super) fn stop_by_itself(
        &mut self,
        spec: &ModuleSpec,
        now: MonoTime,
        left: StopTarget,
        why: StopTrigger,
    ) {
        let deadline = now.after(spec.shutdown_timeout);
        self.stop(spec, now, left, why, (deadline, deadline));
    }

    /// The deadline of a start has passed: stops the run.
    pub(super) fn deadline_passed(
        &mut self,
        spec: &ModuleSpec,
        now: MonoTime,
        left: StopTarget,
        why: StopTrigger,
    ) -> Option<RunEffect> {
        self.stop_by_itself(spec, now, left, why);
        self.next_effect(spec, now)
    }

    pub(super) fn next_starting_effect(
        &mut self,
        spec: &ModuleSpec,
        now: MonoTime,
        starting: StartingRun,
    ) -> Option<RunEffect> {
        let StartingRun {
            pid,
            started_reported,
            ready_deadline,
            look,
            in_startup,
        } = starting;
        let ready = match look {
            ReadinessCheck::At(at) => now >= at,
            ReadinessCheck::Reported(told) => told,
            ReadinessCheck::Polling { .. } => false,
        };
        if !started_reported {
            self.actual = RunPhase::Starting(StartingRun {
                started_reported: true,
                ..starting
            });
            return self.report(RunReportKind::Started { pid });
        }
        if ready && spec.has_startup_probes && !in_startup {
            self.actual = RunPhase::Starting(StartingRun {
                look: ReadinessCheck::polling(now, now),
                in_startup: true,
                ..starting
            });
            return self.next_effect(spec, now);
        }
        if ready {
            self.draining = false;
            self.actual = self.running(spec, now, pid);
            return self.report(RunReportKind::Ready);
        }
        if now >= ready_deadline && !self.draining {
            return self.drain_notify(now);
        }
        match look {
            ReadinessCheck::Polling {
                next,
                pause,
                in_flight: false,
                counts_at,
            } if now >= next => {
                let look = ReadinessCheck::Polling {
                    next,
                    pause,
                    in_flight: true,
                    counts_at,
                };
                self.actual = RunPhase::Starting(StartingRun { look, ..starting });
                Some(RunEffect::Probe {
                    generation: self.generation,
                    startup: in_startup,
                })
            }
            ReadinessCheck::At(_)
            | ReadinessCheck::Reported(_)
            | ReadinessCheck::Polling { .. } => None,
        }
    }

    pub(super) fn next_stopping_effect(
        &mut self,
        now: MonoTime,
        stopping: StoppingRun,
    ) -> Option<RunEffect> {
        let generation = self.generation;
        if now >= stopping.kill_at {
            let kill_at = now.after(KILL_RETRY_INTERVAL);
            self.actual = RunPhase::Stopping(StoppingRun {
                kill_at,
                forced: true,
                terminated: true,
                ..stopping
            });
            return Some(RunEffect::Kill { generation });
        }
        // What has no process yet is not asked to end; what hangs before it has one is killed.
        if stopping.terminated || stopping.left == StopTarget::Spawn {
            return None;
        }
        self.actual = RunPhase::Stopping(StoppingRun {
            terminated: true,
            ..stopping
        });
        let within = stopping.limit_at.since(now);
        Some(RunEffect::Terminate { generation, within })
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "every caller is a branch of next_effect"
    )]
    pub(super) fn report(&self, what: RunReportKind) -> Option<RunEffect> {
        Some(RunEffect::Report(RunReport {
            generation: self.generation,
            what,
        }))
    }
}

impl StoppingRun {
    /// Returns the end of a run that was stopped.
    fn over(self, exit: Option<Exit>) -> RunPhase {
        let forced = self.forced;
        let ending = match self.why {
            StopTrigger::Ordered => RunEnd::Stopped { exit, forced },
            // That it lasts is worse than why it had to go.
            _ if exit == Some(Exit::Stuck) => RunEnd::Exited(Exit::Stuck),
            StopTrigger::StartTimeout => RunEnd::StartTimeout,
            StopTrigger::Watchdog => RunEnd::Watchdog,
        };
        RunPhase::Ended {
            ending,
            clean_up_by: Some(self.deadline),
        }
    }
}

pub(super) fn starting(
    spec: &ModuleSpec,
    now: MonoTime,
    pid: u32,
    ready_deadline: MonoTime,
    told: bool,
    announced: bool,
) -> RunPhase {
    let look = match &spec.readiness {
        _ if spec.kind == Kind::Task => ReadinessCheck::At(now),
        Readiness::Started => ReadinessCheck::At(now),
        Readiness::Settle(span) => ReadinessCheck::At(now.after(*span)),
        Readiness::Probe(Probe::Exec(_)) => {
            let confirmed_at = Some(now.after(COMMAND_CONFIRMATION));
            let counts_at = confirmed_at.filter(|at| *at < ready_deadline);
            ReadinessCheck::polling(now, counts_at.unwrap_or(now))
        }
        Readiness::Probe(_) => ReadinessCheck::polling(now, now),
        Readiness::Notify | Readiness::Log(_) | Readiness::Fd(_) => ReadinessCheck::Reported(told),
    };
    RunPhase::Starting(StartingRun {
        pid,
        started_reported: announced,
        ready_deadline,
        look,
        in_startup: false,
    })
}

impl ReadinessCheck {
    fn polling(now: MonoTime, counts_at: MonoTime) -> ReadinessCheck {
        ReadinessCheck::Polling {
            next: now,
            pause: READINESS_INTERVAL_MIN,
            in_flight: false,
            counts_at,
        }
    }
}

/// When a run that has this deadline for its stop is killed: what cleans up after it needs time.
fn kill_at(spec: &ModuleSpec, now: MonoTime, deadline: MonoTime) -> MonoTime {
    let left = deadline.since(now);
    let kept = match spec.has_after_stop {
        true => (left / CLEAN_UP_SHARE).min(CLEAN_UP_MAX),
        false => Duration::ZERO,
    };
    now.after(left - kept)
}

/// Returns the end of a run that was not stopped.
fn over(ending: RunEnd) -> RunPhase {
    RunPhase::Ended {
        ending,
        clean_up_by: Some(MonoTime::NEVER),
    }
}

//! The steps of one run: what each wish, fact and deadline makes of it.
//! Owns the way from one `Actual` to the next. Never returns an effect that its state forgot.

use core::time::Duration;

use super::{
    Actual, Effect, Ending, Exit, KILL_AGAIN, Kind, LOOK_FIRST, LOOK_MAX, Left, Look, Module,
    ModuleSpec, Readiness, Report, Reported, StartFailure, Starting, Step, Stopping, Time, Why,
};

impl Module {
    pub(super) fn begin(&mut self, generation: u64, actual: Actual) {
        *self = Module {
            generation,
            actual,
            ..Module::new()
        };
    }

    /// An order to end: the kill comes after `grace`, or up to `limit` if it asks for more time.
    pub(super) fn halt(&mut self, now: Time, grace: Duration, limit: Duration) {
        match &mut self.actual {
            Actual::Idle | Actual::Over { .. } => {}
            &mut Actual::Asked { prepared, .. } => {
                let ending = Ending::Halted {
                    exit: None,
                    forced: false,
                };
                self.actual = Actual::Over {
                    ending,
                    clean_up: prepared.then_some(grace),
                };
            }
            Actual::Preparing { .. } => self.stop(Left::Hook, Why::Ordered, now, grace, limit),
            Actual::Spawning { .. } => self.stop(Left::Spawn, Why::Ordered, now, grace, limit),
            &mut (Actual::Starting(Starting { pid, .. }) | Actual::Running { pid, .. }) => {
                self.stop(Left::Process { pid }, Why::Ordered, now, grace, limit);
            }
            Actual::Stopping(stopping) => {
                stopping.why = Why::Ordered;
                stopping.grace = stopping.grace.min(grace);
                stopping.kill_at = stopping.kill_at.min(now.after(grace));
                stopping.limit_at = stopping.limit_at.min(now.after(limit.max(grace)));
            }
            Actual::Cleaning { kill_at, .. } => *kill_at = (*kill_at).min(now.after(grace)),
        }
    }

    pub(super) fn prepared(&mut self, ok: bool) {
        self.actual = match self.actual {
            Actual::Preparing { ready_by } if ok => Actual::Asked {
                ready_by,
                prepared: true,
            },
            Actual::Preparing { .. } => {
                let failure = StartFailure {
                    step: Step::Prepare,
                    errno: 0,
                };
                over(Ending::NotStarted(failure))
            }
            Actual::Stopping(stopping) if stopping.left == Left::Hook => stopping.over(None),
            unchanged => unchanged,
        };
    }

    pub(super) fn spawned(&mut self, spec: &ModuleSpec, now: Time, pid: u32) {
        match &mut self.actual {
            &mut Actual::Spawning { ready_by, told } => {
                self.actual = starting(spec, now, pid, ready_by, told, false);
            }
            Actual::Stopping(Stopping {
                left: left @ Left::Spawn,
                ..
            }) => {
                *left = Left::Process { pid };
            }
            _ => {}
        }
    }

    /// The process changes, the run does not.
    pub(super) fn main_changed(&mut self, now: u32) {
        if let Actual::Starting(Starting { pid, .. })
        | Actual::Running { pid, .. }
        | Actual::Stopping(Stopping {
            left: Left::Process { pid },
            ..
        }) = &mut self.actual
            && *pid != now
        {
            *pid = now;
            self.moved_to = Some(now);
        }
    }

    pub(super) fn spawn_failed(&mut self, failure: StartFailure) {
        self.actual = match self.actual {
            Actual::Spawning { .. } => over(Ending::NotStarted(failure)),
            Actual::Stopping(stopping) if stopping.left == Left::Spawn => match stopping.why {
                Why::Ordered => stopping.over(None),
                Why::StartTimeout | Why::Watchdog => over(Ending::NotStarted(failure)),
            },
            unchanged => unchanged,
        };
    }

    pub(super) fn exited(&mut self, exit: Exit) {
        self.actual = match self.actual {
            // Its end may overtake the news of its start; the start is then stale.
            Actual::Spawning { .. } | Actual::Starting(_) | Actual::Running { .. } => {
                over(Ending::Exited(exit))
            }
            Actual::Stopping(stopping) if stopping.left != Left::Hook => stopping.over(Some(exit)),
            unchanged => unchanged,
        };
    }

    pub(super) fn probed(&mut self, now: Time, ok: bool) {
        let Actual::Starting(Starting { look, .. }) = &mut self.actual else {
            return;
        };
        if let Look::Probing {
            pause,
            in_flight: true,
            ..
        } = *look
        {
            let longer = (pause * 2).min(LOOK_MAX);
            *look = match ok {
                true => Look::Told(true),
                false => Look::Probing {
                    next: now.after(pause),
                    pause: longer,
                    in_flight: false,
                },
            };
        }
    }

    /// More time to start or to end, if it is asked for before the time is over.
    pub(super) fn extend(&mut self, now: Time, by: Duration) {
        let (deadline, most) = match &mut self.actual {
            Actual::Preparing { ready_by }
            | Actual::Spawning { ready_by, .. }
            | Actual::Starting(Starting { ready_by, .. }) => (ready_by, Time::NEVER),
            Actual::Running { feed_by, .. } if self.leaving => (feed_by, Time::NEVER),
            Actual::Stopping(stopping) if !stopping.forced => {
                (&mut stopping.kill_at, stopping.limit_at)
            }
            _ => return,
        };
        if now < *deadline || self.listening {
            self.listening = false;
            *deadline = (*deadline).max(now.after(by).min(most));
            self.extended = self.ready_by().is_some();
        }
    }

    /// It ends by itself: no watchdog any more, but it has to be gone in the time of a stop.
    pub(super) fn leave(&mut self, spec: &ModuleSpec, now: Time) {
        if let Actual::Running { feed_by, .. } = &mut self.actual
            && (now < *feed_by || self.listening)
            && !self.leaving
        {
            *feed_by = now.after(spec.shutdown_timeout);
            (self.leaving, self.listening) = (true, false);
        }
    }

    pub(super) fn feed(&mut self, spec: &ModuleSpec, now: Time) {
        // Fed too late is not fed: the watchdog has bitten by then.
        if let Actual::Running { pid, feed_by } = self.actual
            && (now < feed_by || self.listening)
            && !self.leaving
        {
            self.listening = false;
            self.actual = self.running(spec, now, pid);
        }
    }

    /// Before a deadline is judged: asks once for what is still on its way.
    pub(super) fn listen(&mut self) -> Option<Effect> {
        let generation = self.generation;
        (!core::mem::replace(&mut self.listening, true)).then_some(Effect::Listen { generation })
    }

    /// Nothing is on its way any more: a deadline that is still over is over.
    pub(super) fn listened(&mut self, spec: &ModuleSpec, now: Time) {
        if !core::mem::take(&mut self.listening) {
            return;
        }
        let grace = spec.shutdown_timeout;
        let (pid, why) = match self.actual {
            Actual::Running { pid, feed_by } if now >= feed_by && self.leaving => {
                (pid, Why::Ordered)
            }
            Actual::Running { pid, feed_by } if now >= feed_by => (pid, Why::Watchdog),
            Actual::Starting(Starting { pid, ready_by, .. }) if now >= ready_by => {
                (pid, Why::StartTimeout)
            }
            _ => return,
        };
        self.stop(Left::Process { pid }, why, now, grace, grace);
    }

    pub(super) fn running(&self, spec: &ModuleSpec, now: Time, pid: u32) -> Actual {
        let every = self
            .watchdog
            .or(spec.watchdog)
            .filter(|every| !every.is_zero());
        Actual::Running {
            pid,
            feed_by: every.map_or(Time::NEVER, |every| now.after(every)),
        }
    }

    pub(super) fn stop(
        &mut self,
        left: Left,
        why: Why,
        now: Time,
        grace: Duration,
        limit: Duration,
    ) {
        let (kill_at, limit_at) = (now.after(grace), now.after(limit.max(grace)));
        let (terminated, forced) = (false, false);
        self.listening = false;
        self.actual = Actual::Stopping(Stopping {
            left,
            why,
            terminated,
            grace,
            kill_at,
            limit_at,
            forced,
        });
    }

    /// A deadline of ours is over: end the run.
    pub(super) fn late(
        &mut self,
        spec: &ModuleSpec,
        now: Time,
        left: Left,
        why: Why,
    ) -> Option<Effect> {
        let grace = spec.shutdown_timeout;
        self.stop(left, why, now, grace, grace);
        self.settle(spec, now)
    }

    pub(super) fn settle_starting(
        &mut self,
        spec: &ModuleSpec,
        now: Time,
        starting: Starting,
    ) -> Option<Effect> {
        let Starting {
            pid,
            announced,
            ready_by,
            look,
        } = starting;
        let ready = match look {
            Look::At(at) => now >= at,
            Look::Told(told) => told,
            Look::Probing { .. } => false,
        };
        if !announced {
            self.actual = Actual::Starting(Starting {
                announced: true,
                ..starting
            });
            return self.report(Reported::Started { pid });
        }
        if ready {
            self.listening = false;
            self.actual = self.running(spec, now, pid);
            return self.report(Reported::Ready);
        }
        if now >= ready_by && !self.listening {
            return self.listen();
        }
        match look {
            Look::Probing {
                next,
                pause,
                in_flight: false,
            } if now >= next => {
                let look = Look::Probing {
                    next,
                    pause,
                    in_flight: true,
                };
                self.actual = Actual::Starting(Starting { look, ..starting });
                Some(Effect::Probe {
                    generation: self.generation,
                })
            }
            Look::At(_) | Look::Told(_) | Look::Probing { .. } => None,
        }
    }

    pub(super) fn settle_stopping(&mut self, now: Time, stopping: Stopping) -> Option<Effect> {
        let generation = self.generation;
        if now >= stopping.kill_at {
            let kill_at = now.after(KILL_AGAIN);
            self.actual = Actual::Stopping(Stopping {
                kill_at,
                forced: true,
                terminated: true,
                ..stopping
            });
            return Some(Effect::Kill { generation });
        }
        // What has no process yet is not asked to end; what hangs before it has one is killed.
        if stopping.terminated || stopping.left == Left::Spawn {
            return None;
        }
        self.actual = Actual::Stopping(Stopping {
            terminated: true,
            ..stopping
        });
        Some(Effect::Terminate { generation })
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "every caller is a branch of settle"
    )]
    pub(super) fn report(&self, what: Reported) -> Option<Effect> {
        Some(Effect::Report(Report {
            generation: self.generation,
            what,
        }))
    }
}

impl Stopping {
    /// Over, because of us.
    fn over(self, exit: Option<Exit>) -> Actual {
        let forced = self.forced;
        let ending = match self.why {
            Why::Ordered => Ending::Halted { exit, forced },
            // That it lasts is worse than why it had to go.
            _ if exit == Some(Exit::Stuck) => Ending::Exited(Exit::Stuck),
            Why::StartTimeout => Ending::StartTimeout,
            Why::Watchdog => Ending::Watchdog,
        };
        Actual::Over {
            ending,
            clean_up: Some(self.grace),
        }
    }
}

pub(super) fn starting(
    spec: &ModuleSpec,
    now: Time,
    pid: u32,
    ready_by: Time,
    told: bool,
    announced: bool,
) -> Actual {
    let look = match &spec.readiness {
        _ if spec.kind == Kind::Task => Look::At(now),
        Readiness::Started => Look::At(now),
        Readiness::Settle(span) => Look::At(now.after(*span)),
        polled if polled.is_polled() => Look::Probing {
            next: now,
            pause: LOOK_FIRST,
            in_flight: false,
        },
        _ => Look::Told(told),
    };
    Actual::Starting(Starting {
        pid,
        announced,
        ready_by,
        look,
    })
}

/// Over, without an order of ours.
fn over(ending: Ending) -> Actual {
    Actual::Over {
        ending,
        clean_up: Some(Duration::MAX),
    }
}

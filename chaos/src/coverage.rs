//! What a campaign reached: each fault, decision, cause and end that the simulator knows of.
//! Owns the list and the counts. Never fails a history: a test asks what was never reached.

use std::ops::AddAssign;

use mainstay_policy::group::Scope;
use mainstay_policy::lifecycle::{ChangeClass, LifecycleEffect};
use mainstay_policy::recovery::{Failure, Verdict};
use mainstay_policy::run::{Exit, RunEffect, RunEnd, RunReportKind};
use mainstay_policy::spec::Strategy;
use mainstay_policy::{Cause, State};

use crate::fault::{Fault, ProcessReport};

macro_rules! points {
    ($($point:ident $text:literal,)*) => {
        /// One thing that a campaign should reach.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the text beside each says it")]
        pub enum Point { $($point,)* }

        impl Point {
            /// All of them.
            pub const ALL: &[Point] = &[$(Point::$point,)*];

            /// In words.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Point::$point => $text,)* }
            }
        }
    };
}

points! {
    EffectRun "effect: run",
    EffectStop "effect: stop",
    EffectNotify "effect: a dependent is told",
    EffectPrepareReset "effect: reset before a restart",
    EffectPrepareRollback "effect: a reset is taken back",
    EffectDegraded "effect: features are switched off",
    EffectRestored "effect: features are switched on again",
    EffectCascade "effect: a cascade",
    EffectStarted "effect: the initial startup is complete",
    EffectStartFailed "effect: the initial startup has failed",
    EffectRemoved "effect: a module is removed",
    EffectInForce "effect: a plan is in force",
    EffectAllStopped "effect: everything is stopped",
    EffectAllStoppedForced "effect: everything is stopped, and something had to be killed",
    RunSpawn "run: spawn",
    RunTerminate "run: stop signal",
    RunKill "run: kill",
    RunPrepare "run: before_start",
    RunCleanUp "run: after_stop",
    RunProbe "run: readiness check",
    RunDrain "run: drain of the notify socket",
    RunExtended "run: more time granted",
    VerdictDone "verdict: done",
    VerdictRestart "verdict: restart",
    VerdictReset "verdict: restart with reset",
    VerdictDegrade "verdict: degrade",
    VerdictRestartSystem "verdict: restart of everything",
    VerdictPropose "verdict: propose",
    VerdictProbation "verdict: give up, with probation",
    VerdictGiveUp "verdict: give up for good",
    VerdictExcused "verdict: excused because a dependency is down",
    ScopeThis "scope: the module",
    ScopeSiblings "scope: its siblings",
    ScopeGroup "scope: its group",
    ScopeSystem "scope: everything",
    GroupExceeded "a group is over its budget",
    FailureNotStarted "failure: not started",
    FailureLasting "failure: not started, for a reason that lasts",
    FailureCode "failure: exit code",
    FailureConfiguration "failure: exit code 78",
    FailureSignal "failure: signal",
    FailureOom "failure: out of memory",
    FailureStuck "failure: survived a kill",
    FailureUnknown "failure: exit unknown",
    FailureTimeout "failure: start timeout",
    FailureWatchdog "failure: watchdog",
    FailureProbe "failure: liveness probe",
    FailureLimit "failure: limit",
    FailureLimitStop "failure: limit, to stop",
    FailureProcedure "failure: procedure",
    EndStopped "end: stopped",
    EndForced "end: stopped by a kill",
    EndBeforeSpawn "end: stopped before it had a process",
    EndStuck "end: stopped, and survived",
    StopRequested "stop reason: request",
    StopDependency "stop reason: dependency",
    StopProbe "stop reason: probe",
    StopLimit "stop reason: limit",
    StopAdopted "stop reason: adopted",
    StopReload "stop reason: reload",
    StopGroup "stop reason: group",
    StopShutdown "stop reason: shutdown",
    StopIdle "stop reason: idle",
    StartBoot "start cause: boot",
    StartRequested "start cause: request",
    StartDependency "start cause: dependency",
    StartExit "start cause: exit",
    StartProbation "start cause: probation",
    StartGroup "start cause: group",
    StartReload "start cause: reload",
    ChangeAdded "plan: module added",
    ChangeLive "plan: module changed in place",
    ChangeRestart "plan: module changed with a restart",
    PlanWhileChanging "plan: changed while the change before was not over",
    FaultStart "fault: request to start",
    FaultStop "fault: request to stop",
    FaultRestart "fault: request to restart",
    FaultWake "fault: wake",
    FaultRecover "fault: a proposal is accepted",
    FaultHealth "fault: health changes",
    FaultIll "fault: a liveness probe fails",
    FaultLimit "fault: over a limit",
    FaultIdle "fault: not used for long",
    FaultMainChanged "fault: another main process",
    FaultStopping "fault: a process says that it ends",
    FaultExtend "fault: a process asks for more time",
    FaultTrigger "fault: a process triggers its watchdog",
    FaultHold "fault: hold",
    FaultRelease "fault: release",
    FaultStopAll "fault: stop of everything",
    FaultRuntimeDeath "fault: death of the runtime",
    FaultLostRecord "fault: a record is lost with the runtime",
    FaultLostOrder "fault: a spawn order is lost with the runtime",
    FaultSleep "fault: suspended machine",
    FaultReplan "fault: change of the plan",
    FaultTwice "fault: a message arrives twice",
    FaultLostDrain "fault: the answer to a drain is lost",
    FaultSpawnFails "fault: a process cannot be made",
    FaultNeverReady "fault: never ready",
    FaultSlowReady "fault: slowly ready",
    FaultIgnoresStop "fault: ignores the stop signal",
    FaultSurvives "fault: survives a kill",
    FaultFence "fault: a stuck process bars the next",
    FaultCrash "fault: crash",
    FaultUnfed "fault: a watchdog is not fed any more",
    FaultHookHangs "fault: a hook hangs",
    FaultHookFails "fault: a hook fails",
    FaultProcedureHangs "fault: a procedure hangs",
    FaultProcedureFails "fault: a procedure fails",
}

/// How often each was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage([u64; Point::ALL.len()]);

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage([0; Point::ALL.len()])
    }
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, other: Coverage) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

impl Coverage {
    /// One more.
    pub fn reach(&mut self, point: Point) {
        self.0[point as usize] += 1;
    }

    /// One more, if it was.
    pub fn reach_if(&mut self, is: bool, point: Point) {
        self.0[point as usize] += u64::from(is);
    }

    /// What was never reached.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        let missed = Point::ALL
            .iter()
            .filter(|point| self.0[**point as usize] == 0);
        missed.map(|point| point.text()).collect()
    }

    /// All of them with their counts, the rarest first.
    #[must_use]
    pub fn table(&self) -> Vec<(u64, &'static str)> {
        let rows = Point::ALL.iter();
        let rows = rows.map(|point| (self.0[*point as usize], point.text()));
        let mut rows: Vec<(u64, &str)> = rows.collect();
        rows.sort_unstable();
        rows
    }

    /// What the lifecycle decided.
    pub fn effect(&mut self, effect: &LifecycleEffect) {
        let point = match effect {
            LifecycleEffect::Run { .. } => Point::EffectRun,
            LifecycleEffect::Stop { .. } => Point::EffectStop,
            LifecycleEffect::NotifyDependent { .. } => Point::EffectNotify,
            LifecycleEffect::Prepare(order) if order.reset => Point::EffectPrepareReset,
            LifecycleEffect::Prepare(_) => Point::EffectPrepareRollback,
            LifecycleEffect::DegradedChanged { degraded: true, .. } => Point::EffectDegraded,
            LifecycleEffect::DegradedChanged { .. } => Point::EffectRestored,
            LifecycleEffect::CascadeStopped { .. } => Point::EffectCascade,
            LifecycleEffect::StartupCompleted => Point::EffectStarted,
            LifecycleEffect::StartupFailed { .. } => Point::EffectStartFailed,
            LifecycleEffect::Removed { .. } => Point::EffectRemoved,
            LifecycleEffect::PlanInForce { .. } => Point::EffectInForce,
            LifecycleEffect::AllStopped { forced: 0 } => Point::EffectAllStopped,
            LifecycleEffect::AllStopped { .. } => Point::EffectAllStoppedForced,
            LifecycleEffect::StateChanged { to, cause, .. } => return self.state(*to, *cause),
            LifecycleEffect::RecoveryDecided {
                failure, decision, ..
            } => {
                self.failure(*failure);
                self.reach_if(decision.excused, Point::VerdictExcused);
                self.reach_if(!decision.exceeded.is_empty(), Point::GroupExceeded);
                self.reach(match decision.scope {
                    Scope::This => Point::ScopeThis,
                    Scope::Siblings { .. } => Point::ScopeSiblings,
                    Scope::Group(_) => Point::ScopeGroup,
                    Scope::System => Point::ScopeSystem,
                });
                verdict(decision.verdict)
            }
        };
        self.reach(point);
    }

    fn state(&mut self, to: State, cause: Cause) {
        let point = match (to, cause) {
            (State::Stopping, Cause::Requested) => Point::StopRequested,
            (State::Stopping, Cause::Dependency) => Point::StopDependency,
            (State::Stopping, Cause::Probe) => Point::StopProbe,
            (State::Stopping, Cause::Limit) => Point::StopLimit,
            (State::Stopping, Cause::Adopted) => Point::StopAdopted,
            (State::Stopping, Cause::Reload) => Point::StopReload,
            (State::Stopping, Cause::Group) => Point::StopGroup,
            (State::Stopping, Cause::Shutdown) => Point::StopShutdown,
            (State::Stopping, Cause::Idle) => Point::StopIdle,
            (State::Starting, Cause::Boot) => Point::StartBoot,
            (State::Starting, Cause::Requested) => Point::StartRequested,
            (State::Starting, Cause::Dependency) => Point::StartDependency,
            (State::Starting, Cause::Exit) => Point::StartExit,
            (State::Starting, Cause::Probation) => Point::StartProbation,
            (State::Starting, Cause::Group) => Point::StartGroup,
            (State::Starting, Cause::Reload) => Point::StartReload,
            _ => return,
        };
        self.reach(point);
    }

    fn failure(&mut self, failure: Failure) {
        self.reach(match failure {
            Failure::NotStarted(start) if start.is_lasting() => Point::FailureLasting,
            Failure::NotStarted(_) => Point::FailureNotStarted,
            Failure::Exited(Exit::Code(78)) => Point::FailureConfiguration,
            Failure::Exited(Exit::Code(_)) => Point::FailureCode,
            Failure::Exited(Exit::Signal { .. }) => Point::FailureSignal,
            Failure::Exited(Exit::Oom) => Point::FailureOom,
            Failure::Exited(Exit::Stuck) => Point::FailureStuck,
            Failure::Exited(Exit::Unknown) | Failure::ExitUnknown => Point::FailureUnknown,
            Failure::StartTimeout => Point::FailureTimeout,
            Failure::Watchdog => Point::FailureWatchdog,
            Failure::Probe => Point::FailureProbe,
            Failure::Limit { stop: true } => Point::FailureLimitStop,
            Failure::Limit { .. } => Point::FailureLimit,
            Failure::Procedure => Point::FailureProcedure,
        });
    }

    /// What a run decided.
    pub fn run_effect(&mut self, effect: &RunEffect) {
        let point = match effect {
            RunEffect::Spawn { .. } => Point::RunSpawn,
            RunEffect::Terminate { .. } => Point::RunTerminate,
            RunEffect::Kill { .. } => Point::RunKill,
            RunEffect::Prepare { .. } => Point::RunPrepare,
            RunEffect::CleanUp { .. } => Point::RunCleanUp,
            RunEffect::Probe { .. } => Point::RunProbe,
            RunEffect::DrainNotify { .. } => Point::RunDrain,
            RunEffect::Report(report) => match report.what {
                RunReportKind::Extended { .. } => Point::RunExtended,
                RunReportKind::Ended(RunEnd::Stopped { exit: None, .. }) => Point::EndBeforeSpawn,
                RunReportKind::Ended(RunEnd::Stopped {
                    exit: Some(Exit::Stuck),
                    ..
                }) => Point::EndStuck,
                RunReportKind::Ended(RunEnd::Stopped { forced: true, .. }) => Point::EndForced,
                RunReportKind::Ended(RunEnd::Stopped { .. }) => Point::EndStopped,
                _ => return,
            },
        };
        self.reach(point);
    }

    /// What happened to the system.
    pub fn fault(&mut self, fault: &Fault) {
        use mainstay_policy::lifecycle::Operation;
        self.reach(match fault {
            Fault::Request(_, Operation::Start) => Point::FaultStart,
            Fault::Request(_, Operation::Stop) => Point::FaultStop,
            Fault::Request(_, Operation::Restart) => Point::FaultRestart,
            Fault::Request(_, Operation::Wake) => Point::FaultWake,
            Fault::Request(_, Operation::Recover) => Point::FaultRecover,
            Fault::Health(_, _, true) => Point::FaultIll,
            Fault::Health(..) => Point::FaultHealth,
            Fault::Limit(..) => Point::FaultLimit,
            Fault::Idle(_) => Point::FaultIdle,
            Fault::Report(_, ProcessReport::MainChanged(_)) => Point::FaultMainChanged,
            Fault::Report(_, ProcessReport::Stopping) => Point::FaultStopping,
            Fault::Report(_, ProcessReport::Extend(_)) => Point::FaultExtend,
            Fault::Report(_, ProcessReport::WatchdogTriggered) => Point::FaultTrigger,
            Fault::Report(_, ProcessReport::WatchdogFed) => return,
            Fault::Hold(_, span) if span.is_zero() => Point::FaultRelease,
            Fault::Hold(..) => Point::FaultHold,
            Fault::StopAll(_) => Point::FaultStopAll,
            Fault::RuntimeDeath(_) => Point::FaultRuntimeDeath,
            Fault::Sleep(_) => Point::FaultSleep,
            Fault::Replan(_) => Point::FaultReplan,
        });
    }

    /// What a plan changes.
    pub fn change(&mut self, change: ChangeClass) {
        match change {
            ChangeClass::Added => self.reach(Point::ChangeAdded),
            ChangeClass::Live => self.reach(Point::ChangeLive),
            ChangeClass::Restart => self.reach(Point::ChangeRestart),
            ChangeClass::Removed => {}
        }
    }
}

fn verdict(verdict: Verdict) -> Point {
    match verdict {
        Verdict::Done => Point::VerdictDone,
        Verdict::Retry { strategy, .. } => match strategy {
            Strategy::RestartWithReset => Point::VerdictReset,
            Strategy::Degrade => Point::VerdictDegrade,
            Strategy::RestartSystem => Point::VerdictRestartSystem,
            Strategy::Restart | Strategy::Stop => Point::VerdictRestart,
        },
        Verdict::Propose { .. } => Point::VerdictPropose,
        Verdict::GiveUp { probation: Some(_) } => Point::VerdictProbation,
        Verdict::GiveUp { probation: None } => Point::VerdictGiveUp,
    }
}

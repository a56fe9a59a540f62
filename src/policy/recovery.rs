//! From a failure to a decision: restart it, when, how and with which modules, or give it up.
//! Owns the ladder, the sliding window, the restoring of attempts, and probation after giving up.
//! Never starts anything: `lifecycle/recover.rs` carries a decision out.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::backoff::{delay, exponential, saturation};
use crate::group::{GroupBudgets, GroupDecision, GroupId, GroupTree, OnExceeded, Scope};
use crate::mono_time::MonoTime;
use crate::run::{Exit, RunEnd, StartFailure, StartStep};
use crate::spec::{ModuleId, RecoverySpec, RestartPolicy, Strategy};
use crate::states::Cause;

#[cfg(test)]
mod tests;
mod validation;

pub use validation::{MIN_READY_TIME, RecoveryValidation, ValidationOutcome};

/// The exit code that says "my configuration is wrong" (EX_CONFIG of sysexits).
pub const EXIT_CONFIGURATION: i32 = 78;

/// An end of a run that was not requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The program never ran.
    NotStarted(StartFailure),
    /// The process exited without a request.
    Exited(Exit),
    /// It did not become ready in time.
    StartTimeout,
    /// It did not feed its watchdog.
    Watchdog,
    /// A liveness probe failed after its threshold.
    Probe,
    /// What had to be done before its restart could not be done.
    Procedure,
    /// It exceeded a limit up to the last rung of its throttle ladder.
    Limit {
        /// The last rung is `stop`: it is not tried again.
        stop: bool,
    },
    /// It ended in an unknown way: the runtime was away, or it was not the holder's child.
    ExitUnknown,
}

impl From<RunEnd> for Failure {
    fn from(ending: RunEnd) -> Failure {
        match ending {
            RunEnd::NotStarted(failure) => Failure::NotStarted(failure),
            RunEnd::Exited(Exit::Unknown)
            | RunEnd::Stopped {
                exit: None | Some(Exit::Unknown),
                ..
            } => Failure::ExitUnknown,
            RunEnd::Exited(exit) => Failure::Exited(exit),
            RunEnd::StartTimeout => Failure::StartTimeout,
            RunEnd::Watchdog => Failure::Watchdog,
            // Stopped, but not by this lifecycle.
            RunEnd::Stopped {
                exit: Some(exit), ..
            } => Failure::Exited(exit),
        }
    }
}

impl Failure {
    /// Whether it is none: the holder ended while the run was started.
    pub(crate) fn is_lost_start(self) -> bool {
        matches!(self, Failure::NotStarted(failure) if failure.is_lost())
    }

    /// The cause that it gives to the next state.
    pub(crate) fn cause(self) -> Cause {
        match self {
            Failure::NotStarted(failure)
                if matches!(
                    failure.step,
                    StartStep::Prepare | StartStep::Resources | StartStep::Holder
                ) =>
            {
                Cause::Startup
            }
            Failure::Procedure => Cause::Startup,
            Failure::NotStarted(_) => Cause::Exec,
            Failure::Exited(_) | Failure::ExitUnknown => Cause::Exit,
            Failure::StartTimeout => Cause::Timeout,
            Failure::Watchdog => Cause::Watchdog,
            Failure::Probe => Cause::Probe,
            Failure::Limit { .. } => Cause::Limit,
        }
    }
}

/// The kind of a failure, as far as recovery distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// An exit with a clean code.
    Clean,
    /// An exit with any other code.
    Crash,
    /// The end by a signal.
    Signal,
    /// Killed by the kernel for memory.
    Oom,
    /// The program never ran.
    Exec,
    /// Exit 78: not retried until the configuration changes.
    Configuration,
    /// mainstay stopped it (start timeout, watchdog, probe, limit), or the end is unknown.
    Unresponsive,
}

impl Failure {
    /// What kind of failure it was.
    #[must_use]
    pub fn class(self, recovery: &RecoverySpec) -> FailureClass {
        match self {
            Failure::Exited(Exit::Code(code)) if recovery.clean_exit_codes.contains(&code) => {
                FailureClass::Clean
            }
            Failure::Exited(Exit::Code(EXIT_CONFIGURATION)) => FailureClass::Configuration,
            Failure::Exited(Exit::Code(_)) => FailureClass::Crash,
            Failure::Exited(Exit::Signal { .. }) => FailureClass::Signal,
            Failure::Exited(Exit::Oom) => FailureClass::Oom,
            Failure::Exited(Exit::Stuck) => FailureClass::Unresponsive,
            Failure::NotStarted(_) => FailureClass::Exec,
            Failure::StartTimeout
            | Failure::Watchdog
            | Failure::Probe
            | Failure::Procedure
            | Failure::Limit { .. }
            | Failure::ExitUnknown
            | Failure::Exited(Exit::Unknown) => FailureClass::Unresponsive,
        }
    }
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again, and with it the modules of the scope.
    Retry {
        /// The time until its start.
        after: Duration,
        /// The rung of the ladder, or what its group does.
        strategy: Strategy,
    },
    /// `auto = false`: it is failed until a person accepts this, or starts it.
    Propose {
        /// The rung of the ladder.
        strategy: Strategy,
    },
    /// It ended with a clean exit code: nothing is to be done.
    Done,
    /// It is failed and not restarted.
    GiveUp {
        /// The time until the one restart of probation; None: only a request starts it again.
        probation: Option<Duration>,
    },
}

/// A verdict, and what it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What follows for the module that failed.
    pub verdict: Verdict,
    /// The modules that it is carried out for beside that one.
    pub scope: Scope,
    /// The groups whose budget was exceeded, the innermost first.
    pub exceeded: Vec<GroupId>,
    /// It cost no attempt: a dependency was down.
    pub excused: bool,
}

impl Decision {
    fn alone(verdict: Verdict) -> Decision {
        Decision {
            verdict,
            scope: Scope::This,
            exceeded: Vec::new(),
            excused: false,
        }
    }
}

/// A failure and its circumstances.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The module that failed.
    pub module: ModuleId,
    /// Its section `recovery`.
    pub recovery: &'a RecoverySpec,
    /// The groups of the plan, whose budgets a restart uses too.
    pub groups: &'a GroupTree,
    /// How it failed.
    pub failure: Failure,
    /// A module that it requires is down and will be started again: the failure costs no attempt.
    pub dependency_is_down: bool,
    /// The seed of the jitter of the delay.
    pub seed: u64,
}

/// What recovery remembers of one module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryState {
    /// Attempts that count against the first rung, oldest first; at most `max_attempts`.
    recent: VecDeque<MonoTime>,
    /// Attempts while `max_attempts` is 0: no window forgets them, only stability.
    unlimited: u32,
    last_failure: Option<MonoTime>,
    rung: u8,
    rung_used: bool,
    probations: u32,
    half_open: bool,
    ready_since: Option<MonoTime>,
}

/// The part of a [`RecoveryState`] that survives a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SavedRecovery {
    /// Attempts on the first rung.
    pub attempts: u32,
    /// Its rung.
    pub rung: u8,
    /// Whether that rung's one try is used.
    pub rung_used: bool,
    /// How often it was given up since it was last stable.
    pub probations: u32,
    /// Whether the current run is the one try after giving up.
    pub half_open: bool,
    /// Since when the current run is ready.
    pub ready_since: Option<MonoTime>,
}

impl RecoveryState {
    /// Attempts that count at the moment.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        u32::try_from(self.recent.len())
            .unwrap_or(u32::MAX)
            .max(self.unlimited)
    }

    /// The run is ready: from here on it earns stability.
    pub fn ready(&mut self, now: MonoTime) {
        self.ready_since = Some(now);
    }

    /// Since when the current run is ready.
    #[must_use]
    pub fn ready_since(&self) -> Option<MonoTime> {
        self.ready_since
    }

    /// The run has ended without a failure.
    pub fn run_over(&mut self, recovery: &RecoverySpec, now: MonoTime) {
        self.credit_stable_time(recovery, now);
        self.ready_since = None;
    }

    /// While a run lasts: pays back what it has earned and drops what left the window.
    pub fn credit(&mut self, recovery: &RecoverySpec, now: MonoTime) {
        self.credit_stable_time(recovery, now);
        self.expire(recovery, now);
    }

    /// When `credit` next changes something, if the run lasts.
    #[must_use]
    pub fn next_credit(&self, recovery: &RecoverySpec) -> Option<MonoTime> {
        let expires = self.recent.front().map(|at| at.after(recovery.window));
        let owes = self.attempts() > 0 || self.rung > 0 || self.rung_used;
        let owes = owes || self.probations > 0 || self.half_open;
        let stable = self.ready_since.filter(|_| owes);
        let stable = stable.map(|since| since.after(recovery.stable_after));
        expires.into_iter().chain(stable).min()
    }

    /// One try is let through although it was given up.
    pub fn half_open(&mut self) {
        self.half_open = true;
    }

    /// Whether the current run is that one try.
    #[must_use]
    pub(crate) fn is_half_open(&self) -> bool {
        self.half_open
    }

    /// Resets everything: a request outranks recovery. Keeps its allocated memory.
    pub fn reset(&mut self) {
        let mut recent = core::mem::take(&mut self.recent);
        recent.clear();
        *self = RecoveryState {
            recent,
            ready_since: self.ready_since,
            ..RecoveryState::default()
        };
    }

    /// What must survive the runtime.
    #[must_use]
    pub fn save(&self) -> SavedRecovery {
        SavedRecovery {
            attempts: self.attempts(),
            rung: self.rung,
            rung_used: self.rung_used,
            probations: self.probations,
            half_open: self.half_open,
            ready_since: self.ready_since,
        }
    }

    /// The opposite of [`RecoveryState::save`]. The attempts count as made `now`: a returning
    /// runtime may be too careful, never too generous.
    #[must_use]
    pub fn restore(recovery: &RecoverySpec, now: MonoTime, from: SavedRecovery) -> RecoveryState {
        let limited = from.attempts.min(recovery.max_attempts);
        RecoveryState {
            recent: (0..limited).map(|_| now).collect(),
            unlimited: if recovery.max_attempts == 0 {
                from.attempts
            } else {
                0
            },
            last_failure: (from.attempts > 0).then_some(now),
            rung: from.rung,
            rung_used: from.rung_used,
            probations: from.probations,
            half_open: from.half_open,
            ready_since: from.ready_since,
        }
    }

    /// Each full `stable_after` of the run pays one attempt, the oldest first; the first one
    /// ends probation and returns to the first rung.
    fn credit_stable_time(&mut self, recovery: &RecoverySpec, now: MonoTime) {
        let Some(since) = self.ready_since else {
            return;
        };
        let span = recovery.stable_after.max(Duration::from_nanos(1));
        let paid = now.since(since).as_nanos() / span.as_nanos();
        if paid == 0 {
            return;
        }
        let rest = now.since(since).as_nanos() % span.as_nanos();
        let rest = u64::try_from(rest).unwrap_or(0);
        self.ready_since = Some(MonoTime(now.0.saturating_sub(rest)));
        self.pay(recovery, since, span, paid);
        if self.unlimited > 0 {
            let counted = self.unlimited.min(saturation(&recovery.backoff));
            self.unlimited = counted.saturating_sub(u32::try_from(paid).unwrap_or(u32::MAX));
        }
        (self.rung, self.rung_used) = (0, false);
        (self.probations, self.half_open) = (0, false);
    }

    /// Forgets the attempts that `paid` spans since then pay. This may be looked at late: what had
    /// left the window when a span was over is not what it pays.
    fn pay(&mut self, recovery: &RecoverySpec, since: MonoTime, span: Duration, paid: u128) {
        let mut paid_at = since;
        for _ in 0..paid {
            if self.recent.is_empty() {
                return;
            }
            paid_at = paid_at.after(span);
            self.expire(recovery, paid_at);
            self.recent.pop_front();
        }
    }

    fn expire(&mut self, recovery: &RecoverySpec, now: MonoTime) {
        while self
            .recent
            .front()
            .is_some_and(|&at| at.after(recovery.window) <= now)
        {
            self.recent.pop_front();
        }
    }

    /// Climbs the ladder to the rung for this failure; None: the ladder has ended.
    fn climb(&mut self, recovery: &RecoverySpec) -> Option<Strategy> {
        loop {
            let strategy = *recovery.on_failure.get(usize::from(self.rung))?;
            let is_free = match self.rung {
                0 => {
                    let used = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
                    recovery.max_attempts == 0 || used < recovery.max_attempts
                }
                _ => !core::mem::replace(&mut self.rung_used, true),
            };
            if is_free || strategy == Strategy::Stop {
                return Some(strategy);
            }
            self.rung = self.rung.saturating_add(1);
            self.rung_used = false;
        }
    }

    /// The number of this attempt within what is remembered; the first is 1.
    fn count(&mut self, recovery: &RecoverySpec, now: MonoTime) -> u32 {
        if recovery.max_attempts == 0 {
            self.unlimited = self.unlimited.saturating_add(1);
        } else if self.rung == 0 {
            self.recent.push_back(now);
        }
        self.attempts().saturating_add(u32::from(self.rung))
    }

    /// Gives up; the time until probation grows each time, until a run is stable.
    fn open(&mut self, recovery: &RecoverySpec) -> Verdict {
        self.half_open = false;
        let probation = recovery
            .probation
            .filter(|_| recovery.auto)
            .map(|probation| {
                exponential(
                    probation.initial,
                    probation.factor,
                    self.probations,
                    probation.max,
                )
            });
        self.probations = self.probations.saturating_add(1);
        Verdict::GiveUp { probation }
    }
}

/// Decides what follows a failure: a restart and the delay before it, giving up, or nothing.
pub fn decide(
    case: Case<'_>,
    state: &mut RecoveryState,
    budgets: &mut GroupBudgets,
    now: MonoTime,
) -> Decision {
    let recovery = case.recovery;
    state.run_over(recovery, now);
    state.expire(recovery, now);
    let again = state
        .last_failure
        .is_some_and(|at| at.after(recovery.window) > now);
    state.last_failure = Some(now);

    let permanently = Verdict::GiveUp { probation: None };
    match (case.failure.class(recovery), recovery.restart) {
        (FailureClass::Clean, RestartPolicy::OnFailure | RestartPolicy::Never) => {
            return Decision::alone(Verdict::Done);
        }
        (FailureClass::Configuration, _) | (_, RestartPolicy::Never) => {
            return Decision::alone(permanently);
        }
        _ if case.failure == (Failure::Limit { stop: true }) => {
            return Decision::alone(permanently);
        }
        (
            FailureClass::Clean
            | FailureClass::Crash
            | FailureClass::Signal
            | FailureClass::Oom
            | FailureClass::Exec
            | FailureClass::Unresponsive,
            RestartPolicy::Always | RestartPolicy::OnFailure,
        ) => {}
    }
    let is_stuck = case.failure == Failure::Exited(Exit::Stuck);
    if case.dependency_is_down && recovery.auto && !is_stuck {
        let (after, strategy) = (restart_delay(&case, 1, again), Strategy::Restart);
        return Decision {
            excused: true,
            ..Decision::alone(Verdict::Retry { after, strategy })
        };
    }
    // What cannot be ended cannot be started again: a quick attempt would meet the fence. And one
    // without a program would meet its absence.
    let lasts = matches!(case.failure, Failure::NotStarted(start) if start.is_lasting());
    if ((state.half_open || lasts) && recovery.auto) || is_stuck {
        return Decision::alone(state.open(recovery));
    }
    match state.climb(recovery) {
        Some(Strategy::Stop) => Decision::alone(permanently),
        None => Decision::alone(state.open(recovery)),
        Some(strategy) if !recovery.auto => Decision {
            scope: scope_of(strategy),
            ..Decision::alone(Verdict::Propose { strategy })
        },
        Some(strategy) => {
            let attempt = state.count(recovery, now);
            let after = restart_delay(&case, attempt, again);
            retry(case, budgets, now, after, strategy)
        }
    }
}

/// The time from a failure to the restart that is this attempt (the first is 1). `again`: it is not
/// the first failure in the window. That one never restarts at full speed, also when the attempts
/// before it were lost with a runtime.
fn restart_delay(case: &Case<'_>, attempt: u32, again: bool) -> Duration {
    let backoff = &case.recovery.backoff;
    let delay = delay(backoff, attempt, case.seed);
    let floor = backoff.floor.min(backoff.max);
    if again { delay.max(floor) } else { delay }
}

/// Decides what follows when a person accepts what was proposed: a restart at once.
pub fn accept(
    case: Case<'_>,
    strategy: Strategy,
    state: &mut RecoveryState,
    budgets: &mut GroupBudgets,
    now: MonoTime,
) -> Decision {
    state.count(case.recovery, now);
    retry(case, budgets, now, Duration::ZERO, strategy)
}

fn scope_of(strategy: Strategy) -> Scope {
    match strategy {
        Strategy::RestartSystem => Scope::System,
        Strategy::Restart | Strategy::RestartWithReset | Strategy::Degrade | Strategy::Stop => {
            Scope::This
        }
    }
}

/// A restart that the ladder allows, as far as the groups of the module allow it too.
fn retry(
    case: Case<'_>,
    budgets: &mut GroupBudgets,
    now: MonoTime,
    after: Duration,
    strategy: Strategy,
) -> Decision {
    let own = Verdict::Retry { after, strategy };
    if strategy == Strategy::RestartSystem {
        let scope = Scope::System;
        return Decision {
            scope,
            ..Decision::alone(own)
        };
    }
    let calm = case.recovery.window;
    let GroupDecision {
        scope,
        exceeded,
        action,
    } = budgets.count_restart(case.groups, now, case.module, calm);
    let group_strategy = |strategy| Verdict::Retry { after, strategy };
    let verdict = match action {
        None | Some(OnExceeded::Escalate) => own,
        Some(OnExceeded::StopGroup | OnExceeded::Shutdown) => Verdict::GiveUp { probation: None },
        Some(OnExceeded::RestartSystem) => group_strategy(Strategy::RestartSystem),
        Some(OnExceeded::Degrade) => group_strategy(Strategy::Degrade),
    };
    Decision {
        verdict,
        scope,
        exceeded,
        excused: false,
    }
}

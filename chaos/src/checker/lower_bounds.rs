//! What must happen at least: nothing is given up too early, started too soon or shown too well.
//! Owns a count of attempts that is never too low, and what is known for certain of each module.
//! Never complains where the loss of a runtime or a change of the plan leaves room for doubt.

use std::collections::VecDeque;
use std::time::Duration;

use mainstay_policy::group::Scope;
use mainstay_policy::lifecycle::{Forecast, Operation};
use mainstay_policy::recovery::{Decision, Failure, Verdict};
use mainstay_policy::run::Exit;
use mainstay_policy::spec::{RecoverySpec, RestartPolicy, Strategy};
use mainstay_policy::states::Cause;
use mainstay_policy::{Lifecycle, ModuleId, MonoTime, Plan, State, Status};

use super::{Checked, Checker, TOKEN_HOLD, ensure};
use crate::violation::Violation;

/// What is known of one module for certain.
#[derive(Debug, Clone, Default)]
pub(super) struct Bounds {
    pub(super) state: State,
    pub(super) since: MonoTime,
    /// It is in that state because it is not used.
    is_unused: bool,
    /// Its run was reported as not used: it may end by itself before its stop is ordered.
    may_be_unused: bool,
    /// When its last run was ordered.
    run_at: MonoTime,
    /// Attempts that may still count: at least those that do.
    most: VecDeque<MonoTime>,
    /// Its recovery may be another than is known here.
    uncertain: bool,
    /// It was given up, with a try to come.
    gave_up: bool,
    /// Its run is the one try after that, for certain; and perhaps.
    on_trial: bool,
    may_be_trial: bool,
    /// A rung after the first was used.
    climbed: bool,
    /// No earlier than this it is run again without a request.
    retry_from: MonoTime,
    /// A runtime died during its run.
    spans_return: bool,
    /// Its current or last run was ready, and no runtime died since.
    pub(super) was_ready: bool,
}

impl Bounds {
    /// What it owed is forgotten, for certain.
    fn forgive(&mut self) {
        self.most.clear();
        (self.uncertain, self.may_be_trial) = (false, false);
        self.climbed = false;
    }

    /// What it owed may be forgotten.
    fn may_be_forgiven(&mut self) {
        (self.gave_up, self.on_trial) = (false, false);
        self.retry_from = MonoTime(0);
    }

    fn doubt(&mut self) {
        self.may_be_forgiven();
        self.uncertain = true;
    }

    /// Its run has ended after it was ready for so long.
    fn pay_back(&mut self, recovery: &RecoverySpec, since: MonoTime, lasted: Duration) {
        let span = recovery.stable_after.max(Duration::from_nanos(1));
        if std::mem::take(&mut self.spans_return) || lasted < span {
            return;
        }
        (self.on_trial, self.may_be_trial) = (false, false);
        self.climbed = false;
        let mut paid_at = since;
        while paid_at.after(span) <= since.after(lasted) && !self.most.is_empty() {
            paid_at = paid_at.after(span);
            self.most.retain(|at| at.after(recovery.window) > paid_at);
            self.most.pop_front();
        }
    }
}

impl Checker {
    /// A request was made.
    pub(super) fn bounds_requested(
        &mut self,
        module: ModuleId,
        operation: Operation,
        reached: &[ModuleId],
    ) {
        for module in reached {
            self.of(*module).bounds.may_be_forgiven();
        }
        let bounds = &mut self.of(module).bounds;
        let begins = matches!(
            bounds.state,
            State::NotStarted | State::Stopped | State::Backoff | State::Failed
        );
        match operation {
            Operation::Stop | Operation::Restart => bounds.forgive(),
            Operation::Start if begins => bounds.forgive(),
            Operation::Start | Operation::Wake => {}
            Operation::Recover => bounds.uncertain = true,
        }
    }

    /// The run of a module has ended.
    pub(super) fn bounds_ended(&mut self, now: MonoTime, module: ModuleId) {
        let shadow = self.of(module);
        if let (Some(spec), Some(since)) = (shadow.spec.clone(), shadow.stable_from) {
            let lasted = now.since(since);
            shadow.bounds.pay_back(&spec.recovery, since, lasted);
        }
        shadow.bounds.spans_return = false;
    }

    /// The lifecycle says where a module stands.
    pub(super) fn bounds_moved(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        (to, cause): (State, Cause),
    ) {
        let bounds = &mut self.of(module).bounds;
        (bounds.state, bounds.since) = (to, now);
        bounds.is_unused = cause == Cause::Idle;
        self.has_moved = true;
    }

    /// A failure was judged, and not too strictly.
    pub(super) fn bounds_judged(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        (failure, attempt): (Failure, u32),
        decision: &Decision,
    ) -> Checked {
        let certain_start = self.starting && self.start_is_certain && !self.is_stopping();
        if decision.scope != Scope::This {
            self.doubt_all();
        }
        let shadow = self.of(module);
        let Some(spec) = shadow.spec.clone() else {
            return Ok(());
        };
        let recovery = &spec.recovery;
        let attempts = shadow.attempts.iter();
        let sure = 1 + attempts
            .filter(|at| at.after(recovery.window) > now)
            .count();
        let bounds = &mut shadow.bounds;
        bounds.most.retain(|at| at.after(recovery.window) > now);
        let expected = Expected::of(recovery, failure);
        let right = expected.allows(recovery, bounds, decision);
        ensure(right, || Violation::WrongVerdict(module))?;
        match decision.verdict {
            Verdict::Retry { after, strategy } => {
                bounds.retry_from = now.after(after);
                let first = recovery.on_failure.first() == Some(&strategy);
                let least = least_delay(recovery, sure);
                bounds.climbed |= !first;
                let plain = first && !decision.excused && !bounds.uncertain;
                if !decision.excused {
                    bounds.most.push_back(now);
                }
                // What is counted is at least what is known for certain.
                let limited = plain && recovery.max_attempts > 0;
                ensure(!limited || attempt as usize >= sure, || {
                    Violation::BudgetExceeded(module)
                })?;
                let most = bounds.most.len();
                ensure(!limited || attempt as usize <= most, || {
                    Violation::GaveUpTooEarly(module)
                })?;
                return ensure(!plain || after >= least, || {
                    Violation::StartedTooSoon(module)
                });
            }
            Verdict::GiveUp { probation } => {
                let used = bounds.most.len() >= recovery.max_attempts as usize;
                let exhausted = recovery.max_attempts > 0 && used;
                let doubtful = bounds.uncertain || decision.scope != Scope::This;
                let allowed = expected.may_be_given_up || bounds.may_be_trial || exhausted;
                let allowed = allowed || bounds.climbed;
                let doubtful = doubtful || !decision.exceeded.is_empty();
                ensure(allowed || doubtful, || Violation::GaveUpTooEarly(module))?;
                let tried_again = probation.is_some() || recovery.probation.is_none();
                ensure(tried_again || expected.may_be_for_good || doubtful, || {
                    Violation::NoProbation(module)
                })?;
                bounds.gave_up = probation.is_some();
                bounds.may_be_trial |= bounds.gave_up;
                bounds.retry_from = probation.map_or(MonoTime(0), |after| now.after(after));
                let least = recovery.probation.map_or(Duration::ZERO, |it| it.initial);
                let soon = probation.is_some_and(|after| after < least);
                ensure(!soon, || Violation::StartedTooSoon(module))?;
                if spec.required && certain_start && decision.scope == Scope::This {
                    self.must_fail = Some(module);
                }
            }
            Verdict::Done | Verdict::Propose { .. } => {}
        }
        Ok(())
    }

    /// A module is run: not before its time, nor before what it wants is up or has had its time.
    pub(super) fn bounds_run(&mut self, plan: &Plan, now: MonoTime, module: ModuleId) -> Checked {
        let bounds = &self.shadows[module.index()].bounds;
        ensure(now >= bounds.retry_from, || {
            Violation::StartedTooSoon(module)
        })?;
        for edge in plan.dependencies(module).iter().filter(|edge| !edge.hard) {
            let target = &self.shadows[edge.to.index()];
            // While a run by a former plan is out, its time is that of the former specification.
            let specs = [Some(plan.module(edge.to)), target.spec.as_deref()];
            let timeouts = specs.into_iter().flatten().map(|spec| spec.startup_timeout);
            let until = bounds.since.after(timeouts.min().unwrap_or_default());
            let comes = matches!(target.bounds.state, State::Waiting | State::Starting);
            let comes = comes && target.reach.requested && target.in_plan;
            let waits = bounds.state == State::Waiting && comes && now < until;
            ensure(!waits || self.is_met(plan, edge), || {
                Violation::StartedTooEarly(module, edge.to)
            })?;
        }
        let others = self
            .shadows
            .iter()
            .filter(|it| it.out && it.ready.is_none());
        let alone = !self.serial || !self.start_is_certain || others.count() == 0;
        ensure(alone, || Violation::StartedTooSoon(module))?;
        let bounds = &mut self.of(module).bounds;
        bounds.on_trial |= std::mem::take(&mut bounds.gave_up);
        (bounds.run_at, bounds.was_ready) = (now, false);
        bounds.may_be_unused = false;
        (bounds.retry_from, bounds.spans_return) = (MonoTime(0), false);
        Ok(())
    }

    /// The run of a module was reported as not used.
    pub fn unused(&mut self, module: ModuleId) {
        self.of(module).bounds.may_be_unused = true;
    }

    /// What follows for each module is another's decision.
    pub(super) fn doubt_all(&mut self) {
        self.shadows.iter_mut().for_each(|it| it.bounds.doubt());
    }

    /// A new runtime begins.
    pub(super) fn bounds_returned(&mut self) {
        (self.start_is_certain, self.must_fail) = (false, None);
        for shadow in &mut self.shadows {
            shadow.bounds.doubt();
            (shadow.bounds.may_be_trial, shadow.bounds.was_ready) = (true, false);
            shadow.bounds.spans_return = true;
        }
    }

    /// Nothing is left to do at this moment: what was decided is seen.
    ///
    /// # Errors
    /// The status is better than the modules are, or a start goes on that has failed.
    pub fn settled(&mut self, plan: &Plan, now: MonoTime, lifecycle: &Lifecycle) -> Checked {
        if let Some(module) = self.must_fail.take() {
            return Err(Violation::StartNotFailed(module));
        }
        if !std::mem::take(&mut self.has_moved) {
            return Ok(());
        }
        let status = lifecycle.status();
        if self.is_stopping() || matches!(status, Status::Starting | Status::Stopping) {
            return Ok(());
        }
        for module in plan.ids() {
            // Without a process there is nothing that a stop waits for.
            let is_stopped = self.shadows[module.index()].reach.stopped_by_name;
            let rests = || {
                matches!(
                    lifecycle.view(module).state,
                    State::Waiting | State::Backoff
                )
            };
            ensure(!(is_stopped && rests()), || Violation::StopHangs(module))?;
            let least = self.least_status(plan, now, module);
            ensure(status >= least, || Violation::FalseStatus(module))?;
            if self.shadows[module.index()].bounds.state != State::Waiting {
                continue;
            }
            self.waits_for_what_is_missing(plan, now, lifecycle, module)?;
            if plan.system().concurrent_restarts == 0 {
                continue;
            }
            for holder in lifecycle.view(module).token_holders {
                let until = self.shadows[holder.index()].bounds.run_at.after(TOKEN_HOLD);
                ensure(now < until, || Violation::TokenHeld(holder))?;
            }
        }
        Ok(())
    }

    /// What is forecast of a module that waits: it waits for all that its edges miss, and for
    /// nothing else.
    fn waits_for_what_is_missing(
        &self,
        plan: &Plan,
        now: MonoTime,
        lifecycle: &Lifecycle,
        module: ModuleId,
    ) -> Checked {
        let Forecast::Needs { modules, .. } = lifecycle.forecast(now, module) else {
            return Ok(());
        };
        // A run that has to stop after others is none that a start can rely on.
        let goes = |need| matches!(lifecycle.forecast(now, need), Forecast::StopsAfter { .. });
        let edges = plan.dependencies(module);
        let misses = |need| {
            edges
                .iter()
                .any(|it| it.to == need && !self.is_met(plan, it))
        };
        // What a former runtime was ending, or saw end, the lifecycle may know less of.
        let uncertain = |need: ModuleId| {
            let shadow = &self.shadows[need.index()];
            shadow.halted_before || shadow.completed || shadow.bounds.uncertain
        };
        let mut named = modules.iter().copied();
        let names_missing = named.all(|need| misses(need) || goes(need) || uncertain(need));
        let hard = edges.iter().filter(|edge| edge.hard);
        let mut missing = hard.filter(|edge| !self.is_met(plan, edge));
        let names_all = missing.all(|edge| modules.contains(&edge.to));
        ensure(names_missing && names_all, || {
            Violation::ForecastBroken(module)
        })
    }

    /// How the system is at best with this module.
    fn least_status(&self, plan: &Plan, now: MonoTime, module: ModuleId) -> Status {
        let shadow = &self.shadows[module.index()];
        let spec = plan.module(module);
        // A run by a former plan is what that plan says.
        let required = spec.required && shadow.spec.as_ref().is_some_and(|it| it.required);
        if !required || !shadow.reach.requested {
            return Status::Healthy;
        }
        let stable = spec.recovery.stable_after;
        let stable = shadow
            .stable_from
            .is_some_and(|since| now >= since.after(stable));
        let on_trial = shadow.bounds.on_trial && !shadow.bounds.uncertain && !stable;
        match shadow.bounds.state {
            State::Failed => Status::Critical,
            State::NotStarted | State::Stopped => Status::Healthy,
            State::Stopping if shadow.bounds.is_unused || shadow.bounds.may_be_unused => {
                Status::Healthy
            }
            _ if on_trial => Status::Critical,
            State::Running => Status::Healthy,
            State::Waiting | State::Starting | State::Stopping | State::Backoff => Status::Degraded,
        }
    }
}

/// What may follow from a failure, attempts apart.
struct Expected {
    may_be_done: bool,
    may_be_tried: bool,
    may_be_given_up: bool,
    may_be_for_good: bool,
}

impl Expected {
    /// Whether a verdict is one of those that may follow.
    fn allows(&self, recovery: &RecoverySpec, bounds: &Bounds, decision: &Decision) -> bool {
        match decision.verdict {
            Verdict::Done => self.may_be_done,
            Verdict::Propose { .. } => !recovery.auto,
            Verdict::Retry { .. } if bounds.uncertain || decision.excused => true,
            Verdict::Retry { .. } => self.may_be_tried && !bounds.on_trial,
            Verdict::GiveUp { .. } => !self.may_be_done,
        }
    }

    fn of(recovery: &RecoverySpec, failure: Failure) -> Expected {
        let code = match failure {
            Failure::Exited(Exit::Code(code)) => Some(code),
            _ => None,
        };
        let clean = code.is_some_and(|code| recovery.clean_exit_codes.contains(&code));
        let configuration = code == Some(78) && !clean;
        let never = recovery.restart == RestartPolicy::Never;
        let done = clean && recovery.restart != RestartPolicy::Always;
        let limit = failure == Failure::Limit { stop: true };
        let for_good = configuration || never || limit;
        // What cannot be ended, or has no program, is tried again on probation alone.
        let lasts = matches!(failure, Failure::NotStarted(start) if start.is_lasting());
        let stuck = lasts || failure == Failure::Exited(Exit::Stuck);
        let stops = recovery.on_failure.first() == Some(&Strategy::Stop);
        Expected {
            may_be_done: done,
            may_be_tried: !done && !for_good && recovery.auto && !stuck && !stops,
            may_be_given_up: for_good || stuck || stops || !recovery.auto,
            may_be_for_good: for_good
                || !recovery.auto
                || recovery.on_failure.contains(&Strategy::Stop),
        }
    }
}

/// The shortest delay before the nth attempt of the first rung.
fn least_delay(recovery: &RecoverySpec, attempt: usize) -> Duration {
    let backoff = &recovery.backoff;
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
    let grown = backoff.initial.as_secs_f64() * backoff.factor.powi(exponent);
    let least = grown.min(backoff.max.as_secs_f64()) * (1.0 - backoff.jitter);
    Duration::from_secs_f64(least.max(0.0)).saturating_sub(Duration::from_millis(1))
}

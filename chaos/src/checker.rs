//! The checkers: what must hold after every step, whatever happens.
//! Owns a second, simpler picture of the system, built only from what was said and done.
//! Never asks the policy why; only the last check, of a quiet system, looks at its views.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::violation::Violation;
use mainstay_policy::lifecycle::{LifecycleEffect, Operation};
use mainstay_policy::run::{Exit, RunEnd, RunReport, RunReportKind};
use mainstay_policy::spec::{DependencyCondition, Edge, Kind, RecoverySpec, StartMode};
use mainstay_policy::states::Cause;
use mainstay_policy::{Health, ModuleId, ModuleSpec, MonoTime, Plan, State};

mod lower_bounds;
mod quiescence;
mod recovery;
mod replan;
mod runtime_restart;

use lower_bounds::Bounds;
use recovery::{GroupCounts, SharedEnd};
pub use replan::BeforeReplan;
pub use runtime_restart::{BeforeRun, ObservedRun};

/// The result of a check.
pub type Checked = Result<(), Violation>;

/// How late things may be because news and orders take time.
const SLACK: Duration = Duration::from_secs(3);
/// A restart holds its token no longer than this.
const TOKEN_HOLD: Duration = Duration::from_secs(5);
/// What the death of one process adds to a stop of everything: its last hook has 100 ms at least,
/// and the orders and news about it take their time.
const SLACK_A_MODULE: Duration = Duration::from_millis(200);

/// How far wishes reach a module.
#[derive(Debug, Clone, Copy, Default)]
pub struct DesiredReach {
    /// Wished up by name, or by the first start.
    requested: bool,
    /// That, or needed by one that is.
    allowed: bool,
    /// Stopped by name, and reached by no wish since.
    stopped_by_name: bool,
}

/// One module of the picture.
#[derive(Debug, Clone, Default)]
pub struct ModelModule {
    /// Ordered to run, and not known as ended.
    out: bool,
    halted: bool,
    /// A runtime before had ordered the end of its run.
    halted_before: bool,
    generation: u64,
    started: bool,
    /// It ends although no order ended it.
    ending: bool,
    /// A person asked for its next run while this one was out.
    next_requested: bool,
    ready: Option<MonoTime>,
    /// Since when the run earns stability; unlike `ready` it outlives the runtime.
    stable_from: Option<MonoTime>,
    healthy: bool,
    completed: bool,
    reach: DesiredReach,
    /// The place of its last run among all runs, and of the last that was a restart for others: a
    /// start after a clean exit is none.
    run: u64,
    restart: u64,
    at_rest: bool,
    /// The process of its run survived a kill.
    has_survived: bool,
    /// Its last run could not be ended.
    is_stuck: bool,
    stop_by: Option<MonoTime>,
    attempts: VecDeque<MonoTime>,
    /// Tries of the rungs after the first, since the last stable run.
    rung_tries: usize,
    /// What it owes to the failure of another.
    shared_end: SharedEnd,
    /// Until then it does not start: something is done before.
    prepared_by: MonoTime,
    coming_back: bool,
    /// A client used it during its run, perhaps too late for that to answer.
    is_called: bool,
    /// No run of it starts before that.
    held_until: MonoTime,
    /// What must happen at least.
    bounds: Bounds,
    /// The token of its restart goes back then at the latest.
    token_until: MonoTime,
    /// What its run was started by, or goes on by since a live change.
    spec: Option<Arc<ModuleSpec>>,
    /// Its edges changed while it ran: what it needs may have been away when they did.
    has_new_edges: bool,
    /// The newest plan has it.
    in_plan: bool,
    /// Its run has to end before the newest plan is in force.
    outdated: bool,
    /// Among all runs, the last one that the newest spec does not accept.
    last_outdated_run: u64,
}

impl ModelModule {
    /// Each full `stable_after` of a run pays the oldest attempt that is still in the window.
    fn pay_back(&mut self, recovery: &RecoverySpec, lasted: Duration) {
        let Some(since) = self.stable_from else {
            return;
        };
        let span = recovery.stable_after.max(Duration::from_nanos(1));
        let mut paid_at = since;
        while paid_at.after(span) <= since.after(lasted) && !self.attempts.is_empty() {
            paid_at = paid_at.after(span);
            self.attempts
                .retain(|at| at.after(recovery.window) > paid_at);
            self.attempts.pop_front();
        }
    }
}

/// The second picture.
#[derive(Debug)]
pub struct Checker {
    shadows: Vec<ModelModule>,
    runs: u64,
    /// The stop of everything is on its way, until then.
    stop_by: Option<MonoTime>,
    stopped: bool,
    /// The plan forbids parallel starts, and the first one is not over.
    serial: bool,
    starting: bool,
    /// Modules of two plans run side by side.
    changing: bool,
    /// Their edges form a cycle: the order of stops is not asked for.
    turned_around: bool,
    /// Every run and restart of the first start is known.
    start_is_certain: bool,
    /// A required module was given up during the first start.
    must_fail: Option<ModuleId>,
    /// A module changed its state since all was settled.
    has_moved: bool,
    group_counts: GroupCounts,
    /// How many restarts were shared so far.
    shared_restarts: u64,
}

impl Checker {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(plan: &Plan) -> Checker {
        Checker {
            shadows: plan_shadows(plan),
            runs: 0,
            stop_by: None,
            stopped: false,
            serial: !plan.system().parallel_startup,
            starting: true,
            changing: false,
            turned_around: false,
            start_is_certain: true,
            must_fail: None,
            has_moved: false,
            group_counts: GroupCounts::new(),
            shared_restarts: 0,
        }
    }

    /// Whether the stop of everything was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop_by.is_some()
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn of(&mut self, module: ModuleId) -> &mut ModelModule {
        &mut self.shadows[module.index()]
    }

    /// Everything eager is wished up.
    pub fn booted(&mut self, plan: &Plan) {
        for module in plan.ids() {
            if plan.module(module).start == StartMode::Eager {
                self.allow(plan, module);
            }
        }
    }

    fn allow(&mut self, plan: &Plan, module: ModuleId) {
        let mut more = vec![module];
        self.of(module).reach.requested = true;
        while let Some(module) = more.pop() {
            let reach = &mut self.of(module).reach;
            (reach.allowed, reach.stopped_by_name) = (true, false);
            more.extend(
                plan.dependencies(module)
                    .iter()
                    .filter(|e| e.hard)
                    .map(|e| e.to),
            );
        }
    }

    /// Somebody wished.
    pub fn requested(&mut self, plan: &Plan, module: ModuleId, operation: Operation) {
        if self.is_stopping() {
            return;
        }
        match operation {
            Operation::Stop => {
                self.of(module).reach = DesiredReach {
                    stopped_by_name: true,
                    ..DesiredReach::default()
                };
                self.has_moved = true;
            }
            Operation::Start | Operation::Restart => self.allow(plan, module),
            // It may begin anew, as after any request; what is desired stays.
            Operation::Recover => {}
            Operation::Wake => {
                let shadow = self.of(module);
                let lazy = plan.module(module).start == StartMode::Lazy;
                shadow.is_called |= shadow.out;
                if !lazy || shadow.reach.stopped_by_name || shadow.out || shadow.coming_back {
                    return;
                }
                let before = shadow.reach;
                self.allow(plan, module);
                // One that others may have brought up, or not: it need not be asleep.
                self.of(module).reach.requested = before.requested || !before.allowed;
            }
        }
        self.forget_recovery();
        let reached = self.reached_by(plan, module, operation);
        self.bounds_requested(module, operation, &reached);
        // A wish forgives: all that it reaches may start anew.
        for reached in reached {
            let shadow = self.of(reached);
            shadow.attempts.clear();
            let restart = operation == Operation::Restart && reached == module;
            let starts = matches!(operation, Operation::Start | Operation::Restart);
            let ends = restart || (starts && (shadow.ending || shadow.halted));
            shadow.next_requested |= shadow.out && ends;
        }
        for module in plan.ids() {
            if operation != Operation::Stop || !self.shadows[module.index()].reach.allowed {
                self.of(module).coming_back = false;
            }
        }
    }

    /// Whom a request may start, and so forgive: its module, and what that needs.
    fn reached_by(&self, plan: &Plan, module: ModuleId, operation: Operation) -> Vec<ModuleId> {
        let (mut reached, mut at) = (vec![module], 0);
        while let Some(module) = reached.get(at).copied() {
            at += 1;
            let needs = plan.dependencies(module).iter().filter(|edge| edge.hard);
            for edge in needs.filter(|_| operation != Operation::Stop) {
                if !reached.contains(&edge.to) {
                    reached.push(edge.to);
                }
            }
        }
        reached
    }

    /// A module is held until then, or released.
    pub fn held(&mut self, module: ModuleId, until: Option<MonoTime>) {
        if !self.is_stopping() || until.is_none() {
            self.of(module).held_until = until.unwrap_or_default();
        }
    }

    /// The stop of everything was asked for.
    pub fn stop_requested(&mut self, plan: &Plan, now: MonoTime, budget: Duration) {
        let modules = u32::try_from(plan.len()).unwrap_or(u32::MAX);
        let survivors = self.shadows.iter().filter(|it| it.out && it.has_survived);
        let survivors = u32::try_from(survivors.count()).unwrap_or(u32::MAX);
        let by = now.after(budget + SLACK_A_MODULE * modules + SLACK * survivors);
        self.stop_by = Some(self.stop_by.map_or(by, |before| before.min(by)));
    }

    /// A process is about to be made.
    ///
    /// # Errors
    /// One lives already.
    pub fn spawning(&self, module: ModuleId, one_lives: bool) -> Checked {
        ensure(!one_lives, || Violation::TwoProcesses(module))
    }

    /// A process survived a kill: what waits for its end takes longer.
    pub fn survived(&mut self, module: ModuleId) {
        self.stop_by = self.stop_by.map(|by| by.after(SLACK));
        let shadow = self.of(module);
        shadow.stop_by = shadow.stop_by.map(|by| by.after(SLACK));
        shadow.has_survived = true;
    }

    /// A report reaches the lifecycle.
    ///
    /// # Errors
    /// It cannot be: said twice, or too late.
    pub fn reported(&mut self, now: MonoTime, module: ModuleId, report: RunReport) -> Checked {
        let shadow = self.of(module);
        let Some(spec) = shadow.spec.clone() else {
            return Ok(());
        };
        if shadow.generation != report.generation || !shadow.out {
            return Ok(());
        }
        match report.what {
            RunReportKind::Started { .. } => shadow.started = true,
            RunReportKind::Extended { .. } => {}
            RunReportKind::Ending { .. } => shadow.ending = true,
            RunReportKind::Ready => {
                if !shadow.halted {
                    shadow.bounds.was_ready = true;
                    shadow.ready.get_or_insert(now);
                    shadow.stable_from.get_or_insert(now);
                    self.return_token(module);
                }
            }
            RunReportKind::Ended(ending) => {
                let late = shadow.stop_by.is_some_and(|by| now > by);
                let lasted = shadow
                    .stable_from
                    .map_or(Duration::ZERO, |since| now.since(since));
                if lasted >= spec.recovery.stable_after {
                    shadow.rung_tries = 0;
                }
                shadow.pay_back(&spec.recovery, lasted);
                self.bounds_ended(now, module);
                let shadow = self.of(module);
                shadow.is_stuck = ending.is_stuck();
                let clean = matches!(ending, RunEnd::Exited(Exit::Code(code))
                    if spec.recovery.clean_exit_codes.contains(&code));
                shadow.completed = clean && !shadow.halted;
                (shadow.out, shadow.halted, shadow.stop_by) = (false, false, None);
                (shadow.started, shadow.ending, shadow.next_requested) = (false, false, false);
                (shadow.ready, shadow.healthy) = (None, false);
                (shadow.stable_from, shadow.outdated) = (None, false);
                self.return_token(module);
                return ensure(!late, || Violation::StopHangs(module));
            }
        }
        Ok(())
    }

    fn return_token(&mut self, module: ModuleId) {
        self.of(module).token_until = MonoTime(0);
    }

    /// How a run feels reaches the lifecycle.
    pub fn health_reported(&mut self, module: ModuleId, generation: u64, health: Health) {
        let shadow = self.of(module);
        if shadow.out && !shadow.halted && shadow.generation == generation {
            shadow.healthy = health == Health::Healthy;
        }
    }

    /// The lifecycle decided.
    ///
    /// # Errors
    /// It should not have.
    pub fn decided(&mut self, plan: &Plan, now: MonoTime, effect: &LifecycleEffect) -> Checked {
        match effect {
            LifecycleEffect::Run { module, generation } => {
                self.runs(plan, now, *module, *generation)
            }
            LifecycleEffect::Stop { module, limit, .. } => self.halts(plan, now, *module, *limit),
            LifecycleEffect::RecoveryDecided {
                module,
                failure,
                attempt,
                decision,
            } => {
                self.is_shared_as_planned(plan, *module, decision)?;
                self.bounds_judged(now, *module, (*failure, *attempt), decision)?;
                self.judged(plan, now, *module, (*attempt, decision))
            }
            LifecycleEffect::Prepare(order) => {
                self.prepares(now, order.module);
                Ok(())
            }
            LifecycleEffect::CascadeStopped { branch, .. } => {
                branch.iter().for_each(|module| {
                    self.of(*module).coming_back = false;
                });
                self.doubt_all();
                Ok(())
            }
            LifecycleEffect::StartupFailed { .. } => {
                self.must_fail = None;
                self.stop_requested(plan, now, plan.system().shutdown_timeout);
                Ok(())
            }
            LifecycleEffect::StartupCompleted => {
                (self.serial, self.starting) = (false, false);
                Ok(())
            }
            LifecycleEffect::Removed { module } => self.removed(*module),
            LifecycleEffect::PlanInForce { plan: number } => self.in_force(plan, *number),
            LifecycleEffect::AllStopped { .. } => {
                let out = self.shadows.iter().any(|shadow| shadow.out);
                let twice = std::mem::replace(&mut self.stopped, true);
                ensure(!out && !twice, || Violation::NotStopped)?;
                let late = self.stop_by.is_none_or(|by| now > by);
                ensure(!late, || Violation::StopTooLong)
            }
            LifecycleEffect::NotifyDependent { .. } | LifecycleEffect::DegradedChanged { .. } => {
                Ok(())
            }
            LifecycleEffect::StateChanged {
                module, to, cause, ..
            } => {
                let starts = (*to, *cause) == (State::Waiting, Cause::Requested);
                if starts && std::mem::take(&mut self.of(*module).is_called) {
                    self.requested(plan, *module, Operation::Wake);
                }
                self.bounds_moved(now, *module, (*to, *cause));
                self.is_not_needed(plan, *module, (*to, *cause))
            }
        }
    }

    fn runs(&mut self, plan: &Plan, now: MonoTime, module: ModuleId, generation: u64) -> Checked {
        self.starts_in_time(now, module)?;
        self.bounds_run(plan, now, module)?;
        ensure(now >= self.of(module).held_until, || {
            Violation::StartedThoughHeld(module)
        })?;
        let shadow = &self.shadows[module.index()];
        ensure(!shadow.out && generation > shadow.generation, || {
            Violation::RunTwice(module)
        })?;
        let may_run = shadow.reach.allowed && shadow.in_plan;
        ensure(may_run && !self.is_stopping(), || {
            Violation::StartedThoughDown(module)
        })?;
        for edge in plan.dependencies(module).iter().filter(|edge| edge.hard) {
            ensure(self.is_met(plan, edge), || {
                Violation::StartedTooEarly(module, edge.to)
            })?;
        }
        let tokens = plan.system().concurrent_restarts;
        let (serial, run) = (self.serial, self.runs + 1);
        let shadow = self.of(module);
        let attempts = std::mem::take(&mut shadow.attempts);
        let rung_tries = shadow.rung_tries;
        let bounds = std::mem::take(&mut shadow.bounds);
        let uses_token = shadow.coming_back && tokens > 0 && !serial;
        *shadow = ModelModule {
            out: true,
            generation,
            reach: shadow.reach,
            run,
            restart: if shadow.at_rest { shadow.restart } else { run },
            attempts,
            rung_tries,
            bounds,
            token_until: if uses_token {
                now.after(TOKEN_HOLD)
            } else {
                MonoTime(0)
            },
            spec: plan.get(module).cloned(),
            in_plan: true,
            last_outdated_run: shadow.last_outdated_run,
            held_until: shadow.held_until,
            ..ModelModule::default()
        };
        self.runs = run;
        let holds = |shadow: &&ModelModule| shadow.token_until > now;
        let restarting = self.shadows.iter().filter(holds).count();
        ensure(!uses_token || restarting <= tokens as usize, || {
            Violation::TooManyRestarts(module)
        })
    }

    fn is_met(&self, plan: &Plan, edge: &Edge) -> bool {
        let (target, spec) = (&self.shadows[edge.to.index()], plan.module(edge.to));
        let up = target.out && !target.halted && !target.ending && !target.outdated;
        let passes = target.healthy || !spec.has_readiness_probes;
        match (spec.kind, edge.until) {
            (Kind::Builtin, _) => true,
            (Kind::Task, _) | (_, DependencyCondition::Completed) if target.completed => true,
            (_, DependencyCondition::Started) => up && target.started,
            (_, DependencyCondition::Ready) => up && target.ready.is_some() && passes,
            (_, DependencyCondition::Healthy) => up && target.ready.is_some() && target.healthy,
            (_, DependencyCondition::Completed) => false,
        }
    }

    fn halts(&mut self, plan: &Plan, now: MonoTime, module: ModuleId, most: Duration) -> Checked {
        let stopping = self.is_stopping();
        let shadow = self.of(module);
        // The order and the news of the end have crossed.
        if !shadow.out {
            return Ok(());
        }
        let again = std::mem::replace(&mut shadow.halted, true);
        let by = now.after(most).after(SLACK);
        shadow.stop_by = Some(shadow.stop_by.map_or(by, |before| before.min(by)));
        // Nothing relies on a run without a process.
        if again || shadow.halted_before || !shadow.started {
            return Ok(());
        }
        let wished_down = !shadow.reach.allowed || !shadow.in_plan;
        if self.changing {
            return self.halts_in_old_order(module, wished_down);
        }
        for dependent in plan.dependents(module) {
            let needs = dependent.hard && dependent.until != DependencyCondition::Completed;
            if stopping || (wished_down && needs) {
                let out = self.shadows[dependent.from.index()].out;
                ensure(!out, || Violation::StopOrder(module, dependent.from))?;
            }
        }
        Ok(())
    }

    /// A run ends because it is not used: nothing that runs needs it.
    fn is_not_needed(&self, plan: &Plan, module: ModuleId, to: (State, Cause)) -> Checked {
        if to != (State::Stopping, Cause::Idle) || self.changing {
            return Ok(());
        }
        for dependent in plan.dependents(module) {
            let needs = dependent.hard && dependent.until != DependencyCondition::Completed;
            let out = self.shadows[dependent.from.index()].out;
            ensure(!(needs && out), || {
                Violation::StopOrder(module, dependent.from)
            })?;
        }
        Ok(())
    }

    /// After `AllStopped` everything begins anew; the system knows the `newest` generations.
    pub fn rebooted(&mut self, plan: &Plan, newest: impl Fn(ModuleId) -> u64) {
        *self = Checker::new(plan);
        for module in plan.ids() {
            self.of(module).generation = newest(module);
        }
        self.booted(plan);
    }
}

fn plan_shadows(plan: &Plan) -> Vec<ModelModule> {
    let slots = (0_u32..).map(ModuleId).take(plan.slots());
    let shadow = |module| ModelModule {
        spec: plan.get(module).cloned(),
        in_plan: plan.has(module),
        ..ModelModule::default()
    };
    slots.map(shadow).collect()
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> Violation) -> Checked {
    if holds { Ok(()) } else { Err(otherwise()) }
}

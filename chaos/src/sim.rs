//! One seed, one history: a lifecycle and its modules in a world of delays and faults.
//! Owns the clock, the delivery of orders and news, and the death of the runtime.
//! Never helps the policy: what it is told, it is told late, out of order between mouths, twice.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::group::Scope;
use mainstay_policy::lifecycle::{LifecycleEffect, LifecycleEvent};
use mainstay_policy::recovery::Verdict;
use mainstay_policy::run::{RunEvent as ToModule, RunMachine, RunReport};
use mainstay_policy::spec::Kind;
use mainstay_policy::{Lifecycle, ModuleId, ModuleSpec, MonoTime, Plan, run};

use crate::checker::{Checked, Checker};
use crate::choices::{ChoiceKind, Choices};
use crate::coverage::Point;
use crate::explain;
use crate::plans;
use crate::rng::Rng;
use crate::trace::{Trace, TraceLine};
use crate::violation::Violation;
use crate::world::{Agenda, FifoDelay, SimModule, WorldEvent};
use records::RecordChannel;

mod failure;
mod fake_os;
mod faults;
mod promises;
mod records;
mod replan;
mod rest;
mod summary;

pub use failure::SimFailure;
pub use summary::Summary;

/// The most effects one event may have, for each module.
const EFFECTS_A_MODULE: usize = 1000;
/// How long a system is left alone before it must be at rest.
const QUIET: Duration = Duration::from_secs(180);

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct SimOptions {
    /// The seed of everything random.
    pub seed: u64,
    /// How many modules the plan has.
    pub modules: u32,
    /// About how many policy steps, most of them with faults.
    pub steps: u64,
    /// Something that is broken on purpose.
    pub sabotage: Option<InjectedBug>,
    /// How many lines of its trace are kept; 0: the usual number.
    pub trace: usize,
}

impl SimOptions {
    /// A short history: the kind of which many are run.
    #[must_use]
    pub fn short(seed: u64) -> SimOptions {
        SimOptions {
            seed,
            // Few modules meet each other more often.
            modules: 3 + u32::from(seed.is_multiple_of(2)) * 2,
            steps: 400,
            sabotage: None,
            trace: 0,
        }
    }
}

/// A deliberate breakage, to see a checker trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedBug {
    /// Each order to spawn is carried out twice.
    SpawnTwice,
    /// The lifecycle hears that a module is ready when it was only asked to run.
    FalseReady,
    /// The lifecycle does not hear wishes to stop.
    IgnoreStop,
    /// Every failure is forgiven behind the checker's back.
    ForgetFailures,
    /// Kills do nothing, and every process ignores the stop signal.
    NoKill,
    /// Nothing wakes up by time.
    NoAlarm,
    /// Some ends of processes are never told.
    LostExits,
    /// A halt is taken for an end.
    StopMeansEnded,
    /// The lifecycle believes a plan that promises less: restart tokens for everybody, and
    /// nobody restarts with what it needs.
    WeakenedPlan,
    /// The lifecycle believes a plan without groups.
    NoGroups,
    /// The lifecycle hears that a reset is done when it was only asked for.
    FalseReset,
    /// Somebody wishes the opposite of whatever the lifecycle decided, at once.
    OppositeRequests,
    /// The holder keeps no record that is newer than the first.
    OldRecords,
    /// The lifecycle hears of a plan, and not which modules need a new run.
    OldPlan,
    /// A module that a plan removes is forgotten at once, run or not.
    ForgetAtOnce,
}

impl InjectedBug {
    /// All of them.
    pub const ALL: [InjectedBug; 15] = [
        InjectedBug::SpawnTwice,
        InjectedBug::FalseReady,
        InjectedBug::IgnoreStop,
        InjectedBug::ForgetFailures,
        InjectedBug::NoKill,
        InjectedBug::NoAlarm,
        InjectedBug::LostExits,
        InjectedBug::StopMeansEnded,
        InjectedBug::WeakenedPlan,
        InjectedBug::NoGroups,
        InjectedBug::FalseReset,
        InjectedBug::OppositeRequests,
        InjectedBug::OldRecords,
        InjectedBug::OldPlan,
        InjectedBug::ForgetAtOnce,
    ];
}

fn specs_of(plan: &Plan, slots: usize) -> Vec<Option<Arc<ModuleSpec>>> {
    let slots = (0_u32..).map(ModuleId).take(slots);
    slots.map(|module| plan.get(module).cloned()).collect()
}

/// Runs one history.
///
/// # Errors
/// The first violation, with the steps that led to it.
pub fn run(options: SimOptions) -> Result<Summary, Box<SimFailure>> {
    run_with(options, Choices::Drawn).0
}

/// Runs one history and returns its choices too.
pub fn run_with(
    options: SimOptions,
    choices: Choices,
) -> (Result<Summary, Box<SimFailure>>, Choices) {
    let mut rng = Rng::new(options.seed);
    let plan = match plans::generate(&mut rng, options.modules) {
        Ok(plan) => plan,
        Err(error) => unreachable!("cannot simulate a plan that is wrong by itself: {error}"),
    };
    let mut sim = Sim::new(options, rng, plan, choices);
    let result = sim.history();
    sim.choices.record_end(sim.now);
    let result = match result {
        Ok(()) => {
            sim.summary.lasted = sim.now.0;
            sim.summary.fingerprint = sim.trace.fingerprint() ^ sim.rng.state();
            Ok(sim.summary)
        }
        Err(violation) => Err(Box::new(SimFailure {
            options,
            at: sim.now,
            why: sim.why(&violation),
            plan: explain::plan(&sim.plan),
            violation,
            trace: sim.trace,
        })),
    };
    (result, sim.choices)
}

struct Sim {
    options: SimOptions,
    rng: Rng,
    choices: Choices,
    /// The plan with every module, also those that a replay drops.
    full_plan: Arc<Plan>,
    plan: Arc<Plan>,
    /// What the runtime takes for the plan.
    runtime_plan: Arc<Plan>,
    now: MonoTime,
    agenda: Agenda,
    modules_in_world: Vec<SimModule>,
    lifecycle: Lifecycle,
    modules: Vec<RunMachine>,
    /// What the run of each module is, or was, run by.
    specs: Vec<Option<Arc<ModuleSpec>>>,
    /// Wake-ups on their way: to the lifecycle, to each module.
    lifecycle_armed: MonoTime,
    armed: Vec<MonoTime>,
    /// Lifecycle to module, module to system, system to module, module to lifecycle.
    channels: Vec<[FifoDelay; 4]>,
    /// What the holder keeps, and what is on its way there.
    records: RecordChannel,
    /// There is no runtime.
    runtime_down: bool,
    /// So many things happen before the runtime dies.
    crash_after: Option<u64>,
    check: Checker,
    trace: Trace,
    faults: bool,
    /// The last stop of everything: no new start follows.
    ending: bool,
    next_pid: u32,
    /// The module of the last fault: troubles come together.
    focus: Option<ModuleId>,
    summary: Summary,
}

impl Sim {
    fn new(options: SimOptions, rng: Rng, full_plan: Plan, choices: Choices) -> Sim {
        let full_plan = Arc::new(full_plan);
        let plan = match choices.replay() {
            Some(replay) => Arc::new(plans::without(Plan::clone(&full_plan), &replay.dropped)),
            None => Arc::clone(&full_plan),
        };
        let believed = match options.sabotage {
            Some(InjectedBug::WeakenedPlan) => Arc::new(plans::weakened(&plan)),
            Some(InjectedBug::NoGroups) => Arc::new(plans::without_groups(&plan)),
            _ => Arc::clone(&plan),
        };
        Sim {
            lifecycle: Lifecycle::new(Arc::clone(&believed), options.seed),
            modules: vec![RunMachine::new(); plan.slots()],
            specs: specs_of(&plan, plan.slots()),
            modules_in_world: vec![SimModule::default(); plan.slots()],
            armed: vec![MonoTime::NEVER; plan.slots()],
            channels: vec![[FifoDelay::default(); 4]; plan.slots()],
            check: Checker::new(&plan),
            options,
            rng,
            choices,
            full_plan,
            records: RecordChannel::new(plan.slots()),
            runtime_down: false,
            crash_after: None,
            plan,
            runtime_plan: believed,
            now: MonoTime(1_000_000_000),
            agenda: Agenda::default(),
            lifecycle_armed: MonoTime::NEVER,
            trace: Trace::of(options.trace),
            faults: true,
            ending: false,
            next_pid: 1,
            focus: None,
            summary: Summary::default(),
        }
    }

    /// Faults, then quiet, then the end.
    fn history(&mut self) -> Checked {
        self.check.booted(&Arc::clone(&self.plan));
        self.apply_to_lifecycle(LifecycleEvent::Boot)?;
        let end = self.schedule_faults();
        let faults_end = self.options.steps / 10 * 8;
        while self.summary.steps < faults_end {
            match self.agenda.pop(end) {
                Some((at, item)) => {
                    self.dispatch(at, item)?;
                    self.crash_if_due()?;
                }
                None if end == MonoTime::NEVER => return Err(Violation::Endless),
                None => break,
            }
        }
        self.choices.record_end(self.now);
        self.faults = false;
        self.pass(QUIET)?;
        if self.check.is_stopping() {
            return Err(Violation::StopTooLong);
        }
        self.report_all_healthy();
        self.pass(QUIET)?;
        self.rest()?;
        self.ending = true;
        self.stop_all(None)?;
        self.pass(QUIET)?;
        self.all_gone()
    }

    /// Lets time pass.
    fn pass(&mut self, span: Duration) -> Checked {
        let end = self.now.after(span);
        let limit = self.summary.steps + 2_000_000 + 50 * self.options.steps;
        while let Some((at, item)) = self.agenda.pop(end) {
            self.dispatch(at, item)?;
            if self.summary.steps > limit {
                return Err(Violation::Endless);
            }
        }
        self.now = end;
        Ok(())
    }

    /// One module is told something and does what follows.
    fn apply_to_module(&mut self, module: ModuleId, event: ToModule) -> Checked {
        self.summary.steps += 1;
        self.trace
            .push(self.now, TraceLine::ToModule(module, event));
        let at = module.index();
        let Some(spec) = self.specs[at].as_deref() else {
            return Ok(());
        };
        self.modules[at].apply(spec, self.now, event);
        for _ in 0..EFFECTS_A_MODULE {
            let Some(spec) = self.specs[at].as_deref() else {
                return Ok(());
            };
            let Some(effect) = self.modules[at].next_effect(spec, self.now) else {
                self.arm_module(module);
                return Ok(());
            };
            self.trace.push(self.now, TraceLine::Module(module, effect));
            self.summary.coverage.run_effect(&effect);
            self.perform(module, effect);
        }
        Err(Violation::Endless)
    }

    fn arm_module(&mut self, module: ModuleId) {
        let at = module.index();
        let due = self.modules[at].deadline().map(|due| due.max(self.now));
        if let Some(due) = due.filter(|due| *due < self.armed[at]) {
            self.armed[at] = due;
            self.agenda.push(due, WorldEvent::WakeModule(module));
        }
    }

    /// The lifecycle is told something and does what follows.
    fn apply_to_lifecycle(&mut self, event: LifecycleEvent) -> Checked {
        self.tell_lifecycle(event);
        self.perform_effects()
    }

    /// The lifecycle is told something; what follows comes later.
    fn tell_lifecycle(&mut self, event: LifecycleEvent) {
        self.summary.steps += 1;
        self.trace.push(self.now, TraceLine::ToLifecycle(event));
        self.lifecycle.apply(self.now, event);
        self.concerns(event);
    }

    fn perform_effects(&mut self) -> Checked {
        for _ in 0..EFFECTS_A_MODULE * (1 + self.plan.len()) {
            let Some(effect) = self.lifecycle.next_effect(self.now) else {
                self.check.settled(&self.plan, self.now, &self.lifecycle)?;
                self.write_records();
                let due = self.lifecycle.deadline().map(|due| due.max(self.now));
                if let Some(due) = due.filter(|due| *due < self.lifecycle_armed) {
                    self.lifecycle_armed = due;
                    self.agenda.push(due, WorldEvent::WakeLifecycle);
                }
                return Ok(());
            };
            self.trace
                .push(self.now, TraceLine::Lifecycle(effect.clone()));
            match effect {
                LifecycleEffect::StartupFailed { .. } => self.records.stops(self.check.stop_by()),
                LifecycleEffect::RecoveryDecided { ref decision, .. }
                    if decision.scope == Scope::System
                        && matches!(decision.verdict, Verdict::GiveUp { .. }) =>
                {
                    self.records.stops(self.check.stop_by());
                }
                LifecycleEffect::Run { module, generation } => {
                    let before = self.check.before_run(module, generation - 1);
                    self.records.run(module, before);
                }
                LifecycleEffect::Removed { module } => {
                    self.records.removed(module, self.check.known_of(module));
                }
                _ => {}
            }
            self.count(&effect);
            self.check.decided(&self.plan, self.now, &effect)?;
            self.carry_out(effect);
        }
        Err(Violation::Endless)
    }

    fn carry_out(&mut self, effect: LifecycleEffect) {
        match effect {
            LifecycleEffect::Run { module, generation } => {
                let spec = self.lifecycle.spec(module);
                self.specs[module.index()] = spec.map(|(spec, _)| Arc::clone(spec));
                self.order(module, ToModule::StartRequested { generation });
                if self.is(InjectedBug::FalseReady) {
                    let what = run::RunReportKind::Ready;
                    let report = RunReport { generation, what };
                    self.lifecycle
                        .apply(self.now, LifecycleEvent::Reported { module, report });
                }
            }
            LifecycleEffect::Stop {
                module,
                generation,
                grace,
                limit,
            } => {
                self.order(
                    module,
                    ToModule::StopRequested {
                        generation,
                        grace,
                        limit,
                    },
                );
                if self.is(InjectedBug::StopMeansEnded) {
                    let ending = run::RunEnd::Stopped {
                        exit: None,
                        forced: false,
                    };
                    let report = RunReport {
                        generation,
                        what: run::RunReportKind::Ended(ending),
                    };
                    self.lifecycle
                        .apply(self.now, LifecycleEvent::Reported { module, report });
                }
            }
            LifecycleEffect::AllStopped { .. } => {
                self.summary.stops += 1;
            }
            LifecycleEffect::RecoveryDecided { module, .. }
                if self.is(InjectedBug::ForgetFailures) =>
            {
                let operation = mainstay_policy::lifecycle::Operation::Restart;
                self.lifecycle
                    .apply(self.now, LifecycleEvent::Requested { module, operation });
            }
            LifecycleEffect::StateChanged { module, to, .. } => self.state_changed(module, to),
            LifecycleEffect::RecoveryDecided {
                module, decision, ..
            } => self.records.judged(module, decision.verdict),
            LifecycleEffect::Prepare(order) => self.perform_procedure(order.module, order.ticket),
            LifecycleEffect::Removed { module } => {
                self.forget(module);
                // This world keeps a plan as soon as its records are kept.
                self.lifecycle.commit();
            }
            LifecycleEffect::NotifyDependent { .. }
            | LifecycleEffect::DegradedChanged { .. }
            | LifecycleEffect::CascadeStopped { .. }
            | LifecycleEffect::PlanInForce { .. }
            | LifecycleEffect::StartupCompleted
            | LifecycleEffect::StartupFailed { .. } => {}
        }
    }

    fn state_changed(&mut self, module: ModuleId, to: mainstay_policy::State) {
        use mainstay_policy::lifecycle::Operation;
        self.records.touch(module);
        if self.is(InjectedBug::OppositeRequests) {
            let operation = match to {
                mainstay_policy::State::Stopped => Operation::Start,
                _ => Operation::Stop,
            };
            self.lifecycle
                .apply(self.now, LifecycleEvent::Requested { module, operation });
        }
    }

    fn count(&mut self, effect: &LifecycleEffect) {
        let summary = &mut self.summary;
        summary.coverage.effect(effect);
        match effect {
            LifecycleEffect::RecoveryDecided { decision, .. } => {
                summary.shared += u64::from(decision.scope != Scope::This);
            }
            LifecycleEffect::Prepare(_) => summary.procedures += 1,
            LifecycleEffect::DegradedChanged { degraded, .. } => {
                summary.restored += u64::from(!degraded);
            }
            LifecycleEffect::CascadeStopped { .. } => summary.cascades += 1,
            _ => {}
        }
    }

    /// It takes a while, fails sometimes, and is lost with the runtime.
    fn perform_procedure(&mut self, module: ModuleId, ticket: u32) {
        self.choose(ChoiceKind::Procedure, module);
        let hangs = self.faults && self.rng.permille(50);
        let ok = !(self.faults && self.rng.permille(100));
        let coverage = &mut self.summary.coverage;
        coverage.reach_if(hangs, Point::FaultProcedureHangs);
        coverage.reach_if(!ok, Point::FaultProcedureFails);
        let most = if hangs { 60_000 } else { 500 };
        let at = self.now.after(self.rng.span(Duration::from_millis(most)));
        self.agenda
            .push(at, WorldEvent::ProcedureEnded(module, ticket, ok));
        if self.is(InjectedBug::FalseReset) {
            let ok = true;
            let event = LifecycleEvent::ProcedureEnded { module, ticket, ok };
            self.lifecycle.apply(self.now, event);
        }
    }

    /// From the lifecycle to a module.
    fn order(&mut self, module: ModuleId, event: ToModule) {
        let delay = self.delay(module);
        let at = self.channels[module.index()][0].arrival(self.now, delay);
        self.agenda.push(at, WorldEvent::ToModule(module, event));
    }

    fn is(&self, sabotage: InjectedBug) -> bool {
        self.options.sabotage == Some(sabotage)
    }

    /// The next choice is about this.
    fn choose(&mut self, kind: ChoiceKind, module: ModuleId) {
        self.choices.begin(kind, module, &mut self.rng);
    }

    /// How long an order or news takes: mostly nothing, sometimes a while.
    fn delay(&mut self, module: ModuleId) -> Duration {
        self.choose(ChoiceKind::Delay, module);
        match self.rng.below(16) {
            0 => self.rng.span(Duration::from_millis(20)),
            _ => self.rng.span(Duration::from_micros(200)),
        }
    }

    fn is_builtin(&self, module: ModuleId) -> bool {
        let spec = self.plan.get(module);
        spec.is_some_and(|spec| spec.kind == Kind::Builtin)
    }
}

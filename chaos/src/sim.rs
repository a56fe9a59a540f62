//! One seed, one history: a lifecycle and its modules in a world of delays and faults.
//! Owns the clock, the delivery of orders and news, and the death of the runtime.
//! Never helps the policy: what it is told, it is told late, out of order between mouths, twice.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::lifecycle::{Effect, Event};
use mainstay_policy::module::{Event as ToModule, Module, Report};
use mainstay_policy::spec::Kind;
use mainstay_policy::{Lifecycle, ModuleId, Plan, Time, module};

use crate::check::{Checked, Checker};
use crate::plans;
use crate::rng::Rng;
use crate::trace::{Line, Trace};
use crate::violation::Violation;
use crate::world::{Agenda, Channel, Item, Place};
use records::Records;

mod faults;
mod records;
mod system;

/// The most effects one event may have, for each module.
const EFFECTS_A_MODULE: usize = 1000;
/// How long a system is left alone before it must be at rest.
const QUIET: Duration = Duration::from_secs(180);

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The seed of everything random.
    pub seed: u64,
    /// How many modules the plan has.
    pub modules: u32,
    /// About how many policy steps, most of them with faults.
    pub steps: u64,
    /// Something that is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

/// A deliberate breakage, to see a checker trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Each order to spawn is carried out twice.
    SpawnTwice,
    /// The lifecycle hears that a module is ready when it was only asked to run.
    FalseReady,
    /// The lifecycle does not hear wishes to stop.
    DeafToStop,
    /// Every failure is forgiven behind the checker's back.
    Forgiving,
    /// Kills do nothing, and every process ignores the stop signal.
    NoKill,
    /// Nothing wakes up by time.
    NoAlarm,
    /// Some ends of processes are never told.
    LostExits,
    /// A halt is taken for an end.
    FalseEnd,
    /// The lifecycle believes a plan that promises less: restart tokens for everybody, and
    /// nobody restarts with what it needs.
    Lax,
    /// Somebody wishes the opposite of whatever the lifecycle decided, at once.
    Contrary,
    /// The holder keeps no record that is newer than the first.
    OldRecords,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 11] = [
        Sabotage::SpawnTwice,
        Sabotage::FalseReady,
        Sabotage::DeafToStop,
        Sabotage::Forgiving,
        Sabotage::NoKill,
        Sabotage::NoAlarm,
        Sabotage::LostExits,
        Sabotage::FalseEnd,
        Sabotage::Lax,
        Sabotage::Contrary,
        Sabotage::OldRecords,
    ];
}

/// What a history had in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls of `note` with the `settle` that follows, of the lifecycle and of the modules.
    pub steps: u64,
    /// Processes made.
    pub spawns: u64,
    /// Kills ordered.
    pub kills: u64,
    /// Times the runtime died and returned.
    pub returns: u64,
    /// Records that were on their way when it did, and lost.
    pub lost_records: u64,
    /// Times all of it was asleep.
    pub sleeps: u64,
    /// Times everything was stopped.
    pub stops: u64,
    /// Virtual nanoseconds.
    pub lasted: u64,
}

/// A checker tripped.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The history.
    pub options: Options,
    /// What happened.
    pub violation: Violation,
    /// When.
    pub at: Time,
    /// The last steps.
    pub trace: Trace,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            seed,
            modules,
            steps,
            ..
        } = self.options;
        writeln!(f, "{}", self.trace)?;
        writeln!(
            f,
            "cannot go on after {:?} at {} ns",
            self.violation, self.at.0
        )?;
        write!(
            f,
            "again: chaos --seeds 1 --seed {seed} --modules {modules} --steps {steps}"
        )
    }
}

impl std::error::Error for Failure {}

/// Runs one history.
///
/// # Errors
/// The first violation, with the steps that led to it.
pub fn run(options: Options) -> Result<Summary, Box<Failure>> {
    let mut rng = Rng::new(options.seed);
    let mut sim = match plans::generate(&mut rng, options.modules) {
        Ok(plan) => Sim::new(options, rng, Arc::new(plan)),
        Err(error) => unreachable!("cannot simulate a plan that is wrong by itself: {error}"),
    };
    match sim.history() {
        Ok(()) => {
            sim.summary.lasted = sim.now.0;
            Ok(sim.summary)
        }
        Err(violation) => Err(Box::new(Failure {
            options,
            violation,
            at: sim.now,
            trace: sim.trace,
        })),
    }
}

struct Sim {
    options: Options,
    rng: Rng,
    plan: Arc<Plan>,
    /// What the runtime takes for the plan.
    believed: Arc<Plan>,
    now: Time,
    agenda: Agenda,
    places: Vec<Place>,
    lifecycle: Lifecycle,
    modules: Vec<Module>,
    /// Wake-ups on their way: to the lifecycle, to each module.
    lifecycle_armed: Time,
    armed: Vec<Time>,
    /// Lifecycle to module, module to system, system to module, module to lifecycle.
    channels: Vec<[Channel; 4]>,
    /// What the holder keeps, and what is on its way there.
    records: Records,
    /// There is no runtime.
    alone: bool,
    /// So many things happen before the runtime dies.
    doom: Option<u64>,
    check: Checker,
    trace: Trace,
    faults: bool,
    /// The last stop of everything: no new start follows.
    ending: bool,
    next_pid: u32,
    summary: Summary,
}

impl Sim {
    fn new(options: Options, rng: Rng, plan: Arc<Plan>) -> Sim {
        let believed = match options.sabotage {
            Some(Sabotage::Lax) => Arc::new(plans::spoilt(&plan)),
            _ => Arc::clone(&plan),
        };
        Sim {
            lifecycle: Lifecycle::new(Arc::clone(&believed), options.seed),
            modules: vec![Module::new(); plan.len()],
            places: vec![Place::default(); plan.len()],
            armed: vec![Time::NEVER; plan.len()],
            channels: vec![[Channel::default(); 4]; plan.len()],
            check: Checker::new(&plan),
            options,
            rng,
            records: Records::new(plan.len()),
            alone: false,
            doom: None,
            plan,
            believed,
            now: Time(1_000_000_000),
            agenda: Agenda::default(),
            lifecycle_armed: Time::NEVER,
            trace: Trace::default(),
            faults: true,
            ending: false,
            next_pid: 1,
            summary: Summary::default(),
        }
    }

    /// Faults, then quiet, then the end.
    fn history(&mut self) -> Checked {
        self.check.booted(&Arc::clone(&self.plan));
        self.tell_lifecycle(Event::Boot)?;
        self.agenda.push_lasting(self.now, Item::Mischief);
        let faults_end = self.options.steps / 10 * 8;
        while self.summary.steps < faults_end {
            match self.agenda.pop(Time::NEVER) {
                Some((at, item)) => {
                    self.happen(at, item)?;
                    self.meet_doom()?;
                }
                None => return Err(Violation::Endless),
            }
        }
        self.faults = false;
        self.pass(QUIET)?;
        if self.check.is_stopping() {
            return Err(Violation::StopTooLong);
        }
        self.feel_well();
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
            self.happen(at, item)?;
            if self.summary.steps > limit {
                return Err(Violation::Endless);
            }
        }
        self.now = end;
        Ok(())
    }

    /// Everything is where it should be, and nothing is about to happen.
    fn rest(&mut self) -> Checked {
        self.check.at_rest(&self.plan, &self.lifecycle)?;
        for module in self.plan.ids() {
            let at = module.index();
            let watched = self.plan.module(module).watchdog.is_some();
            let lives = self.places[at].process.is_some();
            let quiet = self.modules[at].deadline().is_none() || (watched && lives);
            if !quiet || lives != self.modules[at].pid().is_some() {
                return Err(Violation::NotQuiet(Some(module)));
            }
        }
        Ok(())
    }

    fn all_gone(&mut self) -> Checked {
        let lives = |place: &Place| place.process.is_some() || place.hook.is_some();
        if self.places.iter().any(lives) || !self.check.is_stopped() {
            return Err(Violation::StopTooLong);
        }
        Ok(())
    }

    /// One module is told something and does what follows.
    fn tell_module(&mut self, module: ModuleId, event: ToModule) -> Checked {
        self.summary.steps += 1;
        self.trace.push(self.now, Line::ToModule(module, event));
        let at = module.index();
        self.modules[at].note(self.plan.module(module), self.now, event);
        for _ in 0..EFFECTS_A_MODULE {
            let spec = self.plan.module(module);
            let Some(effect) = self.modules[at].settle(spec, self.now) else {
                self.arm_module(module);
                return Ok(());
            };
            self.trace.push(self.now, Line::Module(module, effect));
            self.perform(module, effect);
        }
        Err(Violation::Endless)
    }

    fn arm_module(&mut self, module: ModuleId) {
        let at = module.index();
        if let Some(deadline) = self.modules[at].deadline()
            && deadline < self.armed[at]
        {
            self.armed[at] = deadline;
            self.agenda
                .push(deadline.max(self.now), Item::WakeModule(module));
        }
    }

    /// The lifecycle is told something and does what follows.
    fn tell_lifecycle(&mut self, event: Event) -> Checked {
        self.summary.steps += 1;
        self.trace.push(self.now, Line::ToLifecycle(event));
        self.lifecycle.note(self.now, event);
        self.concerns(event);
        for _ in 0..EFFECTS_A_MODULE * (1 + self.plan.len()) {
            let Some(effect) = self.lifecycle.settle(self.now) else {
                self.write_records();
                if let Some(deadline) = self.lifecycle.deadline()
                    && deadline < self.lifecycle_armed
                {
                    self.lifecycle_armed = deadline;
                    self.agenda
                        .push(deadline.max(self.now), Item::WakeLifecycle);
                }
                return Ok(());
            };
            self.trace.push(self.now, Line::Lifecycle(effect.clone()));
            match effect {
                Effect::StartupFailed { .. } => self.records.stops(self.check.stop_by()),
                Effect::Run { module, generation } => {
                    let completed = self.check.completed(module);
                    self.records.run(module, generation, completed);
                }
                _ => {}
            }
            self.check.decided(&self.plan, self.now, &effect)?;
            self.carry_out(effect);
        }
        Err(Violation::Endless)
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Run { module, generation } => {
                self.order(module, ToModule::RunAsked { generation });
                if self.is(Sabotage::FalseReady) {
                    let what = module::Reported::Ready;
                    let report = Report { generation, what };
                    self.lifecycle
                        .note(self.now, Event::Reported { module, report });
                }
            }
            Effect::Halt {
                module,
                generation,
                grace,
                limit,
            } => {
                self.order(
                    module,
                    ToModule::HaltAsked {
                        generation,
                        grace,
                        limit,
                    },
                );
                if self.is(Sabotage::FalseEnd) {
                    let ending = module::Ending::Halted {
                        exit: None,
                        forced: false,
                    };
                    let report = Report {
                        generation,
                        what: module::Reported::Ended(ending),
                    };
                    self.lifecycle
                        .note(self.now, Event::Reported { module, report });
                }
            }
            Effect::AllStopped { .. } => {
                self.summary.stops += 1;
            }
            Effect::Judged { module, .. } if self.is(Sabotage::Forgiving) => {
                let wish = mainstay_policy::lifecycle::Wish::Restart;
                self.lifecycle
                    .note(self.now, Event::Wished { module, wish });
            }
            Effect::Moved { module, to, .. } => {
                self.records.touch(module);
                if self.is(Sabotage::Contrary) {
                    use mainstay_policy::lifecycle::Wish;
                    let down = matches!(to, mainstay_policy::State::Stopped);
                    let wish = if down { Wish::Start } else { Wish::Stop };
                    self.lifecycle
                        .note(self.now, Event::Wished { module, wish });
                }
            }
            Effect::Judged {
                module, verdict, ..
            } => self.records.judged(module, verdict),
            Effect::Tell { .. } | Effect::StartupCompleted | Effect::StartupFailed { .. } => {}
        }
    }

    /// From the lifecycle to a module.
    fn order(&mut self, module: ModuleId, event: ToModule) {
        let delay = self.delay();
        let at = self.channels[module.index()][0].arrival(self.now, delay);
        self.agenda.push(at, Item::ToModule(module, event));
    }

    fn is(&self, sabotage: Sabotage) -> bool {
        self.options.sabotage == Some(sabotage)
    }

    /// How long an order or news takes: mostly nothing, sometimes a while.
    fn delay(&mut self) -> Duration {
        match self.rng.below(16) {
            0 => self.rng.span(Duration::from_millis(20)),
            _ => self.rng.span(Duration::from_micros(200)),
        }
    }

    fn is_builtin(&self, module: ModuleId) -> bool {
        self.plan.module(module).kind == Kind::Builtin
    }
}

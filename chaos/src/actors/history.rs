//! One seed, one history of the actors: faults, then quiet, then the end.
//! Owns the runtime that is alive, its deaths, and what was requested of it.
//! Never helps it: what it is told comes late, and not at all while it is away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay::simulation::{Reload, SimulatedMachine, SimulatedRuntime, Takeover};
use mainstay_policy::lifecycle::Operation;
use mainstay_policy::spec::{DependencyCondition, Kind};
use mainstay_policy::{MonoTime, Plan};
use mainstay_process::ProcessEventKind;
use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::config_text::ConfigText;
use super::fault::ActorFault;
use super::machine::{Item, Machine, NOBODY, Process, Spawned, Wildness, World};
use super::trace::{ActorTrace, Line};
use super::violation::ActorViolation;
use super::{ActorFailure, ActorOptions, ActorSummary};
use crate::choices::{ChoiceKind, Choices};
use crate::rng::Rng;

mod faults;

const MS: fn(u64) -> Duration = Duration::from_millis;
/// A request is answered within this time.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// A reload has an outcome within this time.
const RELOAD_TIME: Duration = Duration::from_secs(300);
/// How long the system is left alone before it must be at rest.
const QUIET: Duration = Duration::from_secs(900);
/// What a stop of everything may take beside its budget.
const STOP_SLACK: Duration = Duration::from_secs(15);
/// More deaths than this in a minute, and the runtime may give up.
const DEATHS_MAX: usize = 10;
/// A replay of a history that failed under faults goes on for this time.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Lines of the trace that are shown.
const LINES: usize = 120;

pub(super) type Checked = Result<(), ActorViolation>;

/// What the last answered request for a module was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Up,
    Down,
}

struct Pending {
    module: String,
    operation: Operation,
    answer: oneshot::Receiver<()>,
    by: MonoTime,
}

/// How a runtime came to its end.
enum End {
    /// It was killed, or gave up.
    Died,
    /// Everything was stopped.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Faults,
    Quiet,
    Ending,
}

pub(super) struct History {
    options: ActorOptions,
    rng: Rng,
    folder: PathBuf,
    pub(super) machine: Arc<Machine>,
    config: ConfigText,
    phase: Phase,
    faults_left: u32,
    quiet_until: MonoTime,
    stop_by: MonoTime,
    pending: Vec<Pending>,
    reloads: Vec<(Reload, MonoTime)>,
    /// Known for certain of the last request for each module.
    pub(super) wishes: BTreeMap<String, Wish>,
    /// Modules whose last request was to stop.
    pub(super) stopped: BTreeSet<String>,
    /// The plan at the last look.
    seen_plan: Option<Arc<Plan>>,
    /// What a new start reads.
    text: String,
    /// The faults of a record that are still to happen, and when they end; None: they are drawn.
    replayed: Option<VecDeque<(MonoTime, ActorFault)>>,
    replay_end: MonoTime,
    deaths: VecDeque<MonoTime>,
    summary: ActorSummary,
    why: String,
}

/// A folder in memory, if the machine has one.
fn folder() -> Result<tempfile::TempDir, std::io::Error> {
    let builder = tempfile::Builder::new();
    let in_memory = builder.tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir())
}

/// What came of a history, and what was chosen in it.
type Outcome = (Result<ActorSummary, Box<ActorFailure>>, Choices<ActorFault>);

pub(super) fn run(options: ActorOptions, choices: Choices<ActorFault>) -> Outcome {
    let failed = |violation, at, trace: String, why| {
        Err(Box::new(ActorFailure {
            options,
            violation,
            at,
            trace,
            why,
        }))
    };
    let folder = match folder() {
        Ok(folder) => folder,
        Err(error) => {
            let why = ActorViolation::NoStart(error.to_string());
            let failure = failed(why, MonoTime(0), String::new(), String::new());
            return (failure, choices);
        }
    };
    let kept = match options.trace {
        0 => LINES,
        kept => kept,
    };
    let mut rng = Rng::new(options.seed);
    let wildness = Wildness {
        is_wild: options.is_wild,
        loses_exits: options.loses_exits,
    };
    let config = ConfigText::generate(&mut rng, folder.path(), options.modules, options.is_wild);
    let replay = choices.replay();
    let faults = replay.map(|replay| replay.faults.iter().cloned().collect());
    let replay_end = replay.map_or(MonoTime::NEVER, |replay| replay.end);
    let machine = Machine::new(options.seed, wildness, ActorTrace::of(kept), choices);
    let mut history = History {
        options,
        rng,
        folder: folder.path().to_owned(),
        machine: Arc::new(machine),
        seen_plan: None,
        text: config.render(),
        replayed: faults,
        replay_end,
        config,
        phase: Phase::Faults,
        faults_left: options.faults,
        quiet_until: MonoTime::NEVER,
        stop_by: MonoTime::NEVER,
        pending: Vec::new(),
        reloads: Vec::new(),
        wishes: BTreeMap::new(),
        stopped: BTreeSet::new(),
        deaths: VecDeque::new(),
        summary: ActorSummary::default(),
        why: String::new(),
    };
    let result = history.live();
    let mut world = history.machine.world();
    if history.phase == Phase::Faults {
        let end = world.last_now().after(AFTER_FAILURE);
        world.choices.record_end(end);
    }
    let choices = std::mem::take(&mut world.choices);
    let summary = history.summary_of(&world);
    let result = match result {
        Ok(()) => Ok(summary),
        Err(violation) => {
            let (at, trace) = (world.last_now(), world.trace.to_string());
            failed(violation, at, trace, history.why.clone())
        }
    };
    drop(world);
    (result, choices)
}

impl History {
    fn live(&mut self) -> Checked {
        let text = |error: std::io::Error| ActorViolation::NoStart(error.to_string());
        for name in ["state", "run"] {
            std::fs::create_dir_all(self.folder.join(name)).map_err(text)?;
        }
        self.write_config(&self.text)?;
        let mut takeover = None;
        let mut now = MonoTime(1_000_000_000);
        loop {
            let tokio = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .map_err(text)?;
            let end = tokio.block_on(self.one_runtime(now, takeover.take()));
            now = self.machine.world().last_now();
            // What still reads a file ends by itself.
            tokio.shutdown_background();
            match end? {
                End::Stopped => {
                    if self.phase != Phase::Faults {
                        return Ok(());
                    }
                    self.machine.world().begin_anew();
                    self.forget_requests();
                    self.write_config(&self.text)?;
                }
                End::Died => {
                    self.summary.runtime_deaths += 1;
                    let mut world = self.machine.world();
                    world.runtime_died();
                    takeover = Some(Takeover {
                        instances: world.instances(),
                        down_since: now.0,
                    });
                    drop(world);
                    self.forget_requests();
                }
            }
        }
    }

    fn summary_of(&self, world: &World) -> ActorSummary {
        ActorSummary {
            processes: world.processes,
            lost_messages: world.lost_messages,
            lasted: self.quiet_until.0.min(world.last_now().0),
            fingerprint: world.trace.fingerprint(),
            ..self.summary
        }
    }

    /// The next choice of the history itself is about this.
    fn choose(&mut self, kind: ChoiceKind) {
        let mut world = self.machine.world();
        world.choices.begin(kind, NOBODY, &mut self.rng);
    }

    /// What was requested may be lost.
    fn forget_requests(&mut self) {
        self.pending.clear();
        self.reloads.clear();
        self.wishes.clear();
        self.deaths.clear();
    }

    fn write_config(&self, text: &str) -> Checked {
        let path = self.folder.join("mainstay.toml");
        let written = std::fs::write(path, text);
        written.map_err(|error| ActorViolation::NoStart(error.to_string()))
    }

    /// From the start of a runtime to its end.
    async fn one_runtime(
        &mut self,
        now: MonoTime,
        takeover: Option<Takeover>,
    ) -> Result<End, ActorViolation> {
        let returns = takeover.is_some();
        let mut now = now;
        if returns {
            self.choose(ChoiceKind::RuntimeDeath);
            now = now.after(self.rng.span(MS(500)));
        }
        {
            let mut world = self.machine.world();
            world.begin_clock(now);
            world.has_runtime = true;
        }
        let machine = Arc::clone(&self.machine) as Arc<dyn SimulatedMachine>;
        let started = SimulatedRuntime::start(&self.folder, machine, takeover).await;
        let mut runtime = started.map_err(ActorViolation::NoStart)?;
        self.seen_plan = Some(runtime.plan());
        {
            let mut world = self.machine.world();
            if returns {
                world.tell_again();
            } else if self.phase == Phase::Faults {
                world.clear_faults();
                let at = self.first_fault_at(world.now());
                world.push(at, Item::Fault);
            }
        }
        let result = self.drive(&mut runtime).await;
        if let Err(violation) = &result {
            self.why = super::quiet::why(&runtime, violation);
        }
        self.machine.world().note_now();
        result
    }

    async fn drive(&mut self, runtime: &mut SimulatedRuntime) -> Result<End, ActorViolation> {
        loop {
            while let Some(item) = self.next_due() {
                if let Some(end) = self.happen(runtime, item)? {
                    return Ok(end);
                }
            }
            self.look(runtime)?;
            if let Some(end) = self.change_phase(runtime)? {
                return Ok(end);
            }
            let limit = self.next_limit();
            let (at, changed) = {
                let world = self.machine.world();
                let next = world.next_at().unwrap_or(MonoTime::NEVER);
                let next = next.min(limit);
                (world.instant(next), self.machine.changed.notified())
            };
            tokio::select! {
                biased;
                code = runtime.ended() => return self.ended(runtime, code),
                () = changed => {}
                () = sleep_until(at) => {}
            }
        }
    }

    fn next_due(&self) -> Option<Item> {
        self.machine.world().pop_due()
    }

    /// When a time is over although nothing happens.
    fn next_limit(&self) -> MonoTime {
        let requests = self.pending.iter().map(|pending| pending.by);
        let reloads = self.reloads.iter().map(|(_, by)| *by);
        let limits = requests.chain(reloads).min().unwrap_or(MonoTime::NEVER);
        // A step of a second lets a reload be seen.
        let soon = self.machine.world().now().after(MS(1_000));
        let polls = if self.reloads.is_empty() {
            MonoTime::NEVER
        } else {
            soon
        };
        let phase = match self.phase {
            Phase::Faults => MonoTime::NEVER,
            Phase::Quiet => self.quiet_until,
            Phase::Ending => self.stop_by,
        };
        let soonest = limits.min(phase).min(polls);
        // Tokio's timer has millisecond steps.
        MonoTime(soonest.0.saturating_add(1_000_000))
    }

    fn ended(
        &mut self,
        runtime: &SimulatedRuntime,
        code: Option<u8>,
    ) -> Result<End, ActorViolation> {
        match code {
            Some(_) => {
                self.nothing_is_left(runtime)?;
                self.summary.stops += 1;
                Ok(End::Stopped)
            }
            None if self.deaths.len() > DEATHS_MAX => Ok(End::Died),
            None => Err(ActorViolation::RuntimeGaveUp),
        }
    }

    fn happen(
        &mut self,
        runtime: &SimulatedRuntime,
        item: Item,
    ) -> Result<Option<End>, ActorViolation> {
        let mut world = self.machine.world();
        match item {
            Item::Tell(event) => {
                world.is_told(&event);
                let what = match &event.what {
                    ProcessEventKind::Exited(exited) => format!("exited {:?}", exited.exit),
                    ProcessEventKind::Notify { text, .. } => text.clone(),
                    ProcessEventKind::Spawned { pid, .. } => format!("spawned, pid {pid}"),
                    other => format!("{other:?}"),
                };
                let now = world.now();
                let line = Line::Told(event.instance.to_string(), event.generation, what);
                world.trace.push(now, line);
                drop(world);
                match runtime.tell(event) {
                    true => {}
                    false => return Err(ActorViolation::Overflow),
                }
            }
            Item::Exit(instance, generation, exit) => world.exit(&instance, generation, exit),
            Item::Ready(instance, generation) => world.say_ready(&instance, generation),
            Item::Feed(instance, generation) => world.feed(&instance, generation),
            Item::CommandEnds(key, ok) => world.command_ends(&key, ok),
            Item::Fault => {
                drop(world);
                return self.fault(runtime);
            }
        }
        Ok(None)
    }

    /// What holds at every moment.
    fn look(&mut self, runtime: &SimulatedRuntime) -> Checked {
        let (now, spawned, broken) = {
            let mut world = self.machine.world();
            (
                world.now(),
                std::mem::take(&mut world.spawned),
                world.broken.take(),
            )
        };
        if let Some(broken) = broken {
            return Err(broken);
        }
        for spawned in spawned {
            let name = spawned.instance.to_string();
            if self.wishes.get(&name) == Some(&Wish::Down) {
                return Err(ActorViolation::StartedThoughDown(name));
            }
            // The order may have been given just before another plan followed.
            let plan = runtime.plan();
            let Some(need) = missing_need(&plan, &spawned) else {
                continue;
            };
            let before = self.seen_plan.as_ref();
            if before.is_none_or(|before| missing_need(before, &spawned).is_some()) {
                return Err(ActorViolation::StartedTooEarly(name, need));
            }
        }
        self.seen_plan = Some(runtime.plan());
        self.look_at_answers(now)
    }

    fn look_at_answers(&mut self, now: MonoTime) -> Checked {
        let mut late = None;
        let wishes = &mut self.wishes;
        self.pending
            .retain_mut(|pending| match pending.answer.try_recv() {
                Ok(()) => {
                    match pending.operation {
                        Operation::Stop => {
                            wishes.insert(pending.module.clone(), Wish::Down);
                        }
                        Operation::Start | Operation::Restart => {
                            wishes.insert(pending.module.clone(), Wish::Up);
                        }
                        Operation::Recover | Operation::Wake => {}
                    }
                    false
                }
                Err(oneshot::error::TryRecvError::Closed) => false,
                Err(oneshot::error::TryRecvError::Empty) => {
                    if now > pending.by {
                        late.get_or_insert_with(|| pending.module.clone());
                    }
                    true
                }
            });
        if let Some(module) = late {
            return Err(ActorViolation::NotAnswered(module));
        }
        let summary = &mut self.summary;
        self.reloads
            .retain_mut(|(reload, _)| match reload.poll().as_deref() {
                None => true,
                Some("Committed") => {
                    summary.committed += 1;
                    false
                }
                Some(outcome) if outcome.starts_with("RolledBack") => {
                    summary.rolled_back += 1;
                    false
                }
                Some(_) => {
                    summary.other_reloads += 1;
                    false
                }
            });
        match self.reloads.iter_mut().find(|(_, by)| now > *by) {
            Some((reload, _)) => Err(ActorViolation::ReloadNotAnswered(reload.misses())),
            None => Ok(()),
        }
    }

    fn change_phase(&mut self, runtime: &SimulatedRuntime) -> Result<Option<End>, ActorViolation> {
        let now = self.machine.world().now();
        match self.phase {
            Phase::Faults if self.faults_left == 0 => {
                self.say("quiet".to_owned());
                self.phase = Phase::Quiet;
                self.quiet_until = now.after(QUIET);
                let mut world = self.machine.world();
                world.faults = false;
                world.lose_drains = 0;
                world.choices.record_end(now);
            }
            Phase::Quiet if now >= self.quiet_until => {
                self.at_rest(runtime)?;
                self.phase = Phase::Ending;
                let budget = runtime.plan().system().shutdown_timeout;
                self.stop_by = now.after(budget + STOP_SLACK);
                self.choose(ChoiceKind::LostHolder);
                let by_loss = self.rng.permille(300);
                self.summary.lost_holders += u64::from(by_loss);
                self.say(
                    if by_loss {
                        "the holder is lost"
                    } else {
                        "stop"
                    }
                    .to_owned(),
                );
                let told = if by_loss {
                    runtime.lose_holder()
                } else {
                    runtime.stop()
                };
                if !told {
                    return Err(ActorViolation::Overflow);
                }
            }
            Phase::Ending if now > self.stop_by => return Err(ActorViolation::StopTooLong),
            Phase::Faults | Phase::Quiet | Phase::Ending => {}
        }
        Ok(None)
    }

    /// What no plan of this runtime had is left to the holder, which was ordered to stop it.
    fn nothing_is_left(&self, runtime: &SimulatedRuntime) -> Checked {
        let world = self.machine.world();
        let mut left = world.places.iter().filter(|(name, place)| {
            let is_left = |process: &Process| runtime.knows(name) || !process.was_stopped;
            place.known().is_some_and(is_left)
        });
        match left.next() {
            Some((name, _)) => Err(ActorViolation::ProcessLeft(name.clone())),
            None => Ok(()),
        }
    }
}

/// What a module that was started needs by this plan and had not.
fn missing_need(plan: &Plan, spawned: &Spawned) -> Option<String> {
    let module = plan.find(&spawned.instance.to_string())?;
    let edges = plan.module(module).edges.iter().filter(|edge| edge.hard);
    let mut needs = edges.filter_map(|edge| Some((edge, plan.get(edge.to)?)));
    let missing = needs.find(|(edge, need)| {
        let Some(truth) = spawned.truth.get(&need.name) else {
            return true;
        };
        let met = match edge.until {
            DependencyCondition::Started => truth.is_up,
            DependencyCondition::Ready | DependencyCondition::Healthy => truth.is_ready,
            DependencyCondition::Completed => truth.has_completed,
        };
        let has_completed = need.kind == Kind::Task && truth.has_completed;
        !met && !has_completed
    });
    missing.map(|(_, need)| need.name.clone())
}

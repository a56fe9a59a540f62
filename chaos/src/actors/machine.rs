//! The fake machine under the real actors: processes, commands, clocks, and messages in flight.
//! Owns what really runs and everything still to happen. Never lets the runtime look into it: the
//! runtime is told, late, and loses what is told while it is away.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_policy::{ModuleId, MonoTime};
use mainstay_process::{
    Exit, Exited, Instance, ProcessEvent, ProcessEventKind, Signal, StartFailure, StartStep,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::fault::ActorFault;
use super::trace::{ActorTrace, Line};
use super::violation::ActorViolation;
use crate::choices::{ChoiceKind, Choices};
use crate::rng::Rng;

mod orders;

const MS: fn(u64) -> Duration = Duration::from_millis;
/// A choice about no module.
pub(super) const NOBODY: ModuleId = ModuleId(u32::MAX);
/// The wall clock when a history begins.
const WALL_BEGIN: u64 = 1_800_000_000_000;
const KILLED: Exit = Exit::Signal {
    signal: Signal::KILL,
    core: false,
};

/// Something that will happen.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// A message to the runtime; lost while the runtime is away.
    Tell(ProcessEvent),
    /// A process ends.
    Exit(Instance, u64, Exit),
    /// A process says that it is ready.
    Ready(Instance, u64),
    /// A process feeds its watchdog, if it still can.
    Feed(Instance, u64),
    /// A command ends.
    CommandEnds(String, bool),
    /// A fault is due.
    Fault,
}

/// A process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) generation: u64,
    pub(super) pid: u32,
    pub(super) ready_from: MonoTime,
    pub(super) has_said_ready: bool,
    ignores_stop: bool,
    survives_kill: bool,
    /// The holder was ordered to stop it, and kills it when that takes too long or when it exits.
    pub(super) was_stopped: bool,
    /// A kill was ordered, and survived.
    was_killed: bool,
    /// It was reported as stuck: nothing more is told of it.
    pub(super) is_stuck: bool,
    /// It feeds no watchdog and answers no probe any more.
    pub(super) hangs: bool,
    /// How often it feeds its watchdog.
    every: Option<Duration>,
    kind: ReadyKind,
}

/// How a process becomes ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadyKind {
    Notifies,
    Answers,
    Runs,
}

/// What there is of one instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) process: Option<Process>,
    newest: u64,
    pub(super) last_exit: Option<(u64, Exited)>,
    /// Whether that was well; it stays so where the holder is told to forget it, for a plan that is
    /// not committed may go back.
    has_completed: bool,
    /// When the runtime was told of that exit.
    told_exit_at: Option<MonoTime>,
    last_told: MonoTime,
}

impl Place {
    /// Returns its process, if that was reported to the runtime.
    pub(super) fn known(&self) -> Option<&Process> {
        self.process.as_ref().filter(|process| !process.is_stuck)
    }
}

/// What was true of a need when a process was spawned.
#[derive(Debug, Clone, Copy)]
pub(super) struct NeedTruth {
    pub(super) is_up: bool,
    pub(super) is_ready: bool,
    pub(super) has_completed: bool,
}

/// A spawn order that is still to be checked.
#[derive(Debug, Clone)]
pub(super) struct Spawned {
    pub(super) instance: Instance,
    pub(super) truth: BTreeMap<String, NeedTruth>,
}

/// How wild the processes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wildness {
    /// Processes fail by themselves, and messages are late.
    pub(super) is_wild: bool,
    /// No exit is told.
    pub(super) loses_exits: bool,
}

/// Everything behind the lock.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) choices: Choices<ActorFault>,
    epoch: Instant,
    base: u64,
    last_now: MonoTime,
    wall_offset_ms: i64,
    slept: Duration,
    agenda: BTreeMap<(u64, u64), (Option<u32>, Item)>,
    order: u64,
    runtime: u32,
    pub(super) has_runtime: bool,
    pub(super) places: BTreeMap<String, Place>,
    commands: BTreeMap<String, oneshot::Sender<(bool, String)>>,
    /// What was true when the command before a run began, and that command.
    before_run: BTreeMap<String, (String, BTreeMap<String, NeedTruth>)>,
    /// When the actor of a start died during that command: the next one begins it again at once.
    begun_again: BTreeMap<String, MonoTime>,
    records: BTreeMap<String, String>,
    stop_by: Option<MonoTime>,
    next_pid: u32,
    pub(super) faults: bool,
    pub(super) wildness: Wildness,
    /// The next drain of a notify socket is lost.
    pub(super) lose_drains: u32,
    pub(super) broken: Option<ActorViolation>,
    pub(super) spawned: Vec<Spawned>,
    pub(super) trace: ActorTrace,
    pub(super) processes: u64,
    pub(super) lost_messages: u64,
}

/// The machine.
pub(super) struct Machine {
    world: Mutex<World>,
    pub(super) changed: Notify,
}

impl Machine {
    pub(super) fn new(
        seed: u64,
        wildness: Wildness,
        trace: ActorTrace,
        choices: Choices<ActorFault>,
    ) -> Machine {
        let world = World {
            choices,
            rng: Rng::new(seed ^ 0xac70_0000_0000_0000),
            epoch: Instant::now(),
            base: 1_000_000_000,
            last_now: MonoTime(0),
            wall_offset_ms: 0,
            slept: Duration::ZERO,
            agenda: BTreeMap::new(),
            order: 0,
            runtime: 0,
            has_runtime: false,
            places: BTreeMap::new(),
            commands: BTreeMap::new(),
            before_run: BTreeMap::new(),
            begun_again: BTreeMap::new(),
            records: BTreeMap::new(),
            stop_by: None,
            next_pid: 1000,
            faults: true,
            wildness,
            lose_drains: 0,
            broken: None,
            spawned: Vec::new(),
            trace,
            processes: 0,
            lost_messages: 0,
        };
        Machine {
            world: Mutex::new(world),
            changed: Notify::new(),
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// The next choice is about this instance.
    fn choose(&mut self, kind: ChoiceKind, name: &str) {
        let module = name
            .split('#')
            .next()
            .and_then(|name| name.strip_prefix('m'));
        let number = module.and_then(|number| number.parse().ok());
        let module = number.map_or(NOBODY, ModuleId);
        self.choices.begin(kind, module, &mut self.rng);
    }

    pub(super) fn now(&self) -> MonoTime {
        let passed = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        MonoTime(self.base + passed)
    }

    /// The clock when a runtime ended, or a checker tripped.
    pub(super) fn last_now(&self) -> MonoTime {
        self.last_now
    }

    pub(super) fn note_now(&mut self) {
        self.last_now = self.now();
    }

    /// Faults that were due belong to the system before.
    pub(super) fn clear_faults(&mut self) {
        self.agenda
            .retain(|_, (_, item)| !matches!(item, Item::Fault));
    }

    /// A new tokio runtime has a clock of its own: this one goes on.
    pub(super) fn begin_clock(&mut self, at: MonoTime) {
        (self.epoch, self.base) = (Instant::now(), at.0);
    }

    /// When an item is due, on the clock of tokio.
    pub(super) fn instant(&self, at: MonoTime) -> Instant {
        self.epoch + Duration::from_nanos(at.0.saturating_sub(self.base))
    }

    /// The machine is suspended for this long.
    pub(super) fn sleep(&mut self, span: Duration) {
        self.base += u64::try_from(span.as_nanos()).unwrap_or(0);
        self.slept += span;
    }

    pub(super) fn jump_wall_clock(&mut self, ms: i64) {
        self.wall_offset_ms += ms;
    }

    pub(super) fn push(&mut self, at: MonoTime, item: Item) {
        self.order += 1;
        self.agenda.insert((at.0, self.order), (None, item));
    }

    fn push_for_runtime(&mut self, at: MonoTime, item: Item) {
        self.order += 1;
        let runtime = Some(self.runtime);
        self.agenda.insert((at.0, self.order), (runtime, item));
    }

    pub(super) fn next_at(&self) -> Option<MonoTime> {
        self.agenda.keys().next().map(|(at, _)| MonoTime(*at))
    }

    /// The next item that is due.
    pub(super) fn pop_due(&mut self) -> Option<Item> {
        let now = self.now();
        loop {
            let (at, _) = *self.agenda.keys().next()?;
            if at > now.0 {
                return None;
            }
            let (_, (runtime, item)) = self.agenda.pop_first()?;
            if runtime.is_none_or(|runtime| runtime == self.runtime) {
                return Some(item);
            }
            self.lost_messages += 1;
        }
    }

    /// The runtime dies: its commands end, and the messages in flight to it are lost.
    pub(super) fn runtime_died(&mut self) {
        self.runtime += 1;
        self.has_runtime = false;
        self.commands.clear();
        self.before_run.clear();
        self.begun_again.clear();
        self.stop_by = None;
        self.spawned.clear();
    }

    /// The actor of a module dies: the next one begins the start again that it was told of.
    pub(super) fn module_actor_died(&mut self, name: &str) {
        if self.before_run.contains_key(name) {
            self.begun_again.insert(name.to_owned(), self.now());
        }
    }

    /// Stops everything and starts again; keeps the newest generation of each instance.
    pub(super) fn begin_anew(&mut self) {
        self.runtime_died();
        self.records.clear();
        for place in self.places.values_mut() {
            (place.process, place.last_exit) = (None, None);
            place.has_completed = false;
        }
    }

    pub(super) fn instances(&self) -> Vec<Instance> {
        let known = self.places.iter();
        let known = known.filter(|(_, place)| place.known().is_some());
        let names: std::collections::BTreeSet<&String> = known
            .map(|(name, _)| name)
            .chain(self.records.keys())
            .collect();
        names
            .into_iter()
            .map(|name| Instance::new(name, 1))
            .collect()
    }

    /// News for the runtime, in the order of its instance, a little late.
    fn tell(&mut self, instance: &Instance, generation: u64, what: ProcessEventKind) {
        self.choose(ChoiceKind::Delay, instance.as_str());
        let delay = match self.wildness.is_wild && self.faults && self.rng.permille(60) {
            true => self.rng.span(MS(20)),
            false => self.rng.span(Duration::from_micros(200)),
        };
        let now = self.now();
        let place = self.places.entry(instance.to_string()).or_default();
        let at = place.last_told.max(now.after(delay));
        place.last_told = at;
        let event = ProcessEvent {
            instance: instance.clone(),
            generation,
            what,
        };
        self.push_for_runtime(at, Item::Tell(event));
    }

    /// What a runtime that returns is told again.
    pub(super) fn tell_again(&mut self) {
        let places: Vec<(String, Place)> = self
            .places
            .iter()
            .map(|(name, place)| (name.clone(), place.clone()))
            .collect();
        for (name, place) in places {
            let instance = Instance::new(&name, 1);
            if let Some(process) = place.known() {
                if process.has_said_ready {
                    let (pid, text) = (process.pid, "READY=1".to_owned());
                    let said = ProcessEventKind::Notify { pid, text };
                    self.tell(&instance, process.generation, said);
                }
            } else if let Some((generation, exited)) = place.last_exit {
                self.tell(&instance, generation, ProcessEventKind::Exited(exited));
            }
        }
    }

    /// An event is being told.
    pub(super) fn is_told(&mut self, event: &ProcessEvent) {
        let now = self.now();
        if let ProcessEventKind::Exited(_) = event.what
            && let Some(place) = self.places.get_mut(&event.instance.to_string())
        {
            place.told_exit_at = Some(now);
        }
    }

    pub(super) fn exit(&mut self, instance: &Instance, generation: u64, exit: Exit) {
        let now = self.now();
        let place = self.places.entry(instance.to_string()).or_default();
        let Some(process) = place
            .process
            .take_if(|process| process.generation == generation)
        else {
            return;
        };
        if process.is_stuck {
            self.trace.push(
                now,
                Line::Process(instance.to_string(), generation, "ends at last"),
            );
            return;
        }
        self.ended(instance, &process, exit);
    }

    fn ended(&mut self, instance: &Instance, process: &Process, exit: Exit) {
        let now = self.now();
        let exited = Exited {
            pid: process.pid,
            exit,
            timed_out: false,
            output: String::new(),
            at: now.0,
        };
        let what = if exit == Exit::Stuck {
            "is stuck"
        } else {
            "ends"
        };
        let generation = process.generation;
        self.trace
            .push(now, Line::Process(instance.to_string(), generation, what));
        let place = self.places.entry(instance.to_string()).or_default();
        place.has_completed = exited.exit == Exit::Code(0);
        (place.last_exit, place.told_exit_at) = (Some((generation, exited.clone())), None);
        if !self.wildness.loses_exits {
            self.tell(instance, generation, ProcessEventKind::Exited(exited));
        }
    }

    pub(super) fn say_ready(&mut self, instance: &Instance, generation: u64) {
        let place = self.places.entry(instance.to_string()).or_default();
        let Some(process) = place.process.as_mut() else {
            return;
        };
        if process.generation != generation || process.hangs || process.is_stuck {
            return;
        }
        process.has_said_ready = true;
        let (pid, text) = (process.pid, "READY=1".to_owned());
        self.tell(instance, generation, ProcessEventKind::Notify { pid, text });
    }

    pub(super) fn feed(&mut self, instance: &Instance, generation: u64) {
        let place = self.places.entry(instance.to_string()).or_default();
        let Some(process) = place.known() else {
            return;
        };
        let Some(every) = process.every.filter(|_| process.generation == generation) else {
            return;
        };
        if process.hangs {
            return;
        }
        let (pid, text) = (process.pid, "WATCHDOG=1".to_owned());
        self.tell(instance, generation, ProcessEventKind::Notify { pid, text });
        let next = self.now().after(every / 2);
        self.push(next, Item::Feed(instance.clone(), generation));
    }

    /// The holder dies, and another one goes on: starts that the runtime was not told of are lost,
    /// and how the others are is told again.
    pub(super) fn holder_dies(&mut self) {
        let started = |item: &Item| match item {
            Item::Tell(event) => match event.what {
                ProcessEventKind::Spawned { .. } => {
                    Some((event.instance.clone(), event.generation))
                }
                _ => None,
            },
            _ => None,
        };
        let untold = self.agenda.values().filter_map(|(_, item)| started(item));
        let untold: Vec<(Instance, u64)> = untold.collect();
        for (instance, generation) in untold {
            let of_it = |item: &Item| started(item) == Some((instance.clone(), generation));
            self.agenda.retain(|_, (_, item)| !of_it(item));
            let place = self.places.entry(instance.to_string()).or_default();
            let lost = place.process.take_if(|one| one.generation == generation);
            if lost.is_none() {
                continue; // it has ended, and that is told
            }
            let failure = StartFailure {
                step: StartStep::Holder,
                errno: 0,
            };
            let message = "lost".to_owned();
            let what = ProcessEventKind::SpawnFailed { failure, message };
            self.tell(&instance, generation, what);
        }
    }

    /// Some process that runs ends, or hangs.
    pub(super) fn break_process(&mut self, name: &str, hang: bool) {
        let Some(process) = self.places.get_mut(name).and_then(|it| it.process.as_mut()) else {
            return;
        };
        let generation = process.generation;
        if hang {
            process.hangs = true;
            return;
        }
        let crash = [
            Exit::Code(1),
            KILLED,
            Exit::Oom,
            Exit::Code(0),
            Exit::Code(78),
        ];
        self.choose(ChoiceKind::Crash, name);
        let exit = self.rng.pick(&crash);
        self.exit(&Instance::new(name, 1), generation, exit);
    }

    pub(super) fn command_ends(&mut self, key: &str, ok: bool) {
        if !ok {
            self.no_run_follows(key);
        }
        if let Some(result) = self.commands.remove(key) {
            let now = self.now();
            self.trace
                .push(now, Line::Process(key.to_owned(), 0, "ends"));
            let text = if ok { "" } else { "exit code 1" };
            let _nobody_waits = result.send((ok, text.to_owned()));
        }
    }

    fn truth(&self) -> BTreeMap<String, NeedTruth> {
        let now = self.now();
        let truth = |place: &Place| {
            let told = place.told_exit_at;
            // Its end is not told yet, or is being heard at this moment.
            let is_fresh = told.is_none_or(|told| now.since(told) <= MS(1));
            let lasts = place.last_exit.is_some() && is_fresh && place.process.is_none();
            let known = place.known();
            NeedTruth {
                is_up: known.is_some() || lasts,
                is_ready: lasts
                    || known.is_some_and(|process| match process.kind {
                        ReadyKind::Notifies => process.has_said_ready,
                        ReadyKind::Answers => process.ready_from <= now,
                        ReadyKind::Runs => true,
                    }),
                has_completed: place.has_completed,
            }
        };
        let places = self.places.iter();
        places
            .map(|(name, place)| (name.clone(), truth(place)))
            .collect()
    }
}

//! The fake world: processes and hooks that start, fail, hang, get ready late and die.
//! Owns what really lives, and the agenda of everything still to happen.
//! Never lets policy look into it: policy hears news, late, twice or out of date.

use std::time::Duration;

use mainstay_policy::run::{Exit, RunReport};
use mainstay_policy::{Health, ModuleId, MonoTime, run};

/// Something that will happen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WorldEvent {
    /// News or an order reaches a module's state machine.
    ToModule(ModuleId, run::RunEvent),
    /// A module's report reaches the lifecycle.
    Report(ModuleId, RunReport),
    /// How a run feels reaches the lifecycle; true: it should be restarted.
    HealthChanged(ModuleId, u64, Health, bool),
    /// An order reaches the system: make a process.
    Spawn(ModuleId, u64),
    /// An order reaches the system: stop signal.
    Terminate(ModuleId, u64),
    /// An order reaches the system: kill.
    Kill(ModuleId, u64),
    /// A process ends.
    Exit(ModuleId, u64, Exit),
    /// A hook ends: `before_start` (true) or `after_stop`; and whether well.
    HookEnds(ModuleId, u64, bool, bool),
    /// A process feeds its watchdog, if it still can.
    Feed(ModuleId, u64),
    /// A deadline of a module.
    WakeModule(ModuleId),
    /// The deadline of the lifecycle.
    WakeLifecycle,
    /// A process says that it is ready.
    ReadyReported(ModuleId, u64),
    /// What was to be done before the next run of a module is over: its number, and whether well.
    ProcedureEnded(ModuleId, u32, bool),
    /// A fault is to be drawn.
    FaultDue,
    /// A fault of a record: its place in the replay.
    FaultReplayed(usize),
    /// The runtime is started again.
    RuntimeStarts,
}

/// A process.
#[derive(Debug, Clone, Copy)]
pub struct SimProcess {
    /// Its run.
    pub generation: u64,
    /// Its pid.
    pub pid: u32,
    /// From when on it answers that it is ready.
    pub ready_from: MonoTime,
    /// Whether the stop signal does nothing to it.
    pub ignores_sigterm: bool,
    /// Whether it has said that it is ready.
    pub ready_sent: bool,
    /// When it last fed its watchdog, if it began with one.
    pub fed: Option<MonoTime>,
    /// What a kill does to it.
    pub mortality: Mortality,
}

/// What a kill does to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mortality {
    /// It ends.
    #[default]
    Dies,
    /// Nothing.
    Survives,
    /// Nothing, a second time: it was reported as stuck.
    Stuck,
}

/// The commands around a run.
#[derive(Debug, Clone, Copy)]
pub struct SimHook {
    /// The run.
    pub generation: u64,
    /// `before_start` (true) or `after_stop`.
    pub before: bool,
    /// Whether the stop signal does nothing to it.
    pub ignores_sigterm: bool,
}

/// What the system has of one module.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimModule {
    /// Its process.
    pub process: Option<SimProcess>,
    /// Its hook.
    pub hook: Option<SimHook>,
    /// The last exit, kept for a runtime that returns.
    pub exit: Option<(u64, Exit)>,
    /// The newest generation that was spawned.
    pub newest: u64,
    /// The generation that a kill was ordered for last, if it survived that.
    pub killed: u64,
}

impl SimModule {
    /// Its process, unless that was reported as stuck: of that one nothing more is reported.
    #[must_use]
    pub fn known_process(&self) -> Option<SimProcess> {
        self.process
            .filter(|process| process.mortality != Mortality::Stuck)
    }
}

/// When, the how manieth, and where in `items`, from the highest bit on: small, because it is
/// moved, and one number, because that is compared without a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct AgendaKey(u128);

impl AgendaKey {
    /// How many things happen at once at most; a history has far fewer in all.
    const PLACES: u32 = 24;

    fn new(at: MonoTime, order: u64, place: u32) -> AgendaKey {
        let order = u128::from(order) << Self::PLACES;
        AgendaKey(u128::from(at.0) << 64 | order | u128::from(place))
    }

    fn at(self) -> MonoTime {
        MonoTime(u64::try_from(self.0 >> 64).unwrap_or(u64::MAX))
    }

    fn place(self) -> u32 {
        u32::try_from(self.0 & ((1 << Self::PLACES) - 1)).unwrap_or(u32::MAX)
    }
}

/// Everything that is still to happen, in order of time.
#[derive(Debug, Default)]
pub struct Agenda {
    /// The first thing to happen is the last of it. A history has some dozens at a time, and most
    /// new ones happen soon: to move those before them costs less than a heap does.
    keys: Vec<AgendaKey>,
    /// What, and the runtime it is meant for; None: the world itself.
    items: Vec<(Option<u32>, WorldEvent)>,
    /// Places of `items` that are over.
    free: Vec<u32>,
    order: u64,
    epoch: u32,
}

impl Agenda {
    /// Something for the runtime that runs now; it dies with it.
    #[inline]
    pub fn push(&mut self, at: MonoTime, item: WorldEvent) {
        self.add(at, Some(self.epoch), item);
    }

    /// Something that happens whether a runtime is there or not.
    pub fn push_lasting(&mut self, at: MonoTime, item: WorldEvent) {
        self.add(at, None, item);
    }

    #[inline]
    fn add(&mut self, at: MonoTime, epoch: Option<u32>, item: WorldEvent) {
        self.order += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.items[place as usize] = (epoch, item);
                place
            }
            None => {
                self.items.push((epoch, item));
                u32::try_from(self.items.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let key = AgendaKey::new(at, self.order, place);
        let before = self.keys.partition_point(|later| *later > key);
        self.keys.insert(before, key);
    }

    /// The next thing, if it happens at or before `end`.
    pub fn pop(&mut self, end: MonoTime) -> Option<(MonoTime, WorldEvent)> {
        loop {
            let key = self.keys.pop_if(|due| due.at() <= end)?;
            let (epoch, item) = self.items[key.place() as usize];
            self.free.push(key.place());
            if epoch.is_none_or(|epoch| epoch == self.epoch) {
                return Some((key.at(), item));
            }
        }
    }

    /// The runtime dies; what was meant for it is lost. Orders that were on their way to the
    /// system are returned, the first to arrive first: the caller says which of them still did.
    pub fn runtime_died(&mut self) -> Vec<(MonoTime, WorldEvent)> {
        let mine = self.epoch;
        self.epoch += 1;
        let mut orders = Vec::new();
        self.keys.retain(|key| {
            let (epoch, item) = self.items[key.place() as usize];
            let lost = epoch == Some(mine);
            if lost {
                self.free.push(key.place());
            }
            if lost && matches!(item, WorldEvent::Spawn(..)) {
                orders.push((*key, item));
            }
            !lost
        });
        orders.sort_by_key(|(key, _)| *key);
        let in_order = orders.into_iter().map(|(key, item)| (key.at(), item));
        in_order.collect()
    }
}

/// News about one module comes from one mouth: it keeps its order whatever the delays.
#[derive(Debug, Clone, Copy, Default)]
pub struct FifoDelay(MonoTime);

impl FifoDelay {
    /// When the newest of what was sent arrives.
    #[must_use]
    pub fn newest(&self) -> MonoTime {
        self.0
    }

    /// When news sent now with this delay arrives.
    pub fn arrival(&mut self, now: MonoTime, delay: Duration) -> MonoTime {
        self.0 = self.0.max(now.after(delay));
        self.0
    }
}

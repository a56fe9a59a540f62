//! The choices of one history: recorded as they are made, and made again with some left out.
//! Owns which choices a replay keeps. Never draws: what is left out is calm, without a fault or a
//! delay.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_policy::{ModuleId, MonoTime};

use crate::fault::Fault;
use crate::rng::Rng;

/// What is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChoiceKind {
    /// How long a message takes.
    Delay,
    /// Whether a message arrives twice, or not at all.
    Twice,
    /// What a new process will do.
    Process,
    /// Whether a process can be made at all.
    Spawn,
    /// What a hook will do.
    Hook,
    /// How long a process takes to end.
    End,
    /// Whether a process feeds its watchdog.
    Feed,
    /// What the first health check finds.
    Probe,
    /// How a procedure before a restart ends.
    Procedure,
    /// What the death of a runtime loses, and how long it takes to return.
    RuntimeDeath,
    /// The seed of a new runtime.
    Seed,
}

impl ChoiceKind {
    /// All of them.
    pub const ALL: [ChoiceKind; 11] = [
        ChoiceKind::Delay,
        ChoiceKind::Twice,
        ChoiceKind::Process,
        ChoiceKind::Spawn,
        ChoiceKind::Hook,
        ChoiceKind::End,
        ChoiceKind::Feed,
        ChoiceKind::Probe,
        ChoiceKind::Procedure,
        ChoiceKind::RuntimeDeath,
        ChoiceKind::Seed,
    ];
}

/// One choice: what, of which module, and the how manieth of those.
pub type ChoiceKey = (ChoiceKind, ModuleId, u32);

/// Everything that was chosen in one history.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// What happened to the system, and when.
    pub faults: Vec<(MonoTime, Fault)>,
    /// The state of the generator at each choice of the world.
    pub choices: Vec<(ChoiceKey, u64)>,
    /// When the faults ended.
    pub end: MonoTime,
}

/// What a replay keeps of a record.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// Its faults, by their places in the record.
    pub faults: Vec<(MonoTime, Fault)>,
    /// Its choices.
    pub choices: BTreeMap<ChoiceKey, u64>,
    /// When the faults end.
    pub end: MonoTime,
    /// The modules that no plan has.
    pub dropped: BTreeSet<ModuleId>,
}

/// How the choices of a history come about.
#[derive(Debug, Clone, Default)]
pub enum Choices {
    /// From the generator.
    #[default]
    Drawn,
    /// From the generator, and kept.
    Recorded(Box<Record>, Counts),
    /// From a record.
    Replayed(Box<Replay>, Counts),
}

/// The choices so far.
pub type Counts = BTreeMap<(ChoiceKind, ModuleId), u32>;

impl Choices {
    /// The next choice of a kind begins.
    pub fn begin(&mut self, kind: ChoiceKind, module: ModuleId, rng: &mut Rng) {
        let counts = match self {
            Choices::Drawn => return,
            Choices::Recorded(_, counts) | Choices::Replayed(_, counts) => counts,
        };
        let nth = counts.entry((kind, module)).or_default();
        let key = (kind, module, *nth);
        *nth += 1;
        match self {
            Choices::Drawn => {}
            Choices::Recorded(record, _) => record.choices.push((key, rng.state())),
            Choices::Replayed(replay, _) => rng.set(replay.choices.get(&key).copied()),
        }
    }

    /// A fault is about to happen.
    pub fn record_fault(&mut self, at: MonoTime, fault: Fault) {
        if let Choices::Recorded(record, _) = self {
            record.faults.push((at, fault));
        }
    }

    /// The faults are over, or a checker has tripped.
    pub fn record_end(&mut self, at: MonoTime) {
        if let Choices::Recorded(record, _) = self {
            record.end = at;
        }
    }

    /// What is replayed.
    #[must_use]
    pub fn replay(&self) -> Option<&Replay> {
        match self {
            Choices::Replayed(replay, _) => Some(replay),
            Choices::Drawn | Choices::Recorded(..) => None,
        }
    }
}

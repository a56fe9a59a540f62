//! The choices of one history: recorded as they are made, and made again with some left out.
//! Owns which choices a replay keeps. Never draws: what is left out is calm, without a fault or a
//! delay.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_policy::{ModuleId, MonoTime};

use crate::fault::Fault;
use crate::minimise::{Minimal, Minimiser};
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
    /// How a process crashes.
    Crash,
    /// Whether, when and how a new process ends by itself.
    OwnEnd,
    /// Whether the holder is lost at the end.
    LostHolder,
}

impl ChoiceKind {
    /// All of them.
    pub const ALL: [ChoiceKind; 14] = [
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
        ChoiceKind::Crash,
        ChoiceKind::OwnEnd,
        ChoiceKind::LostHolder,
    ];
}

/// One choice: what, of which module, and the how manieth of those.
pub type ChoiceKey = (ChoiceKind, ModuleId, u32);

/// Everything that was chosen in one history.
#[derive(Debug, Clone)]
pub struct Record<F = Fault> {
    /// What happened to the system, and when.
    pub faults: Vec<(MonoTime, F)>,
    /// The state of the generator at each choice of the world.
    pub choices: Vec<(ChoiceKey, u64)>,
    /// When the faults ended.
    pub end: MonoTime,
}

/// What a replay keeps of a record.
#[derive(Debug, Clone)]
pub struct Replay<F = Fault> {
    /// Its faults, by their places in the record.
    pub faults: Vec<(MonoTime, F)>,
    /// Its choices.
    pub choices: BTreeMap<ChoiceKey, u64>,
    /// When the faults end.
    pub end: MonoTime,
    /// The modules that no plan has.
    pub dropped: BTreeSet<ModuleId>,
}

/// How the choices of a history come about.
#[derive(Debug, Clone, Default)]
pub enum Choices<F = Fault> {
    /// From the generator.
    #[default]
    Drawn,
    /// From the generator, and kept.
    Recorded(Box<Record<F>>, Counts),
    /// From a record.
    Replayed(Box<Replay<F>>, Counts),
}

/// The choices so far.
pub type Counts = BTreeMap<(ChoiceKind, ModuleId), u32>;

impl<F> Default for Record<F> {
    fn default() -> Record<F> {
        Record {
            faults: Vec::new(),
            choices: Vec::new(),
            end: MonoTime::default(),
        }
    }
}

impl<F: Clone> Record<F> {
    /// How many places it has, before those of modules.
    #[must_use]
    pub fn places(&self) -> usize {
        self.faults.len() + self.choices.len()
    }

    /// The parts that are kept; modules have the places after the others.
    #[must_use]
    pub fn keep(&self, kept: &[bool]) -> Replay<F> {
        let faults = self.faults.len();
        let is_kept = |at: usize| kept.get(at).copied().unwrap_or(false);
        let of_record = self.faults.iter().enumerate();
        let chosen = self.choices.iter().enumerate();
        let modules = self.places()..kept.len();
        Replay {
            faults: of_record
                .filter(|(at, _)| is_kept(*at))
                .map(|(_, fault)| fault.clone())
                .collect(),
            choices: chosen
                .filter(|(at, _)| is_kept(faults + at))
                .map(|(_, choice)| *choice)
                .collect(),
            end: self.end,
            dropped: (0_u32..)
                .map(ModuleId)
                .zip(modules)
                .filter(|(_, at)| !is_kept(*at))
                .map(|(module, _)| module)
                .collect(),
        }
    }

    /// Leaves out whatever a failure does not need, of this record and `modules` modules.
    pub(crate) fn minimal<R>(
        &self,
        modules: usize,
        most: u32,
        fails: &dyn Fn(&[bool]) -> Option<R>,
    ) -> Option<Minimal<R>> {
        let (faults, others) = (self.faults.len(), self.places());
        let mut search = Minimiser::new(others + modules, most, fails)?;
        for kind in ChoiceKind::ALL {
            let of_kind = |at: &usize| self.choices[*at].0.0 == kind;
            let places = (0..self.choices.len()).filter(of_kind);
            search.drop_all(&places.map(|at| faults + at).collect::<Vec<usize>>());
        }
        for _ in 0..2 {
            search.drop_most(0..faults);
            search.drop_most(others..others + modules);
            search.drop_most(faults..others);
        }
        Some(search.finish())
    }
}

impl<F> Choices<F> {
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
    pub fn record_fault(&mut self, at: MonoTime, fault: F) {
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
    pub fn replay(&self) -> Option<&Replay<F>> {
        match self {
            Choices::Replayed(replay, _) => Some(replay),
            Choices::Drawn | Choices::Recorded(..) => None,
        }
    }
}

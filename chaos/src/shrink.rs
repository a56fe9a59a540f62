//! Shrinks a failure: to the fewest faults, choices and modules that break the same invariant.
//! Owns the search (delta debugging over what was recorded). Never changes a fault: it leaves some
//! out, and a choice that is left out is calm.

use std::collections::BTreeMap;

use crate::choices::{ChoiceKey, ChoiceKind, Choices, Record, Replay};
use crate::explain::name;
use crate::sim::{SimFailure, SimOptions, run_with};
use mainstay_policy::ModuleId;

/// Replays of one search, at most.
const REPLAYS: u32 = 3000;

/// What is left of a failure.
#[derive(Debug)]
pub struct Shrunk {
    /// The failure of the smallest history that was found.
    pub failure: Box<SimFailure>,
    /// What it keeps, by the places in the record: faults, choices, modules.
    pub kept: Vec<usize>,
    /// Its faults, with their places.
    pub faults: Vec<(usize, String)>,
    /// The choices that are not calm, with their places.
    pub choices: Vec<(usize, String)>,
    /// What there was before.
    pub before: (usize, usize, usize),
    /// Modules that are left.
    pub modules: usize,
    /// Histories that were run.
    pub replays: u32,
}

struct Search {
    options: SimOptions,
    record: Record,
    violation: usize,
    /// By place: faults, choices, modules.
    kept: Vec<bool>,
    replays: u32,
}

/// Records a history; None: it does not fail.
#[must_use]
pub fn record(options: SimOptions) -> Option<(Record, Box<SimFailure>)> {
    let recorded = Choices::Recorded(Box::default(), BTreeMap::new());
    let (result, choices) = run_with(options, recorded);
    match (result, choices) {
        (Err(failure), Choices::Recorded(record, _)) => Some((*record, failure)),
        _ => None,
    }
}

/// Shrinks the failure of a history; None: the history does not fail, or not when it is replayed.
#[must_use]
pub fn shrink(options: SimOptions) -> Option<Shrunk> {
    let (record, failure) = record(options)?;
    let violation = failure.violation.number();
    let all = places(&record, options);
    let slots = slots(options);
    let mut search = Search {
        options,
        violation,
        kept: vec![true; all],
        record,
        replays: 0,
    };
    search.fails(&search.kept.clone())?;
    let (faults, choices) = (search.record.faults.len(), search.record.choices.len());
    for kind in ChoiceKind::ALL {
        let of_kind = |at: &usize| search.record.choices[*at].0.0 == kind;
        let places = (0..choices).filter(of_kind).map(|at| faults + at);
        search.drop_all(&places.collect::<Vec<usize>>());
    }
    for _ in 0..2 {
        search.drop_most(0..faults);
        search.drop_most(faults + choices..all);
        search.drop_most(faults..faults + choices);
    }
    search.finish((faults, choices, slots))
}

/// A plan never has more.
fn slots(options: SimOptions) -> usize {
    (options.modules * 3 / 2) as usize
}

/// How many places a record has, those of its modules included.
#[must_use]
pub fn places(record: &Record, options: SimOptions) -> usize {
    record.faults.len() + record.choices.len() + slots(options)
}

/// Replays what is kept of a record; None: it does not fail.
#[must_use]
pub fn replay(options: SimOptions, record: &Record, kept: &[bool]) -> Option<Box<SimFailure>> {
    let replayed = Choices::Replayed(Box::new(keep(record, kept)), BTreeMap::new());
    run_with(options, replayed).0.err()
}

fn keep(record: &Record, kept: &[bool]) -> Replay {
    let (faults, choices) = (record.faults.len(), record.choices.len());
    let is_kept = |at: usize| kept.get(at).copied().unwrap_or(false);
    let of_record = record.faults.iter().enumerate();
    let chosen = record.choices.iter().enumerate();
    let modules = faults + choices..kept.len();
    Replay {
        faults: of_record
            .filter(|(at, _)| is_kept(*at))
            .map(|(_, fault)| *fault)
            .collect(),
        choices: chosen
            .filter(|(at, _)| is_kept(faults + at))
            .map(|(_, choice)| *choice)
            .collect(),
        end: record.end,
        dropped: (0_u32..)
            .map(ModuleId)
            .zip(modules)
            .filter(|(_, at)| !is_kept(*at))
            .map(|(module, _)| module)
            .collect(),
    }
}

impl Search {
    fn fails(&mut self, kept: &[bool]) -> Option<Box<SimFailure>> {
        self.replays += 1;
        let failure = replay(self.options, &self.record, kept)?;
        (failure.violation.number() == self.violation).then_some(failure)
    }

    /// Leaves these out, if the failure stays.
    fn drop_all(&mut self, places: &[usize]) -> bool {
        if places.is_empty() || self.replays >= REPLAYS {
            return false;
        }
        let mut fewer = self.kept.clone();
        places.iter().for_each(|at| fewer[*at] = false);
        let fails = self.fails(&fewer).is_some();
        if fails {
            self.kept = fewer;
        }
        fails
    }

    /// Leaves out as many of a range as the failure does not need.
    fn drop_most(&mut self, range: std::ops::Range<usize>) {
        let left = |search: &Search| {
            let places = range.clone().filter(|at| search.kept[*at]);
            places.collect::<Vec<usize>>()
        };
        let mut size = left(self).len();
        while size > 0 {
            let places = left(self);
            let mut changed = false;
            for chunk in places.chunks(size) {
                changed |= self.drop_all(chunk);
            }
            if size == 1 && changed && self.replays < REPLAYS {
                continue;
            }
            size /= 2;
        }
    }

    fn finish(mut self, before: (usize, usize, usize)) -> Option<Shrunk> {
        let kept = self.kept.clone();
        self.options.trace = usize::MAX;
        let failure = self.fails(&kept)?;
        let (faults, choices, _) = before;
        let left = |from: usize, to: usize| kept[from..to].iter().filter(|kept| **kept).count();
        let of_record = self.record.faults.iter().enumerate();
        let told = of_record.filter(|(at, _)| kept[*at]).map(|(at, fault)| {
            let seconds = fault.0.0 as f64 / 1e9;
            (at, format!("{seconds:>12.6}  {}", fault.1))
        });
        let chosen = self.record.choices.iter().enumerate();
        let chosen = chosen.filter(|(at, _)| kept[faults + at]);
        let chosen = chosen.map(|(at, (key, _))| (faults + at, words(*key)));
        Some(Shrunk {
            faults: told.collect(),
            choices: chosen.collect(),
            modules: left(faults + choices, kept.len()),
            kept: (0..kept.len()).filter(|at| kept[*at]).collect(),
            failure,
            before,
            replays: self.replays,
        })
    }
}

/// What is chosen, in words.
fn words((kind, module, nth): ChoiceKey) -> String {
    let what = match kind {
        ChoiceKind::Delay => "how long a message takes",
        ChoiceKind::Twice => "whether a message arrives twice, or at all",
        ChoiceKind::Process => "what its process does",
        ChoiceKind::Spawn => "whether its process can be made",
        ChoiceKind::Hook => "what its hook does",
        ChoiceKind::End => "how long its end takes",
        ChoiceKind::Feed => "whether it feeds its watchdog",
        ChoiceKind::Probe => "what its first health check finds",
        ChoiceKind::Procedure => "how its procedure ends",
        ChoiceKind::RuntimeDeath => "what the death of the runtime loses",
        ChoiceKind::Seed => "the seed of the next runtime",
    };
    let about = match module {
        ModuleId(u32::MAX) => "records".to_owned(),
        module => name(module),
    };
    format!("{about}: {what} ({})", nth + 1)
}

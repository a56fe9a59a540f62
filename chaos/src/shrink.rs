//! Shrinks a failure: to the fewest faults, choices and modules that break the same invariant.
//! Owns what a failure is and what is shown of it; the search is in `minimise`. Never changes a
//! fault: it leaves some out, and a choice that is left out is calm.

use std::collections::BTreeMap;
use std::fmt;

use crate::choices::{ChoiceKey, ChoiceKind, Choices, Record};
use crate::explain::name;
use crate::minimise::Minimal;
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
    let slots = slots(options);
    let fails = |kept: &[bool]| {
        let failure = replay(options, &record, kept)?;
        (failure.violation.number() == violation).then_some(failure)
    };
    let minimal = record.minimal(slots, REPLAYS, &fails)?;
    Some(finish(options, &record, minimal))
}

/// A plan never has more.
fn slots(options: SimOptions) -> usize {
    (options.modules * 3 / 2) as usize
}

/// How many places a record has, those of its modules included.
#[must_use]
pub fn places(record: &Record, options: SimOptions) -> usize {
    record.places() + slots(options)
}

/// Replays what is kept of a record; None: it does not fail.
#[must_use]
pub fn replay(options: SimOptions, record: &Record, kept: &[bool]) -> Option<Box<SimFailure>> {
    let replayed = Choices::Replayed(Box::new(record.keep(kept)), BTreeMap::new());
    run_with(options, replayed).0.err()
}

fn finish(mut options: SimOptions, record: &Record, minimal: Minimal<Box<SimFailure>>) -> Shrunk {
    let kept = minimal.kept;
    options.trace = usize::MAX;
    let faults = record.faults.len();
    Shrunk {
        faults: kept_faults(record, &kept),
        choices: kept_choices(record, &kept),
        modules: kept[record.places()..].iter().filter(|kept| **kept).count(),
        failure: replay(options, record, &kept).unwrap_or(minimal.failure),
        kept: (0..kept.len()).filter(|at| kept[*at]).collect(),
        before: (faults, record.choices.len(), slots(options)),
        replays: minimal.replays,
    }
}

/// The faults that are kept, with their places.
pub(crate) fn kept_faults<F: fmt::Display>(
    record: &Record<F>,
    kept: &[bool],
) -> Vec<(usize, String)> {
    let of_record = record.faults.iter().enumerate();
    let told = of_record.filter(|(at, _)| kept[*at]).map(|(at, fault)| {
        let seconds = fault.0.0 as f64 / 1e9;
        (at, format!("{seconds:>12.6}  {}", fault.1))
    });
    told.collect()
}

/// The choices that are kept, with their places.
pub(crate) fn kept_choices<F>(record: &Record<F>, kept: &[bool]) -> Vec<(usize, String)> {
    let faults = record.faults.len();
    let chosen = record.choices.iter().enumerate();
    let chosen = chosen.filter(|(at, _)| kept[faults + at]);
    let chosen = chosen.map(|(at, (key, _))| (faults + at, words(*key)));
    chosen.collect()
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
        ChoiceKind::Crash => "how it crashes",
        ChoiceKind::OwnEnd => "whether and how its process ends by itself",
        ChoiceKind::LostHolder => "whether the holder is lost at the end",
    };
    let about = match module {
        ModuleId(u32::MAX) => "-".to_owned(),
        module => name(module),
    };
    format!("{about}: {what} ({})", nth + 1)
}

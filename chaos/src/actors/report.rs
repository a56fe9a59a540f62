//! A failure of the actors for a person who has not read the code, with the fewest faults.
//! Owns what is left out of a history, and what is printed of the rest. Never decides what is
//! broken.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::fault::ActorFault;
use super::{ActorFailure, ActorOptions, history};
use crate::choices::{Choices, Record};
use crate::report::build;
use crate::shrink::{kept_choices, kept_faults};

/// Histories of one search, at most: each takes about a tenth of a second.
const REPLAYS: u32 = 500;
/// Lines of the trace of what is left.
const LINES: usize = 400;

/// A failure for a person: shrunk, if that is possible and no long trace is asked for.
#[must_use]
pub fn report(failure: &ActorFailure) -> String {
    let shrunk = match failure.options.trace {
        0 => shrink(failure),
        _ => None,
    };
    shrunk.unwrap_or_else(|| format!("{failure}\n{}", build()))
}

/// Runs what is kept of a history again; None: it does not fail any more.
#[must_use]
pub fn replay(options: ActorOptions, kept: &[usize]) -> Option<Box<ActorFailure>> {
    let (record, _) = record(options)?;
    let mut places = vec![
        false;
        record
            .places()
            .max(kept.iter().max().map_or(0, |at| at + 1))
    ];
    kept.iter().for_each(|at| places[*at] = true);
    run_kept(options, &record, &places)
}

fn record(options: ActorOptions) -> Option<(Record<ActorFault>, Box<ActorFailure>)> {
    let recorded = Choices::Recorded(Box::default(), BTreeMap::new());
    match history::run(options, recorded) {
        (Err(failure), Choices::Recorded(record, _)) => Some((*record, failure)),
        _ => None,
    }
}

fn run_kept(
    options: ActorOptions,
    record: &Record<ActorFault>,
    kept: &[bool],
) -> Option<Box<ActorFailure>> {
    let options = ActorOptions {
        trace: LINES,
        ..options
    };
    let replayed = Choices::Replayed(Box::new(record.keep(kept)), BTreeMap::new());
    history::run(options, replayed).0.err()
}

fn shrink(failure: &ActorFailure) -> Option<String> {
    let options = failure.options;
    let (record, _) = record(options)?;
    let kind = std::mem::discriminant(&failure.violation);
    let fails = |kept: &[bool]| {
        let failure = run_kept(options, &record, kept)?;
        (std::mem::discriminant(&failure.violation) == kind).then_some(failure)
    };
    let minimal = record.minimal(0, REPLAYS, &fails)?;
    let (small, kept) = (minimal.failure, minimal.kept);
    let (faults, choices) = (kept_faults(&record, &kept), kept_choices(&record, &kept));
    let seconds = |at: mainstay_policy::MonoTime| format!("{:.6} s", at.0 as f64 / 1e9);
    let mut text = format!(
        "FAIL seed {} at t={}: {:?}\n{}\nfound at t={} with everything in it; shrunk in {} runs to \
         {} of {} faults and {} of {} other choices\n{}\n\nfaults that are left\n",
        options.seed,
        seconds(small.at),
        small.violation,
        small.violation,
        seconds(failure.at),
        minimal.replays,
        faults.len(),
        record.faults.len(),
        choices.len(),
        record.choices.len(),
        build(),
    );
    for (place, line) in &faults {
        let _infallible = writeln!(text, "  {place:>4}  {line}");
    }
    if !choices.is_empty() {
        text.push_str("other choices that are left (all others are calm)\n");
    }
    for (place, line) in &choices {
        let _infallible = writeln!(text, "  {place:>4}  {line}");
    }
    let kept = (0..kept.len()).filter(|at| kept[*at]);
    let kept: Vec<String> = kept.map(|at| at.to_string()).collect();
    let command = failure.command();
    let _infallible = write!(
        text,
        "\n{}\nagain: {command} --keep {}\nwhole: {command} --trace 1000",
        small.story(),
        kept.join(","),
    );
    Some(text)
}

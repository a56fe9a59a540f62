//! planted: the policy and the machines of the holder with bugs planted in them, and the
//! simulators that have to find each.
//! Owns which bug is in force in this thread; the build copies and plants.
//! Never part of the product: only its own program and test use it.

extern crate alloc;

use std::cell::Cell;
use std::sync::mpsc;
use std::time::{Duration, Instant};

mod bugs;
mod holder_bugs;

/// The policy, with the bugs.
pub mod policy {
    include!(concat!(env!("OUT_DIR"), "/policy.rs"));
}

/// The state machines of the holder, with theirs.
#[expect(dead_code, reason = "some of it only the engine of the holder calls")]
pub mod machines {
    include!(concat!(env!("OUT_DIR"), "/machines.rs"));
}

/// The simulators, over that policy and those machines.
pub mod simulator {
    include!(concat!(env!("OUT_DIR"), "/simulator.rs"));
}

use bugs::{BUGS, Bug};
use holder_bugs::HOLDER_BUGS;
use simulator::SimOptions;
use simulator::holder::{self, HolderOptions};

thread_local! {
    static PLANTED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// How many bugs there are.
#[must_use]
pub fn count() -> usize {
    BUGS.len() + HOLDER_BUGS.len()
}

/// Whether the place of a bug is in the holder.
fn is_of_holder(bug: usize) -> bool {
    bug >= BUGS.len()
}

fn bug(number: usize) -> Bug {
    match is_of_holder(number) {
        true => HOLDER_BUGS[number - BUGS.len()],
        false => BUGS[number],
    }
}

/// What is wrong with a bug, in words.
#[must_use]
pub fn name(number: usize) -> &'static str {
    bug(number).name
}

/// Where it is, what is there, and what is there instead.
#[must_use]
pub fn describe(number: usize) -> String {
    let Bug {
        file, find, plant, ..
    } = bug(number);
    let folder = match is_of_holder(number) {
        true => "src/holder/machines",
        false => "src/policy",
    };
    format!("{folder}/{file}\n- {find}\n+ {plant}")
}

/// Puts a bug in force in this thread.
pub fn plant(bug: Option<usize>) {
    PLANTED.set(bug);
}

/// Whether this bug is in force.
#[must_use]
pub fn is_planted(bug: usize) -> bool {
    PLANTED.get() == Some(bug)
}

/// How a bug was found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// After how many histories.
    pub histories: u64,
    /// By what it broke.
    pub violation: String,
    /// How long that took.
    pub took: Duration,
}

/// A search that takes longer hangs in a policy that never comes to rest.
const LIMIT: Duration = Duration::from_secs(60);

/// What a search comes to.
#[derive(Debug, Clone)]
pub enum SearchResult {
    /// A checker found the bug.
    Found(Finding),
    /// No checker did.
    Survives,
    /// The policy hangs: no checker was asked. Its thread runs until the process exits.
    Hangs,
}

/// As [`search`], on a thread of its own, for a limited time.
#[must_use]
pub fn search_in_time(bug: usize, first: u64, histories: u64) -> SearchResult {
    let (done, result) = mpsc::sync_channel(1);
    std::thread::spawn(move || done.send(search(Some(bug), first, histories)));
    match result.recv_timeout(LIMIT) {
        Ok(Some(found)) => SearchResult::Found(found),
        Ok(None) => SearchResult::Survives,
        Err(_) => SearchResult::Hangs,
    }
}

/// What the simulator says of a bug; None: it does not find it.
#[must_use]
pub fn story(bug: usize, first: u64, histories: u64) -> Option<String> {
    plant(Some(bug));
    let mut seeds = first..first.saturating_add(histories);
    let story = match is_of_holder(bug) {
        true => seeds
            .find_map(|seed| holder::run(of_holder(seed)).err())
            .map(|failure| failure.to_string()),
        false => seeds
            .find_map(|seed| simulator::run(SimOptions::short(seed)).err())
            .map(|failure| simulator::report::report(&failure)),
    };
    plant(None);
    story
}

/// Runs short histories, `histories` at most, until one finds the bug; None: it survives. Without a
/// bug each history is one of the policy and one of the holder.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it takes is measured by the wall clock"
)]
pub fn search(bug: Option<usize>, first: u64, histories: u64) -> Option<Finding> {
    plant(bug);
    let begin = Instant::now();
    let seeds = first..first.saturating_add(histories);
    let found = seeds.zip(1..).find_map(|(seed, histories)| {
        let of_policy = || {
            let failure = simulator::run(SimOptions::short(seed)).err()?;
            Some(format!("{:?}", failure.violation))
        };
        let of_holder = || {
            let failure = holder::run(of_holder(seed)).err()?;
            Some(format!("{:?}", failure.violation))
        };
        let violation = match bug.map(is_of_holder) {
            None => of_policy().or_else(of_holder)?,
            Some(true) => of_holder()?,
            Some(false) => of_policy()?,
        };
        let took = begin.elapsed();
        Some(Finding {
            histories,
            violation,
            took,
        })
    });
    plant(None);
    found
}

/// A short history of the holder.
fn of_holder(seed: u64) -> HolderOptions {
    HolderOptions {
        seed,
        modules: 5,
        faults: 60,
        injected_bug: None,
    }
}

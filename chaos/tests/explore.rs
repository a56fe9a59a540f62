//! Histories that nobody has run before, and those that once found something.
//! Owns the corpus and the choice of new seeds: by the commit, so that a failure can be repeated.
//! Never takes longer than its limit.

#![expect(
    clippy::disallowed_methods,
    reason = "the commit is asked of git, and a time limit needs the wall clock"
)]

use std::process::Command;
use std::time::{Duration, Instant};

use chaos::{SimOptions, run};

/// New histories, at most.
const HISTORIES: u64 = 3000;
/// Time for them.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn histories_that_once_broke_a_checker_hold() {
    let lines = include_str!("../corpus.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let mut number = || -> u64 {
            let word = words
                .next()
                .unwrap_or_else(|| panic!("no number: {line:?}"));
            word.parse()
                .unwrap_or_else(|error| panic!("{error}: {line:?}"))
        };
        let options = SimOptions {
            seed: number(),
            modules: u32::try_from(number()).expect("a number of modules"),
            steps: number(),
            ..SimOptions::short(0)
        };
        if let Err(failure) = run(options) {
            panic!("{line}\n{failure}");
        }
    }
}

#[test]
fn new_histories_hold() {
    let (begin, first) = (Instant::now(), first_seed());
    for seed in first..first + HISTORIES {
        if begin.elapsed() > LIMIT {
            return;
        }
        if let Err(failure) = run(SimOptions::short(seed)) {
            panic!("{failure}\nadd this history to chaos/corpus.txt");
        }
    }
}

/// A seed for each commit; where there is no git, always the same.
fn first_seed() -> u64 {
    let git = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let hash = git.ok().filter(|output| output.status.success());
    let hash = hash.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let head = hash.as_deref().and_then(|hash| hash.get(..12));
    head.and_then(|head| u64::from_str_radix(head, 16).ok())
        .unwrap_or(1_000_000)
}

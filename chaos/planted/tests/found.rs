//! Every planted bug is found by the checkers within a number of short histories.
//! Owns that number. Never searches in a policy without a bug: `chaos` does.

use planted::{count, describe, name, search};

const HISTORIES: u64 = 1000;

#[test]
fn every_planted_bug_is_found_by_a_checker() {
    assert!(count() >= 40, "{} bugs are planted", count());
    let survivors = (0..count()).filter(|bug| search(Some(*bug), 1, HISTORIES).is_none());
    let survivors: Vec<String> = survivors
        .map(|bug| format!("{}\n{}", name(bug), describe(bug)))
        .collect();
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
}

#[test]
fn without_a_bug_nothing_is_found() {
    let found = search(None, 1, 100);
    assert!(found.is_none(), "{found:?}");
}

//! Every planted bug is found by the checkers within a number of short histories.
//! Owns that number. Never searches in a policy without a bug: `chaos` does.

use planted::{SearchResult, count, describe, name, search, search_in_time};

const HISTORIES: u64 = 1000;

#[test]
fn every_planted_bug_is_found_by_a_checker() {
    assert!(count() >= 40, "{} bugs are planted", count());
    let missed = (0..count()).filter_map(|bug| {
        let how = match search_in_time(bug, 1, HISTORIES) {
            SearchResult::Found(_) => return None,
            SearchResult::Survives => "survives",
            SearchResult::Hangs => "hangs",
        };
        Some(format!("{} {how}\n{}", name(bug), describe(bug)))
    });
    let survivors: Vec<String> = missed.collect();
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
}

#[test]
fn without_a_bug_nothing_is_found() {
    let found = search(None, 1, 100);
    assert!(found.is_none(), "{found:?}");
}

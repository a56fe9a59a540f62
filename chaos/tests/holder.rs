//! Short histories of the holder on every push, and proof that each checker finds its bug.
//! Owns the number of seeds: all of it takes a few seconds.
//! Never uses the machine's clock or chance.

use std::collections::BTreeSet;

use chaos::holder::{HolderBug, HolderOptions, HolderSummary, HolderViolation, run};

fn options(seed: u64) -> HolderOptions {
    HolderOptions {
        seed,
        modules: 5,
        faults: 60,
        injected_bug: None,
    }
}

#[test]
fn seeds_hold_all_checks_of_the_holder() {
    let mut all = HolderSummary::default();
    for seed in 0..150 {
        match run(options(seed)) {
            Ok(summary) => all += summary,
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(all.runtimes > 800 && all.processes > 4000, "{all:?}");
    assert!(all.hung_spawns > 100 && all.slow_kills > 150, "{all:?}");
    assert!(all.unresponsive > 200 && all.upgrades > 80, "{all:?}");
    assert!(all.successions > 50, "{all:?}");
    assert!(all.dropped_messages > 200, "{all:?}");
    assert!(all.stop_orders > 400 && all.tree_stops > 80, "{all:?}");
    assert!(all.reused_pids > 800 && all.suspensions > 80, "{all:?}");
}

#[test]
fn one_seed_is_one_history_of_the_holder() {
    for seed in 0..5 {
        assert_eq!(run(options(seed)).ok(), run(options(seed)).ok());
    }
}

/// What the checkers find when a bug is injected, over 100 seeds.
fn found(bug: HolderBug) -> BTreeSet<String> {
    let with_bug = |seed| HolderOptions {
        injected_bug: Some(bug),
        ..options(seed)
    };
    let failures = (0..100).filter_map(|seed| run(with_bug(seed)).err());
    failures.map(|failure| failure.violation.name()).collect()
}

#[test]
fn every_injected_bug_of_the_holder_is_found_and_every_violation_by_one() {
    let found = HolderBug::ALL.map(|bug| (bug, found(bug)));
    let missed = found.iter().filter(|(_, by)| by.is_empty());
    let violations: BTreeSet<&String> = found.iter().flat_map(|(_, by)| by).collect();
    assert_eq!(missed.count(), 0, "{found:#?}");
    assert_eq!(violations.len(), HolderViolation::COUNT, "{violations:?}");
}

//! Short histories of the real actors on every push.
//! Owns the number of seeds: all of it takes a few seconds.
//! Never uses the machine's clock or chance.

#![cfg(unix)]

use chaos::actors::{ActorOptions, ActorSummary, ActorViolation, replay, report, run};

#[test]
fn seeds_hold_all_checks_of_the_actors() {
    let mut all = ActorSummary::default();
    for seed in 1..=40 {
        match run(ActorOptions::short(seed)) {
            Ok(summary) => all += summary,
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(all.actor_deaths > 50 && all.runtime_deaths > 30, "{all:?}");
    assert!(all.requests > 200 && all.processes > 400, "{all:?}");
    assert!(all.committed > 3 && all.rolled_back > 3, "{all:?}");
    assert!(all.other_reloads > 3 && all.stops > 40, "{all:?}");
    assert!(all.sleeps > 10 && all.jumps > 10, "{all:?}");
    assert!(all.lost_drains > 10 && all.lost_holders > 3, "{all:?}");
}

/// Reloads read files on threads of their own; everything else is in one order.
#[test]
fn one_seed_is_one_history_of_the_actors() {
    for seed in 1..=5 {
        let options = ActorOptions {
            reloads: false,
            ..ActorOptions::short(seed)
        };
        assert_eq!(run(options).ok(), run(options).ok());
    }
}

/// Seed, modules and faults of histories that found a bug.
const FOUND: [(u64, u32, u32); 25] = [
    (5, 5, 40),
    (119, 5, 40),
    (300, 5, 40),
    (369, 5, 40),
    (2073, 7, 60),
    (2141, 7, 60),
    (3069, 7, 60),
    (3138, 7, 60),
    (10158, 7, 60),
    (10218, 7, 60),
    (10326, 7, 60),
    (10397, 7, 60),
    (701794, 5, 30),
    (901529, 5, 30),
    (704225, 5, 30),
    (703765, 5, 30),
    (704865, 5, 30),
    (706338, 5, 30),
    (707647, 5, 30),
    (708275, 5, 30),
    (708585, 5, 30),
    (826085, 5, 30),
    (827161, 5, 30),
    (827734, 5, 30),
    (870235, 5, 30),
];

#[test]
fn histories_that_once_broke_the_actors_hold() {
    for (seed, modules, faults) in FOUND {
        let options = ActorOptions {
            modules,
            faults,
            gap_ms: 200,
            ..ActorOptions::short(seed)
        };
        if let Err(failure) = run(options) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_failure_of_the_actors_shrinks_to_few_faults_and_fails_again_by_what_is_kept() {
    let options = ActorOptions {
        loses_exits: true,
        ..ActorOptions::short(1)
    };
    let failure = run(options).expect_err("no exit is told");
    let text = report(&failure);
    let (_, again) = text.split_once("--keep ").expect("a command to paste");
    let kept = again.lines().next().expect("a line").split(',');
    let kept: Vec<usize> = kept.map(|at| at.parse().expect("a place")).collect();
    assert!(kept.len() <= 6, "{text}");
    let again = replay(options, &kept).expect("it fails again");
    let kind = std::mem::discriminant::<ActorViolation>;
    assert_eq!(kind(&again.violation), kind(&failure.violation), "{text}");
    for part in [
        "FAIL seed 1 at t=",
        "shrunk in",
        "commit",
        "timeline",
        "BROKEN",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

//! Seeds on every push, and proof that each checker can trip.
//! Owns the number of seeds: a few hundred must finish within a minute.
//! Never uses the machine's clock or chance.

use chaos::{InjectedBug, SimOptions, Summary, Violation, run, shrink};

fn options(seed: u64) -> SimOptions {
    SimOptions {
        seed,
        modules: 12,
        steps: 2_000,
        sabotage: None,
        trace: 0,
    }
}

#[test]
fn seeds_hold_all_checks() {
    let mut all = Summary::default();
    for seed in 0..200 {
        match run(options(seed)) {
            Ok(summary) => all += summary,
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(all.steps > 400_000 && all.returns > 200 && all.stops > 200 && all.kills > 1000);
    assert!(all.plans > 1000, "{all:?}");
    assert!(all.lost_records > 200 && all.sleeps > 200, "{all:?}");
    assert!(all.shared > 200 && all.procedures > 100, "{all:?}");
    assert!(all.restored > 20 && all.cascades > 20, "{all:?}");
    assert!(all.stuck > 20, "{all:?}");
    assert_eq!(all.coverage.missed(), [""; 0]);
}

#[test]
fn one_seed_is_one_history() {
    for seed in 0..20 {
        let first = run(options(seed)).ok();
        assert_eq!(first, run(options(seed)).ok());
        let another = run(options(seed + 1)).ok();
        let fingerprint = |summary: Option<Summary>| summary.map(|it| it.fingerprint);
        assert_ne!(fingerprint(first), fingerprint(another));
    }
}

#[test]
fn a_failure_shrinks_to_few_faults_and_fails_again_by_what_is_kept() {
    let mut shrunk_to = Vec::new();
    for bug in [InjectedBug::IgnoreStop, InjectedBug::NoGroups] {
        for seed in 0..10 {
            let broken = SimOptions {
                sabotage: Some(bug),
                ..options(seed)
            };
            let Some(shrunk) = shrink::shrink(broken) else {
                continue;
            };
            let (record, failure) = shrink::record(broken).expect("it fails");
            let mut kept = vec![false; shrink::places(&record, broken)];
            shrunk.kept.iter().for_each(|at| kept[*at] = true);
            let again = shrink::replay(broken, &record, &kept).expect("it fails again");
            assert_eq!(again.violation, shrunk.failure.violation);
            assert_eq!(again.at, shrunk.failure.at);
            assert_eq!(again.violation.number(), failure.violation.number());
            shrunk_to.push((shrunk.faults.len(), shrunk.choices.len(), shrunk.modules));
        }
    }
    assert!(shrunk_to.len() >= 10, "{shrunk_to:?}");
    // Now and then no single fault can be left out although fewer would do.
    let is_large = |(faults, choices, modules): &&(usize, usize, usize)| {
        *faults > 6 || *choices > 10 || *modules > 8
    };
    let large = shrunk_to.iter().filter(is_large).count();
    assert!(large * 10 <= shrunk_to.len(), "{shrunk_to:?}");
}

/// Runs seeds with something broken until a checker trips.
#[track_caller]
fn trips(sabotage: InjectedBug, expected: &[fn(&Violation) -> bool]) {
    let found: Vec<Violation> = (0..40)
        .filter_map(|seed| {
            run(SimOptions {
                sabotage: Some(sabotage),
                ..options(seed)
            })
            .err()
        })
        .map(|failure| failure.violation)
        .collect();
    for (at, expected) in expected.iter().enumerate() {
        assert!(
            found.iter().any(expected),
            "{sabotage:?}, expectation {at}: {found:?}"
        );
    }
}

#[test]
fn two_processes_are_seen() {
    trips(
        InjectedBug::SpawnTwice,
        &[|it| matches!(it, Violation::TwoProcesses(_))],
    );
}

#[test]
fn an_early_start_is_seen() {
    trips(
        InjectedBug::FalseReady,
        &[|it| matches!(it, Violation::StartedTooEarly(..))],
    );
}

#[test]
fn a_start_though_down_is_seen() {
    trips(
        InjectedBug::IgnoreStop,
        &[|it| matches!(it, Violation::StartedThoughDown(_))],
    );
}

#[test]
fn a_budget_that_does_not_hold_is_seen() {
    trips(
        InjectedBug::ForgetFailures,
        &[|it| matches!(it, Violation::BudgetExceeded(_))],
    );
}

#[test]
fn a_group_that_does_not_restart_together_is_seen() {
    trips(
        InjectedBug::NoGroups,
        &[|it| matches!(it, Violation::RestartShared(_))],
    );
}

#[test]
fn a_start_before_its_reset_is_done_is_seen() {
    trips(
        InjectedBug::FalseReset,
        &[|it| matches!(it, Violation::StartedUnprepared(_))],
    );
}

#[test]
fn a_stop_that_does_not_end_is_seen() {
    trips(
        InjectedBug::NoKill,
        &[|it| {
            matches!(
                it,
                Violation::StopTooLong | Violation::StopHangs(_) | Violation::WishNotReached(..)
            )
        }],
    );
}

#[test]
fn a_system_without_alarms_is_seen() {
    trips(
        InjectedBug::NoAlarm,
        &[|it| matches!(it, Violation::WishNotReached(..) | Violation::StopTooLong)],
    );
}

#[test]
fn lost_exits_are_seen() {
    trips(
        InjectedBug::LostExits,
        &[|it| {
            matches!(
                it,
                Violation::WishNotReached(..) | Violation::StopTooLong | Violation::NotQuiet(_)
            )
        }],
    );
}

#[test]
fn a_false_end_is_seen() {
    trips(
        InjectedBug::StopMeansEnded,
        &[|it| {
            matches!(
                it,
                Violation::RunTwice(_) | Violation::StopOrder(..) | Violation::NotStopped
            )
        }],
    );
}

#[test]
fn a_run_that_a_plan_replaced_and_goes_on_is_seen() {
    trips(
        InjectedBug::OldPlan,
        &[|it| matches!(it, Violation::OldRun(_))],
    );
}

#[test]
fn a_module_that_is_forgotten_too_early_is_seen() {
    trips(
        InjectedBug::ForgetAtOnce,
        &[|it| matches!(it, Violation::RemovedTooEarly(_))],
    );
}

#[test]
fn every_violation_is_found_by_some_sabotage() {
    let mut found: Vec<Vec<(InjectedBug, u64)>> = vec![Vec::new(); Violation::COUNT];
    for sabotage in InjectedBug::ALL {
        for seed in 0..160 {
            let sabotaged = SimOptions {
                sabotage: Some(sabotage),
                ..options(seed)
            };
            if let Err(failure) = run(sabotaged) {
                found[failure.violation.number()].push((sabotage, seed));
            }
        }
    }
    let missing: Vec<usize> = (0..Violation::AROUND)
        .filter(|number| found[*number].is_empty())
        .collect();
    assert_eq!(missing, [0; 0], "{found:?}");
}

//! Tables of recovery: what happened, when, and what follows.
//! Owns one case for each rule of the design. Never runs a lifecycle.

use super::*;
use crate::fixture::{MS, SEC, recovery};
use crate::run::StartStep;
use alloc::vec;
use alloc::vec::Vec;

const CRASH: Failure = Failure::Exited(Exit::Code(1));
const CLEAN: Failure = Failure::Exited(Exit::Code(0));
const CONFIG: Failure = Failure::Exited(Exit::Code(78));
const NO_MEMORY: Failure = Failure::NotStarted(StartFailure {
    step: StartStep::Exec,
    errno: 12,
});
const GIVE_UP: Verdict = Verdict::GiveUp { probation: None };

fn retry(ms: u64) -> Verdict {
    by(ms, Strategy::Restart)
}

fn by(ms: u64, strategy: Strategy) -> Verdict {
    Verdict::Retry {
        after: MS(ms),
        strategy,
    }
}

/// The decision about a module that is in no group.
fn decide(
    recovery: &RecoverySpec,
    ledger: &mut RecoveryState,
    now: MonoTime,
    failure: Failure,
    seed: u64,
) -> Verdict {
    judge(recovery, ledger, now, failure, seed, false).verdict
}

fn judge(
    recovery: &RecoverySpec,
    ledger: &mut RecoveryState,
    now: MonoTime,
    failure: Failure,
    seed: u64,
    dependency_is_down: bool,
) -> Decision {
    let groups = GroupTree::default();
    let case = Case {
        module: ModuleId(0),
        recovery,
        groups: &groups,
        failure,
        dependency_is_down,
        seed,
    };
    super::decide(case, ledger, &mut GroupBudgets::new(&groups), now)
}

fn probation(seconds: u64) -> Verdict {
    Verdict::GiveUp {
        probation: Some(SEC(seconds)),
    }
}

/// One run of a story: ready for this many seconds, then a failure, then this verdict.
/// Each run begins when the verdict before allows it.
#[track_caller]
fn check(recovery: &RecoverySpec, story: &[(u64, Failure, Verdict)]) -> RecoveryState {
    let (mut ledger, mut now) = (RecoveryState::default(), MonoTime(0));
    for (at, (seconds, failure, expected)) in story.iter().enumerate() {
        if *seconds > 0 {
            ledger.ready(now);
            now = now.after(SEC(*seconds));
        }
        let verdict = decide(recovery, &mut ledger, now, *failure, 1);
        assert_eq!(verdict, *expected, "failure {}", at + 1);
        now = match verdict {
            Verdict::Retry { after, .. } => now.after(after),
            Verdict::GiveUp {
                probation: Some(after),
            } => {
                ledger.half_open();
                now.after(after)
            }
            Verdict::GiveUp { probation: None } | Verdict::Propose { .. } | Verdict::Done => now,
        };
    }
    ledger
}

#[test]
fn quick_crashes_use_up_the_attempts_until_it_is_given_up() {
    check(
        &recovery(),
        &[
            (1, CRASH, retry(200)),
            (1, CRASH, retry(400)),
            (1, CRASH, retry(800)),
            (1, CRASH, probation(30)),
            (1, CRASH, probation(60)),
            (1, CRASH, probation(120)),
            (1, CRASH, probation(240)),
            (1, CRASH, probation(300)),
            // Stable: everything is reset.
            (60, CRASH, retry(200)),
        ],
    );
}

#[test]
fn a_stable_run_pays_one_attempt_for_each_full_span() {
    check(
        &recovery(),
        &[
            (1, CRASH, retry(200)),
            (1, CRASH, retry(400)),
            (1, CRASH, retry(800)),
            (60, CRASH, retry(800)),
            (121, CRASH, retry(400)),
            (119, CRASH, retry(400)),
        ],
    );
}

#[test]
fn the_window_slides() {
    let spec = RecoverySpec {
        window: SEC(10),
        stable_after: SEC(1000),
        ..recovery()
    };
    let stories = [
        (6, CRASH, retry(200)),
        (6, CRASH, retry(400)),
        (6, CRASH, retry(400)),
    ];
    let ledger = check(&spec, &stories);
    assert_eq!(ledger.attempts(), 2);
}

#[test]
fn a_stable_span_does_not_pay_what_had_left_the_window_before_it_was_over() {
    // The first attempt is outside the window since 11 s, the span is over at 14.6 s: it pays the
    // second, also when nothing looked until the failure at 15.6 s.
    let spec = RecoverySpec {
        window: SEC(10),
        stable_after: SEC(7),
        ..recovery()
    };
    check(
        &spec,
        &[
            (1, CRASH, retry(200)),
            (6, CRASH, retry(400)),
            (8, CRASH, retry(200)),
        ],
    );
}

#[test]
fn startsecs_0_defeats_the_limit_not() {
    // A run counts by the window, however short and whether it was ever ready.
    let spec = RecoverySpec {
        stable_after: SEC(0),
        ..recovery()
    };
    check(
        &spec,
        &[
            (0, CRASH, retry(200)),
            (0, CRASH, retry(400)),
            (0, CRASH, retry(800)),
            (0, CRASH, probation(30)),
        ],
    );
}

#[test]
fn restart_storm_tight_loop() {
    let mut spec = RecoverySpec {
        max_attempts: 0,
        ..recovery()
    };
    spec.backoff.initial = Duration::ZERO;
    let (mut ledger, mut now, mut starts) = (RecoveryState::default(), MonoTime(0), 0);
    while now < MonoTime(0).after(SEC(60)) {
        let verdict = decide(&spec, &mut ledger, now, NO_MEMORY, 1);
        let Verdict::Retry { after, .. } = verdict else {
            panic!("unlimited: {verdict:?}")
        };
        assert!(starts == 0 || after >= MS(50));
        now = now.after(after);
        starts += 1;
    }
    assert!(starts < 20, "{starts} starts in the first minute");
}

#[test]
fn never_forgetting_backoff() {
    // A month of a module that crashes once an hour: always a first failure.
    for max_attempts in [0, 3] {
        let spec = RecoverySpec {
            max_attempts,
            ..recovery()
        };
        let month: Vec<_> = (0..30 * 24).map(|_| (3600, CRASH, retry(200))).collect();
        check(&spec, &month);
    }
    // And a bad night is forgotten by noon.
    let spec = RecoverySpec {
        max_attempts: 0,
        ..recovery()
    };
    let mut ledger = RecoveryState::default();
    for second in 0..1000 {
        decide(&spec, &mut ledger, MonoTime(0).after(SEC(second)), CRASH, 1);
    }
    assert_eq!(ledger.attempts(), 1000);
    ledger.ready(MonoTime(0).after(SEC(1000)));
    let noon = MonoTime(0).after(SEC(1000 + 7 * 60));
    assert_eq!(decide(&spec, &mut ledger, noon, CRASH, 1), retry(200));
}

#[test]
fn exit_classes_and_policies() {
    use RestartPolicy::{Always, Never, OnFailure};
    let killed = Failure::Exited(Exit::Signal {
        signal: mainstay_process::Signal::KILL,
        core: false,
    });
    let table = [
        (
            Always,
            [
                retry(200),
                retry(200),
                retry(200),
                retry(200),
                GIVE_UP,
                retry(200),
            ],
        ),
        (
            OnFailure,
            [
                Verdict::Done,
                retry(200),
                retry(200),
                retry(200),
                GIVE_UP,
                retry(200),
            ],
        ),
        (
            Never,
            [Verdict::Done, GIVE_UP, GIVE_UP, GIVE_UP, GIVE_UP, GIVE_UP],
        ),
    ];
    for (restart, verdicts) in table {
        let spec = RecoverySpec {
            restart,
            ..recovery()
        };
        let failures = [CLEAN, CRASH, killed, NO_MEMORY, CONFIG, Failure::Watchdog];
        for (failure, expected) in failures.into_iter().zip(verdicts) {
            let verdict = decide(
                &spec,
                &mut RecoveryState::default(),
                MonoTime(0),
                failure,
                1,
            );
            assert_eq!(verdict, expected, "{restart:?} {failure:?}");
        }
    }
    let by_hand = RecoverySpec {
        auto: false,
        ..recovery()
    };
    let strategy = Strategy::Restart;
    check(&by_hand, &[(1, CRASH, Verdict::Propose { strategy })]);
    check(&by_hand, &[(1, CONFIG, GIVE_UP)]);
    let clean_78 = RecoverySpec {
        clean_exit_codes: vec![78],
        ..recovery()
    };
    check(&clean_78, &[(1, CONFIG, retry(200))]);
}

#[test]
fn what_is_missing_is_tried_again_at_the_pace_of_probation_alone() {
    for (step, errno) in [
        (StartStep::Exec, 2),
        (StartStep::Exec, 13),
        (StartStep::User, 2),
    ] {
        let missing = Failure::NotStarted(StartFailure { step, errno });
        let probation = |seconds| Verdict::GiveUp {
            probation: Some(SEC(seconds)),
        };
        let story = [(0, missing, probation(30)), (0, missing, probation(60))];
        let mut ledger = check(&recovery(), &story);
        // It came back: what follows has its restarts.
        ledger.half_open();
        ledger.ready(MonoTime(0));
        let later = MonoTime(0).after(SEC(100));
        assert_eq!(
            decide(&recovery(), &mut ledger, later, CRASH, 1),
            retry(200)
        );
    }
}

#[test]
fn the_ladder() {
    let ladder = |on_failure| RecoverySpec {
        on_failure,
        max_attempts: 1,
        ..recovery()
    };
    let stop = ladder(vec![Strategy::Restart, Strategy::Stop]);
    check(&stop, &[(1, CRASH, retry(200)), (1, CRASH, GIVE_UP)]);
    check(&ladder(vec![Strategy::Stop]), &[(1, CRASH, GIVE_UP)]);
    let twice = ladder(vec![Strategy::Restart, Strategy::Restart]);
    check(
        &twice,
        &[
            (1, CRASH, retry(200)),
            (1, CRASH, retry(400)),
            (1, CRASH, probation(30)),
        ],
    );
}

#[test]
fn each_rung_after_the_first_gets_one_try_and_a_stable_run_returns_to_the_first() {
    use Strategy::{Degrade, Restart, RestartSystem, RestartWithReset, Stop};
    let spec = RecoverySpec {
        on_failure: vec![Restart, RestartWithReset, Degrade, RestartSystem, Stop],
        max_attempts: 2,
        ..recovery()
    };
    let climb = [
        (1, CRASH, retry(200)),
        (1, CRASH, retry(400)),
        (1, CRASH, by(800, RestartWithReset)),
        (1, CRASH, by(1600, Degrade)),
        (1, CRASH, by(3200, RestartSystem)),
    ];
    check(&spec, &[&climb[..], &[(1, CRASH, GIVE_UP)]].concat());
    check(&spec, &[&climb[..], &[(60, CRASH, retry(400))]].concat());
    // The whole window passes without a stable run: the rung that was reached stays.
    check(
        &spec,
        &[&climb[..4], &[(59, CRASH, by(3200, RestartSystem))]].concat(),
    );
}

#[test]
fn the_restart_of_everything_concerns_the_system() {
    let spec = RecoverySpec {
        on_failure: vec![Strategy::RestartSystem],
        ..recovery()
    };
    let (mut ledger, now) = (RecoveryState::default(), MonoTime(0));
    let decision = judge(&spec, &mut ledger, now, CRASH, 1, false);
    assert_eq!(decision.scope, Scope::System);
    assert_eq!(decision.verdict, by(200, Strategy::RestartSystem));
}

#[test]
fn who_fails_because_a_dependency_is_down_spends_no_attempt() {
    let (mut ledger, mut now) = (RecoveryState::default(), MonoTime(0));
    for at in 0..10 {
        let decision = judge(&recovery(), &mut ledger, now, CRASH, 1, true);
        assert_eq!(decision.verdict, retry(200), "failure {at}");
        assert!(decision.excused);
        now = now.after(SEC(1));
    }
    assert_eq!(ledger.attempts(), 0);
    // What is no failure, or never retried, needs no excuse.
    let decision = judge(&recovery(), &mut ledger, now, CONFIG, 1, true);
    assert_eq!((decision.verdict, decision.excused), (GIVE_UP, false));
}

#[test]
fn a_proposal_climbs_the_ladder_and_counts_when_it_is_accepted() {
    let spec = RecoverySpec {
        auto: false,
        on_failure: vec![Strategy::Restart, Strategy::RestartWithReset],
        max_attempts: 1,
        ..recovery()
    };
    let propose = |strategy| Verdict::Propose { strategy };
    let (mut ledger, now) = (RecoveryState::default(), MonoTime(0));
    let groups = GroupTree::default();
    let mut budgets = GroupBudgets::new(&groups);
    let first = decide(&spec, &mut ledger, now, CRASH, 1);
    assert_eq!(first, propose(Strategy::Restart));
    let again = decide(&spec, &mut ledger, now, CRASH, 1);
    assert_eq!(again, first, "what is not accepted costs nothing");
    let case = Case {
        module: ModuleId(0),
        recovery: &spec,
        groups: &groups,
        failure: CRASH,
        dependency_is_down: false,
        seed: 1,
    };
    let accepted = accept(case, Strategy::Restart, &mut ledger, &mut budgets, now);
    assert_eq!(accepted.verdict, retry(0));
    let second = decide(&spec, &mut ledger, now, CRASH, 1);
    assert_eq!(second, propose(Strategy::RestartWithReset));
    assert_eq!(decide(&spec, &mut ledger, now, CRASH, 1), GIVE_UP);
}

#[test]
fn what_is_remembered_is_restored_and_a_wish_forgets() {
    let mut ledger = check(
        &recovery(),
        &[(1, CRASH, retry(200)), (1, CRASH, retry(400))],
    );
    let restored = RecoveryState::restore(&recovery(), MonoTime(5), ledger.save());
    assert_eq!(restored.save(), ledger.save());
    let mut restored = restored;
    assert_eq!(
        decide(&recovery(), &mut restored, MonoTime(6), CRASH, 1),
        retry(800)
    );
    ledger.reset();
    assert_eq!(ledger.save(), SavedRecovery::default());
}

/// What is seen of the runs after run 3 failed, in order, and what has come of it: whether what
/// was reset is kept, and whether the recovery has succeeded.
#[test]
fn a_recovery_has_succeeded_when_the_newer_run_was_well_for_its_stable_time() {
    enum Seen {
        Ready(u64),
        Well(u64),
        Ill(u64),
        Wait(u64),
    }
    use Seen::{Ill, Ready, Wait, Well};
    let passed = |healthy| Some((4, ValidationOutcome::Passed { healthy }));
    type Row = (
        bool,
        &'static [Seen],
        bool,
        Option<(u64, ValidationOutcome)>,
    );
    let rows: [Row; 14] = [
        (false, &[], false, None),
        (false, &[Ready(4)], false, None),
        (false, &[Ready(4), Wait(999)], false, None),
        (false, &[Ready(4), Wait(1000)], true, None),
        (false, &[Ready(4), Wait(19_999)], true, None),
        (false, &[Ready(4), Wait(20_000)], true, passed(false)),
        // Events of the run that failed prove nothing.
        (false, &[Ready(3), Wait(50_000)], false, None),
        (true, &[Ready(4), Well(3), Wait(50_000)], false, None),
        (true, &[Ready(4), Wait(50_000)], false, None),
        (true, &[Ready(4), Well(4), Wait(500)], false, None),
        (
            true,
            &[Well(4), Wait(5), Ready(4), Wait(20_000)],
            true,
            passed(true),
        ),
        // The time counts from the moment when it was ready and healthy.
        (
            true,
            &[Ready(4), Wait(5), Well(4), Wait(19_995)],
            true,
            None,
        ),
        (
            true,
            &[Ready(4), Well(4), Ill(4), Wait(50_000)],
            false,
            None,
        ),
        (
            true,
            &[
                Ready(4),
                Well(4),
                Wait(19_000),
                Ill(4),
                Well(4),
                Wait(19_000),
            ],
            true,
            None,
        ),
    ];
    for (at, (has_probes, seen, kept, expected)) in rows.into_iter().enumerate() {
        let mut trial = RecoveryValidation::new(3, has_probes, SEC(20));
        let mut now = MonoTime(0);
        for one in seen {
            match *one {
                Ready(generation) => trial.ready(now, generation),
                Well(generation) => trial.health_changed(now, generation, true),
                Ill(generation) => trial.health_changed(now, generation, false),
                Wait(ms) => now = now.after(Duration::from_millis(ms)),
            }
        }
        assert_eq!(trial.keeps_reset(now), kept, "row {at}");
        assert_eq!(trial.outcome(now), expected, "row {at}");
        // Whoever waits for the deadlines alone sees the same.
        let later = core::iter::successors(Some(now), |now| {
            trial.deadline(*now).filter(|next| next > now)
        });
        let last = later.take(4).last().unwrap_or(now);
        let well = trial.deadline(now).is_some();
        assert_eq!(trial.outcome(last).is_some(), well, "row {at}");
        assert_eq!(trial.ended(3), None, "row {at}: that one has been judged");
        let ready = seen.iter().any(|one| matches!(one, Ready(4)));
        assert_eq!(
            trial.ended(4),
            Some(ValidationOutcome::Ended { ready }),
            "row {at}"
        );
    }
    let shortest = RecoveryValidation::new(3, false, Duration::ZERO);
    assert_eq!(shortest, RecoveryValidation::new(3, false, MIN_READY_TIME));
}

//! Decisions that only show when several modules, failures and requests meet.
//! Owns one scenario each, in the words of the fixture, and its neighbours.
//! Never looks inside: states, records and the status of the system are what is promised.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::fixture::{LifecycleScript, check, plan, run};
use crate::states::{State, Status};

fn states<const N: usize>(script: &LifecycleScript, names: [&str; N]) -> [State; N] {
    names.map(|name| script.state(name))
}

#[test]
fn a_need_that_ended_as_it_may_is_started_again_for_a_dependent_that_is_retried() {
    let mut script = check(
        "lib | on_failure\napp: lib",
        &[
            ("boot", "run lib"),
            ("lib up", "run app"),
            ("app up", "started"),
            ("lib done", ""),
            ("wait 2s", ""),
            ("app exit 1", ""),
            ("wait 200ms", "run lib"),
            ("lib up", "run app"),
            ("app up", ""),
        ],
    );
    assert_eq!(states(&script, ["lib", "app"]), [State::Running; 2]);
    // The same after probation, and by way of a need between the two.
    script = check(
        "lib | on_failure\nmid: lib | on_failure\napp: mid",
        &[
            ("boot", "run lib"),
            ("lib up", "run mid"),
            ("mid up", "run app"),
            ("app up", "started"),
            ("mid done", ""),
            ("lib done", ""),
            ("app killed", ""),
            ("wait 1s", "run lib"),
            ("lib up", "run mid"),
            ("mid up", "run app"),
        ],
    );
    assert_eq!(script.state("app"), State::Starting);
}

#[test]
fn a_need_that_ended_as_it_may_is_started_again_for_a_dependent_that_stops_with_another() {
    check(
        "db\nlib | on_failure\napp: db lib | restart",
        &[
            ("boot", "run db, run lib"),
            ("db up", ""),
            ("lib up", "run app"),
            ("app up", "started"),
            ("lib done", ""),
            ("wait 2s", ""),
            ("db exit 1", "halt app"),
            ("app halted", "run lib"),
            ("lib up", ""),
            ("wait 200ms", "run db"),
            ("db up", "run app"),
        ],
    );
}

#[test]
fn a_need_that_ends_again_and_again_is_started_at_the_pace_of_its_backoff() {
    let mut script = check(
        "lib | on_failure\napp: lib@healthy",
        &[("boot", "run lib"), ("lib up", "")],
    );
    let begin = script.now;
    let mut starts = 0;
    while script.now < begin.after(crate::fixture::SEC(10)) {
        script.apply("lib done");
        let told = script.apply("wait 100ms");
        if told == "run lib" {
            starts += 1;
            script.apply("lib up");
        }
    }
    assert!((10..=50).contains(&starts), "{starts}");
    // One that ends before it is ready can never do.
    let mut script = check(
        "lib | on_failure\napp: lib | optional",
        &[("boot", "run lib")],
    );
    run(&mut script, &[("lib done", "started"), ("wait 1h", "")]);
}

#[test]
fn the_last_request_of_each_module_is_reached() {
    // `b` takes its time to stop, and `a` waits for it.
    for requests in [
        &[
            "stop b", "stop a", "start b", "start a", "stop a", "b halted",
        ][..],
        &[
            "stop b", "stop a", "start b", "start a", "b halted", "stop a",
        ],
        &["stop b", "stop a", "start b", "b halted"],
    ] {
        let mut script = check(
            "a\nb: a?",
            &[("boot", "run a"), ("a up", "run b"), ("b up", "started")],
        );
        let told: Vec<String> = requests.iter().map(|it| script.apply(it)).collect();
        assert!(
            told.iter().any(|it| it.contains("halt a")),
            "{requests:?}: {told:?}"
        );
        assert_eq!(
            states(&script, ["a", "b"]),
            [State::Stopping, State::Starting]
        );
    }
    // `b` itself waits for `c`, and no longer has to stop.
    let mut script = check(
        "a\nb: a?\nc: b?",
        &[
            ("boot", "run a"),
            ("a up", "run b"),
            ("b up", "run c"),
            ("c up", "started"),
            ("stop c", "halt c"),
            ("stop b", ""),
            ("stop a", ""),
            ("start b", "halt a"),
        ],
    );
    run(&mut script, &[("a halted", ""), ("c halted", "")]);
    assert_eq!(
        states(&script, ["a", "b", "c"]),
        [State::Stopped, State::Running, State::Stopped]
    );
}

#[test]
fn a_request_while_a_failed_probe_stops_a_module_restarts_its_dependents_too() {
    for request in ["start a", "restart a"] {
        check(
            "a\nb: a | restart",
            &[
                ("boot", "run a"),
                ("a up", "run b"),
                ("b up", "started"),
                ("a ill", "halt a"),
                (request, "halt b"),
                ("b halted", ""),
                ("a halted", "run a"),
                ("a up", "run b"),
            ],
        );
    }
}

#[test]
fn a_module_that_was_to_stop_and_no_longer_is_restarts_with_what_it_needs() {
    // `b` waits for `c` to stop, so that it still runs when `a` fails.
    check(
        "a\nb: a | restart\nc: b",
        &[
            ("boot", "run a"),
            ("a up", "run b"),
            ("b up", "run c"),
            ("c up", "started"),
            ("stop b", "halt c"),
            ("a exit 1", ""),
            ("wait 200ms", "run a"),
            ("a up", ""),
            ("start b", ""),
            ("c halted", "halt b"),
            ("b halted", "run b"),
            ("b up", "run c"),
        ],
    );
}

#[test]
fn a_request_brings_back_a_need_that_has_failed() {
    check(
        "a | never optional\nb: a | lazy",
        &[
            ("boot", "run a"),
            ("a exit 1", "started"),
            ("start b", "run a"),
            ("a up", "run b"),
        ],
    );
}

#[test]
fn a_required_module_that_does_not_run_leaves_the_system_degraded() {
    let mut script = check(
        "a\nb: a | restart\nc: b | restart\nd: c | restart optional",
        &[
            ("boot", "run a"),
            ("a up", "run b"),
            ("b up", "run c"),
            ("c up", "run d"),
        ],
    );
    script.apply("d up");
    assert_eq!(script.lifecycle.status(), Status::Healthy);
    script.apply("a exit 1");
    for way in ["d halted", "c halted", "b halted", "wait 1s"] {
        assert_eq!(script.lifecycle.status(), Status::Degraded, "before {way}");
        script.apply(way);
    }
    assert_eq!(
        states(&script, ["a", "b"]),
        [State::Starting, State::Waiting]
    );
    let system = script.lifecycle.system();
    let missing = ["a", "b", "c"].map(|name| script.id(name));
    assert_eq!(
        (system.status, &system.missing[..]),
        (Status::Degraded, &missing[..])
    );
    for way in ["a up", "b up", "c up"] {
        assert_eq!(script.lifecycle.status(), Status::Degraded, "before {way}");
        script.apply(way);
    }
    assert_eq!(script.lifecycle.status(), Status::Healthy);
    // A module that is done, or was never asked for, is not missing.
    let script = check(
        "t | task\nlazy | lazy\nh | on_failure",
        &[
            ("boot", "run h, run t"),
            ("h up", ""),
            ("h done", ""),
            ("t done", "started"),
        ],
    );
    assert_eq!(script.lifecycle.status(), Status::Healthy);
}

#[test]
fn a_try_on_probation_does_not_make_the_system_well() {
    let mut script = check(
        "a\nb",
        &[("boot", "run a, run b"), ("a up", ""), ("b up", "started")],
    );
    for _ in 0..4 {
        script.apply("a exit 1");
        script.apply("wait 5s");
        script.apply("a up");
    }
    script.apply("a exit 1");
    assert_eq!(script.state("a"), State::Failed);
    for _ in 0..3 {
        assert_eq!(script.lifecycle.status(), Status::Critical);
        script.apply("wait 5m");
        assert_eq!(script.state("a"), State::Starting);
        assert_eq!(script.lifecycle.status(), Status::Critical);
        script.apply("a up");
        assert_eq!(script.lifecycle.status(), Status::Critical);
        script.apply("a exit 1");
    }
    script.apply("wait 5m");
    script.apply("a up");
    script.apply("wait 59s");
    assert_eq!(script.lifecycle.status(), Status::Critical);
    script.apply("wait 1s");
    assert_eq!(script.lifecycle.status(), Status::Healthy);
    assert_eq!(script.lifecycle.deadline(), None);
}

#[test]
fn attempts_are_paid_back_and_leave_the_window_while_the_module_runs() {
    let mut script = check("a", &[("boot", "run a"), ("a up", "started")]);
    for _ in 0..3 {
        script.apply("a killed");
        script.apply("wait 1s");
        script.apply("a up");
    }
    let attempts = |script: &LifecycleScript| script.lifecycle.view(script.id("a")).attempts;
    while script.lifecycle.next_changed_record().is_some() {}
    assert_eq!(attempts(&script), 3);
    for left in [2, 1, 0] {
        let before = script.now;
        script.apply("wait 1m");
        assert!(attempts(&script) == left && script.now == before.after(crate::fixture::SEC(60)));
        assert_eq!(script.lifecycle.next_changed_record(), Some(script.id("a")));
    }
    assert_eq!(script.lifecycle.deadline(), None);
}

#[test]
fn a_start_that_hangs_cannot_hold_a_restart_token() {
    let plan = plan("a\nb\nc\nd\ne");
    let mut script = LifecycleScript::new(plan);
    script.apply("boot");
    for name in ["a", "b", "c", "d", "e"] {
        script.apply(&format!("{name} up"));
    }
    for name in ["a", "b", "c", "d"] {
        script.apply(&format!("{name} exit 1"));
    }
    assert_eq!(script.apply("wait 200ms"), "run a, run b, run c, run d");
    assert_eq!(script.apply("e killed"), "");
    assert_eq!(script.apply("wait 4s"), "");
    let holders = ["a", "b", "c", "d"].map(|name| script.id(name));
    assert_eq!(script.lifecycle.view(script.id("e")).token_holders, holders);
    assert_eq!(script.apply("wait 1s"), "run e");
}

#[test]
fn restart_tokens_go_to_the_module_that_has_waited_longest() {
    let mut script = LifecycleScript::new(plan("a\nb\nc\nd\ne\nf\ng: f"));
    script.apply("boot");
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        script.apply(&format!("{name} up"));
    }
    for name in ["c", "d", "e", "f"] {
        script.apply(&format!("{name} exit 1"));
    }
    assert_eq!(script.apply("wait 200ms"), "run c, run d, run e, run f");
    script.apply("g exit 1");
    script.apply("wait 300ms");
    script.apply("b exit 1");
    script.apply("wait 300ms");
    script.apply("a exit 1");
    script.apply("wait 300ms");
    assert_eq!(script.apply("c up"), "run b");
    assert_eq!(script.apply("d up"), "run a");
    assert_eq!(script.apply("f up"), "run g");
}

#[test]
fn a_start_that_cannot_succeed_fails_at_once_and_names_the_cause() {
    check(
        "t | task optional\nd: t@completed",
        &[
            ("boot", "run t"),
            (
                "t exit 1",
                "start failed: t, needed by d, all stopped, 0 forced",
            ),
        ],
    );
    check(
        "t | task optional\nm: t@completed | optional\nd: m",
        &[
            ("boot", "run t"),
            (
                "t exit 1",
                "start failed: t, needed by d, all stopped, 0 forced",
            ),
        ],
    );
    check(
        "t | task optional\nd: t@completed | optional",
        &[("boot", "run t"), ("t exit 1", "started")],
    );
    // A service that ended as it may before it was ready is not started again.
    check(
        "lib | on_failure optional\nd: lib",
        &[
            ("boot", "run lib"),
            (
                "lib done",
                "start failed: lib, needed by d, all stopped, 0 forced",
            ),
        ],
    );
    check(
        "a | optional\nd: a",
        &[
            ("boot", "run a"),
            (
                "a exit 78",
                "start failed: a, needed by d, all stopped, 0 forced",
            ),
        ],
    );
}

#[test]
fn a_module_that_waits_in_vain_names_the_one_that_failed() {
    let script = check(
        "a | lazy no_probation never\nm: a | lazy\nb: m | lazy",
        &[("boot", "started"), ("start b", "run a"), ("a exit 1", "")],
    );
    let a = script.id("a");
    assert_eq!(
        script.lifecycle.view(script.id("b")).held_by_failed,
        Some(a)
    );
    assert_eq!(
        script.lifecycle.view(script.id("m")).held_by_failed,
        Some(a)
    );
    assert_eq!(script.lifecycle.view(a).held_by_failed, None);
}

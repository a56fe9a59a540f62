//! The lifecycle as scripts: an event in words, the effects in words.
//! Owns one scenario for each rule and each row of the field's pitfalls that is decided here.
//! Never looks inside: what is not an effect or a view is not a promise.

use crate::fixture::{check, run};
use crate::states::State;

#[test]
fn a_chain_starts_in_order_and_stops_in_reverse() {
    check(
        "a\nb: a\nc: b",
        &[
            ("boot", "run a"),
            ("a started", ""),
            ("a ready", "run b"),
            ("b up", "run c"),
            ("c up", "started"),
            ("stop all", "halt c"),
            ("c halted", "halt b"),
            ("b halted", "halt a"),
            ("a forced", "all stopped, 1 forced"),
            ("stop all", ""),
            ("start a", ""),
        ],
    );
}

#[test]
fn who_begins_anew_is_ordered_again_what_has_no_end_yet() {
    check(
        "a",
        &[
            ("boot", "run a"),
            ("a begins anew", "run a"),
            ("a up", "started"),
            ("a begins anew", ""),
            ("stop a", "halt a"),
            ("a begins anew", "halt a"),
            ("a halted", ""),
            ("a begins anew", ""),
        ],
    );
}

#[test]
fn stopping_a_module_takes_its_hard_dependents_and_starting_it_brings_them_back() {
    let mut script = check(
        "a\nb: a\nc: b\nd: a?",
        &[
            ("boot", "run a"),
            ("a up", "run b, run d"),
            ("b up", "run c"),
            ("c up", ""),
            ("d up", "started"),
            ("stop a", "halt c"),
            ("c halted", "halt b"),
            ("b halted", "halt a"),
            ("a halted", ""),
        ],
    );
    assert_eq!(
        ["a", "b", "c", "d"].map(|name| script.state(name)),
        [
            State::Stopped,
            State::Waiting,
            State::Waiting,
            State::Running,
        ]
    );
    run(
        &mut script,
        &[("start a", "run a"), ("a up", "run b"), ("b up", "run c")],
    );
}

#[test]
fn a_crash_is_retried_with_backoff_and_dependents_are_told() {
    check(
        "a\nb: a\nc: a | restart\nd: a | ignore",
        &[
            ("boot", "run a"),
            ("a up", "run b, run c, run d"),
            ("b up", ""),
            ("c up", ""),
            ("d up", "started"),
            ("a exit 1", "tell b a Restarting, halt c"),
            ("c halted", ""),
            ("wait 199ms", ""),
            ("wait 1ms", "run a"),
            ("a up", "tell b a Recovered, run c"),
        ],
    );
}

#[test]
fn stop_while_waiting() {
    let mut script = check(
        "a\nb: a",
        &[
            ("boot", "run a"),
            ("stop b", ""),
            ("a up", "started"),
            ("start b", "run b"),
        ],
    );
    assert_eq!(script.state("b"), State::Starting);
    // Stopped while starting: the order is out, and its end is awaited before it is run again.
    run(
        &mut script,
        &[("stop b", "halt b"), ("start b", ""), ("b halted", "run b")],
    );
}

#[test]
fn manual_stop_looks_like_a_crash() {
    let mut script = check(
        "a",
        &[
            ("boot", "run a"),
            ("a up", "started"),
            ("stop a", "halt a"),
            ("a killed", ""),
        ],
    );
    run(&mut script, &[("wait 24h", "")]);
    assert_eq!(script.state("a"), State::Stopped);
    assert_eq!(script.lifecycle.view(script.id("a")).attempts, 0);
}

#[test]
fn manual_restart_triggers_policy() {
    // Neither `never` nor a used up budget has a say in a restart that was asked for.
    let mut script = check(
        "a | never\nb: a | restart\nc: a",
        &[
            ("boot", "run a"),
            ("a up", "run b, run c"),
            ("b up", ""),
            ("c up", "started"),
            ("restart a", "tell c a Restarting, halt b"),
            ("b halted", "halt a"),
            ("a exit 1", "run a"),
            ("a up", "tell c a Recovered, run b"),
        ],
    );
    assert_eq!(script.lifecycle.view(script.id("b")).attempts, 0);
    run(
        &mut script,
        &[("a exit 1", "halt b, halt c"), ("restart a", "run a")],
    );
}

#[test]
fn dependency_fails_fast_dependent_runs_anyway() {
    let script = check(
        "a | never optional\nb: a | optional\nc: a@started | optional",
        &[("boot", "run a"), ("a exit 1", "started"), ("wait 1h", "")],
    );
    assert_eq!(script.state("a"), State::Failed);
    assert_eq!([script.state("b"), script.state("c")], [State::Waiting; 2]);
}

#[test]
fn late_waiter_on_stale_readiness() {
    // The readiness of an earlier run does not count for a module that begins to wait now.
    check(
        "a\nb: a | lazy",
        &[
            ("boot", "run a"),
            ("a up", "started"),
            ("a exit 1", ""),
            ("start b", ""),
            ("wait 200ms", "run a"),
            ("a started", ""),
            ("a ready", "run b"),
        ],
    );
}

#[test]
fn one_failed_poll_stops_dependents() {
    let mut script = check(
        "a\nb: a@healthy",
        &[
            ("boot", "run a"),
            ("a up", ""),
            ("a healthy", "run b"),
            ("a unhealthy", ""),
            ("b up", "started"),
            ("a healthy", ""),
            ("a unhealthy", ""),
        ],
    );
    assert_eq!(script.state("b"), State::Running);
    // Only a probe that failed after its threshold restarts, and only its own module.
    run(
        &mut script,
        &[("a ill", "halt a"), ("a halted", "tell b a Restarting")],
    );
}

#[test]
fn a_readiness_probe_gates_dependents_and_stops_none() {
    let mut script = check(
        "a | readiness\nb: a\nc: a@started\nd: b",
        &[
            ("boot", "run a"),
            ("a started", "run c"),
            ("a ready", ""),
            ("c up", ""),
            ("a unhealthy", ""),
            ("a healthy", "run b"),
            ("a unhealthy", ""),
            ("b up", "run d"),
            ("d up", "started"),
            ("a unhealthy", ""),
            ("b killed", "tell d b Restarting"),
            ("wait 1s", ""),
            ("a healthy", "run b"),
        ],
    );
    assert_eq!(script.state("a"), State::Running);
    assert_eq!(script.state("d"), State::Running);
    // What a probe found of one run says nothing of the next.
    run(
        &mut script,
        &[
            ("b up", "tell d b Recovered"),
            ("a killed", "tell b a Restarting, tell c a Restarting"),
            ("wait 1s", "run a"),
        ],
    );
    run(
        &mut script,
        &[
            ("a up", "tell b a Recovered, tell c a Recovered"),
            ("b killed", "tell d b Restarting"),
            ("wait 1s", ""),
        ],
    );
    run(&mut script, &[("a healthy", "run b")]);
}

#[test]
fn thundering_herd() {
    let dependents: alloc::string::String = (0..200)
        .map(|n| alloc::format!("\nd{n:03}: db | restart"))
        .collect();
    let mut script = check(&alloc::format!("db{dependents}"), &[("boot", "run db")]);
    script.apply("db up");
    (0..200).for_each(|n| drop(script.apply(&alloc::format!("d{n:03} up"))));
    script.apply("db killed");
    (0..200).for_each(|n| drop(script.apply(&alloc::format!("d{n:03} halted"))));
    script.apply("wait 200ms");
    // The token of the database itself is free when it is ready; then four at a time, in order.
    let expect = |first: u32| (first..first + 4).map(|n| alloc::format!("run d{n:03}"));
    assert_eq!(
        script.apply("db up"),
        expect(0).collect::<alloc::vec::Vec<_>>().join(", ")
    );
    for n in 0..196 {
        let next = alloc::format!("run d{:03}", n + 4);
        assert_eq!(script.apply(&alloc::format!("d{n:03} up")), next);
    }
}

#[test]
fn a_failure_for_good_takes_dependents_and_its_return_brings_them_back() {
    check(
        "a | optional by_hand\nb: a | optional\nc: a?",
        &[
            ("boot", "run a"),
            ("a up", "run b, run c"),
            ("b up", ""),
            ("c up", "started"),
            ("a exit 1", "tell c a Failed, halt b"),
            ("b halted", ""),
            ("start a", "run a"),
            ("a up", "tell c a Recovered, run b"),
        ],
    );
}

#[test]
fn probation_lets_one_try_through() {
    let mut script = check(
        "a | optional",
        &[("boot", "run a"), ("a exit 1", "started")],
    );
    for wait in ["wait 200ms", "wait 400ms", "wait 800ms"] {
        run(&mut script, &[(wait, "run a"), ("a exec", "")]);
    }
    assert_eq!(script.state("a"), State::Failed);
    run(
        &mut script,
        &[("wait 29s", ""), ("wait 1s", "run a"), ("a exit 1", "")],
    );
    run(
        &mut script,
        &[
            ("wait 59s", ""),
            ("wait 1s", "run a"),
            ("a up", ""),
            ("wait 60s", ""),
        ],
    );
    run(&mut script, &[("a exit 1", ""), ("wait 800ms", "run a")]);
}

#[test]
fn soft_edges_hold_only_for_a_while() {
    check(
        "slow | optional\nb: slow? | optional\noff | lazy\nc: off?",
        &[
            ("boot", "run slow, run c"),
            ("c up", ""),
            ("wait 29s", ""),
            ("wait 1s", "run b"),
            ("b up", ""),
            ("slow late", "started"),
        ],
    );
}

#[test]
fn a_task_completes_once_for_all_and_holds_only_those_yet_to_start() {
    let script = check(
        "migrate | task\na: migrate@completed\nb: migrate@completed | lazy",
        &[
            ("boot", "run migrate"),
            ("migrate up", ""),
            ("migrate done", "run a"),
            ("a up", "started"),
            ("start migrate", "run migrate"),
            ("start b", ""),
            ("migrate up", ""),
            ("migrate done", "run b"),
        ],
    );
    assert_eq!(script.state("migrate"), State::Stopped);
    assert_eq!(script.lifecycle.deadline(), None);
}

#[test]
fn a_start_fails_with_its_required_module_only() {
    check(
        "a\nb | by_hand",
        &[
            ("boot", "run a, run b"),
            ("a up", ""),
            ("b exit 1", "start failed: b, halt a"),
            ("a halted", "all stopped, 0 forced"),
        ],
    );
    check(
        "a\nb | optional by_hand",
        &[
            ("boot", "run a, run b"),
            ("b exit 1", ""),
            ("a up", "started"),
        ],
    );
    check(
        "a\nb",
        &[
            ("boot", "run a, run b"),
            ("a up", ""),
            ("wait 60s", "start timed out: b, halt a, halt b"),
        ],
    );
}

#[test]
fn one_at_a_time_in_a_stable_order() {
    let mut serial = crate::fixture::system();
    serial.parallel_startup = false;
    serial.module_start_delay = crate::fixture::MS(10);
    let modules = crate::fixture::modules("c\nb\na: c");
    let plan = crate::Plan::new(1, serial, modules).expect("good");
    let mut script = crate::fixture::LifecycleScript::new(plan);
    run(&mut script, &[("boot", "run b"), ("b up", "")]);
    let turn = script.now.after(crate::fixture::MS(10));
    assert_eq!(script.lifecycle.deadline(), Some(turn));
    run(
        &mut script,
        &[
            ("wait 10ms", "run c"),
            ("wait 10ms", ""),
            ("c exit 1", ""),
            ("wait 200ms", "run c"),
            ("c up", ""),
            ("wait 10ms", "run a"),
            ("a up", "started"),
        ],
    );
}

#[test]
fn starting_a_module_wishes_up_what_it_needs() {
    check(
        "a | lazy\nb: a | lazy\nc: b | lazy\nd: a? | lazy",
        &[
            ("boot", "started"),
            ("start d", "run d"),
            ("start c", "run a"),
            ("a up", "run b"),
            ("b up", "run c"),
            ("stop b", "halt c"),
        ],
    );
}

#[test]
fn what_cannot_be_ended_is_failed_until_everything_ends() {
    let mut script = check(
        "a\nb",
        &[
            ("boot", "run a, run b"),
            ("a up", ""),
            ("b up", "started"),
            ("stop a", "halt a"),
            ("a stuck", ""),
        ],
    );
    assert_eq!(
        script.state("a"),
        State::Failed,
        "although it is wished down"
    );
    run(
        &mut script,
        &[
            ("start a", "run a"),
            ("a up", ""),
            ("restart a", "halt a"),
            ("a stuck", ""),
        ],
    );
    assert_eq!(
        script.state("a"),
        State::Failed,
        "it is not run again at once"
    );
    run(&mut script, &[("stop a", "")]);
    assert_eq!(script.state("a"), State::Failed);
    let view = script.lifecycle.view(script.id("a"));
    assert_eq!(view.retry_at, None, "it is not desired up any more");
    run(
        &mut script,
        &[
            ("stop all", "halt b"),
            ("b halted", "all stopped, 0 forced"),
        ],
    );
    assert_eq!(script.state("a"), State::Stopped);
}

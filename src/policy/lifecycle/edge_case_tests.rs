//! Corners of the lifecycle: kinds and fates that few plans have.
//! Owns one story each, in the words of the fixture. Never looks inside.

use alloc::format;

use super::{AdoptedProcess, Lifecycle, LifecycleEffect, LifecycleEvent};
use crate::fixture::{LifecycleScript, SEC, check, modules, plan, run, system};
use crate::plan::Plan;
use crate::states::{Desired, Health, State};

/// What a call or a connection does to a module in each state.
#[test]
fn only_what_is_asleep_is_woken() {
    const LAZY: &str = "dep\nm: dep | lazy on_failure";
    let rows: [(&str, &[&str], &str); 13] = [
        (LAZY, &["boot", "dep up"], "run m"),
        ("dep | lazy\nm: dep | lazy", &["boot"], "run dep"),
        (LAZY, &["boot", "dep up", "start m"], ""),
        (LAZY, &["boot", "dep up", "start m", "m up"], ""),
        (
            LAZY,
            &["boot", "dep up", "start m", "m up", "m done"],
            "run m",
        ),
        (LAZY, &["boot", "dep up", "start m", "m up", "stop m"], ""),
        (
            LAZY,
            &["boot", "dep up", "start m", "m up", "stop m", "m halted"],
            "",
        ),
        (LAZY, &["boot", "dep up", "stop m"], ""),
        // Recovery has its own time for these.
        (LAZY, &["boot", "dep up", "start m", "m exit 1"], ""),
        (LAZY, &["boot", "dep up", "start m", "m exit 78"], ""),
        // What it needs is started too, as with every request.
        (
            LAZY,
            &["boot", "dep up", "stop dep", "dep halted"],
            "run dep",
        ),
        (LAZY, &["boot", "dep up", "stop all"], ""),
        // An eager task that ended stays done until it is requested.
        ("m | on_failure", &["boot", "m up", "m done"], ""),
    ];
    for (text, way, expected) in rows {
        let mut script = LifecycleScript::new(plan(text));
        for event in way {
            script.apply(event);
        }
        assert_eq!(script.apply("wake m"), expected, "{text:?} after {way:?}");
    }
}

#[test]
fn a_builtin_runs_from_the_first_to_the_last_moment_whatever_is_wished() {
    let script = check(
        "bus | builtin\na: bus",
        &[
            ("boot", "run a"),
            ("a up", "started"),
            ("stop bus", ""),
            ("restart bus", ""),
            ("start bus", ""),
            ("bus ill", ""),
            ("stop all", "halt a"),
            ("a halted", "all stopped, 0 forced"),
        ],
    );
    let view = script.lifecycle.view(script.id("bus"));
    assert_eq!(
        (view.state, view.desired, view.generation),
        (State::Stopped, Desired::Down, 0)
    );
    let script = check(
        "bus | builtin\na: bus",
        &[("boot", "run a"), ("bus ill", "")],
    );
    let view = script.lifecycle.view(script.id("bus"));
    assert_eq!(
        (view.state, view.desired, view.health),
        (State::Running, Desired::Up, Health::Unhealthy)
    );
}

#[test]
fn the_initial_startup_waits_neither_for_what_cannot_come_nor_for_the_stopped() {
    check(
        "a | optional by_hand\nb: a",
        &[
            ("boot", "run a"),
            (
                "a exit 1",
                "start failed: a, needed by b, all stopped, 0 forced",
            ),
        ],
    );
    // With a try to come it may yet succeed.
    check(
        "a | optional\nb: a",
        &[
            ("boot", "run a"),
            ("a exit 1", ""),
            ("wait 200ms", "run a"),
            ("a exit 1", ""),
            ("wait 400ms", "run a"),
            ("a exit 1", ""),
            ("wait 800ms", "run a"),
            ("a exit 1", ""),
            ("wait 30s", "run a"),
            ("a up", "run b"),
        ],
    );
    check(
        "a\nb: a",
        &[("boot", "run a"), ("stop a", "halt a, started")],
    );
}

#[test]
fn who_needs_a_task_falls_with_its_run_and_not_with_its_end() {
    let up = [("boot", "run t"), ("t up", "run b"), ("b up", "started")];
    let mut script = check("t | task\nb: t", &up);
    run(&mut script, &[("stop t", "halt b"), ("b halted", "halt t")]);
    let mut script = check("t | task\nb: t", &up);
    run(&mut script, &[("t done", ""), ("stop t", "")]);
    assert_eq!(script.state("b"), State::Running);
}

#[test]
fn a_failure_is_told_to_those_that_run_without_it_alone() {
    check(
        "a | optional by_hand\nb: a? | lazy",
        &[("boot", "run a"), ("a up", "started"), ("a exit 1", "")],
    );
}

#[test]
fn the_one_try_on_probation_is_one_however_long_ago_the_others_were() {
    let mut specs = modules("a | optional");
    specs[0].recovery.window = SEC(10);
    let plan = Plan::new(1, system(), specs).expect("good");
    let mut script = LifecycleScript::new(plan);
    run(&mut script, &[("boot", "run a"), ("a exec", "started")]);
    for wait in ["wait 200ms", "wait 400ms", "wait 800ms"] {
        run(&mut script, &[(wait, "run a"), ("a exec", "")]);
    }
    run(&mut script, &[("wait 30s", "run a"), ("a exec", "")]);
    assert_eq!(script.state("a"), State::Failed);
}

#[test]
fn a_stop_keeps_its_deadline_over_the_return_of_the_runtime() {
    let mut script = check("a", &[("boot", "run a"), ("a up", "started")]);
    run(&mut script, &[("stop a", "halt a"), ("wait 4s", "")]);
    let (a, now) = (script.id("a"), script.now);
    let record = script.lifecycle.record(a);
    let by = record.stop_deadlines.expect("it is being stopped").0;
    let mut returned = Lifecycle::new(plan("a"), 1);
    let alive = Some(AdoptedProcess {
        generation: record.generation,
        pid: 7,
    });
    let module = a;
    returned.apply(
        now,
        LifecycleEvent::Adopted {
            module,
            record,
            alive,
        },
    );
    returned.apply(now, LifecycleEvent::Resume);
    let grace = std::iter::from_fn(|| returned.next_effect(now)).find_map(|effect| match effect {
        LifecycleEffect::Stop { grace, .. } => Some(grace),
        _ => None,
    });
    assert_eq!(grace, Some(by.since(now)), "no second budget");
    assert!(by.since(now) <= SEC(6), "of ten seconds four have passed");
}

/// Both have crashed and their backoff has expired, with `tokens` restart tokens.
fn both_crashed(tokens: u32, expected: &str) -> LifecycleScript {
    let mut system = system();
    system.concurrent_restarts = tokens;
    let plan = Plan::new(1, system, modules("a\nb")).expect("good");
    let mut script = LifecycleScript::new(plan);
    run(
        &mut script,
        &[
            ("boot", "run a, run b"),
            ("a up", ""),
            ("b up", "started"),
            ("a exit 1", ""),
            ("b exit 1", ""),
            ("wait 200ms", expected),
        ],
    );
    script
}

#[test]
fn no_tokens_means_no_limit() {
    both_crashed(0, "run a, run b");
}

#[test]
fn who_is_stopped_while_it_waits_for_a_token_does_not_get_it() {
    let mut script = both_crashed(1, "run a");
    run(&mut script, &[("stop b", ""), ("a up", "")]);
    assert_eq!(script.state("b"), State::Stopped);
}

/// It waited for a token, then for what it wants, and is requested: it needs no token any more.
#[test]
fn who_is_requested_waits_for_no_token() {
    let mut system = system();
    system.concurrent_restarts = 1;
    let modules = modules("a\nc: a | lazy\nb: c?");
    let plan = Plan::new(1, system, modules).expect("good");
    let mut script = LifecycleScript::new(plan);
    run(
        &mut script,
        &[
            ("boot", "run a, run b"),
            ("a up", ""),
            ("b up", "started"),
            ("a exit 1", ""),
            ("b exit 1", ""),
            ("wait 200ms", "run a"),
            ("start c", ""),
            ("start b", ""),
        ],
    );
    let view = script.lifecycle.view(script.id("b"));
    assert_eq!(view.token_holders, []);
}

/// Its process is killed by its watchdog, or gone and cleaned up after.
#[test]
fn a_run_that_ends_by_itself_no_longer_counts() {
    let up = [("boot", "run a, run c"), ("a up", ""), ("c up", "started")];
    const PLAN: &str = "a\nb: a | lazy\nc";
    let ending = || {
        let mut script = check(PLAN, &up);
        run(&mut script, &[("a ending", ""), ("start b", "")]);
        assert_eq!(script.state("a"), State::Stopping);
        script
    };
    // What needs it waits for its next run, and its end is judged like any other.
    let mut script = ending();
    run(&mut script, &[("a exit 1", ""), ("wait 200ms", "run a")]);
    run(&mut script, &[("a up", "run b")]);
    // A request in that time is honoured.
    for request in ["start a", "restart a"] {
        let mut script = ending();
        run(&mut script, &[(request, "halt a"), ("a halted", "run a")]);
        assert_eq!(script.lifecycle.view(script.id("a")).attempts, 0);
    }
    // It is told that it has less time, or that all is stopped: in order.
    let mut script = ending();
    run(&mut script, &[("stop a", "halt a"), ("a halted", "")]);
    assert_eq!(script.state("a"), State::Stopped);
    let mut script = check("a\nb: a", &[("boot", "run a"), ("a up", "run b")]);
    run(&mut script, &[("b up", "started"), ("a ending", "")]);
    run(
        &mut script,
        &[("stop all", "halt b"), ("b halted", "halt a")],
    );
    run(&mut script, &[("a halted", "all stopped, 0 forced")]);
}

#[test]
fn a_task_that_is_cleaned_up_after_completes_with_its_end() {
    let mut script = check(
        "t | task\nb: t@completed",
        &[("boot", "run t"), ("t up", ""), ("t ending", "")],
    );
    run(&mut script, &[("t done", "run b")]);
}

/// A new runtime finds no process and judges that; it must not take the end for one on request.
#[test]
fn a_run_that_ends_by_itself_is_recorded_as_the_run_that_it_was() {
    for (way, state) in [("a up", State::Running), ("a started", State::Starting)] {
        let mut script = LifecycleScript::new(plan("a"));
        for event in ["boot", way, "a ending"] {
            script.apply(event);
        }
        let record = script.lifecycle.record(script.id("a"));
        assert_eq!((record.state, record.ready), (state, way == "a up"));
        script.apply("stop a");
        let record = script.lifecycle.record(script.id("a"));
        assert_eq!((record.state, record.ready), (State::Stopping, false));
    }
}

/// It was started again and has no process yet: nothing relies on that run, and it gets none.
#[test]
fn a_run_without_a_process_ends_before_those_that_need_it() {
    let way = [
        ("boot", "run a"),
        ("a up", "run b"),
        ("b up", "started"),
        ("a exit 1", "tell b a Restarting"),
        ("wait 200ms", "run a"),
        ("stop a", "halt a, halt b"),
    ];
    check("a\nb: a", &way);
}

#[test]
fn a_start_that_was_lost_with_the_holder_is_made_again_and_is_no_attempt() {
    for about in ["never", "once", "optional"] {
        let modules = format!("a | {about}\nb: a");
        let mut script = check(
            &modules,
            &[
                ("boot", "run a"),
                ("a lost", "run a"),
                ("a started", ""),
                ("a ready", "run b"),
                ("b lost", "run b"),
                ("b up", "started"),
            ],
        );
        let view = script.lifecycle.view(script.id("a"));
        assert_eq!((view.state, view.attempts), (State::Running, 0));
        // A module that is to stop meanwhile is not started again.
        run(
            &mut script,
            &[
                ("restart b", "halt b"),
                ("b halted", "run b"),
                ("stop b", "halt b"),
            ],
        );
        run(&mut script, &[("b lost", ""), ("start b", "run b")]);
    }
}

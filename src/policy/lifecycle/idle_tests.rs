//! Modules that are stopped because they are not used, and started again by the next use.
//! Owns one story each, in the words of the fixture. Never looks inside.

use crate::fixture::{LifecycleScript, check, plan, run};
use crate::lifecycle::Forecast;
use crate::states::{Cause, Desired, State, Status};

/// What follows when a run was not used for long.
#[test]
fn only_a_lazy_module_that_nothing_needs_is_stopped_when_idle() {
    const PLAN: &str = "m | lazy\nneeds: m | lazy\nwants: m? | lazy\ntask | lazy";
    let rows: [(&str, &[&str], &str); 10] = [
        (PLAN, &["boot", "wake m", "m up"], "halt m"),
        // It was not ready yet, or is being stopped.
        (PLAN, &["boot", "wake m"], ""),
        (PLAN, &["boot", "wake m", "m up", "stop m"], ""),
        // Something that runs or is to run requires it; what only wants it finds it asleep.
        (PLAN, &["boot", "wake needs", "m up"], ""),
        (PLAN, &["boot", "wake needs", "m up", "needs up"], ""),
        (PLAN, &["boot", "wake needs", "m up", "needs exit 1"], ""),
        (
            PLAN,
            &["boot", "wake m", "m up", "wake wants", "wants up"],
            "halt m",
        ),
        (
            PLAN,
            &["boot", "wake needs", "m up", "stop needs", "needs halted"],
            "halt m",
        ),
        // One that starts with the system is meant to run.
        ("m", &["boot", "m up"], ""),
        (PLAN, &["boot", "wake m", "m up", "stop all"], ""),
    ];
    for (text, way, expected) in rows {
        let mut script = LifecycleScript::new(plan(text));
        for event in way {
            script.apply(event);
        }
        assert_eq!(script.apply("m idle"), expected, "{text:?} after {way:?}");
    }
}

#[test]
fn an_idle_module_rests_until_the_next_use() {
    let mut script = check(
        "m | lazy\nn: m | lazy",
        &[
            ("boot", "started"),
            ("wake m", "run m"),
            ("m up", ""),
            ("m idle", "halt m"),
            ("wait 1h", ""),
        ],
    );
    let id = script.id("m");
    let forecast = script.lifecycle.forecast(script.now, id);
    assert!(
        matches!(
            forecast,
            Forecast::Stops {
                then_starts: false,
                ..
            }
        ),
        "{forecast:?}"
    );
    assert_eq!(
        script.lifecycle.status(),
        Status::Healthy,
        "that is no trouble"
    );
    run(&mut script, &[("m exit 1", ""), ("wait 1h", "")]);
    let view = script.lifecycle.view(id);
    assert_eq!(
        (view.state, view.cause, view.desired, view.attempts),
        (State::Stopped, Cause::Idle, Desired::Up, 0),
        "how it ended does not matter: it was stopped"
    );
    // By a use, and by what needs it.
    run(
        &mut script,
        &[
            ("wake m", "run m"),
            ("m up", ""),
            ("m idle", "halt m"),
            ("m halted", ""),
        ],
    );
    run(&mut script, &[("start n", "run m"), ("m up", "run n")]);
}

#[test]
fn who_comes_while_a_run_ends_is_served_by_the_next_one() {
    let ways: [&[(&str, &str)]; 3] = [
        &[("m idle", "halt m"), ("wake m", ""), ("m halted", "run m")],
        // It ended by itself, and that is not known yet or not over.
        &[("wake m", ""), ("m done", "run m")],
        &[("m ending", ""), ("wake m", ""), ("m done", "run m")],
    ];
    for way in ways {
        let start: &[(&str, &str)] = &[("boot", "started"), ("wake m", "run m"), ("m up", "")];
        let mut script = check("m | lazy on_failure", start);
        run(&mut script, way);
        // The next run answers: it is not started once more for that.
        run(&mut script, &[("m up", ""), ("m done", "")]);
        assert_eq!(script.state("m"), State::Stopped);
    }
    // A stop on request outranks it, and what was given up stays so.
    let start: &[(&str, &str)] = &[("boot", "started"), ("wake m", "run m"), ("m up", "")];
    for way in [
        &[
            ("m idle", "halt m"),
            ("wake m", ""),
            ("stop m", ""),
            ("m halted", ""),
        ],
        &[
            ("stop m", "halt m"),
            ("wake m", ""),
            ("m halted", ""),
            ("wait 1h", ""),
        ],
    ] {
        let mut script = check("m | lazy on_failure", start);
        run(&mut script, way);
        assert_eq!(script.state("m"), State::Stopped);
    }
}

#[test]
fn a_request_while_it_is_stopped_for_that_starts_it_again() {
    for request in ["start m", "restart m"] {
        let mut script = check(
            "m | lazy",
            &[
                ("boot", "started"),
                ("wake m", "run m"),
                ("m up", ""),
                ("m idle", "halt m"),
            ],
        );
        run(&mut script, &[(request, ""), ("m halted", "run m")]);
    }
}

//! One plan after another: every state of a module and every kind of change.
//! Owns the tables, in the words of the fixture. Never looks inside.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::{AdoptedProcess, Lifecycle, LifecycleEvent, ReplanError};
use crate::fixture::{LifecycleScript, check, plan, plan_with_groups, run, system};
use crate::plan::Plan;
use crate::states::{Cause, State};

/// Ways of `m`, which needs `dep`, into each state; `top` needs `m`.
const STATES: [(State, &[&str]); 11] = [
    (State::NotStarted, &[]),
    (State::Waiting, &["start m"]),
    (State::Starting, &["start m", "dep up"]),
    (State::Starting, &["start m", "dep up", "m started"]),
    (State::Running, &["start m", "dep up", "m up"]),
    (State::Running, &["start top", "dep up", "m up", "top up"]),
    (State::Stopping, &["start m", "dep up", "m up", "stop m"]),
    (State::Stopping, &["start m", "dep up", "m up", "restart m"]),
    (
        State::Stopped,
        &["start m", "dep up", "m up", "stop m", "m halted"],
    ),
    (State::Backoff, &["start m", "dep up", "m exit 1"]),
    (State::Failed, &["start m", "dep up", "m exit 78"]),
];

const PLAN: &str = "dep | lazy\nm: dep | lazy\ntop: m | lazy restart";

fn at(way: &[&str]) -> LifecycleScript {
    let mut script = LifecycleScript::new(plan(PLAN));
    script.apply("boot");
    for event in way {
        script.apply(event);
    }
    script
}

/// Checks what a change does in each state: the effects at once, those after a run has stopped,
/// and the state that `m` is in then.
#[track_caller]
fn table(text: &str, changes: &str, rows: [(&str, &str, State); 11]) {
    for ((state, way), (at_once, stopped, then)) in STATES.iter().zip(rows) {
        let mut script = at(way);
        assert_eq!(script.state("m"), *state, "{way:?}");
        assert_eq!(script.replan(text, changes), at_once, "{way:?}");
        if script.state("top") == State::Stopping {
            script.apply("top halted");
        }
        let after = match script.state("m") {
            State::Stopping => script.apply("m halted"),
            _ => alloc::string::String::new(),
        };
        assert_eq!(
            (after.as_str(), script.state("m")),
            (stopped, then),
            "{way:?}"
        );
    }
}

#[test]
fn nothing_changes_when_nothing_changed() {
    use State::{Backoff, Failed, NotStarted, Running, Starting, Stopped, Waiting};
    let plan = "plan 2";
    let rows = [
        (plan, "", NotStarted),
        (plan, "", Waiting),
        (plan, "", Starting),
        (plan, "", Starting),
        (plan, "", Running),
        (plan, "", Running),
        (plan, "", Stopped),
        (plan, "run m", Starting),
        (plan, "", Stopped),
        (plan, "", Backoff),
        (plan, "", Failed),
    ];
    table(PLAN, "", rows);
}

#[test]
fn a_live_change_is_applied_to_the_run_that_is_out() {
    use State::{Backoff, NotStarted, Running, Starting, Stopped, Waiting};
    let plan = "plan 2";
    let rows = [
        (plan, "", NotStarted),
        (plan, "", Waiting),
        (plan, "", Starting),
        (plan, "", Starting),
        (plan, "", Running),
        (plan, "", Running),
        (plan, "", Stopped),
        (plan, "run m", Starting),
        (plan, "", Stopped),
        (plan, "", Backoff),
        // What it failed for may be what was changed.
        ("run m, plan 2", "", Starting),
    ];
    table(
        "dep | lazy\nm: dep | lazy optional\ntop: m | lazy restart",
        "m live",
        rows,
    );
}

#[test]
fn a_change_with_restart_ends_the_run_and_starts_the_next_by_the_new_spec() {
    use State::{NotStarted, Starting, Stopped, Waiting};
    let rows = [
        ("plan 2", "", NotStarted),
        ("plan 2", "", Waiting),
        ("halt m", "run m, plan 2", Starting),
        ("halt m", "run m, plan 2", Starting),
        ("halt m", "run m, plan 2", Starting),
        ("halt top", "run m, plan 2", Starting),
        ("", "plan 2", Stopped),
        ("", "run m, plan 2", Starting),
        ("plan 2", "", Stopped),
        ("run m, plan 2", "", Starting),
        ("run m, plan 2", "", Starting),
    ];
    table(PLAN, "m restart", rows);
}

#[test]
fn a_module_that_is_removed_stops_in_order_and_is_forgotten() {
    use State::NotStarted;
    let rows = [
        ("removed m, plan 2", "", NotStarted),
        ("removed m, plan 2", "", NotStarted),
        ("halt m", "removed m, plan 2", NotStarted),
        ("halt m", "removed m, plan 2", NotStarted),
        ("halt m", "removed m, plan 2", NotStarted),
        ("halt m", "removed m, plan 2", NotStarted),
        ("", "removed m, plan 2", NotStarted),
        ("", "removed m, plan 2", NotStarted),
        ("removed m, plan 2", "", NotStarted),
        ("removed m, plan 2", "", NotStarted),
        ("removed m, plan 2", "", NotStarted),
    ];
    table("dep | lazy\ntop | lazy", "", rows);
}

#[test]
fn a_module_that_is_added_starts_if_it_is_eager_with_all_that_it_needs() {
    let mut script = check("a", &[("boot", "run a"), ("a up", "started")]);
    let text = "a\nb: a c\nc | lazy\nd | lazy";
    assert_eq!(script.replan(text, ""), "run c, plan 2");
    run(&mut script, &[("c up", "run b"), ("b up", "")]);
    assert_eq!(script.state("d"), State::NotStarted);
    assert_eq!(script.lifecycle.view(script.id("b")).cause, Cause::Startup);
}

#[test]
fn what_is_added_during_the_initial_startup_is_part_of_it() {
    let mut script = check("a", &[("boot", "run a")]);
    assert_eq!(script.replan("a\nb: a", ""), "plan 2");
    run(&mut script, &[("a up", "run b"), ("b up", "started")]);
    let mut script = check("a\nb: a", &[("boot", "run a")]);
    assert_eq!(script.replan("a", ""), "removed b, plan 2");
    run(&mut script, &[("a up", "started")]);
    // The run that is replaced was a part, so the next one is.
    let mut script = check("a", &[("boot", "run a"), ("a started", "")]);
    assert_eq!(script.replan("a", "a restart"), "halt a");
    run(
        &mut script,
        &[("a halted", "run a, plan 2"), ("a up", "started")],
    );
}

#[test]
fn runs_stop_in_the_order_of_the_plan_they_were_started_by() {
    let up = [
        ("boot", "run db"),
        ("db up", "run app"),
        ("app up", "started"),
    ];
    // The application moves to another database; the old one is not taken from under it.
    let mut script = check("db\napp: db", &up);
    assert_eq!(
        script.replan("new\napp: new", "app restart"),
        "run new, halt app"
    );
    run(
        &mut script,
        &[("new up", ""), ("app halted", "halt db, run app")],
    );
    run(
        &mut script,
        &[("db halted", "removed db, plan 2"), ("app up", "")],
    );
}

#[test]
fn edges_that_are_turned_around_hold_nobody_up() {
    let up = [("boot", "run a"), ("a up", "run b"), ("b up", "started")];
    let mut script = check("a\nb: a | restart", &up);
    let text = "a: b\nb | restart";
    assert_eq!(
        script.replan(text, "a restart, b restart"),
        "halt b, halt a"
    );
    run(
        &mut script,
        &[("b halted", "run b"), ("a halted", "plan 2")],
    );
    run(&mut script, &[("b up", "run a"), ("a up", "")]);
    // One changed live: its run was started without what it needs from now on.
    let mut script = check("a\nb: a | restart", &up);
    script.replan("a: b | restart\nb", "a live, b restart");
    for event in ["b halted", "a halted", "b up", "a up"] {
        script.apply(event);
    }
    assert_eq!([script.state("a"), script.state("b")], [State::Running; 2]);
}

#[test]
fn a_live_edge_to_a_module_that_was_never_started_starts_it() {
    let mut script = check("a\nb | lazy", &[("boot", "run a"), ("a up", "started")]);
    assert_eq!(script.replan("a: b\nb | lazy", "a live"), "run b, plan 2");
    // What a person stopped stays down, and so do its new dependents.
    let mut script = check(
        "a\nb",
        &[("boot", "run a, run b"), ("a up", ""), ("b up", "started")],
    );
    run(&mut script, &[("stop b", "halt b"), ("b halted", "")]);
    assert_eq!(script.replan("a: b\nb", "a live"), "halt a, plan 2");
    run(
        &mut script,
        &[("a halted", ""), ("start b", "run b"), ("b up", "run a")],
    );
}

#[test]
fn an_edge_that_is_gone_holds_nobody() {
    let mut script = check("a\nb: a", &[("boot", "run a")]);
    assert_eq!(script.replan("a\nb", "b live"), "run b, plan 2");
    run(&mut script, &[("stop a", "halt a"), ("b up", "started")]);
}

#[test]
fn a_renamed_module_goes_on() {
    let mut script = check(
        "a\nb: a",
        &[("boot", "run a"), ("a up", "run b"), ("b up", "started")],
    );
    let id = script.id("a");
    script.rename("a", "storage");
    assert_eq!(script.replan("b: storage\nstorage", ""), "plan 2");
    assert_eq!(
        (script.id("storage"), script.state("storage")),
        (id, State::Running)
    );
    // Its old name is free for another.
    assert_eq!(script.replan("a\nb: storage\nstorage", ""), "run a, plan 3");
}

#[test]
fn the_newest_plan_wins_whatever_became_of_the_one_before() {
    let up = [("boot", "run a"), ("a up", "run b"), ("b up", "started")];
    const PLAN: &str = "a\nb: a | restart";
    let mut script = check(PLAN, &up);
    assert_eq!(script.replan(PLAN, "a restart"), "halt b");
    // Back again in the middle of it: the change has ended when the run of plan 1 has.
    assert_eq!(script.replan(PLAN, ""), "");
    run(
        &mut script,
        &[("b halted", "halt a"), ("a halted", "run a, plan 3")],
    );
    run(&mut script, &[("a up", "run b"), ("b up", "")]);
    // Removed and added again before it has stopped: one run after the other.
    assert_eq!(script.replan("a", ""), "halt b");
    assert_eq!(script.replan(PLAN, ""), "");
    run(&mut script, &[("b halted", "run b, plan 5"), ("b up", "")]);
    let generation = script.lifecycle.view(script.id("b")).generation;
    // Removed permanently and added much later: the numbers of its runs continue.
    script.replan("a", "");
    run(&mut script, &[("b halted", "removed b, plan 6")]);
    assert_eq!(script.replan(PLAN, ""), "run b, plan 7");
    assert_eq!(
        script.lifecycle.view(script.id("b")).generation,
        generation + 1
    );
}

#[test]
fn a_plan_is_previewed_without_a_trace() {
    use super::{ChangeClass, PreviewAction};
    let mut script = at(&["start top", "dep up", "m up", "top up"]);
    let mut slots = crate::module_ids::ModuleIds::default();
    let text = "dep | lazy\nm: dep | lazy\ntop: m | lazy restart\nz | task";
    crate::fixture::modules_onto(&mut slots, PLAN);
    let modules = crate::fixture::modules_onto(&mut slots, text);
    let next = Plan::new(2, system(), modules).expect("a plan");
    let before = alloc::format!("{:?}", script.lifecycle);
    let changes = [(script.id("m"), ChangeClass::Restart)];
    let steps = script
        .lifecycle
        .preview_plan(next, &changes)
        .expect("it follows");
    assert_eq!(alloc::format!("{:?}", script.lifecycle), before);
    let name = |id| slots.name(id).expect("a module").to_string();
    let steps: Vec<_> = steps
        .iter()
        .map(|step| (name(step.module), step.action))
        .collect();
    let expected = [
        ("z".into(), PreviewAction::Start),
        ("top".into(), PreviewAction::Restart),
        ("m".into(), PreviewAction::Restart),
    ];
    assert_eq!(steps, expected);
    assert_eq!(script.replan(text, "m restart"), "run z, halt top");
}

#[test]
fn a_removed_module_comes_back_as_it_was_until_the_plan_is_committed() {
    let up = [("boot", "run a, run b, run t"), ("a up", ""), ("b up", "")];
    const PLAN: &str = "a\nb\nt | task";
    let begin = || {
        let mut script = check(PLAN, &up);
        run(
            &mut script,
            &[("t up", "started"), ("t done", ""), ("stop b", "halt b")],
        );
        run(&mut script, &[("b halted", "")]);
        assert_eq!(script.replan("z", ""), "halt a, run z");
        run(
            &mut script,
            &[("a halted", "removed a, removed b, removed t, plan 2")],
        );
        script
    };
    let states = |script: &LifecycleScript| ["a", "b", "t"].map(|name| script.state(name));
    // Only what was up is started; what a person stopped and what is done stays.
    let mut script = begin();
    assert_eq!(script.replan(PLAN, ""), "halt z, run a");
    assert_eq!(
        states(&script),
        [State::Starting, State::Stopped, State::Stopped]
    );
    // After a commit they are new.
    let mut script = begin();
    script.lifecycle.commit();
    assert_eq!(script.replan(PLAN, ""), "run a, run b, run t, halt z");
}

#[test]
fn a_wish_outranks_a_change_and_a_change_makes_no_wish() {
    let up = [("boot", "run a"), ("a up", "started")];
    let mut script = check("a", &up);
    assert_eq!(script.replan("a", "a restart"), "halt a");
    run(&mut script, &[("stop a", ""), ("a halted", "plan 2")]);
    assert_eq!(script.replan("a", "a restart"), "plan 3");
    assert_eq!(script.state("a"), State::Stopped, "a person stopped it");
    run(&mut script, &[("start a", "run a")]);
}

#[test]
fn plans_that_cannot_follow_change_nothing() {
    let number = |number| Plan::new(number, system(), crate::fixture::modules("a")).expect("good");
    let refused = |script: &mut LifecycleScript, plan: Plan| {
        let before = alloc::format!("{:?}", script.lifecycle);
        let error = script
            .lifecycle
            .replan(script.now, plan, &[])
            .expect_err("refused");
        assert_eq!(
            alloc::format!("{:?}", script.lifecycle),
            before,
            "{error:?}"
        );
        error
    };
    let mut script = LifecycleScript::new(plan("a"));
    assert_eq!(refused(&mut script, number(2)), ReplanError::NotRunning);
    script.apply("boot");
    assert_eq!(
        refused(&mut script, number(1)),
        ReplanError::Superseded { newest: 1 }
    );
    let builtin = Plan::new(2, system(), crate::fixture::modules("a | builtin")).expect("good");
    let module = script.id("a");
    assert_eq!(
        refused(&mut script, builtin),
        ReplanError::BuiltinChanged { module }
    );
    script.apply("stop all");
    assert_eq!(refused(&mut script, number(2)), ReplanError::NotRunning);
}

/// A reload is an adoption without a death: a runtime that dies and returns under the next plan
/// ends where one that followed it ends.
#[test]
fn a_new_plan_and_a_return_under_it_lead_to_the_same_states() {
    let plans = [
        (
            "dep | lazy\nm: dep | lazy\ntop: m | lazy restart\nmore: m",
            "",
        ),
        ("dep | lazy\nm | lazy\ntop: m | lazy restart", "m live"),
        (
            "dep | lazy\nm: dep? | lazy\ntop: dep | lazy",
            "m live, top live",
        ),
    ];
    for (text, changes) in plans {
        for (_, way) in STATES {
            let mut followed = at(way);
            let mut before = at(way);
            let mut returned = LifecycleScript::new(plan(text));
            returned.lifecycle = Lifecycle::new(returned.lifecycle.plan().clone(), 1);
            returned.now = before.now;
            let mut effects = Vec::new();
            for module in before.ids() {
                let record = before.lifecycle.record(module);
                let view = before.lifecycle.view(module);
                let (generation, live) = (view.generation, view.state.is_live());
                // A start without a process is lost with the runtime; here it has one.
                let alive = live.then_some(AdoptedProcess { generation, pid: 7 });
                let event = LifecycleEvent::Adopted {
                    module,
                    record,
                    alive,
                };
                returned.note(event, &mut effects);
            }
            returned.apply("resume");
            followed.replan(text, changes);
            for name in ["dep", "m", "top"] {
                let states = [&followed, &returned].map(|script| script.state(name));
                // A failed module is tried by a new spec, and a stop is ordered once more.
                let same = states[0] == states[1] || states.contains(&State::Stopping);
                let retried = followed.state("m") == State::Starting && way.contains(&"m exit 78");
                assert!(same || retried, "{way:?} to {text}: {name} {states:?}");
            }
            before.apply("stop all");
        }
    }
}

/// The plan was not kept yet when the runtime died: the next one continues with the former one, and
/// finds records of a change that never was.
#[test]
fn a_plan_that_is_lost_with_the_runtime_leaves_no_trace() {
    for (then, events) in [(State::Waiting, &["m halted"][..]), (State::Running, &[])] {
        let mut before = at(&["start m", "dep up", "m up"]);
        assert_eq!(before.replan("dep | lazy\ntop | lazy", ""), "halt m");
        for event in events {
            before.apply(event);
        }
        let mut after = LifecycleScript::new(plan(PLAN));
        after.now = before.now;
        let mut effects = Vec::new();
        for name in ["dep", "m", "top"] {
            let module = before.id(name);
            let (record, view) = (
                before.lifecycle.record(module),
                before.lifecycle.view(module),
            );
            let generation = record.generation;
            let lives = view.state.is_live();
            let alive = lives.then_some(AdoptedProcess { generation, pid: 7 });
            after.note(
                LifecycleEvent::Adopted {
                    module,
                    record,
                    alive,
                },
                &mut effects,
            );
        }
        assert_eq!(after.state("m"), then);
        let resumed = match then {
            State::Waiting => "run m",
            _ => "halt m",
        };
        assert_eq!(after.apply("resume"), resumed, "it is still desired up");
        assert_eq!(
            after.lifecycle.view(after.id("m")).desired,
            crate::Desired::Up
        );
    }
}

#[test]
fn a_stuck_module_that_is_removed_leaves_no_alarm() {
    let up = [
        ("boot", "run a, run b"),
        ("a up", ""),
        ("b up", "started"),
        ("a stuck", ""),
    ];
    let mut script = check("a\nb", &up);
    assert_eq!(script.state("a"), State::Failed);
    assert_eq!(script.replan("b", ""), "removed a, plan 2");
    run(&mut script, &[("wait 1h", "")]);
}

#[test]
fn a_failed_module_comes_back_failed_until_the_plan_is_committed() {
    let begin = || {
        let up = [
            ("boot", "run a, run b"),
            ("a up", ""),
            ("b up", "started"),
            ("a stuck", ""),
            ("wait 10s", ""),
        ];
        let mut script = check("a\nb", &up);
        assert_eq!(script.replan("b", ""), "removed a, plan 2");
        run(&mut script, &[("wait 10s", "")]);
        script
    };
    let mut script = begin();
    assert_eq!(script.replan("a\nb", ""), "plan 3");
    assert_eq!(script.state("a"), State::Failed);
    assert_eq!(script.lifecycle.status(), crate::Status::Critical);
    run(&mut script, &[("wait 9s", ""), ("wait 2s", "run a")]);
    // What it failed for may be what is new.
    let mut script = begin();
    assert_eq!(script.replan("a\nb", "a restart"), "run a, plan 3");
    let mut script = begin();
    script.lifecycle.commit();
    assert_eq!(script.replan("a\nb", ""), "run a, plan 3");
}

/// Its group counted them when they were made.
#[test]
fn the_attempts_of_a_module_that_comes_back_failed_count_once_in_its_group() {
    let groups = "g: a b | one_for_one 3 300s stop_group";
    let mut script = LifecycleScript::new(plan_with_groups("a\nb", groups));
    let up = [("boot", "run a, run b"), ("a up", ""), ("b up", "started")];
    run(&mut script, &up);
    run(&mut script, &[("a exit 1", ""), ("wait 200ms", "run a")]);
    run(&mut script, &[("a up", ""), ("a stuck", "")]);
    let attempts = script.lifecycle.view(script.id("a")).attempts;
    script.groups = "g: b | one_for_one 3 300s stop_group";
    assert_eq!(script.replan("b", ""), "removed a, plan 2");
    script.groups = groups;
    assert_eq!(script.replan("a\nb", ""), "plan 3");
    assert_eq!(script.state("a"), State::Failed);
    for _ in attempts..3 {
        run(&mut script, &[("b exit 1", ""), ("wait 10s", "run b")]);
        run(&mut script, &[("b up", "")]);
    }
    run(&mut script, &[("b exit 1", "")]);
    assert_eq!(script.state("b"), State::Failed);
}

/// It waited for its turn, which the new plan has no more, and needs a token.
#[test]
fn who_waited_for_a_turn_waits_for_a_token_when_modules_start_together() {
    use crate::fixture::modules;
    use crate::spec::SystemSpec;
    let numbered = |number, parallel_startup| {
        let system = SystemSpec {
            parallel_startup,
            concurrent_restarts: 1,
            ..system()
        };
        Plan::new(number, system, modules("a\nb\nc")).expect("a good plan")
    };
    let mut script = LifecycleScript::new(numbered(1, false));
    run(&mut script, &[("boot", "run a"), ("a up", "run b")]);
    run(&mut script, &[("b up", "run c"), ("a exit 1", "")]);
    run(&mut script, &[("b exit 1", ""), ("wait 200ms", "")]);
    let done = script.lifecycle.replan(script.now, numbered(2, true), &[]);
    done.expect("it follows");
    run(
        &mut script,
        &[("wait 0ms", "run a, plan 2"), ("c up", "started")],
    );
    run(&mut script, &[("a up", "run b")]);
}

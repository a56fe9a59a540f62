//! Recovery as scripts: groups, resets, degraded mode, restarts of everything, proposals.
//! Owns one scenario for each rule. Never looks inside: effects and states alone are promises.

use super::{LifecycleEffect, LifecycleEvent};
use crate::fixture::{LifecycleScript, SEC, check, plan, plan_with_groups, run, system};
use crate::plan::Plan;
use crate::spec::{Cascade, SystemSpec};
use crate::states::State;

fn with_groups(text: &str, groups: &str, steps: &[(&str, &str)]) -> LifecycleScript {
    let mut script = LifecycleScript::new(plan_with_groups(text, groups));
    run(&mut script, steps);
    script
}

fn attempts(script: &LifecycleScript, name: &str) -> u32 {
    script.lifecycle.view(script.id(name)).attempts
}

const THREE: [(&str, &str); 4] = [
    ("boot", "run a, run b, run c"),
    ("a up", ""),
    ("b up", ""),
    ("c up", "started"),
];

#[test]
fn one_for_all_restarts_all_when_all_have_ended_and_the_backoff_is_over() {
    let mut script = with_groups("a\nb\nc", "g: a b c | one_for_all 5 30s stop_group", &THREE);
    run(
        &mut script,
        &[
            ("b killed", "halt a, halt c"),
            ("wait 1s", ""),
            ("a halted", ""),
            ("c halted", "run b, run a, run c"),
        ],
    );
    assert_eq!(
        ["a", "b", "c"].map(|name| attempts(&script, name)),
        [0, 1, 0]
    );
    run(&mut script, &[("a up", ""), ("b up", ""), ("c up", "")]);
    run(
        &mut script,
        &[
            ("a killed", "halt b, halt c"),
            ("b halted", ""),
            ("c halted", ""),
            ("wait 199ms", ""),
            ("wait 1ms", "run b, run c, run a"),
        ],
    );
}

#[test]
fn rest_for_one_restarts_those_after_it() {
    let mut script = with_groups(
        "a\nb\nc",
        "g: c b a | rest_for_one 5 30s stop_group",
        &THREE,
    );
    run(
        &mut script,
        &[
            ("b killed", "halt a"),
            ("a halted", ""),
            ("wait 200ms", "run a, run b"),
        ],
    );
}

#[test]
fn one_for_one_restarts_the_one_until_the_budget_is_exceeded() {
    let text = "a | unlimited\nb\nc";
    let mut script = with_groups(text, "g: a b | one_for_one 2 30s stop_group", &THREE);
    run(
        &mut script,
        &[
            ("a killed", ""),
            ("wait 200ms", "run a"),
            ("a up", ""),
            ("a killed", ""),
            ("wait 400ms", "run a"),
            ("a up", ""),
            ("a killed", "halt b"),
            ("b halted", ""),
            ("wait 1h", ""),
            ("start a", "run a"),
            ("a up", ""),
        ],
    );
    assert_eq!(script.state("b"), State::Failed, "until it is started");
}

#[test]
fn outsiders_see_the_restart_of_a_member_as_that_of_a_dependency() {
    let text = "a\nb\nc: b | restart\nd: b";
    let mut script = with_groups(text, "g: a b | one_for_all 5 30s stop_group", &[]);
    run(
        &mut script,
        &[
            ("boot", "run a, run b"),
            ("a up", ""),
            ("b up", "run c, run d"),
            ("c up", ""),
            ("d up", "started"),
            ("a killed", "tell d b Restarting, halt c"),
            ("c halted", "halt b"),
            ("b halted", ""),
            ("wait 200ms", "run b, run a"),
            ("b up", "tell d b Recovered, run c"),
        ],
    );
    assert_eq!(attempts(&script, "b") + attempts(&script, "c"), 0);
}

#[test]
fn a_member_that_a_person_stops_stays_down_and_holds_nobody() {
    let mut script = with_groups("a\nb\nc", "g: a b c | one_for_all 5 30s stop_group", &THREE);
    run(
        &mut script,
        &[
            ("b killed", "halt a, halt c"),
            ("stop c", ""),
            ("a halted", ""),
            ("c halted", ""),
            ("wait 200ms", "run a, run b"),
            ("a up", ""),
            ("b up", ""),
            ("a killed", "halt b"),
            ("stop a", ""),
            ("b halted", "run b"),
        ],
    );
    assert_eq!(script.state("c"), State::Stopped);
}

#[test]
fn a_budget_that_is_exceeded_may_end_everything_or_escalate() {
    let text = "a | unlimited\nb\nc";
    let mut script = with_groups(text, "g: a b | one_for_one 0 30s shutdown", &THREE);
    run(
        &mut script,
        &[
            ("a killed", "halt b, halt c"),
            ("b halted", ""),
            ("c halted", "all stopped, 0 forced"),
        ],
    );
    let groups = "g: a b | one_for_one 0 30s escalate\nh: group:g c | one_for_one 5 30s stop_group";
    let mut script = with_groups(text, groups, &THREE);
    run(
        &mut script,
        &[
            ("a killed", "halt b"),
            ("b halted", ""),
            ("wait 200ms", "run b, run a"),
        ],
    );
}

#[test]
fn a_runtime_that_returns_counts_what_the_members_used_up_in_their_group() {
    let groups = "g: a b | one_for_one 1 30s stop_group";
    let mut script = with_groups("a\nb\nc", groups, &THREE);
    run(
        &mut script,
        &[("a killed", ""), ("wait 200ms", "run a"), ("a up", "")],
    );
    let ids = script.ids();
    let records = ids.iter().map(|id| script.lifecycle.record(*id));
    let records: alloc::vec::Vec<_> = records.collect();
    script.lifecycle = super::Lifecycle::new(plan_with_groups("a\nb\nc", groups), 2);
    let mut effects = alloc::vec::Vec::new();
    for (module, record) in ids.into_iter().zip(records) {
        let (generation, pid) = (record.generation, 7);
        let alive = Some(super::AdoptedProcess { generation, pid });
        let event = LifecycleEvent::Adopted {
            module,
            record,
            alive,
        };
        script.note(event, &mut effects);
    }
    run(&mut script, &[("resume", ""), ("b killed", "halt a")]);
}

#[test]
fn a_shutdown_by_a_group_waits_until_all_that_is_known_was_said() {
    let groups = "g: a b | one_for_one 0 30s shutdown";
    let mut script = with_groups("a\nb\nc", groups, &THREE);
    let ids = script.ids();
    let records = ids.iter().map(|id| script.lifecycle.record(*id));
    let records: alloc::vec::Vec<_> = records.collect();
    script.lifecycle = super::Lifecycle::new(plan_with_groups("a\nb\nc", groups), 2);
    let (first, mut effects) = (ids[0], alloc::vec::Vec::new());
    for (module, record) in ids.into_iter().zip(records) {
        let (generation, pid) = (record.generation, 7);
        let alive = (module != first).then_some(super::AdoptedProcess { generation, pid });
        let event = LifecycleEvent::Adopted {
            module,
            record,
            alive,
        };
        script.note(event, &mut effects);
    }
    run(
        &mut script,
        &[
            ("a killed", ""),
            ("resume", "halt b, halt c"),
            ("b halted", ""),
            ("c halted", "all stopped, 0 forced"),
        ],
    );
}

#[test]
fn groups_follow_the_plan() {
    let mut script = with_groups("a\nb\nc", "g: a b c | one_for_all 5 30s stop_group", &THREE);
    assert_eq!(script.replan("a\nb\nc", ""), "plan 2");
    run(&mut script, &[("b killed", ""), ("wait 200ms", "run b")]);
}

#[test]
fn a_reset_is_done_before_the_next_run_and_taken_back_if_it_does_not_help() {
    let mut script = check(
        "a | once reset stop",
        &[
            ("boot", "run a"),
            ("a up", "started"),
            ("a killed", ""),
            ("wait 200ms", "run a"),
            ("a up", ""),
            ("a killed", "reset a 1"),
            ("wait 5s", ""),
            ("a prepared 7", ""),
            ("a prepared 1", "run a"),
            ("a started", ""),
            ("a killed", "roll back a 2"),
            ("start a", ""),
            ("a prepared 2", "run a"),
        ],
    );
    run(&mut script, &[("a up", "")]);
    assert_eq!(attempts(&script, "a"), 0);
}

#[test]
fn a_reset_that_helped_is_kept_and_one_that_fails_or_hangs_is_the_next_failure() {
    let climb = [
        ("boot", "run a"),
        ("a up", "started"),
        ("a killed", ""),
        ("wait 200ms", "run a"),
        ("a up", ""),
        ("a killed", "reset a 1"),
    ];
    let mut script = check("a | once reset degrade", &climb);
    run(
        &mut script,
        &[
            ("a prepared 1", ""),
            ("wait 400ms", "run a"),
            ("a up", ""),
            ("wait 2s", ""),
            ("a killed", ""),
            ("wait 800ms", "run a"),
            ("a up", "degrade a"),
        ],
    );
    let mut script = check("a | once reset stop", &climb);
    run(&mut script, &[("a unprepared 1", "")]);
    assert_eq!(script.state("a"), State::Failed);
    let mut script = check("a | once reset stop", &climb);
    run(&mut script, &[("wait 29s", ""), ("wait 1s", "")]);
    assert_eq!(script.state("a"), State::Failed);
}

#[test]
fn a_degraded_module_is_restored_after_a_stable_run() {
    let mut script = check(
        "a | once degrade stop",
        &[
            ("boot", "run a"),
            ("a up", "started"),
            ("a killed", ""),
            ("wait 200ms", "run a"),
            ("a up", ""),
            ("a killed", ""),
            ("wait 400ms", "run a"),
            ("a up", "degrade a"),
            ("wait 59s", ""),
            ("wait 1s", "restore a"),
        ],
    );
    assert!(!script.lifecycle.view(script.id("a")).degraded);
    run(
        &mut script,
        &[("a killed", ""), ("wait 2s", "run a"), ("a up", "")],
    );
    assert_eq!(script.state("a"), State::Running);
}

#[test]
fn the_restart_of_everything_keeps_what_was_requested() {
    let mut script = check(
        "a | once system stop\nb: a\nc\nd | lazy\ne",
        &[
            ("boot", "run a, run c, run e"),
            ("a up", "run b"),
            ("b up", ""),
            ("c up", ""),
            ("e up", "started"),
            ("stop e", "halt e"),
            ("e halted", ""),
            ("a killed", "tell b a Restarting"),
            ("wait 200ms", "run a"),
            ("a up", "tell b a Recovered"),
            ("a killed", "halt c, halt b"),
            ("wait 1s", ""),
            ("b halted", ""),
            ("c halted", "run a, run c"),
            ("a up", "run b"),
            ("b up", ""),
            ("c up", ""),
        ],
    );
    let states = ["d", "e"].map(|name| script.state(name));
    assert_eq!(states, [State::NotStarted, State::Stopped]);
    run(&mut script, &[("a killed", "halt b")]);
    assert_eq!(script.state("a"), State::Failed);
}

#[test]
fn without_auto_a_restart_is_proposed_and_waits_to_be_accepted() {
    let mut script = check(
        "a | by_hand once reset optional\nb",
        &[
            ("boot", "run a, run b"),
            ("a up", ""),
            ("b up", "started"),
            ("recover a", ""),
            ("a killed", ""),
            ("wait 1h", ""),
            ("recover b", ""),
            ("recover a", "run a"),
            ("a up", ""),
            ("a killed", ""),
            ("recover a", "reset a 1"),
            ("a prepared 1", "run a"),
            ("a up", ""),
            ("a killed", "roll back a 2"),
            ("recover a", ""),
        ],
    );
    assert_eq!(script.state("a"), State::Failed, "the ladder has ended");
    run(&mut script, &[("a prepared 2", ""), ("start a", "run a")]);
}

#[test]
fn who_crashes_while_what_it_needs_is_down_waits_and_spends_no_attempt() {
    let mut script = check(
        "a | unlimited\nb: a | ignore once",
        &[("boot", "run a"), ("a up", "run b"), ("b up", "started")],
    );
    for _ in 0..5 {
        run(
            &mut script,
            &[
                ("a killed", ""),
                ("b killed", ""),
                ("wait 1m", "run a"),
                ("a up", "run b"),
            ],
        );
        run(&mut script, &[("b up", "")]);
    }
    assert_eq!(attempts(&script, "b"), 0);
}

#[test]
fn a_cascade_stops_the_branches_of_those_that_failed() {
    let spec = SystemSpec {
        cascade: Cascade {
            share: 0.5,
            window: SEC(60),
        },
        ..system()
    };
    let text = "a\nb\nc\nd: a? | optional\ne: d";
    let modules = plan(text)
        .modules()
        .cloned()
        .collect::<alloc::vec::Vec<_>>();
    let plan = Plan::new(1, spec, modules).expect("a good plan");
    let mut script = LifecycleScript::new(plan);
    run(
        &mut script,
        &[
            ("boot", "run a, run b, run c"),
            ("a up", "run d"),
            ("b up", ""),
            ("c up", ""),
            ("d up", "run e"),
            ("e up", "started"),
            ("a exit 78", "tell d a Failed"),
            ("b exit 78", ""),
            ("c exit 78", "cascade: a b c d e, halt e"),
            ("e halted", "halt d"),
            ("d halted", ""),
            ("wait 1h", ""),
            ("start d", "run d"),
        ],
    );
}

#[test]
fn a_cascade_that_completes_during_the_initial_startup_stops_its_branches() {
    let mut spec = system();
    spec.cascade.share = 0.5;
    let text = "a | optional\nb | optional\nc | optional\nd: a? | optional\ne";
    let modules = plan(text)
        .modules()
        .cloned()
        .collect::<alloc::vec::Vec<_>>();
    let mut script = LifecycleScript::new(Plan::new(1, spec, modules).expect("a good plan"));
    run(
        &mut script,
        &[
            ("boot", "run a, run b, run c, run e"),
            ("a exit 78", "run d"),
            ("b exit 78", ""),
            ("c exit 78", "cascade: a b c d, halt d"),
            ("d halted", ""),
            ("e up", "started"),
            ("wait 1h", ""),
        ],
    );
    assert_eq!(script.state("d"), State::Failed);
}

#[test]
fn a_restart_on_request_outlasts_the_end_of_its_group() {
    let mut script = with_groups(
        "a\nb",
        "g: a b | one_for_all 0 30s stop_group",
        &[
            ("boot", "run a, run b"),
            ("a up", ""),
            ("b up", "started"),
            ("restart b", "halt b"),
            ("a killed", ""),
            ("b halted", "run b"),
        ],
    );
    run(&mut script, &[("b up", ""), ("b killed", "")]);
    assert_eq!(script.state("b"), State::Failed, "its group is exceeded");
}

#[test]
fn a_restart_that_waits_for_dependents_outlasts_the_end_of_its_group() {
    for end in ["c halted", "b killed"] {
        let mut script = with_groups(
            "a\nb\nc: b | restart",
            "g: a b c | one_for_one 0 30s stop_group",
            &[
                ("boot", "run a, run b"),
                ("a up", ""),
                ("b up", "run c"),
                ("c up", "started"),
                ("restart b", "halt c"),
                ("a killed", ""),
            ],
        );
        match end {
            "b killed" => run(&mut script, &[("b killed", "run b"), ("c halted", "")]),
            _ => run(
                &mut script,
                &[("c halted", "halt b"), ("b halted", "run b")],
            ),
        }
        run(&mut script, &[("b up", "")]);
        assert_eq!(script.state("c"), State::Failed, "{end}");
    }
}

#[test]
fn a_reset_that_fails_keeps_those_that_still_end_for_its_restart() {
    with_groups(
        "a | once reset reset stop\nb\nc",
        "g: a b | one_for_all 1 30s escalate\nh: c group:g | one_for_all 10 30s stop_group",
        &[
            ("boot", "run a, run b, run c"),
            ("a up", ""),
            ("b up", ""),
            ("c up", "started"),
            ("a killed", "halt b"),
            ("b halted", ""),
            ("wait 200ms", "run b, run a"),
            ("a up", ""),
            ("b up", ""),
            ("a killed", "reset a 1, halt b, halt c"),
            ("b halted", ""),
            ("a unprepared 1", "reset a 2"),
            ("a prepared 2", ""),
            ("wait 20s", ""),
            ("c halted", "run b, run a, run c"),
        ],
    );
}

#[test]
fn who_stops_with_a_group_is_no_part_of_a_cascade() {
    let script = with_groups("a\nb\nc\nd", "g: a b c | one_for_one 0 30s stop_group", &[]);
    let mut plan = script.lifecycle.plan().system().clone();
    plan.cascade.share = 0.5;
    let modules = script
        .lifecycle
        .plan()
        .modules()
        .cloned()
        .collect::<alloc::vec::Vec<_>>();
    let mut script = LifecycleScript::new(Plan::new(1, plan, modules).expect("a good plan"));
    run(
        &mut script,
        &[
            ("boot", "run a, run b, run c, run d"),
            ("a up", ""),
            ("b up", ""),
            ("c up", ""),
            ("d up", "started"),
            ("a killed", "halt b, halt c"),
            ("b halted", ""),
            ("c halted", ""),
        ],
    );
}

#[test]
fn a_runtime_that_returns_goes_on_with_reset_proposal_and_degraded_mode() {
    let mut script = check(
        "a | once reset stop\nb | by_hand",
        &[
            ("boot", "run a, run b"),
            ("a up", ""),
            ("b up", "started"),
            ("a killed", ""),
            ("wait 200ms", "run a"),
            ("a up", ""),
            ("a killed", "reset a 1"),
            ("b killed", ""),
        ],
    );
    let ids = script.ids();
    let records = ids.iter().map(|id| script.lifecycle.record(*id));
    let records: alloc::vec::Vec<_> = records.collect();
    script.lifecycle = super::Lifecycle::new(plan("a | once reset stop\nb | by_hand"), 2);
    let mut effects = alloc::vec::Vec::new();
    for (module, record) in ids.into_iter().zip(records) {
        let alive = None;
        let event = LifecycleEvent::Adopted {
            module,
            record,
            alive,
        };
        script.note(event, &mut effects);
    }
    let reset =
        |effect: &LifecycleEffect| matches!(effect, LifecycleEffect::Prepare(order) if order.reset);
    assert_eq!(effects.iter().filter(|effect| reset(effect)).count(), 1);
    run(
        &mut script,
        &[
            ("resume", ""),
            ("wait 5s", ""),
            ("a prepared 1", "run a"),
            ("recover b", "run b"),
        ],
    );
}

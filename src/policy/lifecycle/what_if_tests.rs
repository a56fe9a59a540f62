//! What would follow, as scripts: who fails, falls, restarts, and how the system is then.
//! Owns one scenario for each supposition. Never waits: time is an argument.

use alloc::string::String;

use super::{PreviewAction, Supposition, WhatIf};
use crate::fixture::{LifecycleScript, MS, check, plan, run};
use crate::recovery::Verdict;
use crate::states::Status;

const BOOT: [(&str, &str); 5] = [
    ("boot", "run a, run b"),
    ("a up", ""),
    ("b up", "run c, run d"),
    ("c up", ""),
    ("d up", "started"),
];

fn what_if(script: &LifecycleScript, module: &str, what: Supposition) -> (String, WhatIf) {
    let before = alloc::format!("{:?}", script.lifecycle);
    let found = script
        .lifecycle
        .what_if(script.now, script.id(module), what);
    let after = alloc::format!("{:?}", script.lifecycle);
    assert_eq!(before, after, "nothing is touched");
    let step = |step: &super::PreviewStep| {
        let word = match step.action {
            PreviewAction::Start => "run",
            PreviewAction::Stop => "halt",
            PreviewAction::Restart => "again",
            PreviewAction::Notify => "tell",
            PreviewAction::Fail => "fail",
            PreviewAction::Wait => "wait",
        };
        let name = &script.lifecycle.plan().module(step.module).name;
        alloc::format!("{word} {name}")
    };
    let steps: alloc::vec::Vec<_> = found.steps.iter().map(step).collect();
    (steps.join(", "), found)
}

#[test]
fn a_kill_restarts_the_module_and_what_is_to_restart_with_it() {
    let script = check("a\nb\nc: b | restart\nd: b", &BOOT);
    let (steps, found) = what_if(&script, "b", Supposition::Kill);
    assert_eq!(steps, "again b, again c, tell d");
    assert_eq!(found.worst, Status::Degraded);
    assert_eq!(found.after.status, Status::Healthy);
    let verdict = found.decision.expect("a decision").verdict;
    assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
}

#[test]
fn a_stop_takes_along_what_depends_on_it_and_the_status_says_so() {
    let script = check("a\nb\nc: b | restart\nd: b", &BOOT);
    let (steps, found) = what_if(&script, "b", Supposition::Stop);
    assert_eq!(steps, "halt c, halt d, halt b");
    assert_eq!(found.decision, None);
    assert_eq!(found.after.status, Status::Degraded);
    assert_eq!(found.after.stopped, [script.id("b")]);
}

#[test]
fn a_module_that_goes_on_to_fail_is_given_up_and_its_dependents_fall() {
    let script = check("a\nb\nc: b | restart\nd: b", &BOOT);
    let (steps, found) = what_if(&script, "b", Supposition::Fail);
    assert_eq!(steps, "fail b, halt c, halt d");
    assert_eq!(found.after.status, Status::Critical);
    assert_eq!(found.after.failing, [script.id("b")]);
    assert!(!found.is_endless);
}

#[test]
fn without_a_limit_it_is_never_given_up() {
    let script = check(
        "a | unlimited\nb: a",
        &[("boot", "run a"), ("a up", "run b"), ("b up", "started")],
    );
    assert!(what_if(&script, "a", Supposition::Fail).1.is_endless);
}

#[test]
fn runs_that_are_starting_and_stopping_already_are_finished() {
    let script = check("a\nb: a\nc", &[("boot", "run a, run c"), ("a started", "")]);
    let (steps, found) = what_if(&script, "c", Supposition::Kill);
    assert_eq!(steps, "again c", "b starts anyway");
    assert_eq!(found.after.status, Status::Healthy);
    let (steps, _) = what_if(&script, "a", Supposition::Stop);
    assert_eq!(steps, "halt a, wait b");
    let up = [("boot", "run a"), ("a up", "run b"), ("b up", "started")];
    let mut script = check("a\nb: a", &up);
    run(&mut script, &[("stop a", "halt b"), ("b halted", "halt a")]);
    let (steps, found) = what_if(&script, "a", Supposition::Fail);
    assert_eq!(steps, "run a, wait b");
    assert_eq!(found.after.failing, [script.id("a")]);
}

#[test]
fn the_waits_of_others_do_not_make_a_failure_endless() {
    let names: alloc::vec::Vec<String> = (0..300).map(|nth| alloc::format!("m{nth:03}")).collect();
    let mut script = LifecycleScript::new(plan(&alloc::format!("a\n{}", names.join("\n"))));
    script.apply("boot");
    script.apply("a up");
    for name in names {
        script.apply(&alloc::format!("{name} up"));
        script.apply(&alloc::format!("{name} exit 1"));
        script.now = script.now.after(MS(1));
    }
    let (steps, found) = what_if(&script, "a", Supposition::Stop);
    assert_eq!(steps, "halt a");
    assert!(!found.is_endless);
    assert!(!what_if(&script, "a", Supposition::Fail).1.is_endless);
}

#[test]
fn those_that_are_affected_are_those_that_a_stop_would_touch() {
    let names = |script: &LifecycleScript, found: &[crate::spec::ModuleId]| {
        let names = found.iter();
        let names = names.map(|id| script.lifecycle.plan().module(*id).name.clone());
        names.collect::<alloc::vec::Vec<_>>().join(", ")
    };
    let up = [
        ("boot", "run a, run t"),
        ("a up", ""),
        ("t up", ""),
        ("t exit 0", "run b"),
        ("b up", "run c"),
    ];
    // A task that is done is needed no more; what waits for it is.
    let text = "a\nt | task\nb: a t@completed\nc: b";
    for (lines, module, steps, affected) in [
        (&up[..], "a", "halt c, halt b, halt a", "b, c"),
        (&up[..], "t", "", ""),
        (&up[..3], "t", "halt t, wait b, wait c", "b, c"),
        (&up[..3], "a", "halt a, wait b, wait c", "b, c"),
    ] {
        let script = check(text, lines);
        let (found, _) = what_if(&script, module, Supposition::Stop);
        assert_eq!(found, steps, "{module} after {}", lines.len());
        let found = script.lifecycle.affected_by(script.id(module));
        assert_eq!(names(&script, &found), affected, "{module}");
    }
}

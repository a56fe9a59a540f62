//! The full product: every state of a module, every thing that can be asked of it or happen to
//! it, twice in a row, must end in the desired state.
//! Owns a world where each order succeeds at once. Never accepts a state in between.

use alloc::vec::Vec;

use super::{LifecycleEffect, LifecycleEvent};
use crate::fixture::{LifecycleScript, plan};
use crate::run::{Exit, RunEnd, RunReport, RunReportKind};
use crate::states::{Desired, State};

/// Ways into every state of `m`, which needs `dep`; `top` needs `m`.
const STATES: [(&str, State, &[&str]); 10] = [
    ("never wished", State::NotStarted, &[]),
    ("waiting", State::Waiting, &["start m"]),
    ("starting", State::Starting, &["start m", "dep up"]),
    (
        "started",
        State::Starting,
        &["start m", "dep up", "m started"],
    ),
    (
        "running",
        State::Running,
        &["start top", "dep up", "m up", "top up"],
    ),
    (
        "running alone",
        State::Running,
        &["start m", "dep up", "m up"],
    ),
    (
        "stopping",
        State::Stopping,
        &["start m", "dep up", "m up", "stop m"],
    ),
    (
        "stopped",
        State::Stopped,
        &["start m", "dep up", "m up", "stop m", "m halted"],
    ),
    (
        "backoff",
        State::Backoff,
        &["start m", "dep up", "m exit 1"],
    ),
    ("failed", State::Failed, &["start m", "dep up", "m exit 78"]),
];

const COMMANDS: [&str; 13] = [
    "start m",
    "stop m",
    "restart m",
    "stop all",
    "start top",
    "stop dep",
    "restart dep",
    "dep killed",
    "dep exit 78",
    "m killed",
    "m exec",
    "m ill",
    "wait 1s",
];

fn at(way: &[&str]) -> LifecycleScript {
    let mut script = LifecycleScript::new(plan("dep | lazy\nm: dep | lazy\ntop: m | lazy restart"));
    script.apply("boot");
    for event in way {
        script.apply(event);
    }
    script
}

/// Replies to every pending effect until nothing more happens.
fn succeed(script: &mut LifecycleScript) -> bool {
    let mut stopped = false;
    for _ in 0..200 {
        let (mut effects, mut told) = (Vec::new(), false);
        for module in script.ids() {
            let view = script.lifecycle.view(module);
            let generation = view.generation;
            let what = match view.state {
                State::Starting if view.pid.is_none() => RunReportKind::Started { pid: 9 },
                State::Starting => RunReportKind::Ready,
                State::Stopping => {
                    let exit = Some(Exit::Code(0));
                    RunReportKind::Ended(RunEnd::Stopped {
                        exit,
                        forced: false,
                    })
                }
                _ => continue,
            };
            let report = RunReport { generation, what };
            script.note(LifecycleEvent::Reported { module, report }, &mut effects);
            told = true;
        }
        stopped |= effects
            .iter()
            .any(|effect| matches!(effect, LifecycleEffect::AllStopped { .. }));
        if !told {
            if script.lifecycle.deadline().is_none() {
                return stopped;
            }
            script.apply("wait 10s");
        }
    }
    panic!("no end");
}

fn reached(script: &LifecycleScript, name: &str) -> bool {
    let view = script.lifecycle.view(script.id(name));
    match (view.desired, view.state) {
        (Desired::Up, State::Running) => true,
        // Configuration errors wait for a person, and so do the module's dependents.
        (Desired::Up, State::Failed) => view.retry_at.is_none(),
        (Desired::Up, State::Waiting) => {
            let needs = script.lifecycle.view(view.waiting_on[0]);
            needs.desired == Desired::Down || !reached_up(needs.state)
        }
        (Desired::Down, State::Stopped | State::NotStarted) => true,
        _ => false,
    }
}

fn reached_up(state: State) -> bool {
    state == State::Running
}

#[test]
fn every_state_and_every_two_commands_reach_the_wish() {
    for (called, state, way) in STATES {
        assert_eq!(at(way).state("m"), state, "{called}");
        for first in COMMANDS {
            for second in COMMANDS {
                let mut script = at(way);
                script.apply(first);
                script.apply(second);
                let stopped = succeed(&mut script);
                let story = alloc::format!("{called}, {first}, {second}");
                for name in ["dep", "m", "top"] {
                    let view = script.lifecycle.view(script.id(name));
                    assert!(reached(&script, name), "{story}: {name} {view:?}");
                }
                if [first, second].contains(&"stop all") {
                    let down =
                        |name| matches!(script.state(name), State::Stopped | State::NotStarted);
                    assert!(["dep", "m", "top"].into_iter().all(down), "{story}");
                    assert!(stopped || script.lifecycle.system().stopping, "{story}");
                } else if second == "start m" && first != "dep exit 78" && called != "failed" {
                    assert_eq!(script.state("m"), State::Running, "{story}");
                } else if second == "stop m" {
                    let state = script.state("m");
                    assert!(
                        matches!(state, State::Stopped | State::NotStarted),
                        "{story}"
                    );
                }
            }
        }
    }
}

#[test]
fn preview_says_what_a_wish_takes_along() {
    use crate::lifecycle::{Operation, PreviewAction};
    let script = at(&["start top", "dep up", "m up", "top up"]);
    let steps = |operation| -> Vec<_> {
        let plan = script.lifecycle.plan();
        let name = |id| plan.module(id).name.as_str();
        let steps = script.lifecycle.preview(script.id("m"), operation);
        steps
            .iter()
            .map(|step| (name(step.module), step.action, name(step.because)))
            .collect()
    };
    use PreviewAction::{Restart, Stop};
    assert_eq!(steps(Operation::Start), []);
    assert_eq!(
        steps(Operation::Stop),
        [("top", Stop, "m"), ("m", Stop, "m")]
    );
    assert_eq!(
        steps(Operation::Restart),
        [("top", Restart, "m"), ("m", Restart, "m")]
    );
}

/// What was ordered before is carried out, and is no part of what the request takes along.
#[test]
fn preview_goes_beyond_what_is_starting_or_stopping() {
    use crate::lifecycle::{Operation, PreviewAction};
    use PreviewAction::{Restart, Start, Stop};
    type Row<'a> = (&'a [&'a str], Operation, &'a [(&'a str, PreviewAction)]);
    let table: [Row<'_>; 5] = [
        (&["start top"], Operation::Start, &[("m", Start)]),
        (
            &["start top", "dep up"],
            Operation::Restart,
            &[("m", Restart)],
        ),
        (
            &["start m", "dep up", "m up", "stop m"],
            Operation::Start,
            &[("m", Start)],
        ),
        (
            &["start m", "dep up", "m up", "m ending"],
            Operation::Restart,
            &[("m", Restart)],
        ),
        (
            &["start m", "dep up", "m up", "m ending"],
            Operation::Stop,
            &[("m", Stop)],
        ),
    ];
    for (way, operation, expected) in table {
        let script = at(way);
        let steps = script.lifecycle.preview(script.id("m"), operation);
        let plan = script.lifecycle.plan();
        let name = |id| plan.module(id).name.as_str();
        let steps = steps.iter().map(|it| (name(it.module), it.action));
        assert_eq!(steps.collect::<Vec<_>>(), expected, "{way:?} {operation:?}");
    }
}

#[test]
fn a_returning_runtime_goes_on_as_if_nothing_had_happened() {
    use super::{AdoptedProcess, Lifecycle};
    for (called, _, way) in STATES {
        let before = at(way);
        let mut after =
            LifecycleScript::new(plan("dep | lazy\nm: dep | lazy\ntop: m | lazy restart"));
        after.lifecycle = Lifecycle::new(before.lifecycle.plan().clone(), 1);
        after.now = before.now;
        let mut effects = Vec::new();
        for module in before.lifecycle.plan().ids() {
            let (record, view) = (
                before.lifecycle.record(module),
                before.lifecycle.view(module),
            );
            let alive = view.pid.map(|pid| AdoptedProcess {
                generation: view.generation,
                pid,
            });
            after.note(
                LifecycleEvent::Adopted {
                    module,
                    record,
                    alive,
                },
                &mut effects,
            );
        }
        after.note(LifecycleEvent::Resume, &mut effects);
        let runs = effects
            .iter()
            .filter(|effect| matches!(effect, LifecycleEffect::Run { .. }))
            .count();
        assert_eq!(runs, 0, "{called}: {effects:?}");
        for name in ["dep", "m", "top"] {
            let (then, now) = (
                before.lifecycle.view(before.id(name)),
                after.lifecycle.view(after.id(name)),
            );
            // A start that was in flight and left no process has failed.
            let lost = then.state == State::Starting && then.pid.is_none();
            let expected = if lost { State::Backoff } else { then.state };
            assert_eq!(now.state, expected, "{called}: {name}");
            assert_eq!(
                (now.desired, now.retry_at.is_some()),
                (then.desired, then.retry_at.is_some() || lost),
                "{called}: {name}"
            );
        }
    }
}

#[test]
fn more_time_to_start_is_recorded() {
    let mut script = LifecycleScript::new(plan("m"));
    script.apply("boot");
    script.apply("m started");
    let (module, ready_deadline) = (script.id("m"), script.now.after(crate::fixture::SEC(300)));
    while script.lifecycle.next_changed_record().is_some() {}
    let what = RunReportKind::Extended {
        deadline: ready_deadline,
    };
    let (generation, mut effects) = (1, Vec::new());
    let report = RunReport { generation, what };
    script.note(LifecycleEvent::Reported { module, report }, &mut effects);
    assert_eq!(
        script.lifecycle.record(module).ready_deadline,
        Some(ready_deadline)
    );
    assert_eq!(script.lifecycle.next_changed_record(), Some(module));
}

/// The next runtime, which knows what the one before recorded, and what lives of `living`.
fn returned(before: &LifecycleScript, text: &str, living: &[&str]) -> LifecycleScript {
    let mut after = LifecycleScript::new(plan(text));
    take_over(before, &mut after, living);
    after
}

fn take_over(before: &LifecycleScript, after: &mut LifecycleScript, living: &[&str]) {
    use super::AdoptedProcess;
    after.now = before.now;
    let mut effects = Vec::new();
    for module in before.lifecycle.plan().ids() {
        let (record, view) = (
            before.lifecycle.record(module),
            before.lifecycle.view(module),
        );
        let name = &before.lifecycle.plan().module(module).name;
        let lives = living.contains(&name.as_str());
        let alive = view.pid.filter(|_| lives).map(|pid| AdoptedProcess {
            generation: view.generation,
            pid,
        });
        after.note(
            LifecycleEvent::Adopted {
                module,
                record,
                alive,
            },
            &mut effects,
        );
    }
}

#[test]
fn who_restarts_with_what_it_needs_does_so_when_the_reason_is_forgotten() {
    const PLAN: &str = "a\nb: a | restart";
    let ended_before = [("a halted", ""), ("resume", "run a, halt b")];
    let ends_now = [("resume", "halt a"), ("a halted", "run a, halt b")];
    for (living, steps) in [(&["b"][..], ended_before), (&["a", "b"], ends_now)] {
        let mut before = LifecycleScript::new(plan(PLAN));
        for event in ["boot", "a up", "b up", "a ill"] {
            before.apply(event);
        }
        assert_eq!(before.state("a"), State::Stopping);
        let mut after = returned(&before, PLAN, living);
        crate::fixture::run(&mut after, &steps);
        crate::fixture::run(&mut after, &[("b halted", ""), ("a up", "run b")]);
    }
}

/// The runtime died during the initial startup: the result is the same as if it had not.
#[test]
fn a_first_start_goes_on_with_the_time_it_had() {
    const PLAN: &str = "a\nb: a\nc | optional";
    type Story = &'static [(&'static str, &'static str)];
    let stories: [Story; 4] = [
        &[("a ready", "run b"), ("b up", ""), ("c up", "started")],
        &[("a ready", "run b"), ("b up", ""), ("c exit 1", "started")],
        &[("a exit 78", "start failed: a, halt c")],
        &[
            ("wait 50s", ""),
            ("wait 10s", "start timed out: a c b, halt a, halt c"),
        ],
    ];
    for story in stories {
        let begin = || {
            let mut script = LifecycleScript::new(plan(PLAN));
            for event in ["boot", "a started", "c started"] {
                script.apply(event);
            }
            script
        };
        crate::fixture::run(&mut begin(), story);
        let mut after = returned(&begin(), PLAN, &["a", "c"]);
        assert_eq!(after.apply("resume"), "");
        assert!(after.lifecycle.system().starting);
        crate::fixture::run(&mut after, story);
    }
}

/// The runtime was away for longer than the initial startup may take: what was reported is on
/// its way.
#[test]
fn a_first_start_is_not_over_time_before_the_news_came() {
    let mut before = LifecycleScript::new(plan("a"));
    before.apply("boot");
    before.apply("a started");
    before.now = before.now.after(crate::fixture::SEC(100));
    let mut after = returned(&before, "a", &["a"]);
    crate::fixture::run(
        &mut after,
        &[("resume", ""), ("wait 1s", ""), ("a ready", "started")],
    );
}

#[test]
fn turns_go_on_after_a_return() {
    let mut serial = crate::fixture::system();
    serial.parallel_startup = false;
    let modules = crate::fixture::modules("a\nb");
    let plan = crate::Plan::new(1, serial, modules).expect("good");
    let mut before = LifecycleScript::new(plan);
    assert_eq!(before.apply("boot"), "run a");
    before.apply("a started");
    let mut after = LifecycleScript::new(before.lifecycle.plan().clone());
    take_over(&before, &mut after, &["a"]);
    crate::fixture::run(
        &mut after,
        &[
            ("resume", ""),
            ("wait 1s", ""),
            ("a ready", "run b"),
            ("b up", "started"),
        ],
    );
}

#[test]
fn a_first_start_of_which_nothing_was_kept_is_begun_again() {
    let mut script = LifecycleScript::new(plan("a\nb: a\nc | lazy"));
    let mut effects = Vec::new();
    for module in script.ids() {
        let (record, alive) = (script.lifecycle.record(module), None);
        script.note(
            LifecycleEvent::Adopted {
                module,
                record,
                alive,
            },
            &mut effects,
        );
    }
    assert_eq!(script.apply("resume"), "run a");
    assert_eq!(script.apply("a up"), "run b");
    assert_eq!(script.apply("b up"), "started");
    assert_eq!(script.state("c"), State::NotStarted);
}

//! The table of one module: every state, every event, what becomes of it.
//! Owns the snapshots of the table and of the graph that follows from it, and the timed stories
//! that a table cannot tell. Never reaches into a state except to print its name.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use mainstay_process::Probe;

use super::{
    Exit, RunEffect, RunEnd, RunEvent, RunMachine, RunReport, RunReportKind, StartFailure,
    StartStep,
};
use crate::fixture::{MS, SEC, module};
use crate::mono_time::MonoTime;
use crate::spec::{Kind, ModuleSpec, Readiness};
use crate::states::Cause;

mod said;
mod startup;
mod stops;

const G: u64 = 1;

/// A module with everything: hooks, notify, a watchdog.
fn spec() -> ModuleSpec {
    ModuleSpec {
        readiness: Readiness::Notify,
        has_before_start: true,
        has_after_stop: true,
        watchdog: Some(SEC(5)),
        ..module("m")
    }
}

/// Applies an event and drains the effects. Nothing is in flight that was not applied.
fn step(
    module: &mut RunMachine,
    spec: &ModuleSpec,
    now: MonoTime,
    event: RunEvent,
) -> Vec<RunEffect> {
    module.apply(spec, now, event);
    let mut effects = Vec::new();
    while let Some(effect) = module.next_effect(spec, now) {
        match effect {
            RunEffect::DrainNotify { generation } => {
                module.apply(spec, now, RunEvent::NotifyDrained { generation });
            }
            effect => effects.push(effect),
        }
        assert!(effects.len() < 100, "{effects:?}");
    }
    effects
}

fn told(effects: &[RunEffect]) -> Vec<RunReportKind> {
    let report = |effect: &RunEffect| match effect {
        RunEffect::Report(RunReport { what, .. }) => Some(*what),
        _ => None,
    };
    effects.iter().filter_map(report).collect()
}

const RUN: RunEvent = RunEvent::StartRequested { generation: G };
const PREPARED: RunEvent = RunEvent::Prepared {
    generation: G,
    ok: true,
};
const SPAWNED: RunEvent = RunEvent::Spawned {
    generation: G,
    pid: 7,
};
const READY: RunEvent = RunEvent::ReadyReported { generation: G };
const HALT: RunEvent = RunEvent::StopRequested {
    generation: G,
    grace: Duration::from_secs(10),
    limit: Duration::from_secs(30),
};
/// Of a stop that may take `seconds` at most.
fn terminate(seconds: u64) -> RunEffect {
    RunEffect::Terminate {
        generation: G,
        within: SEC(seconds),
    }
}

/// It ends although no order ended it.
fn ending(cause: Cause) -> RunEffect {
    let what = RunReportKind::Ending { cause };
    let generation = G;
    RunEffect::Report(RunReport { generation, what })
}

const EXITED: RunEvent = RunEvent::Exited {
    generation: G,
    exit: Exit::Code(1),
};
const CLEANED: RunEvent = RunEvent::CleanedUp { generation: G };
const FAILURE: StartFailure = StartFailure {
    step: StartStep::Exec,
    errno: 2,
};

/// Every state that outlives a settle, with a way into it.
const STATES: [(&str, &[RunEvent]); 9] = [
    ("idle", &[]),
    ("preparing", &[RUN]),
    ("spawning", &[RUN, PREPARED]),
    ("starting", &[RUN, PREPARED, SPAWNED]),
    ("running", &[RUN, PREPARED, SPAWNED, READY]),
    ("stopping a hook", &[RUN, HALT]),
    ("stopping a spawn", &[RUN, PREPARED, HALT]),
    ("stopping a process", &[RUN, PREPARED, SPAWNED, HALT]),
    ("cleaning", &[RUN, PREPARED, SPAWNED, EXITED]),
];

const EVENTS: [(&str, RunEvent); 20] = [
    ("run", RunEvent::StartRequested { generation: 2 }),
    ("run again", RUN),
    ("halt", HALT),
    (
        "halt now",
        RunEvent::StopRequested {
            generation: G,
            grace: Duration::ZERO,
            limit: Duration::ZERO,
        },
    ),
    ("prepared", PREPARED),
    (
        "not prepared",
        RunEvent::Prepared {
            generation: G,
            ok: false,
        },
    ),
    ("cleaned up", CLEANED),
    ("spawned", SPAWNED),
    (
        "main changed",
        RunEvent::MainChanged {
            generation: G,
            pid: 8,
        },
    ),
    ("leaving", RunEvent::StoppingReported { generation: G }),
    (
        "spawn failed",
        RunEvent::SpawnFailed {
            generation: G,
            failure: FAILURE,
        },
    ),
    ("exited", EXITED),
    ("ready", READY),
    (
        "probed ready",
        RunEvent::Probed {
            generation: G,
            ok: true,
        },
    ),
    (
        "more time",
        RunEvent::TimeoutExtended {
            generation: G,
            by: Duration::from_secs(60),
        },
    ),
    ("fed", RunEvent::WatchdogFed { generation: G }),
    (
        "watchdog set",
        RunEvent::WatchdogSet {
            generation: G,
            every: Duration::from_secs(1),
        },
    ),
    (
        "watchdog triggered",
        RunEvent::WatchdogTriggered { generation: G },
    ),
    ("woke", RunEvent::TimerFired),
    (
        "adopted",
        RunEvent::Adopted {
            generation: 3,
            pid: 9,
            ready: true,
            ready_deadline: None,
        },
    ),
];

fn reach(events: &[RunEvent]) -> RunMachine {
    let mut module = RunMachine::new();
    for event in events {
        step(&mut module, &spec(), MonoTime(0), *event);
    }
    module
}

/// The short name of the state a module is in.
fn name(module: &RunMachine) -> &'static str {
    use super::{RunPhase, StopTarget, StoppingRun};
    match module.actual {
        RunPhase::Idle => "idle",
        RunPhase::Requested { .. } => "asked",
        RunPhase::Preparing { .. } => "preparing",
        RunPhase::Spawning { .. } => "spawning",
        RunPhase::Starting(_) => "starting",
        RunPhase::Running { .. } => "running",
        RunPhase::Stopping(StoppingRun {
            left: StopTarget::Hook,
            ..
        }) => "stopping a hook",
        RunPhase::Stopping(StoppingRun {
            left: StopTarget::Spawn,
            ..
        }) => "stopping a spawn",
        RunPhase::Stopping(StoppingRun {
            left: StopTarget::Process { .. },
            ..
        }) => "stopping a process",
        RunPhase::Ended { .. } => "over",
        RunPhase::CleaningUp { .. } => "cleaning",
    }
}

fn words(effects: &[RunEffect]) -> String {
    let word = |effect: &RunEffect| match effect {
        RunEffect::Report(RunReport { what, .. }) => format!("{what:?}"),
        other => format!("{other:?}")
            .split(' ')
            .next()
            .map(String::from)
            .unwrap_or_default(),
    };
    effects.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// All lines `state | event | new state | effects` that are not `nothing happens`.
fn table() -> Vec<(&'static str, &'static str, &'static str, String)> {
    let mut lines = Vec::new();
    for (state, way) in STATES {
        for (word, event) in EVENTS {
            let mut module = reach(way);
            assert_eq!(name(&module), state);
            let effects = step(&mut module, &spec(), MonoTime(1), event);
            lines.push((state, word, name(&module), words(&effects)));
        }
    }
    lines
}

fn snapshot(called: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(called, text));
}

#[test]
fn the_table_of_states_and_events() {
    let mut text = String::new();
    for (state, event, to, effects) in table() {
        let to = if to == state { "." } else { to };
        let line = format!("{state:<18} | {event:<18} | {to:<18} | {effects}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    snapshot("module_table", &text);
}

#[test]
fn the_graph_of_states() {
    let mut text = String::from("digraph module {\n");
    for (state, event, to, _) in table() {
        if to != state {
            text.push_str(&format!("  \"{state}\" -> \"{to}\" [label=\"{event}\"];\n"));
        }
    }
    text.push_str("}\n");
    snapshot("module_graph", &text);
}

#[test]
fn late_callback_of_an_old_instance() {
    let stale = [
        RunEvent::StopRequested {
            generation: 0,
            grace: Duration::ZERO,
            limit: Duration::ZERO,
        },
        RunEvent::Prepared {
            generation: 0,
            ok: false,
        },
        RunEvent::CleanedUp { generation: 0 },
        RunEvent::Spawned {
            generation: 0,
            pid: 9,
        },
        RunEvent::SpawnFailed {
            generation: 0,
            failure: FAILURE,
        },
        RunEvent::Exited {
            generation: 0,
            exit: Exit::Oom,
        },
        RunEvent::ReadyReported { generation: 0 },
        RunEvent::Probed {
            generation: 0,
            ok: true,
        },
        RunEvent::TimeoutExtended {
            generation: 0,
            by: SEC(99),
        },
        RunEvent::WatchdogSet {
            generation: 0,
            every: SEC(1),
        },
        RunEvent::WatchdogTriggered { generation: 0 },
    ];
    for (state, way) in STATES.iter().skip(1) {
        for event in stale {
            let (before, mut module) = (reach(way), reach(way));
            assert_eq!(
                step(&mut module, &spec(), MonoTime(1), event),
                [],
                "{state}: {event:?}"
            );
            assert_eq!(module, before, "{state}: {event:?}");
        }
    }
}

/// Every state, a stop, and the worst reply: the run ends, and reports so once.
#[test]
fn stop_in_every_state() {
    let answers = [
        &[RunEvent::Prepared {
            generation: G,
            ok: false,
        }][..],
        &[SPAWNED, EXITED],
        &[RunEvent::SpawnFailed {
            generation: G,
            failure: FAILURE,
        }],
        &[EXITED],
        &[EXITED, EXITED, SPAWNED],
    ];
    for (state, way) in STATES.iter().skip(1) {
        for answer in answers {
            let mut module = reach(way);
            let mut effects = step(&mut module, &spec(), MonoTime(1), HALT);
            for event in answer.iter().chain(&[CLEANED]) {
                effects.extend(step(&mut module, &spec(), MonoTime(2), *event));
            }
            let ends = told(&effects)
                .iter()
                .filter(|what| matches!(what, RunReportKind::Ended(_)))
                .count();
            assert_eq!(ends, usize::from(module.is_idle()), "{state}: {answer:?}");
            let fits = match *state {
                "preparing" | "stopping a hook" => matches!(answer[0], RunEvent::Prepared { .. }),
                "spawning" | "stopping a spawn" => !matches!(answer[0], RunEvent::Prepared { .. }),
                "cleaning" => true,
                _ => answer.contains(&EXITED),
            };
            assert_eq!(module.is_idle(), fits, "{state}: {answer:?}");
        }
    }
}

#[test]
fn looking_for_readiness_slows_down_and_never_overlaps() {
    let spec = ModuleSpec {
        readiness: Readiness::Probe(Probe::Tcp("x".into())),
        ..module("m")
    };
    let mut module = RunMachine::new();
    let mut now = MonoTime(0);
    step(&mut module, &spec, now, RUN);
    let first = step(&mut module, &spec, now, SPAWNED);
    assert_eq!(
        first[1..],
        [RunEffect::Probe {
            generation: G,
            startup: false
        }]
    );
    let mut pauses = Vec::new();
    for _ in 0..7 {
        assert_eq!(
            step(&mut module, &spec, now, RunEvent::TimerFired),
            [],
            "one look at a time"
        );
        assert_eq!(
            step(
                &mut module,
                &spec,
                now,
                RunEvent::Probed {
                    generation: G,
                    ok: false
                }
            ),
            []
        );
        let next = module.deadline().expect("the next look");
        pauses.push(next.since(now));
        now = next;
        assert_eq!(
            step(&mut module, &spec, now, RunEvent::TimerFired),
            [RunEffect::Probe {
                generation: G,
                startup: false
            }]
        );
    }
    assert_eq!(pauses, [25, 50, 100, 200, 400, 500, 500].map(MS));
    let ready = step(
        &mut module,
        &spec,
        now,
        RunEvent::Probed {
            generation: G,
            ok: true,
        },
    );
    assert_eq!(told(&ready), [RunReportKind::Ready]);
    assert_eq!(module.deadline(), None);
}

#[test]
fn more_time_buys_its_own_interval_if_it_comes_in_time() {
    let more = RunEvent::TimeoutExtended {
        generation: G,
        by: SEC(20),
    };
    let at = |seconds| MonoTime(0).after(SEC(seconds));
    let mut module = reach(&[RUN, PREPARED, SPAWNED]);
    step(&mut module, &spec(), at(5), more);
    assert_eq!(
        module.ready_deadline(),
        Some(at(30)),
        "it never takes time away"
    );
    step(&mut module, &spec(), at(29), more);
    assert_eq!(module.ready_deadline(), Some(at(49)));
    let late = step(&mut module, &spec(), at(49), more);
    assert_eq!(late, [ending(Cause::Timeout), terminate(10)]);
    step(&mut module, &spec(), at(50), EXITED);
    let end = step(&mut module, &spec(), at(50), CLEANED);
    assert_eq!(told(&end), [RunReportKind::Ended(RunEnd::StartTimeout)]);
}

/// The answer to a drain of the notify socket is lost, with the holder or an actor.
#[test]
fn a_deadline_is_judged_although_the_drain_is_never_answered() {
    let at = |seconds| MonoTime(0).after(SEC(seconds));
    for (events, deadline, (end, cause)) in [
        (
            &[RUN, PREPARED, SPAWNED, READY][..],
            5,
            (RunEnd::Watchdog, Cause::Watchdog),
        ),
        (
            &[RUN, PREPARED, SPAWNED][..],
            30,
            (RunEnd::StartTimeout, Cause::Timeout),
        ),
    ] {
        let mut module = reach(events);
        assert_eq!(module.deadline(), Some(at(deadline)));
        module.apply(&spec(), at(deadline), RunEvent::TimerFired);
        let drain = module.next_effect(&spec(), at(deadline));
        assert_eq!(drain, Some(RunEffect::DrainNotify { generation: G }));
        assert_eq!(module.next_effect(&spec(), at(deadline)), None);
        assert_eq!(module.deadline(), Some(at(deadline + 5)));
        let stop = step(&mut module, &spec(), at(deadline + 5), RunEvent::TimerFired);
        assert_eq!(stop, [ending(cause), terminate(10)]);
        step(&mut module, &spec(), at(deadline + 6), EXITED);
        let effects = step(&mut module, &spec(), at(deadline + 6), CLEANED);
        assert_eq!(told(&effects), [RunReportKind::Ended(end)]);
    }
}

#[test]
fn a_watchdog_bites_who_does_not_feed_it() {
    let mut module = reach(&[RUN, PREPARED, SPAWNED, READY]);
    let at = |seconds| MonoTime(0).after(SEC(seconds));
    step(
        &mut module,
        &spec(),
        at(4),
        RunEvent::WatchdogFed { generation: G },
    );
    assert_eq!(module.deadline(), Some(at(9)));
    step(
        &mut module,
        &spec(),
        at(5),
        RunEvent::WatchdogSet {
            generation: G,
            every: SEC(2),
        },
    );
    assert_eq!(module.deadline(), Some(at(7)));
    let bite = step(&mut module, &spec(), at(7), RunEvent::TimerFired);
    assert_eq!(bite, [ending(Cause::Watchdog), terminate(10)]);
    step(&mut module, &spec(), at(8), EXITED);
    let end = step(&mut module, &spec(), at(8), CLEANED);
    assert_eq!(told(&end), [RunReportKind::Ended(RunEnd::Watchdog)]);
}

#[test]
fn readiness_by_kind() {
    let ready_after = |readiness, kind| {
        let spec = ModuleSpec {
            readiness,
            kind,
            ..module("m")
        };
        let mut module = RunMachine::new();
        step(&mut module, &spec, MonoTime(0), RUN);
        step(&mut module, &spec, MonoTime(0), SPAWNED);
        (
            module.is_ready(),
            module.deadline().map(|at| at.since(MonoTime(0))),
        )
    };
    assert_eq!(ready_after(Readiness::Started, Kind::Service), (true, None));
    assert_eq!(ready_after(Readiness::Notify, Kind::Task), (true, None));
    assert_eq!(
        ready_after(Readiness::Settle(SEC(1)), Kind::Service),
        (false, Some(SEC(1)))
    );
    assert_eq!(
        ready_after(Readiness::Notify, Kind::Service),
        (false, Some(SEC(30)))
    );
}

#[test]
fn ready_before_the_news_of_its_process_counts_and_ready_twice_changes_nothing() {
    let mut module = reach(&[RUN, PREPARED]);
    assert_eq!(step(&mut module, &spec(), MonoTime(0), READY), []);
    let told = told(&step(&mut module, &spec(), MonoTime(0), SPAWNED));
    assert_eq!(
        told,
        [RunReportKind::Started { pid: 7 }, RunReportKind::Ready]
    );
    let before = module;
    assert_eq!(step(&mut module, &spec(), MonoTime(0), READY), []);
    assert_eq!(module, before);
}

#[test]
fn adoption_keeps_what_was() {
    let adopt = |ready, ready_deadline| {
        let mut module = RunMachine::new();
        let event = RunEvent::Adopted {
            generation: 5,
            pid: 9,
            ready,
            ready_deadline,
        };
        assert_eq!(step(&mut module, &spec(), MonoTime(100), event), []);
        (module.is_ready(), module.pid(), module.deadline())
    };
    assert_eq!(
        adopt(true, None),
        (true, Some(9), Some(MonoTime(100).after(SEC(5))))
    );
    assert_eq!(
        adopt(false, Some(MonoTime(100).after(SEC(20)))),
        (false, Some(9), Some(MonoTime(100).after(SEC(20))))
    );
    // Its time may have expired while the runtime was away: it is checked once all the same.
    assert_eq!(
        adopt(false, Some(MonoTime(50))),
        (false, Some(9), Some(MonoTime(100).after(SEC(2))))
    );
    assert_eq!(
        adopt(false, None),
        (false, Some(9), Some(MonoTime(100).after(SEC(30))))
    );
}

//! The table of one module: every state, every event, what becomes of it.
//! Owns the snapshots of the table and of the graph that follows from it, and the timed stories
//! that a table cannot tell. Never reaches into a state except to print its name.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Effect, Ending, Event, Exit, Module, Report, Reported, StartFailure, Step};
use crate::fixture::{MS, SEC, module};
use crate::spec::{Kind, ModuleSpec, Readiness};
use crate::time::Time;

mod said;

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

/// Notes an event and drains the effects. Nothing is on its way that was not noted.
fn step(module: &mut Module, spec: &ModuleSpec, now: Time, event: Event) -> Vec<Effect> {
    module.note(spec, now, event);
    let mut effects = Vec::new();
    while let Some(effect) = module.settle(spec, now) {
        match effect {
            Effect::Listen { generation } => {
                module.note(spec, now, Event::Listened { generation });
            }
            effect => effects.push(effect),
        }
        assert!(effects.len() < 100, "{effects:?}");
    }
    effects
}

fn told(effects: &[Effect]) -> Vec<Reported> {
    let report = |effect: &Effect| match effect {
        Effect::Report(Report { what, .. }) => Some(*what),
        _ => None,
    };
    effects.iter().filter_map(report).collect()
}

const RUN: Event = Event::RunAsked { generation: G };
const PREPARED: Event = Event::Prepared {
    generation: G,
    ok: true,
};
const SPAWNED: Event = Event::Spawned {
    generation: G,
    pid: 7,
};
const READY: Event = Event::ReadyTold { generation: G };
const HALT: Event = Event::HaltAsked {
    generation: G,
    grace: Duration::from_secs(10),
    limit: Duration::from_secs(30),
};
const EXITED: Event = Event::Exited {
    generation: G,
    exit: Exit::Code(1),
};
const CLEANED: Event = Event::CleanedUp { generation: G };
const FAILURE: StartFailure = StartFailure {
    step: Step::Exec,
    errno: 2,
};

/// Every state that outlives a settle, with a way into it.
const STATES: [(&str, &[Event]); 9] = [
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

const EVENTS: [(&str, Event); 20] = [
    ("run", Event::RunAsked { generation: 2 }),
    ("run again", RUN),
    ("halt", HALT),
    (
        "halt now",
        Event::HaltAsked {
            generation: G,
            grace: Duration::ZERO,
            limit: Duration::ZERO,
        },
    ),
    ("prepared", PREPARED),
    (
        "not prepared",
        Event::Prepared {
            generation: G,
            ok: false,
        },
    ),
    ("cleaned up", CLEANED),
    ("spawned", SPAWNED),
    (
        "main changed",
        Event::MainChanged {
            generation: G,
            pid: 8,
        },
    ),
    ("leaving", Event::Leaving { generation: G }),
    (
        "spawn failed",
        Event::SpawnFailed {
            generation: G,
            failure: FAILURE,
        },
    ),
    ("exited", EXITED),
    ("ready", READY),
    (
        "probed ready",
        Event::Probed {
            generation: G,
            ok: true,
        },
    ),
    (
        "more time",
        Event::TimeoutExtended {
            generation: G,
            by: Duration::from_secs(60),
        },
    ),
    ("fed", Event::WatchdogFed { generation: G }),
    (
        "watchdog set",
        Event::WatchdogSet {
            generation: G,
            every: Duration::from_secs(1),
        },
    ),
    (
        "watchdog triggered",
        Event::WatchdogTriggered { generation: G },
    ),
    ("woke", Event::Woke),
    (
        "adopted",
        Event::Adopted {
            generation: 3,
            pid: 9,
            ready: true,
            ready_by: None,
        },
    ),
];

fn reach(events: &[Event]) -> Module {
    let mut module = Module::new();
    for event in events {
        step(&mut module, &spec(), Time(0), *event);
    }
    module
}

/// The short name of the state a module is in.
fn name(module: &Module) -> &'static str {
    use super::{Actual, Left, Stopping};
    match module.actual {
        Actual::Idle => "idle",
        Actual::Asked { .. } => "asked",
        Actual::Preparing { .. } => "preparing",
        Actual::Spawning { .. } => "spawning",
        Actual::Starting(_) => "starting",
        Actual::Running { .. } => "running",
        Actual::Stopping(Stopping {
            left: Left::Hook, ..
        }) => "stopping a hook",
        Actual::Stopping(Stopping {
            left: Left::Spawn, ..
        }) => "stopping a spawn",
        Actual::Stopping(Stopping {
            left: Left::Process { .. },
            ..
        }) => "stopping a process",
        Actual::Over { .. } => "over",
        Actual::Cleaning { .. } => "cleaning",
    }
}

fn words(effects: &[Effect]) -> String {
    let word = |effect: &Effect| match effect {
        Effect::Report(Report { what, .. }) => format!("{what:?}"),
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
            let effects = step(&mut module, &spec(), Time(1), event);
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
        Event::HaltAsked {
            generation: 0,
            grace: Duration::ZERO,
            limit: Duration::ZERO,
        },
        Event::Prepared {
            generation: 0,
            ok: false,
        },
        Event::CleanedUp { generation: 0 },
        Event::Spawned {
            generation: 0,
            pid: 9,
        },
        Event::SpawnFailed {
            generation: 0,
            failure: FAILURE,
        },
        Event::Exited {
            generation: 0,
            exit: Exit::Oom,
        },
        Event::ReadyTold { generation: 0 },
        Event::Probed {
            generation: 0,
            ok: true,
        },
        Event::TimeoutExtended {
            generation: 0,
            by: SEC(99),
        },
        Event::WatchdogSet {
            generation: 0,
            every: SEC(1),
        },
        Event::WatchdogTriggered { generation: 0 },
    ];
    for (state, way) in STATES.iter().skip(1) {
        for event in stale {
            let (before, mut module) = (reach(way), reach(way));
            assert_eq!(
                step(&mut module, &spec(), Time(1), event),
                [],
                "{state}: {event:?}"
            );
            assert_eq!(module, before, "{state}: {event:?}");
        }
    }
}

/// Every state, a halt, and the worst that can answer: the run ends, and is told so once.
#[test]
fn stop_in_every_state() {
    let answers = [
        &[Event::Prepared {
            generation: G,
            ok: false,
        }][..],
        &[SPAWNED, EXITED],
        &[Event::SpawnFailed {
            generation: G,
            failure: FAILURE,
        }],
        &[EXITED],
        &[EXITED, EXITED, SPAWNED],
    ];
    for (state, way) in STATES.iter().skip(1) {
        for answer in answers {
            let mut module = reach(way);
            let mut effects = step(&mut module, &spec(), Time(1), HALT);
            for event in answer.iter().chain(&[CLEANED]) {
                effects.extend(step(&mut module, &spec(), Time(2), *event));
            }
            let ends = told(&effects)
                .iter()
                .filter(|what| matches!(what, Reported::Ended(_)))
                .count();
            assert_eq!(ends, usize::from(module.is_idle()), "{state}: {answer:?}");
            let fits = match *state {
                "preparing" | "stopping a hook" => matches!(answer[0], Event::Prepared { .. }),
                "spawning" | "stopping a spawn" => !matches!(answer[0], Event::Prepared { .. }),
                "cleaning" => true,
                _ => answer.contains(&EXITED),
            };
            assert_eq!(module.is_idle(), fits, "{state}: {answer:?}");
        }
    }
}

#[test]
fn a_deaf_process_is_killed_again_until_it_dies() {
    let mut module = reach(&[RUN, PREPARED, SPAWNED, READY]);
    let spec = spec();
    assert_eq!(
        step(&mut module, &spec, Time(0), HALT),
        [Effect::Terminate { generation: G }]
    );
    let mut kills = Vec::new();
    for _ in 0..3 {
        let at = module.deadline().expect("the kill");
        assert_eq!(
            step(&mut module, &spec, at, Event::Woke),
            [Effect::Kill { generation: G }]
        );
        kills.push(at.since(Time(0)));
    }
    assert_eq!(kills, [SEC(10), SEC(12), SEC(14)]);
    let end = step(&mut module, &spec, Time(0).after(SEC(15)), EXITED);
    assert_eq!(end, [Effect::CleanUp { generation: G }]);
    let end = step(&mut module, &spec, Time(0).after(SEC(15)), CLEANED);
    let ending = Ending::Halted {
        exit: Some(Exit::Code(1)),
        forced: true,
    };
    assert_eq!(told(&end), [Reported::Ended(ending)]);
}

/// Its program may lie on a disk that does not answer.
#[test]
fn a_start_that_hangs_is_killed() {
    let (spec, mut module) = (spec(), reach(&[RUN, PREPARED]));
    let late = module.deadline().expect("its start is over time");
    assert_eq!(step(&mut module, &spec, late, Event::Woke), []);
    for _ in 0..2 {
        let at = module.deadline().expect("the kill");
        let kill = [Effect::Kill { generation: G }];
        assert_eq!(step(&mut module, &spec, at, Event::Woke), kill);
    }
    step(&mut module, &spec, late, SPAWNED);
    step(&mut module, &spec, late, EXITED);
    let end = step(&mut module, &spec, late, CLEANED);
    assert_eq!(told(&end), [Reported::Ended(Ending::StartTimeout)]);
}

#[test]
fn a_shorter_grace_shortens_and_a_longer_one_does_not() {
    let halt = |grace| Event::HaltAsked {
        generation: G,
        grace,
        limit: grace,
    };
    let mut module = reach(&[RUN, PREPARED, SPAWNED, HALT]);
    assert_eq!(step(&mut module, &spec(), Time(0), halt(SEC(20))), []);
    assert_eq!(module.deadline(), Some(Time(0).after(SEC(10))));
    assert_eq!(step(&mut module, &spec(), Time(0), halt(SEC(1))), []);
    assert_eq!(module.deadline(), Some(Time(0).after(SEC(1))));
    let now = step(&mut module, &spec(), Time(0), halt(SEC(0)));
    assert_eq!(now, [Effect::Kill { generation: G }]);
}

#[test]
fn looking_for_readiness_slows_down_and_never_overlaps() {
    let spec = ModuleSpec {
        readiness: Readiness::Tcp("x".into()),
        ..module("m")
    };
    let mut module = Module::new();
    let mut now = Time(0);
    step(&mut module, &spec, now, RUN);
    let first = step(&mut module, &spec, now, SPAWNED);
    assert_eq!(first[1..], [Effect::Probe { generation: G }]);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        assert_eq!(
            step(&mut module, &spec, now, Event::Woke),
            [],
            "one look at a time"
        );
        assert_eq!(
            step(
                &mut module,
                &spec,
                now,
                Event::Probed {
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
            step(&mut module, &spec, now, Event::Woke),
            [Effect::Probe { generation: G }]
        );
    }
    assert_eq!(pauses, [25, 50, 100, 200, 400, 500, 500].map(MS));
    let ready = step(
        &mut module,
        &spec,
        now,
        Event::Probed {
            generation: G,
            ok: true,
        },
    );
    assert_eq!(told(&ready), [Reported::Ready]);
    assert_eq!(module.deadline(), None);
}

#[test]
fn more_time_buys_its_own_interval_if_it_comes_in_time() {
    let more = Event::TimeoutExtended {
        generation: G,
        by: SEC(20),
    };
    let at = |seconds| Time(0).after(SEC(seconds));
    let mut module = reach(&[RUN, PREPARED, SPAWNED]);
    step(&mut module, &spec(), at(5), more);
    assert_eq!(module.ready_by(), Some(at(30)), "it never takes time away");
    step(&mut module, &spec(), at(29), more);
    assert_eq!(module.ready_by(), Some(at(49)));
    let late = step(&mut module, &spec(), at(49), more);
    assert_eq!(late, [Effect::Terminate { generation: G }]);
    step(&mut module, &spec(), at(50), EXITED);
    let end = step(&mut module, &spec(), at(50), CLEANED);
    assert_eq!(told(&end), [Reported::Ended(Ending::StartTimeout)]);
}

#[test]
fn a_watchdog_bites_who_does_not_feed_it() {
    let mut module = reach(&[RUN, PREPARED, SPAWNED, READY]);
    let at = |seconds| Time(0).after(SEC(seconds));
    step(
        &mut module,
        &spec(),
        at(4),
        Event::WatchdogFed { generation: G },
    );
    assert_eq!(module.deadline(), Some(at(9)));
    step(
        &mut module,
        &spec(),
        at(5),
        Event::WatchdogSet {
            generation: G,
            every: SEC(2),
        },
    );
    assert_eq!(module.deadline(), Some(at(7)));
    let bite = step(&mut module, &spec(), at(7), Event::Woke);
    assert_eq!(bite, [Effect::Terminate { generation: G }]);
    step(&mut module, &spec(), at(8), EXITED);
    let end = step(&mut module, &spec(), at(8), CLEANED);
    assert_eq!(told(&end), [Reported::Ended(Ending::Watchdog)]);
}

#[test]
fn readiness_by_kind() {
    let ready_after = |readiness, kind| {
        let spec = ModuleSpec {
            readiness,
            kind,
            ..module("m")
        };
        let mut module = Module::new();
        step(&mut module, &spec, Time(0), RUN);
        step(&mut module, &spec, Time(0), SPAWNED);
        (
            module.is_ready(),
            module.deadline().map(|at| at.since(Time(0))),
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
    assert_eq!(step(&mut module, &spec(), Time(0), READY), []);
    let told = told(&step(&mut module, &spec(), Time(0), SPAWNED));
    assert_eq!(told, [Reported::Started { pid: 7 }, Reported::Ready]);
    let before = module;
    assert_eq!(step(&mut module, &spec(), Time(0), READY), []);
    assert_eq!(module, before);
}

#[test]
fn adoption_keeps_what_was() {
    let adopt = |ready, ready_by| {
        let mut module = Module::new();
        let event = Event::Adopted {
            generation: 5,
            pid: 9,
            ready,
            ready_by,
        };
        assert_eq!(step(&mut module, &spec(), Time(100), event), []);
        (module.is_ready(), module.pid(), module.deadline())
    };
    assert_eq!(
        adopt(true, None),
        (true, Some(9), Some(Time(100).after(SEC(5))))
    );
    assert_eq!(
        adopt(false, Some(Time(100).after(SEC(20)))),
        (false, Some(9), Some(Time(100).after(SEC(20))))
    );
    // Its time may have ended while nobody looked: it is looked at once all the same.
    assert_eq!(
        adopt(false, Some(Time(50))),
        (false, Some(9), Some(Time(100).after(SEC(2))))
    );
    assert_eq!(
        adopt(false, None),
        (false, Some(9), Some(Time(100).after(SEC(30))))
    );
}

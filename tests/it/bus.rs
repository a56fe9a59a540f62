//! The bus between modules, spoken by the SDK: the tests are the modules.
//! Owns the promises of publish, subscribe and call. Never counts on an order nobody promised.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use mainstay_protocol::method::name;
use mainstay_protocol::{ErrorCode, ModuleState};
use mainstay_sdk::{CallError, Event, Module};
use serde_json::{Value, json};

use crate::daemon::{Daemon, kill, misbehave};
use crate::raw::{Raw, request, surroundings, token};

const PATIENCE: Duration = Duration::from_secs(20);

fn three() -> Daemon {
    let run = misbehave("");
    Daemon::start(&format!(
        "[module.asker]\ncommand = {run}\nmay_call = [\"server\"]\n[module.server]\ncommand = {run}\n\
         [module.listener]\ncommand = {run}\n"
    ))
}

/// Speaks for a running module, connected.
fn module(daemon: &Daemon, name: &str) -> Module {
    let module = Module::connect_with(surroundings(daemon, name));
    daemon.wait("the SDK to connect", || module.is_connected().then_some(()));
    module
}

/// Listens, and returns once mainstay knows about it.
fn listen(module: &Module, subjects: &[&str]) -> mpsc::Receiver<Event> {
    let (tell, heard) = mpsc::channel();
    let mut subjects = subjects.to_vec();
    subjects.push("sync.*");
    module.subscribe(&subjects, move |event| drop(tell.send(event.clone())));
    // Said on one connection, heard in order.
    module.publish("sync.now", json!(null)).expect("queued");
    loop {
        if heard.recv_timeout(PATIENCE).expect("its own word").subject == "sync.now" {
            return heard;
        }
    }
}

#[test]
fn what_is_published_reaches_those_whose_pattern_matches() {
    let daemon = three();
    let (asker, listener) = (module(&daemon, "asker"), module(&daemon, "listener"));
    let heard = listen(&listener, &["samples.*", "*.cpu", "exact"]);
    let all = [
        "samples.cpu",
        "samples.cpu.core",
        "other.cpu",
        "exact",
        "exact.not",
        "samples",
        "end.cpu",
    ];
    for subject in all {
        asker.publish(subject, json!({ "n": 1 })).expect("queued");
    }
    let mut subjects = Vec::new();
    while subjects.last().is_none_or(|last| last != "end.cpu") {
        let event = heard.recv_timeout(PATIENCE).expect("an event");
        assert_eq!(
            (event.from.as_str(), &event.payload),
            ("asker", &json!({ "n": 1 }))
        );
        subjects.push(event.subject);
    }
    assert_eq!(
        subjects,
        [
            "samples.cpu",
            "samples.cpu.core",
            "other.cpu",
            "exact",
            "end.cpu"
        ]
    );
}

#[test]
fn a_subscriber_that_does_not_read_is_told_how_much_it_missed() {
    const COUNT: u64 = 4000;
    let daemon = three();
    let socket = daemon.path("run/module.sock");
    let mut deaf = Raw::greeting(&socket, Some(&token(&daemon, "listener")));
    deaf.reply();
    deaf.call(name::BUS_SUBSCRIBE, json!({ "subjects": ["flood.*"] }));
    let mut registry = Raw::greeting(&socket, Some(&token(&daemon, "asker")));
    registry.reply();
    let line = format!(
        "{}\n",
        request(
            3,
            name::BUS_PUBLISH,
            json!({ "subject": "flood.x", "payload": "x".repeat(1000) })
        )
    );
    let mut asks = registry.stream.try_clone().expect("the same socket");
    let dropped: u64 = std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..COUNT {
                std::io::Write::write_all(&mut asks, line.as_bytes()).expect("it is read");
            }
        });
        (0..COUNT)
            .map(|_| {
                registry.reply()["result"]["dropped"]
                    .as_u64()
                    .expect("a count")
            })
            .sum()
    });
    assert!(
        dropped > 0,
        "everything fitted into a queue that has a bound"
    );
    let (mut heard, mut lag) = (0, 0);
    while heard + lag < COUNT {
        // Another event carries the count, once there is room.
        if heard + dropped == COUNT {
            registry.call(
                name::BUS_PUBLISH,
                json!({ "subject": "flood.y", "payload": null }),
            );
        }
        let event = deaf.reply();
        assert_ne!(event, Value::Null, "it was dropped after {heard} events");
        lag += event["params"]["lag"].as_u64().unwrap_or(0);
        heard += u64::from(event["params"]["subject"] == "flood.x");
    }
    assert_eq!(
        (heard, lag),
        (COUNT - dropped, dropped),
        "what was missed is counted exactly"
    );
}

#[test]
fn calls_are_answered_in_time_refused_without_a_grant_and_given_up_at_their_deadline() {
    let daemon = three();
    let (asker, server) = (module(&daemon, "asker"), module(&daemon, "server"));
    server.serve("double", |call| {
        assert_eq!(call.from, "asker");
        call.params["n"]
            .as_u64()
            .map(|n| json!(n * 2))
            .ok_or_else(|| "no number".to_owned())
    });
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    server.serve("slow", move |_| {
        let _released = held.lock().expect("one at a time").recv();
        Ok(json!(1))
    });
    let call = |method: &str, params: Value, limit| asker.call("server", method, params, limit);
    assert_eq!(
        call("double", json!({ "n": 21 }), PATIENCE).expect("answered"),
        json!(42)
    );
    let refused = |result: Result<Value, CallError>| match result {
        Err(CallError::Refused(refusal)) => refusal.data.code,
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(
        refused(call("double", json!({}), PATIENCE)),
        ErrorCode::ModuleError
    );
    assert_eq!(
        refused(call("nothing", json!({}), PATIENCE)),
        ErrorCode::ModuleError
    );
    let late = call("slow", json!({}), Duration::from_millis(200));
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    drop(release);
    let limit = PATIENCE;
    assert_eq!(
        refused(asker.call("nobody", "x", json!({}), limit)),
        ErrorCode::UnknownModule
    );
    let ungranted = asker.call("listener", "x", json!({}), limit);
    assert_eq!(refused(ungranted), ErrorCode::NotPermitted);
    assert_eq!(
        refused(server.call("asker", "x", json!({}), limit)),
        ErrorCode::NotPermitted
    );
}

#[test]
fn the_breaker_opens_for_a_callee_that_is_not_there_and_closes_when_it_is_back() {
    let daemon = three();
    let asker = module(&daemon, "asker");
    let ask = || asker.call("server", "ping", json!({}), Duration::from_millis(100));
    daemon.wait("the breaker to open", || match ask() {
        Err(CallError::Refused(refusal)) if refusal.data.code == ErrorCode::BreakerOpen => Some(()),
        Ok(value) => panic!("nobody is there to answer {value}"),
        Err(_) => None,
    });
    let server = module(&daemon, "server");
    server.serve("ping", |_| Ok(json!("pong")));
    let answer = daemon.wait("the breaker to close", || ask().ok());
    assert_eq!(answer, json!("pong"));
    assert!(ask().is_ok(), "it stays closed");
}

#[test]
fn the_sdk_comes_back_after_the_runtime_was_killed_and_loses_no_publish() {
    const COUNT: u64 = 500;
    let daemon = three();
    let asker = module(&daemon, "asker");
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let heard = Arc::clone(&seen);
    asker.subscribe(&["numbered"], move |event| {
        heard.lock().expect("alone").insert(event.payload.as_u64());
    });
    let before = daemon.status().pid;
    kill(before, libc::SIGKILL);
    for n in 0..COUNT {
        asker.publish("numbered", n).expect("queued");
    }
    daemon.wait("all of them", || {
        (seen.lock().expect("alone").len() as u64 == COUNT).then_some(())
    });
    assert_eq!(asker.dropped(), 0);
    assert_ne!(daemon.status().pid, before);
    assert_eq!(daemon.module("asker").state, ModuleState::Running);
}

#[test]
fn modules_hear_what_mainstay_says_and_cannot_speak_in_its_name() {
    let daemon = three();
    let listener = module(&daemon, "listener");
    let heard = listen(&listener, &["mainstay.*"]);
    daemon.change(name::MODULE_RESTART, "server");
    loop {
        let event = heard.recv_timeout(PATIENCE).expect("an event");
        assert_eq!(event.from, "mainstay");
        if event.payload["module"] == "server" && event.payload["to"] == "running" {
            assert_eq!(event.subject, "mainstay.module.state_changed");
            break;
        }
    }
    listener
        .publish("mainstay.module.state_changed", json!({}))
        .expect("queued");
    daemon.wait("the refusal", || (listener.dropped() == 1).then_some(()));
    assert!(listener.problem().expect("it is told").contains("reserved"));
}

#[test]
fn a_call_wakes_who_ended_by_itself_and_not_who_was_stopped_on_purpose() {
    let daemon = Daemon::start(&format!(
        "[module.asker]\ncommand = {}\nmay_call = [\"brief\", \"put-down\"]\n\
         [module.brief]\ncommand = {}\nstart = \"lazy\"\n\
         [module.brief.recovery]\nrestart = \"on_failure\"\n\
         [module.put-down]\ncommand = {}\nstart = \"lazy\"\n",
        misbehave(""),
        misbehave("--exit-code 0 --after 10ms"),
        misbehave("")
    ));
    let asker = module(&daemon, "asker");
    for run in 1..=2 {
        // Nobody answers: it serves for a moment and says nothing.
        asker
            .call("brief", "x", json!({}), PATIENCE)
            .expect_err("no answer");
        let brief = daemon.until("brief", ModuleState::Stopped);
        assert_eq!((brief.generation, brief.attempts), (run, 0));
    }
    daemon.change(name::MODULE_STOP, "put-down");
    let asked = Instant::now();
    let answer = asker.call("put-down", "x", json!({}), PATIENCE);
    let Err(CallError::Refused(refusal)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(refusal.data.code, ErrorCode::Unavailable, "{refusal:?}");
    assert!(asked.elapsed() < PATIENCE, "nobody was waited for");
    assert_eq!(daemon.module("put-down").generation, 0);
}

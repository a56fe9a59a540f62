//! Events: followed across the death of the runtime, filtered, and each with its cause.
//! Owns the tests of subscriptions and of `events`. Never counts on how fast something happens.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_protocol::method::{EventsParams, name};
use mainstay_protocol::{ErrorCode, Event, EventKind, ModuleState};
use serde_json::{Value, json};

use crate::daemon::{Daemon, binary, kill, misbehave, script};
use crate::raw::{Raw, code, request};

fn pair(more: &str) -> String {
    format!(
        "[module.base]\ncommand = {0}\n[module.top]\ncommand = {0}\nrequires = [\"base\"]\n{more}",
        misbehave("")
    )
}

fn all() -> EventsParams {
    EventsParams {
        limit: Some(10_000),
        ..EventsParams::default()
    }
}

/// Reads a subscription until an event of at least this number, or its end.
fn read_until(
    seen: &mut Vec<Event>,
    events: &mut mainstay_client::blocking::Subscription<Event>,
    seq: u64,
) {
    while seen.last().is_none_or(|event| event.seq < seq) {
        match events.next_within(Duration::from_secs(20)) {
            Ok(Some(event)) => seen.push(event),
            Ok(None) => panic!("waited in vain for event {seq}"),
            Err(_ended) => return,
        }
    }
}

#[test]
fn a_subscription_resumes_after_the_runtime_was_killed_without_loss_or_repetition() {
    let daemon = Daemon::start(&pair(""));
    let since = |seq| EventsParams {
        since: Some(seq),
        ..EventsParams::default()
    };
    let (_, mut events) = daemon.client().subscribe(&since(0)).expect("subscribed");
    let mut seen: Vec<Event> = Vec::new();
    for _ in 0..3 {
        daemon.change(name::MODULE_RESTART, "base");
        let runtime = daemon.status().pid;
        kill(runtime, libc::SIGKILL);
        read_until(&mut seen, &mut events, u64::MAX);
        daemon.wait("a new runtime", || {
            (daemon.status().pid != runtime).then_some(())
        });
        // The runtime may have been killed before it told anything: then from the beginning.
        let last = seen.last().map_or(0, |event| event.seq);
        events = daemon
            .client()
            .subscribe(&since(last))
            .expect("subscribed")
            .1;
        daemon.event("top", EventKind::ModuleStateChanged);
    }
    daemon.change(name::MODULE_STOP, "top");
    let told = daemon.client().events(&all()).expect("events");
    read_until(&mut seen, &mut events, told.last().expect("some").seq);
    assert!(
        seen.is_sorted_by(|one, two| one.seq < two.seq),
        "in order, each once"
    );
    let (seen, told): (Vec<u64>, Vec<u64>) = (
        seen.iter().map(|event| event.seq).collect(),
        told.iter().map(|event| event.seq).collect(),
    );
    assert_eq!(seen, told, "what a follower saw is what the journal has");
}

#[test]
fn filters_let_through_what_was_asked_for_alone() {
    let daemon = Daemon::start(&pair(""));
    let params = EventsParams {
        since: Some(0),
        kinds: vec![EventKind::ModuleExited],
        module: Some("top".to_owned()),
        limit: None,
        ..EventsParams::default()
    };
    let (_, mut events) = daemon.client().subscribe(&params).expect("subscribed");
    for module in ["base", "top", "base", "top"] {
        daemon.change(name::MODULE_RESTART, module);
        daemon.until("top", ModuleState::Running);
    }
    let first = events
        .next_within(Duration::from_secs(20))
        .expect("open")
        .expect("an exit");
    assert_eq!(
        (first.kind, first.module.as_deref()),
        (EventKind::ModuleExited, Some("top"))
    );
    let past = daemon.client().events(&params).expect("events");
    assert!(past.len() >= 2, "{past:?}");
    assert!(past.iter().all(
        |event| event.kind == EventKind::ModuleExited && event.module.as_deref() == Some("top")
    ));
    let newest = EventsParams {
        limit: Some(1),
        ..params
    };
    assert_eq!(daemon.client().events(&newest).expect("events").len(), 1);
}

#[test]
fn the_command_line_lists_from_a_number_on() {
    let daemon = Daemon::start(&pair(""));
    let before = daemon.client().events(&all()).expect("events");
    let last = before.last().expect("some").seq.to_string();
    daemon.change(name::MODULE_RESTART, "top");
    let printed = daemon.cli(&["events", "--since", &last, "--json", "--module", "top"]);
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    let lines: Vec<Event> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event a line"))
        .collect();
    assert!(
        lines
            .iter()
            .any(|event| event.kind == EventKind::ModuleExited),
        "{text}"
    );
    assert!(
        lines
            .iter()
            .all(|event| event.seq > last.parse().expect("a number"))
    );
    let unknown = daemon.cli(&["events", "--kind", "module.slept"]);
    assert_eq!(
        unknown.status.code(),
        Some(2),
        "the kinds are a closed list"
    );
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("module.ready"));
}

#[test]
fn a_module_that_is_unknown_is_refused_with_what_was_meant() {
    let daemon = Daemon::start(&pair(""));
    for words in [
        &["events", "--module", "tob"][..],
        &["events", "--module", "tob", "--json"],
        &["events", "--module", "tob", "--since", "0", "-f"],
    ] {
        let refused = daemon.cli(words);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(4), "{words:?}: {error}");
        assert!(error.contains("did you mean top?"), "{words:?}: {error}");
    }
    let nothing = daemon.cli(&["events", "--module", "top", "--kind", "journal.gap"]);
    assert_eq!(
        nothing.status.code(),
        Some(0),
        "nothing happened to one that is known"
    );
}

#[test]
fn followers_end_well_when_mainstay_is_stopped() {
    let talks = script("echo here; exec $misbehave");
    let daemon = Daemon::start(&format!("[module.talks]\ncommand = {talks}\n"));
    daemon.wrote("talks", "here");
    let followers = [&["events", "-f"][..], &["logs", "-f", "talks"]].map(|words| {
        let mut follower = Command::new(binary())
            .args(words)
            .arg("--config")
            .arg(daemon.path("config"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut first = [0];
        let out = follower.stdout.as_mut().expect("a pipe");
        std::io::Read::read_exact(out, &mut first).expect("the past");
        follower
    });
    assert_eq!(daemon.stop(), Some(0));
    for follower in followers {
        let ended = follower.wait_with_output().expect("it ends");
        let error = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{error}");
        assert!(error.ends_with("mainstay 'test' was stopped\n"), "{error}");
    }
}

#[test]
fn a_restart_that_was_taken_along_leads_back_to_the_crash() {
    let restart = "[module.top.recovery]\non_dependency_restart = \"restart\"\n";
    let daemon = Daemon::start(&pair(restart));
    let (base, top) = (daemon.module("base"), daemon.module("top"));
    kill(base.pid.expect("it runs"), libc::SIGKILL);
    daemon.until_view("top to be back", "top", |view| {
        view.state == ModuleState::Running && view.generation > top.generation
    });
    let events = daemon.client().events(&all()).expect("events");
    let by_seq: BTreeMap<u64, &Event> = events.iter().map(|event| (event.seq, event)).collect();
    let crash = events
        .iter()
        .find(|event| event.kind == EventKind::ModuleExited && event.payload["signal"] == 9)
        .expect("the crash");
    assert_eq!(crash.module.as_deref(), Some("base"));
    let begun = events
        .iter()
        .rev()
        .find(|event| event.module.as_deref() == Some("top") && event.payload["to"] == "starting")
        .expect("its new start");
    let mut chain = vec![begun];
    while let Some(cause) = chain.last().and_then(|event| by_seq.get(&event.cause_seq?)) {
        assert!(
            cause.seq < chain.last().expect("one").seq,
            "causes come first"
        );
        chain.push(cause);
    }
    assert!(
        chain.iter().any(|event| event.seq == crash.seq),
        "the chain does not lead to the crash (#{}): {chain:#?}",
        crash.seq
    );
}

#[test]
fn a_subscriber_that_is_too_slow_is_told_so_and_can_go_on_from_where_it_was() {
    let daemon = Daemon::start(&format!(
        "[ipc]\nrequests_per_second = 1000000\n{}",
        pair("")
    ));
    let mut slow = Raw::welcomed(&daemon.socket());
    let params = json!({ "kinds": ["operation.requested"] });
    assert!(slow.call(name::EVENTS_SUBSCRIBE, params)["result"].is_object());
    let begun = Instant::now();
    requested(&daemon, 8000);
    let took = begun.elapsed();
    let (mut last, mut end) = (0, Value::Null);
    loop {
        match slow.reply() {
            Value::Null => break,
            message if message["error"].is_object() => {
                end = message;
                break;
            }
            event => {
                let seq = event["params"]["seq"].as_u64().expect("a number");
                assert!(seq > last);
                last = seq;
            }
        }
    }
    // A socket nobody reads from for five seconds is closed, and then there is no word.
    if took < Duration::from_secs(4) {
        assert_eq!(code(&end), ErrorCode::Timeout, "{end}");
        let text = end["error"]["message"].as_str().expect("a sentence");
        assert!(text.contains("too slow"), "{text}");
    }
    let since = EventsParams {
        since: Some(last),
        ..EventsParams::default()
    };
    let client = Client::connect(daemon.socket()).expect("others are served");
    let (_, mut rest) = client.subscribe(&since).expect("subscribed");
    let next = rest
        .next_within(Duration::from_secs(20))
        .expect("open")
        .expect("what it missed");
    assert!(next.seq > last);
}

/// Requests what is so already, as fast as it is read: each request is an event, and so is its
/// result.
fn requested(daemon: &Daemon, count: usize) {
    let client = Raw::welcomed(&daemon.socket());
    let mut requests = client.stream.try_clone().expect("the same socket");
    let line = format!(
        "{}\n",
        request(2, name::MODULE_START, json!({ "module": "top" }))
    );
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..count {
                std::io::Write::write_all(&mut requests, line.as_bytes()).expect("it is read");
            }
        });
        let mut client = client;
        for _ in 0..count {
            assert!(client.reply()["result"].is_object());
        }
    });
}

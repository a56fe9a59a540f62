//! Who may connect and is nobody: what that costs the others.
//! Owns crowds of strangers. Never says a valid hello for one.

use std::os::unix::net::UnixStream;

use mainstay_protocol::method::{EventsParams, name};
use mainstay_protocol::{ErrorCode, EventKind, HealthStatus, ModuleState};
use serde_json::json;

use crate::daemon::{Daemon, misbehave};
use crate::raw::{Raw, code, token};

fn one() -> String {
    format!("[module.one]\ncommand = {}\n", misbehave(""))
}

fn count(daemon: &Daemon, kind: EventKind) -> usize {
    let params = EventsParams {
        kinds: vec![kind],
        limit: Some(10_000),
        ..EventsParams::default()
    };
    daemon.client().events(&params).expect("events").len()
}

#[test]
fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let daemon = Daemon::start(&one());
    let door = daemon.path("run/module.sock");
    let token = token(&daemon, "one");
    let mut before = Raw::greeting(&door, Some(&token));
    assert!(before.reply()["result"].is_object(), "welcome");
    let mut oldest = Raw::open(&door);
    let crowd = |path| -> Vec<UnixStream> {
        let open = |_| UnixStream::connect(path).expect("somebody listens");
        (0..600).map(open).collect()
    };
    let _modules = crowd(&door);
    let _clients = crowd(&daemon.socket());
    let mut module = Raw::greeting(&door, Some(&token));
    assert_eq!(module.reply()["result"]["module"], "one");
    let said = module.call(name::MODULE_STATUS, json!({ "text": "busy" }));
    assert_eq!(said["result"], json!({}));
    let said = before.call(name::MODULE_STATUS, json!({ "text": "as before" }));
    assert_eq!(said["result"], json!({}));
    let refusal = oldest.reply();
    assert_eq!(code(&refusal), ErrorCode::TooManyConnections, "{refusal}");
    let down = daemon.cli(&["down"]);
    assert!(down.status.success(), "{down:?}");
}

#[test]
fn who_is_refused_again_and_again_does_not_fill_the_journal() {
    let daemon = Daemon::start(&one());
    let door = daemon.path("run/module.sock");
    for _ in 0..300 {
        let reply = Raw::greeting(&door, None).reply();
        assert_eq!(code(&reply), ErrorCode::NotPermitted);
    }
    daemon.change(name::MODULE_STOP, "one"); // written behind all of them
    daemon.event("one", EventKind::ModuleExited);
    let rows = count(&daemon, EventKind::ClientRefused);
    assert!((1..=20).contains(&rows), "{rows} rows");
}

#[test]
fn a_module_that_changes_its_mind_is_heard_and_does_not_fill_the_journal() {
    let daemon = Daemon::start(&one());
    let door = daemon.path("run/module.sock");
    let mut module = Raw::greeting(&door, Some(&token(&daemon, "one")));
    assert!(module.reply()["result"].is_object(), "welcome");
    daemon.until("one", ModuleState::Running);
    for round in 0..500 {
        let status = ["healthy", "degraded"][round % 2];
        let said = module.call(name::MODULE_HEALTH, json!({ "status": status }));
        assert_eq!(said["result"], json!({}), "it is never refused");
    }
    // What it said last counts, if later.
    daemon.until_view("its last word", "one", |view| {
        view.health == HealthStatus::Degraded
    });
    let rows = daemon.count("one", EventKind::ModuleHealthChanged);
    assert!((1..=20).contains(&rows), "{rows} rows");
}

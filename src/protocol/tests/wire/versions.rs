//! Frames of a mainstay that is one version newer, or one version older, against today's types.
//! Owns the golden frames of `golden/newer` and `golden/older`.
//! Never rewrites them: they are what another version writes.

use mainstay_protocol::method::{ChangeResult, EventsResult, LogLines, Welcome, WhyResult};
use mainstay_protocol::{
    AccessLevel, ErrorCode, Event, EventKind, ModuleState, ModuleView, RpcMessage, SystemView,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::golden;

/// The frame in `golden/VERSION/NAME.json`.
fn frame(version: &str, name: &str) -> Value {
    let path = golden::folder().join(version).join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("cannot read {}: {error}", path.display());
    });
    serde_json::from_str(&text).expect("JSON")
}

/// The result of a frame, read by today's type; every value of the frame that the type has a field
/// for is written again as it was.
fn carried<T: DeserializeOwned + Serialize>(version: &str, name: &str) -> T {
    let frame = frame(version, name);
    let Ok(RpcMessage::Reply(response)) = RpcMessage::parse(frame.to_string().as_bytes()) else {
        panic!("{version}/{name} is no response");
    };
    let result = response.result.expect("a result");
    let read: T = serde_json::from_value(result.clone()).expect(name);
    assert_kept(name, &result, &serde_json::to_value(&read).expect(name));
    read
}

fn assert_kept(path: &str, before: &Value, after: &Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (field, value) in before {
                if let Some(now) = after.get(field) {
                    assert_kept(&format!("{path}.{field}"), value, now);
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{path}");
            for (before, after) in before.iter().zip(after) {
                assert_kept(path, before, after);
            }
        }
        _ => assert_eq!(before, after, "{path}"),
    }
}

#[test]
fn a_newer_module_view_is_read_and_its_values_are_carried() {
    let view: ModuleView = carried("newer", "module.get");
    assert_eq!(view.state.as_str(), "hibernating");
    assert!(!view.state.is_known() && !view.kind.is_known() && !view.health.is_known());
    assert_eq!(
        view.cause.map(|cause| cause.to_string()).as_deref(),
        Some("power")
    );
}

#[test]
fn newer_events_and_explanations_are_read_and_their_kinds_are_carried() {
    let events = carried::<EventsResult>("newer", "events.list").events;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["module.hibernated", "module.exited"]);
    assert_eq!(events[1].kind, EventKind::ModuleExited);
    let why: WhyResult = carried("newer", "why");
    assert_eq!(why.chain[0].kind.as_str(), "module.hibernated");
}

#[test]
fn a_newer_status_and_a_newer_change_are_read() {
    let system: SystemView = carried("newer", "system.status");
    assert_eq!(system.status.as_str(), "hibernating");
    let change: ChangeResult = carried("newer", "module.stop");
    assert_eq!(change.steps[0].action.as_str(), "hibernate");
}

#[test]
fn a_newer_level_permits_nothing_and_a_newer_error_is_an_error() {
    let welcome: Welcome = carried("newer", "hello");
    assert_eq!(welcome.level.as_str(), "audit");
    assert!(AccessLevel::ALL.iter().all(|level| welcome.level < *level));
    let Ok(RpcMessage::Reply(response)) =
        RpcMessage::parse(frame("newer", "error").to_string().as_bytes())
    else {
        panic!("a response");
    };
    let error = response.error.expect("an error");
    assert_eq!(error.data.code.as_str(), "quota_exceeded");
    assert!(!ErrorCode::ALL.contains(&error.data.code));
    assert_eq!(
        error.message,
        "cannot restart storage: its quota is used up; wait until tomorrow"
    );
}

#[test]
fn newer_notifications_are_read() {
    let event: Event = params("newer", "event-to-client");
    assert_eq!(event.kind.as_str(), "module.hibernated");
    let log: LogLines = params("newer", "log-to-client");
    assert_eq!(log.lines, ["ready"]);
}

fn params<T: DeserializeOwned>(version: &str, name: &str) -> T {
    serde_json::from_value(frame(version, name)["params"].clone()).expect(name)
}

#[test]
fn older_frames_without_the_newest_fields_are_read() {
    let view: ModuleView = carried("older", "module.get");
    assert_eq!(view.state, ModuleState::Running);
    assert_eq!(view.output_dropped_bytes, 0);
    let event: Event = params("older", "event-to-client");
    assert_eq!(event.kind, EventKind::ModuleReady);
    let log: LogLines = params("older", "log-to-client");
    assert_eq!((log.records.len(), log.dropped_bytes), (0, 0));
}

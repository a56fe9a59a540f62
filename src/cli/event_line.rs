//! Formats an event as one line for people.
//! Owns the line, and which events say something new; the message is the journal's, as in `why`.
//! Never passes a control character to the terminal.

use std::fmt::Write;

use mainstay_protocol::{Event, EventKind, Timestamp};
use serde_json::Value;

use super::format;
use super::table::columns;
use crate::journal::describe;

/// Returns `TIME  #SEQ  MESSAGE (after #CAUSE, by REQUESTER)`, and the columns before the message.
pub(crate) fn line(event: &Event) -> (String, usize) {
    let mut out = format!("{}  #{:<5} ", format::time(event.at), event.seq);
    let before = columns(&out);
    out.push_str(&format::one_line(&describe(event)));
    let mut why = Vec::new();
    if let Some(seq) = event.cause_seq {
        why.push(format!("after #{seq}"));
    }
    if let Some(actor) = &event.actor {
        why.push(format!("by {}", format::single_line(actor)));
    }
    if !why.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(out, " ({})", why.join(", "));
    }
    out.push('\n');
    (out, before)
}

/// Returns `TIME  #SEQ  MESSAGE`, with the date if that is not today, and the columns before the
/// message.
pub(crate) fn brief(event: &Event, now: Timestamp) -> (String, usize) {
    let (time, text) = (format::local_clock(event.at, now), describe(event));
    let mut out = format!("{time}  #{:<5} ", event.seq);
    let before = columns(&out);
    let _ = writeln!(out, "{}", format::one_line(&text));
    (out, before)
}

/// Whether an event says what another one does not: a restart after a failure is two lines, that it
/// failed and that it runs again.
pub(crate) fn is_essential(event: &Event) -> bool {
    let payload = |name: &str| event.payload.get(name).and_then(|value| value.as_str());
    let payload_is_number = |name| event.payload.get(name).is_some_and(Value::is_number);
    match event.kind {
        EventKind::ModuleStateChanged => !matches!(
            payload("to"),
            Some("waiting" | "starting" | "stopping" | "not_started")
        ),
        // The state says so.
        EventKind::ModuleReady
        | EventKind::ModuleExited
        | EventKind::RecoveryStarted
        | EventKind::RecoveryStepCompleted
        | EventKind::RecoveryCompleted => false,
        // So does it of a failure, but for what follows.
        EventKind::RecoveryFailed => payload_is_number("probation_ms"),
        EventKind::UserNotified => false,
        // So does the first good answer.
        EventKind::ModuleHealthChanged => payload("from") != Some("unknown"),
        // The module that it depends on says so.
        EventKind::ModuleDegraded | EventKind::ModuleRestored => payload("by").is_none(),
        EventKind::OperationFinished => !matches!(payload("result"), Some("done" | "unchanged")),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::golden;

    fn events() -> Vec<Event> {
        let Value::Array(lines) = golden("events") else {
            panic!("a list")
        };
        let read = |line: Value| serde_json::from_value(line["params"].clone()).expect("an event");
        lines.into_iter().map(read).collect()
    }

    #[test]
    fn every_kind_has_its_line() {
        let said: String = events()
            .iter()
            .map(|event| format!("{}: {}", event.kind, line(event).0))
            .collect();
        insta::assert_snapshot!(said);
    }

    #[test]
    fn a_restart_after_a_failure_is_two_lines() {
        let event = |seq, kind: &str, payload: Value| -> Event {
            let at = "2026-11-20T12:00:00.000Z";
            let event = serde_json::json!({
                "seq": seq, "at": at, "kind": kind, "module": "web", "payload": payload,
            });
            serde_json::from_value(event).expect("an event")
        };
        let to = |seq, state: &str, text: &str| {
            let payload = serde_json::json!({"to": state, "text": text});
            event(seq, "module.state_changed", payload)
        };
        let events = [
            event(1, "module.exited", serde_json::json!({"code": 3})),
            to(2, "backoff", "exit code 3; next start in 200 ms"),
            event(
                3,
                "recovery.started",
                serde_json::json!({"failure": "exit code 3"}),
            ),
            to(4, "waiting", "to be started"),
            to(5, "starting", ""),
            event(6, "module.ready", serde_json::json!({"after_ms": 10})),
            to(7, "running", "pid 7"),
            event(8, "recovery.completed", serde_json::json!({})),
            event(9, "module.restored", serde_json::json!({"by": "store"})),
        ];
        let shown = events.iter().filter(|event| is_essential(event));
        let now = Timestamp(events[0].at.0 + 1000);
        let text: String = shown.map(|event| brief(event, now).0).collect();
        let expected = "12:00:00  #2     web failed: exit code 3; next start in 200 ms\n\
            12:00:00  #7     web is running: pid 7\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_empty_payload_says_less_and_control_characters_nothing() {
        for mut event in events() {
            event.payload = Value::Null;
            let (line, _) = line(&event);
            assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
            event.payload = serde_json::json!({"text": "a\nb\x1b[2J", "reason": "\r"});
            assert!(!super::line(&event).0.trim_end().contains(char::is_control));
        }
    }
}

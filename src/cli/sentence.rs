//! An event in plain words.
//! Owns one sentence for each kind; the match has no catch-all, so a new kind needs its own.
//! Never fails on a payload that lacks what its kind says it carries: it says less.

use std::fmt::Write;
use std::time::Duration;

use mainstay_protocol::{Event, EventKind};
use serde_json::Value;

use super::human;

/// `TIME  #SEQ  MODULE: what happened (because: CAUSE, by WHO)`.
pub(crate) fn line(event: &Event) -> String {
    let mut out = format!("{}  #{:<5} ", human::time(event.at), event.seq);
    if let Some(module) = &event.module {
        let _ = write!(out, "{}: ", human::clean(module));
    }
    out.push_str(&human::clean(&sentence(event.kind, &event.payload)));
    let mut why = Vec::new();
    if let Some(cause) = event.cause {
        why.push(format!("because: {cause}"));
    }
    if let Some(actor) = &event.actor {
        why.push(format!("by {}", human::clean(actor)));
    }
    if let Some(seq) = event.cause_seq {
        why.push(format!("after #{seq}"));
    }
    if !why.is_empty() {
        let _ = write!(out, " ({})", why.join(", "));
    }
    out.push('\n');
    out
}

/// A field as text; empty when it is not there.
fn text(payload: &Value, field: &str) -> String {
    match payload.get(field) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let words: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            words.join(", ")
        }
        Some(other) => other.to_string(),
    }
}

fn sentence(kind: EventKind, payload: &Value) -> String {
    let get = |field| text(payload, field);
    let with = |start: &str, field| after(start, &text(payload, field));
    match kind {
        EventKind::ModuleStateChanged => {
            after(&format!("{} -> {}", get("from"), get("to")), &get("text"))
        }
        EventKind::ModuleReady => format!("ready after {}", span(payload, "after_ms")),
        EventKind::ModuleExited => exited(payload),
        EventKind::ModuleHealthChanged => after(
            &format!("health {} -> {}", get("from"), get("to")),
            &get("issues"),
        ),
        EventKind::ModuleThrottled => with("throttled", "text"),
        EventKind::ModuleReleased => with("throttled less", "text"),
        EventKind::ModuleDegraded => with("degraded", "text"),
        EventKind::ModuleRestored => with("whole again", "text"),
        EventKind::ConfigApplied => with("configuration applied", "text"),
        EventKind::ConfigCommitted => with("configuration proved itself", "text"),
        EventKind::ConfigRejected => with("configuration refused", "text"),
        EventKind::ConfigRolledBack => with("configuration rolled back", "text"),
        EventKind::ConfigProblemCleared => with("configuration good again", "text"),
        EventKind::RecoveryStarted => format!(
            "recovery {} begins in {}: {}",
            get("attempt"),
            span(payload, "delay_ms"),
            get("failure")
        ),
        EventKind::RecoveryStepCompleted => with("recovery step done", "text"),
        EventKind::RecoveryCompleted => with("recovered", "text"),
        EventKind::RecoveryFailed => recovery_failed(payload),
        EventKind::GroupExceeded => with("group used up its budget", "text"),
        EventKind::SystemStatusChanged => after(
            &format!("system {} -> {}", get("from"), get("to")),
            &get("reason"),
        ),
        EventKind::SystemOverloaded => with("overloaded", "text"),
        EventKind::SystemResumed => format!("the machine slept {}", span(payload, "slept_ms")),
        EventKind::ActorRestarted => after(
            &format!("a part of mainstay was restarted ({})", get("actor")),
            &get("error"),
        ),
        EventKind::RuntimeStarted => format!(
            "mainstay {} started (pid {}, plan {})",
            get("version"),
            get("pid"),
            get("plan")
        ),
        EventKind::RuntimeReturned => format!(
            "mainstay is back after {}: {} modules found as they were, {} had ended",
            span(payload, "away_ms"),
            get("adopted"),
            get("exits")
        ),
        EventKind::ClientRefused => {
            format!("a client was refused {}: {}", get("method"), get("code"))
        }
        EventKind::JournalGap => {
            format!(
                "{} events were lost (#{} to #{})",
                get("lost"),
                get("from"),
                get("to")
            )
        }
    }
}

fn after(start: &str, rest: &str) -> String {
    if rest.is_empty() {
        start.to_owned()
    } else {
        format!("{start}: {rest}")
    }
}

fn span(payload: &Value, field: &str) -> String {
    match payload.get(field).and_then(Value::as_u64) {
        Some(ms) => human::span(Duration::from_millis(ms)),
        None => "some time".to_owned(),
    }
}

fn exited(payload: &Value) -> String {
    let number = |field| payload.get(field).and_then(Value::as_i64);
    let mut out = match (number("signal"), number("code")) {
        (Some(signal), _) => format!("killed by signal {signal}"),
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    };
    if let Some(pid) = number("pid") {
        let _ = write!(out, " (pid {pid})");
    }
    if payload.get("core_dumped") == Some(&Value::Bool(true)) {
        out.push_str(", core dumped");
    }
    out
}

fn recovery_failed(payload: &Value) -> String {
    let mut out = after("given up", &text(payload, "text"));
    if payload.get("probation_ms").is_some_and(Value::is_u64) {
        let _ = write!(out, "; one try in {}", span(payload, "probation_ms"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::block::tests::golden;

    fn events() -> Vec<Event> {
        let Value::Array(lines) = golden("events") else {
            panic!("a list")
        };
        let read = |line: Value| serde_json::from_value(line["params"].clone()).expect("an event");
        lines.into_iter().map(read).collect()
    }

    #[test]
    fn every_kind_has_its_sentence() {
        let said: String = events()
            .iter()
            .map(|event| format!("{}: {}\n", event.kind, sentence(event.kind, &event.payload)))
            .collect();
        insta::assert_snapshot!(said);
    }

    #[test]
    fn a_line_has_time_number_module_words_and_reasons() {
        let events = events();
        assert_eq!(
            line(&events[2]),
            "2026-11-18 11:06:43.000Z  #3     storage: exited with code 1 (pid 4711) \
             (because: exit, after #2)\n"
        );
        let applied = events
            .iter()
            .find(|event| event.actor.is_some())
            .expect("one");
        assert!(line(applied).ends_with(" (by uid 1000)\n"));
    }

    #[test]
    fn an_empty_payload_says_less_and_control_characters_nothing() {
        for mut event in events() {
            event.payload = Value::Null;
            let line = line(&event);
            assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
            event.payload = serde_json::json!({"text": "a\nb\x1b[2J", "reason": "\r"});
            assert!(!super::line(&event).trim_end().contains(char::is_control));
        }
    }
}

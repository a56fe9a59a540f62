//! Formats an event as one line for people.
//! Owns the line; its message is the journal's, as in `why`.
//! Never passes a control character to the terminal.

use std::fmt::Write;

use mainstay_protocol::Event;

use super::format;
use crate::journal::describe;

/// Returns `TIME  #SEQ  MESSAGE (after #CAUSE, by REQUESTER)`.
pub(crate) fn line(event: &Event) -> String {
    let mut out = format!("{}  #{:<5} ", format::time(event.at), event.seq);
    out.push_str(&format::single_line(&describe(event)));
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
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::golden;
    use serde_json::Value;

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
            .map(|event| format!("{}: {}", event.kind, line(event)))
            .collect();
        insta::assert_snapshot!(said);
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

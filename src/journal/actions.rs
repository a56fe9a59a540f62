//! Administrative actions as a list: request, requester and result.
//! Owns how a request and its result become one line. Never reads a database.

use mainstay_protocol::{Event, EventKind, Timestamp};
use serde::Serialize;

use super::describe::{describe, operation_result};

/// One administrative action, or a gap in their history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdminAction {
    /// The event that records it.
    pub seq: u64,
    /// When it was asked for.
    pub at: Timestamp,
    /// Which client, user or signal asked for it; none for a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The module; none for the whole system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// What was asked for: `start`, `stop`, `restart`; none for a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// What came of it: `done`, `unchanged`, `failed`, `overtaken`, `refused`; none while it is
    /// pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The event that records the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_seq: Option<u64>,
    /// The result in words; of a gap, what is missing.
    pub text: String,
}

/// Joins administrative rows, oldest first, to the newest `count` actions. A result without its
/// request says nothing and is left out.
#[must_use]
pub fn admin_actions(events: &[Event], count: usize) -> Vec<AdminAction> {
    let mut actions: Vec<AdminAction> = Vec::new();
    for event in events {
        if event.kind != EventKind::OperationFinished {
            actions.push(action(event));
            continue;
        }
        let of = |action: &AdminAction| Some(action.seq) == event.cause_seq;
        if let Some(action) = actions.iter_mut().rfind(|action| of(action)) {
            action.result = text(event, "result");
            action.result_seq = Some(event.seq);
            action.text = operation_result(event);
        }
    }
    let older = actions.len().saturating_sub(count);
    actions.split_off(older)
}

fn action(event: &Event) -> AdminAction {
    AdminAction {
        seq: event.seq,
        at: event.at,
        actor: event.actor.clone(),
        module: event.module.clone(),
        operation: match event.kind {
            EventKind::ChaosInjected => text(event, "action").map(|it| format!("chaos {it}")),
            _ => text(event, "operation"),
        },
        result: None,
        result_seq: None,
        text: match event.kind {
            EventKind::OperationRequested => String::new(),
            EventKind::ChaosInjected => "injected".to_owned(),
            _ => describe(event),
        },
    }
}

fn text(event: &Event, name: &str) -> Option<String> {
    Some(event.payload.get(name)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event(seq: u64, kind: EventKind, cause_seq: Option<u64>, payload: Value) -> Event {
        Event {
            seq,
            at: Timestamp(1000 * seq),
            kind,
            module: Some("web".to_owned()),
            generation: Some(1),
            cause: None,
            cause_seq,
            actor: Some("ann".to_owned()),
            payload,
        }
    }

    #[test]
    fn a_result_joins_the_request_that_it_names() {
        let asks = |seq, operation| {
            let payload = json!({ "operation": operation });
            event(seq, EventKind::OperationRequested, None, payload)
        };
        let ends = |seq, of, result| {
            let payload = json!({ "result": result, "text": format!("{result} indeed") });
            event(seq, EventKind::OperationFinished, Some(of), payload)
        };
        let events = [
            ends(1, 0, "done"),
            asks(2, "start"),
            asks(3, "stop"),
            ends(4, 2, "overtaken"),
            event(
                5,
                EventKind::JournalGap,
                None,
                json!({ "lost": 3, "from": 6, "to": 9 }),
            ),
            ends(10, 3, "done"),
            asks(11, "restart"),
        ];
        let actions = admin_actions(&events, 100);
        let shown: Vec<_> = actions
            .iter()
            .map(|one| (one.seq, one.operation.as_deref(), one.result.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                (2, Some("start"), Some("overtaken")),
                (3, Some("stop"), Some("done")),
                (5, None, None),
                (11, Some("restart"), None),
            ]
        );
        assert_eq!(actions[1].text, "done: done indeed");
        assert_eq!(actions[1].result_seq, Some(10));
        assert!(actions[2].text.contains("3 events"), "{}", actions[2].text);
        let newest = admin_actions(&events, 2);
        assert_eq!(newest, actions[2..]);
    }
}

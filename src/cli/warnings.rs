//! Warnings on stderr about a change or a stop that was carried out.
//! Owns the message about modules that had to be killed.
//! Never changes the exit code, and never waits: what cannot be read is left out.

use std::path::Path;
use std::time::Duration;

use mainstay_client::CALL_TIMEOUT;
use mainstay_client::blocking::Client;
use mainstay_protocol::method::{ChangeResult, EventsParams, EventsResult, name};
use mainstay_protocol::{Event, EventKind, Timestamp};
use serde_json::Value;

use super::{format, terminal};
use crate::journal::OfflineJournal;

/// State changes that are read at most.
const EVENTS_MAX: usize = 10_000;

/// Says when what was started is not what the files say.
pub(super) fn tell_of_files(client: &mut Client) {
    let problem = client.status().ok().and_then(|it| it.config_problem);
    if let Some(first) = problem.as_deref().and_then(|text| text.lines().next()) {
        terminal::print_error(&format!("not started from the files: {first}"));
    }
}

/// Says which modules of these changes had to be killed since they were requested.
pub(super) fn tell_of_kills(client: &mut Client, since: Timestamp, results: &[ChangeResult]) {
    let is_of_change = |module: &str| {
        results.iter().any(|result| {
            let mut steps = result.steps.iter();
            result.module.module == module || steps.any(|step| step.module == module)
        })
    };
    let read = client.call_within::<EventsResult>(name::EVENTS_LIST, params(since), CALL_TIMEOUT);
    let events = read.map(|result| result.events).unwrap_or_default();
    for kill in kills(&events).filter(|kill| is_of_change(&kill.module)) {
        terminal::print_error(&kill.text("shutdown_timeout"));
    }
}

/// The same for the stop of a system that no longer runs.
pub(super) fn tell_of_kills_in(state_dir: &Path, since: Timestamp, has_timeout: bool) {
    let key = match has_timeout {
        true => "shutdown_timeout, or --timeout of down",
        false => "shutdown_timeout",
    };
    let read = OfflineJournal::of(state_dir).and_then(|it| it.read(&params(since)).ok());
    for kill in kills(&read.unwrap_or_default()) {
        terminal::print_error(&kill.text(key));
    }
}

fn params(since: Timestamp) -> EventsParams {
    EventsParams {
        since_time: Some(since),
        kinds: vec![EventKind::ModuleStateChanged],
        limit: Some(EVENTS_MAX),
        ..EventsParams::default()
    }
}

/// A module that did not end in time.
struct Kill {
    module: String,
    /// From the stop signal to the end; none if the signal was sent before.
    took: Option<Duration>,
    /// How its main process ended.
    end: String,
}

impl Kill {
    /// The warning; `key` is what limits the time.
    fn text(&self, key: &str) -> String {
        let name = format::single_line(&self.module);
        let within = self.took.map(format::compact_duration);
        let within = match within {
            Some(took) => format!("within {took}"),
            None => "in time".to_owned(),
        };
        match self.end.strip_prefix("killed by ") {
            Some(signal) => format!(
                "warning: {name} did not end {within} and was killed by {} ({key})",
                format::single_line(signal)
            ),
            None => format!(
                "warning: processes of {name} did not end {within} and were killed ({key}); main \
                 process: {}",
                format::single_line(&self.end)
            ),
        }
    }
}

/// The modules that were stopped by force, from state changes in their order.
fn kills(events: &[Event]) -> impl Iterator<Item = Kill> {
    events.iter().enumerate().filter_map(|(place, event)| {
        let end = event.payload.get("forced")?.as_str()?.to_owned();
        let mut before = events[..place].iter().rev();
        let asked = before.find(|it| {
            let to = it.payload.get("to").and_then(Value::as_str);
            it.module == event.module && to == Some("stopping")
        });
        let took = asked.map(|asked| event.at.0.saturating_sub(asked.at.0));
        Some(Kill {
            module: event.module.clone()?,
            took: took.map(Duration::from_millis),
            end,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(module: &str, at: u64, payload: Value) -> Event {
        serde_json::from_value(json!({
            "seq": at, "at": Timestamp(at), "kind": "module.state_changed", "module": module,
            "payload": payload,
        }))
        .expect("an event")
    }

    fn told(events: &[Event]) -> Vec<String> {
        kills(events)
            .map(|kill| kill.text("shutdown_timeout"))
            .collect()
    }

    #[test]
    fn a_kill_is_told_with_its_time_and_its_signal() {
        let events = [
            change("db", 1000, json!({"to": "stopping"})),
            change("web", 2000, json!({"to": "stopping"})),
            change("web", 2100, json!({"to": "stopped"})),
            change(
                "db",
                16_000,
                json!({"to": "stopped", "forced": "killed by SIGKILL"}),
            ),
        ];
        let expected =
            "warning: db did not end within 15s and was killed by SIGKILL (shutdown_timeout)";
        assert_eq!(told(&events), [expected]);
        assert_eq!(
            told(&events[3..]),
            [expected.replace("within 15s", "in time")]
        );
    }

    #[test]
    fn the_rest_of_a_tree_is_not_its_main_process() {
        let forced = change("db", 5, json!({"to": "stopped", "forced": "exit code 0"}));
        let expected = "warning: processes of db did not end in time and were killed \
                        (shutdown_timeout); main process: exit code 0";
        assert_eq!(told(&[forced]), [expected]);
    }
}

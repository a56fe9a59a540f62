//! The closed lists against their golden file.
//! Owns the list of lists.
//! Never lists a word by hand: each list says its own.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use mainstay_protocol::words::{
    Cause, CliExitCode, Health, Importance, Kind, Level, Rung, State, SystemStatus, Wanted,
};
use mainstay_protocol::{EventKind, RefusalCode, method};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::golden;

/// The list's words, after each was spelled and read in every way there is.
fn spelled<W>(all: &[W]) -> Value
where
    W: Copy + Debug + Display + FromStr + PartialEq + Serialize + DeserializeOwned,
{
    let words: Vec<String> = all.iter().map(ToString::to_string).collect();
    for (word, text) in all.iter().zip(&words) {
        assert_eq!(text.parse::<W>().ok(), Some(*word));
        assert_eq!(json!(word), json!(text));
        assert_eq!(serde_json::from_value::<W>(json!(text)).ok(), Some(*word));
    }
    let mut distinct = words.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(
        distinct.len(),
        words.len(),
        "a word stands twice in {words:?}"
    );
    json!(words)
}

#[test]
fn closed_lists_are_what_their_golden_file_says() {
    let codes = [
        ("ok", CliExitCode::Ok),
        ("failed", CliExitCode::Failed),
        ("usage", CliExitCode::Usage),
        ("not_running", CliExitCode::NotRunning),
        ("refused", CliExitCode::Refused),
        ("configuration", CliExitCode::Configuration),
    ];
    let codes: Value = codes
        .iter()
        .map(|(word, code)| (*word, *code as u8))
        .collect();
    let lists = json!({
        "cause": spelled(Cause::ALL),
        "event_kind": spelled(EventKind::ALL),
        "exit_code": codes,
        "health": spelled(Health::ALL),
        "importance": spelled(Importance::ALL),
        "kind": spelled(Kind::ALL),
        "level": spelled(Level::ALL),
        "not_available_yet": method::PLANNED_METHODS,
        "refusal_code": spelled(RefusalCode::ALL),
        "rung": spelled(Rung::ALL),
        "state": spelled(State::ALL),
        "system_status": spelled(SystemStatus::ALL),
        "desired": spelled(Wanted::ALL),
    });
    golden::check(&golden::folder().join("words.json"), &lists);
}

#[test]
fn event_kinds_are_a_noun_and_what_happened_to_it() {
    for kind in EventKind::ALL {
        let (noun, happened) = kind.as_str().split_once('.').expect("two words");
        assert!(
            !noun.is_empty() && !happened.is_empty() && !happened.contains('.'),
            "{kind}"
        );
    }
}

#[test]
fn an_unknown_value_is_carried_in_messages_and_refused_where_a_person_wrote_it() {
    assert!("sleeping".parse::<State>().is_err());
    let read: State = serde_json::from_str("\"sleeping\"").expect("a value of a newer version");
    assert!(!read.is_known() && !State::ALL.contains(&read));
    assert_eq!(
        (read.to_string(), json!(read)),
        ("sleeping".to_owned(), json!("sleeping"))
    );
    assert!(serde_json::from_str::<State>("7").is_err());
}

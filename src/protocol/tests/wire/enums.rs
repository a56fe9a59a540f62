//! The closed lists against their golden file.
//! Owns the list of lists.
//! Never lists a word by hand: each list says its own.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use mainstay_protocol::enums::{
    AccessLevel, CliExitCode, DesiredState, HealthStatus, ModuleImportance, ModuleKind,
    ModuleState, Rung, StateCause, SystemStatus,
};
use mainstay_protocol::{ErrorCode, EventKind, method};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::golden;

/// The values of the list, after each was written and read in both directions.
fn spelled<W>(all: &[W]) -> Value
where
    W: Copy + Debug + Display + FromStr + PartialEq + Serialize + DeserializeOwned,
{
    let values: Vec<String> = all.iter().map(ToString::to_string).collect();
    for (value, text) in all.iter().zip(&values) {
        assert_eq!(text.parse::<W>().ok(), Some(*value));
        assert_eq!(json!(value), json!(text));
        assert_eq!(serde_json::from_value::<W>(json!(text)).ok(), Some(*value));
    }
    let mut distinct = values.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(
        distinct.len(),
        values.len(),
        "a value appears twice in {values:?}"
    );
    json!(values)
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
        "cause": spelled(StateCause::ALL),
        "event_kind": spelled(EventKind::ALL),
        "exit_code": codes,
        "health": spelled(HealthStatus::ALL),
        "importance": spelled(ModuleImportance::ALL),
        "kind": spelled(ModuleKind::ALL),
        "level": spelled(AccessLevel::ALL),
        "not_available_yet": method::PLANNED_METHODS,
        "error_code": spelled(ErrorCode::ALL),
        "rung": spelled(Rung::ALL),
        "state": spelled(ModuleState::ALL),
        "system_status": spelled(SystemStatus::ALL),
        "desired": spelled(DesiredState::ALL),
    });
    golden::check(&golden::folder().join("enums.json"), &lists);
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
    assert!("sleeping".parse::<ModuleState>().is_err());
    let read: ModuleState =
        serde_json::from_str("\"sleeping\"").expect("a value of a newer version");
    assert!(!read.is_known() && !ModuleState::ALL.contains(&read));
    assert_eq!(
        (read.to_string(), json!(read)),
        ("sleeping".to_owned(), json!("sleeping"))
    );
    assert!(serde_json::from_str::<ModuleState>("7").is_err());
}

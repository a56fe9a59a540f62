//! What a holder knows, in the form in which it is passed to the program it executes: JSON.
//! Owns that form. Fields are only added, with a default, so that either side may be newer.
//! Never interprets it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::channel::ChannelState;
use super::groups::GroupTreeState;
use super::instances::{FormerMainState, InstanceState};
use super::kept_fds::{KeptFd, KeptFds};
use super::notify_state::NotifyThreadState;
use super::output::OutputState;
use super::system::{DirsState, RuntimeState};
use crate::machines::{Roster, RuntimeSupervisor};
use crate::messages::HolderSetup;

/// Version of this form. It is raised only when a state of the version before cannot be read.
const VERSION: u32 = 1;

/// Of every version, whatever else it says: the way back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WayBack {
    pub(crate) version: u32,
    /// The number of the request.
    pub(crate) number: u64,
    /// The program that wrote this.
    pub(crate) program: KeptFd,
    /// Why the program that was executed could not go on.
    #[serde(default)]
    pub(crate) problem: Option<String>,
}

/// What a holder knows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HolderState {
    #[serde(flatten)]
    pub(crate) back: WayBack,
    /// Every descriptor that is named below.
    pub(crate) kept: KeptFds,
    /// The limits of open files for modules: soft and hard.
    pub(crate) nofile: (u64, u64),
    pub(crate) setup: HolderSetup,
    pub(crate) dirs: DirsState,
    /// None: trees are walked.
    pub(crate) groups: Option<GroupTreeState>,
    /// The secret of the state directory.
    pub(crate) mark: String,
    pub(crate) output: OutputState,
    /// None: no run has sent anything yet.
    pub(crate) notify: Option<NotifyThreadState<KeptFd>>,
    pub(crate) instances: Vec<InstanceState>,
    pub(crate) former_mains: Vec<FormerMainState>,
    pub(crate) roster: Value,
    pub(crate) supervisor: Value,
    pub(crate) runtime: RuntimeState,
    pub(crate) channel: ChannelState,
    /// The first that was given, and the next.
    pub(crate) tags: (u64, u64),
    pub(crate) inherited_children: Vec<(i32, u64)>,
    pub(crate) up_since: u64,
    pub(crate) strays_due: bool,
    /// The reading end of the pipe that each child has until its exec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) barrier: Option<KeptFd>,
}

impl WayBack {
    pub(crate) fn new(number: u64, program: KeptFd) -> WayBack {
        WayBack {
            version: VERSION,
            number,
            program,
            problem: None,
        }
    }
}

impl HolderState {
    /// Reads a state, with both machines.
    ///
    /// # Errors
    /// In a sentence: it is of another version, or not what this program expects.
    pub(super) fn parse(text: &[u8]) -> Result<(HolderState, Roster, RuntimeSupervisor), String> {
        let say = |problem: serde_json::Error| {
            format!("it cannot read the state of this holder: {problem}")
        };
        let back: WayBack = serde_json::from_slice(text).map_err(say)?;
        if back.version != VERSION {
            let version = back.version;
            return Err(format!(
                "it reads states of version {VERSION}, this holder has version {version}"
            ));
        }
        let mut state: HolderState = serde_json::from_slice(text).map_err(say)?;
        let roster = serde_json::from_value(state.roster.take()).map_err(say)?;
        let supervisor = serde_json::from_value(state.supervisor.take()).map_err(say)?;
        Ok((state, roster, supervisor))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The first form there was; it is never written again.
    const FIRST: &str = include_str!("../tests/golden/state.json");

    fn read(state: &Value) -> Result<(HolderState, Roster, RuntimeSupervisor), String> {
        HolderState::parse(&serde_json::to_vec(state).unwrap())
    }

    /// Gives every object a field that only a newer program knows, but those of the standard
    /// library and those whose keys are numbers or names.
    fn add_fields(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.values_mut().for_each(add_fields);
                let is_field = |key: &String| {
                    let is_name = ["serves", "secs"].contains(&key.as_str());
                    key.starts_with(char::is_lowercase) && !is_name
                };
                if fields.keys().all(is_field) {
                    let newer = serde_json::json!({ "a": [1, null] });
                    fields.insert("newer".to_owned(), newer);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(add_fields),
            _ => {}
        }
    }

    #[test]
    fn the_first_form_is_read_and_written_again_without_a_loss() {
        let first: Value = serde_json::from_str(FIRST).unwrap();
        let (mut state, roster, supervisor) = read(&first).unwrap();
        assert!(roster.running(1).is_some_and(|run| run.pid == 32452));
        assert!(supervisor.exit_code().is_none() && roster.is_taken_over());
        state.roster = serde_json::to_value(roster).unwrap();
        state.supervisor = serde_json::to_value(supervisor).unwrap();
        let again = serde_json::to_value(state).unwrap();
        for (key, value) in first.as_object().unwrap() {
            assert_eq!(&again[key], value, "{key}");
        }
    }

    #[test]
    fn fields_that_only_a_newer_program_knows_change_nothing() {
        let mut newer: Value = serde_json::from_str(FIRST).unwrap();
        add_fields(&mut newer);
        assert!(newer["instances"][0]["run"]["newer"].is_object());
        read(&newer).unwrap();
    }

    #[test]
    fn another_version_and_what_is_no_state_are_refused() {
        let mut other: Value = serde_json::from_str(FIRST).unwrap();
        other["version"] = 2.into();
        assert!(read(&other).unwrap_err().contains("version 2"));
        other["version"] = 1.into();
        other["runtime"] = Value::Null;
        let problem = read(&other).unwrap_err();
        assert!(problem.contains("cannot read the state"), "{problem}");
    }
}

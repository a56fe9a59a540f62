//! Why a process did not start.
//! Owns the steps of a start.
//! Never puts a failure into words: who reports it does.

use serde::{Deserialize, Serialize};

/// Why a start failed before the program ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// What could not be done.
    pub step: StartStep,
    /// The system's error number; 0 = none.
    #[serde(default)]
    pub errno: i32,
}

/// The steps of a start, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartStep {
    /// The holder refused: a run is alive, or the generation is not newer than the last one.
    Fence,
    /// A `before_start` command failed.
    Prepare,
    /// The machine has less left than the module needs.
    Resources,
    /// Its pipes and sockets.
    Pipe,
    /// The new process itself.
    Fork,
    /// Its session.
    Session,
    /// Its working directory.
    Directory,
    /// Its limits.
    Limits,
    /// Its group.
    Group,
    /// Its user.
    User,
    /// Its descriptors.
    Descriptors,
    /// Its program.
    Exec,
    /// A step that only a newer mainstay knows.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_only_a_newer_side_knows_is_another_step() {
        let newer: StartFailure =
            serde_json::from_str(r#"{"step":"seal","errno":1,"seal":"a"}"#).expect("it is read");
        assert_eq!(newer.step, StartStep::Other);
        let older: StartFailure = serde_json::from_str(r#"{"step":"exec"}"#).expect("it is read");
        assert_eq!((older.step, older.errno), (StartStep::Exec, 0));
    }
}

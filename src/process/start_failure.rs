//! Why a process did not start.
//! Owns the steps of a start.
//! Never puts a failure into words: `os/start_failure.rs` does, and the holder where it refuses.

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

/// Error numbers that a second try meets again until a person changes a file or an account: on
/// Unix EPERM, ENOENT, E2BIG, ENOEXEC, EACCES, ENOTDIR, EISDIR and EINVAL; on Windows those for a
/// file or a path that is missing, a denied access and a bad format.
const LASTING: &[i32] = if cfg!(windows) {
    &[2, 3, 5, 193]
} else {
    &[1, 2, 7, 8, 13, 20, 21, 22]
};

impl StartFailure {
    /// Whether a try a moment later would fail for the same cause: there is no such program,
    /// directory or user, or it may not be used.
    #[must_use]
    pub fn is_lasting(self) -> bool {
        let is_named = match self.step {
            StartStep::Directory | StartStep::Group | StartStep::User | StartStep::Exec => true,
            StartStep::Fence
            | StartStep::Prepare
            | StartStep::Resources
            | StartStep::Pipe
            | StartStep::Fork
            | StartStep::Session
            | StartStep::Limits
            | StartStep::Isolation
            | StartStep::Descriptors
            | StartStep::Holder
            | StartStep::Other => false,
        };
        is_named && LASTING.contains(&self.errno)
    }

    /// Whether its program was not found: ENOENT on Unix, `ERROR_FILE_NOT_FOUND` on Windows.
    #[must_use]
    pub fn is_missing_program(self) -> bool {
        (self.step, self.errno) == (StartStep::Exec, 2)
    }

    /// Whether nothing failed: it was lost with the holder, and is to be made again.
    #[must_use]
    pub fn is_lost(self) -> bool {
        self.step == StartStep::Holder
    }
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
    /// What it sees of the system.
    Isolation,
    /// Its group.
    Group,
    /// Its user.
    User,
    /// Its descriptors.
    Descriptors,
    /// Its program.
    Exec,
    /// Its holder ended meanwhile, and another one goes on: how far it got is not known.
    Holder,
    /// A step that only a newer mainstay knows.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_forbidden_lasts_and_what_is_scarce_does_not() {
        let lasts = |step, errno| StartFailure { step, errno }.is_lasting();
        assert!(lasts(StartStep::Exec, 2) && lasts(StartStep::User, 2));
        assert!(!lasts(StartStep::Exec, 12), "no memory just now");
        assert!(!lasts(StartStep::Fork, 2) && !lasts(StartStep::Prepare, 0));
    }

    #[test]
    fn a_step_that_only_a_newer_side_knows_is_another_step() {
        let newer: StartFailure =
            serde_json::from_str(r#"{"step":"seal","errno":1,"seal":"a"}"#).expect("it is read");
        assert_eq!(newer.step, StartStep::Other);
        let older: StartFailure = serde_json::from_str(r#"{"step":"exec"}"#).expect("it is read");
        assert_eq!((older.step, older.errno), (StartStep::Exec, 0));
    }
}

//! How a process ended.
//! Owns the one type for it and its form in JSON.
//! Never judges whether the end was a failure: that is policy's.

use serde::{Deserialize, Serialize};

use crate::Signal;

/// How a process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal {
        /// The signal.
        signal: Signal,
        /// Whether a core was dumped.
        core: bool,
    },
    /// The kernel killed it with SIGKILL because memory ran out.
    Oom,
    /// It was killed and still runs: a task of an application that never yields. No second run is
    /// started while it does.
    Stuck,
    /// It ended, and only its parent knows how; or a newer mainstay names an end that this one
    /// does not know.
    #[default]
    Unknown,
}

impl Exit {
    /// The exit code of a process that exited by itself.
    #[must_use]
    pub const fn code(self) -> Option<i32> {
        match self {
            Exit::Code(code) => Some(code),
            Exit::Signal { .. } | Exit::Oom | Exit::Stuck | Exit::Unknown => None,
        }
    }

    /// The signal that ended the process.
    #[must_use]
    pub const fn signal(self) -> Option<Signal> {
        match self {
            Exit::Signal { signal, .. } => Some(signal),
            Exit::Oom => Some(Signal::KILL),
            Exit::Code(_) | Exit::Stuck | Exit::Unknown => None,
        }
    }

    /// Whether the process dumped a core.
    #[must_use]
    pub const fn dumped_core(self) -> bool {
        matches!(self, Exit::Signal { core: true, .. })
    }
}

/// An end as JSON: `{"code":3}`, `{"signal":11,"core":true}`, `{"signal":9,"oom":true}`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<Signal>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    core: bool,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    oom: bool,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    stuck: bool,
}

impl From<Exit> for Fields {
    fn from(exit: Exit) -> Fields {
        Fields {
            code: exit.code(),
            signal: exit.signal(),
            core: exit.dumped_core(),
            oom: exit == Exit::Oom,
            stuck: exit == Exit::Stuck,
        }
    }
}

impl From<Fields> for Exit {
    fn from(fields: Fields) -> Exit {
        match fields {
            Fields { oom: true, .. } => Exit::Oom,
            Fields { stuck: true, .. } => Exit::Stuck,
            Fields {
                code: Some(code), ..
            } => Exit::Code(code),
            Fields {
                signal: Some(signal),
                core,
                ..
            } => Exit::Signal { signal, core },
            Fields { .. } => Exit::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_survives_its_form_in_json() {
        for (exit, json) in [
            (Exit::Code(0), r#"{"code":0}"#),
            (Exit::Code(-1_073_741_510), r#"{"code":-1073741510}"#),
            (
                Exit::Signal {
                    signal: Signal::TERMINATE,
                    core: false,
                },
                r#"{"signal":15}"#,
            ),
            (
                Exit::Signal {
                    signal: Signal(11),
                    core: true,
                },
                r#"{"signal":11,"core":true}"#,
            ),
            (Exit::Oom, r#"{"signal":9,"oom":true}"#),
            (Exit::Stuck, r#"{"stuck":true}"#),
            (Exit::Unknown, "{}"),
        ] {
            assert_eq!(serde_json::to_string(&exit).expect("it is JSON"), json);
            assert_eq!(serde_json::from_str::<Exit>(json).expect(json), exit);
        }
    }

    #[test]
    fn an_end_that_only_a_newer_side_knows_is_unknown() {
        let newer: Exit = serde_json::from_str(r#"{"frozen":true}"#).expect("it is read");
        assert_eq!(newer, Exit::Unknown);
        let newer: Exit = serde_json::from_str(r#"{"signal":9,"by":"group"}"#).expect("it is read");
        assert_eq!(newer.signal(), Some(Signal::KILL));
    }
}

//! The values of keys that are chosen from a closed set.
//! Owns these values, and which of them are not implemented yet.
//! Never accepts a value that is then ignored.

use mainstay_policy::group::{GroupStrategy, OnExceeded};
use mainstay_policy::spec;
use mainstay_process::{ListenerOwner, ProbeRole, Signal, Stdin};
use serde::{Deserialize, Serialize};

use super::{Choice, FromConfig, ValueType};
use crate::config::read_context::ReadContext;
use crate::config::tree::{Node, TreeValue};

/// Declares the values of a type.
macro_rules! choices {
    ($kind:ty { $($word:literal => $value:path,)* } $(later { $($later:literal,)* })?) => {
        impl FromConfig for $kind {
            const FORM: ValueType = ValueType::Choice(&[
                $(Choice { word: $word, available: true },)*
                $($(Choice { word: $later, available: false },)*)?
            ]);

            fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
                if let TreeValue::Text(text) = &node.value {
                    $(if text == $word {
                        return Some($value);
                    })*
                }
                at.type_error(node, Self::FORM)
            }

            fn show(&self) -> String {
                match self {
                    $($value => concat!("\"", $word, "\"").to_owned(),)*
                }
            }
        }
    };
}

/// How the output of a module is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Unchanged.
    Text,
    /// Lines that are JSON objects are parsed.
    Json,
}

/// Whether stdout and stderr of a module have a pipe each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStreams {
    /// One for both: all that is written is in its order.
    #[default]
    Merged,
    /// Yes: each line has its stream, and the order between the two is that of the reads.
    Split,
}

/// Whether a module starts whose limits this machine cannot enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnforcementPolicy {
    /// Yes: what can be enforced is, the rest is reported.
    BestEffort,
    /// No.
    Required,
}

/// A rung of the throttle ladder that is climbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rung {
    Notice,
    Priority,
    Cap,
    Restart,
    Stop,
}

impl From<Rung> for mainstay_policy::resources::Rung {
    fn from(rung: Rung) -> mainstay_policy::resources::Rung {
        match rung {
            Rung::Notice => mainstay_policy::resources::Rung::Notice,
            Rung::Priority => mainstay_policy::resources::Rung::Priority,
            Rung::Cap => mainstay_policy::resources::Rung::Cap,
            Rung::Restart => mainstay_policy::resources::Rung::Restart,
            Rung::Stop => mainstay_policy::resources::Rung::Stop,
        }
    }
}

/// Whether a saved file is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadMode {
    /// Without a request.
    Auto,
    /// On request alone.
    Manual,
}

choices!(Stdin { "null" => Stdin::Null, "open" => Stdin::Open, });
choices!(LogFormat { "text" => LogFormat::Text, "json" => LogFormat::Json, });
choices!(LogStreams { "merged" => LogStreams::Merged, "split" => LogStreams::Split, });
choices!(ProbeRole {
    "liveness" => ProbeRole::Liveness,
    "startup" => ProbeRole::Startup,
    "readiness" => ProbeRole::Readiness,
});
choices!(ListenerOwner { "module" => ListenerOwner::Module, "any" => ListenerOwner::Any, });
choices!(ReloadMode { "auto" => ReloadMode::Auto, "manual" => ReloadMode::Manual, });
choices!(spec::Kind {
    "service" => spec::Kind::Service,
    "task" => spec::Kind::Task,
    "builtin" => spec::Kind::Builtin,
});
choices!(spec::StartMode { "eager" => spec::StartMode::Eager, "lazy" => spec::StartMode::Lazy, });
choices!(spec::Importance {
    "low" => spec::Importance::Low,
    "normal" => spec::Importance::Normal,
    "high" => spec::Importance::High,
    "critical" => spec::Importance::Critical,
});
choices!(spec::DependencyCondition {
    "started" => spec::DependencyCondition::Started,
    "ready" => spec::DependencyCondition::Ready,
    "healthy" => spec::DependencyCondition::Healthy,
    "completed" => spec::DependencyCondition::Completed,
});
choices!(spec::RestartPolicy {
    "always" => spec::RestartPolicy::Always,
    "on_failure" => spec::RestartPolicy::OnFailure,
    "never" => spec::RestartPolicy::Never,
});
choices!(spec::OnDependencyRestart {
    "notify" => spec::OnDependencyRestart::Notify,
    "restart" => spec::OnDependencyRestart::Restart,
    "ignore" => spec::OnDependencyRestart::Ignore,
});
choices!(spec::Strategy {
    "restart" => spec::Strategy::Restart,
    "restart_with_reset" => spec::Strategy::RestartWithReset,
    "degrade" => spec::Strategy::Degrade,
    "restart_system" => spec::Strategy::RestartSystem,
    "stop" => spec::Strategy::Stop,
});
choices!(GroupStrategy {
    "one_for_one" => GroupStrategy::OneForOne,
    "one_for_all" => GroupStrategy::OneForAll,
    "rest_for_one" => GroupStrategy::RestForOne,
});
choices!(OnExceeded {
    "escalate" => OnExceeded::Escalate,
    "stop_group" => OnExceeded::StopGroup,
    "restart_system" => OnExceeded::RestartSystem,
    "shutdown" => OnExceeded::Shutdown,
    "degrade" => OnExceeded::Degrade,
});

choices!(Rung {
    "notice" => Rung::Notice,
    "priority" => Rung::Priority,
    "cap" => Rung::Cap,
    "restart" => Rung::Restart,
    "stop" => Rung::Stop,
});
choices!(EnforcementPolicy {
    "best_effort" => EnforcementPolicy::BestEffort,
    "required" => EnforcementPolicy::Required,
});

/// Returns the number of a signal that can be a stop signal.
pub(crate) fn signal(name: &str) -> Option<Signal> {
    let cannot_ask = ["SIGSTOP", "SIGTSTP", "SIGCONT", "SIGCHLD"];
    crate::os_text::signal_number(name).filter(|_| !cannot_ask.contains(&name))
}

//! The lists of values in JSON: states, causes, health, levels.
//! Owns their spelling, and that a value of a newer version is carried instead of refused.
//! Never grows a value that the documents do not name.

pub use crate::unknown_value::UnknownValue;

/// Declares a list of values: an enum, its spelling in JSON, `ALL`, `as_str` and `Display`. A value
/// that this version does not know is read as `Other`, and written as it was read.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$var_doc:meta])* $var:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
        pub enum $name {
            /// A value of a newer version. Sorts before all others, so that an unknown level
            /// permits nothing.
            #[schemars(skip)]
            Other($crate::words::UnknownValue),
            $($(#[$var_doc])* #[schemars(rename = $text)] $var),+
        }

        impl $name {
            /// Every known value, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$var),+];

            /// The value as it stands in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $name::Other(other) => other.as_str(),
                    $($name::$var => $text),+
                }
            }

            /// Whether this version knows the value.
            #[must_use]
            pub const fn is_known(self) -> bool {
                !matches!(self, $name::Other(_))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::UnknownVariant;
            fn from_str(text: &str) -> Result<Self, $crate::words::UnknownVariant> {
                let value = Self::ALL.iter().copied().find(|value| value.as_str() == text);
                value.ok_or($crate::words::UnknownVariant)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                let other = |_| $name::Other($crate::words::UnknownValue::new(&text));
                Ok(text.parse().unwrap_or_else(other))
            }
        }
    };
}
pub(crate) use words;

/// A text that is not one of the known values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of the known values")]
pub struct UnknownVariant;

words! {
    /// Where a module stands.
    State {
        /// Never wished for since this mainstay started.
        NotStarted = "not_started",
        /// Wished up; something it needs is not there yet.
        Waiting = "waiting",
        /// Its process is being made, or exists and is not ready.
        Starting = "starting",
        /// Ready.
        Running = "running",
        /// Told to end.
        Stopping = "stopping",
        /// Ended as wished, or a task that is done.
        Stopped = "stopped",
        /// Failed; the next try is scheduled.
        Backoff = "backoff",
        /// Given up, until a wish or probation.
        Failed = "failed",
    }
}
words! {
    /// What is wished for a module, apart from what is.
    Wanted {
        /// It should not run.
        Down = "down",
        /// It should run.
        Up = "up",
    }
}
words! {
    /// Why a module changed its state.
    Cause {
        /// The system came up.
        Boot = "boot",
        /// A person or program asked.
        Requested = "requested",
        /// A module it depends on changed.
        Dependency = "dependency",
        /// Its program could not be executed.
        Exec = "exec",
        /// Its process ended.
        Exit = "exit",
        /// It became ready, or its start failed before the program ran.
        Startup = "startup",
        /// It took longer than it may.
        Timeout = "timeout",
        /// A health probe failed.
        Probe = "probe",
        /// It stopped feeding its watchdog.
        Watchdog = "watchdog",
        /// It went over a limit.
        Limit = "limit",
        /// The configuration changed.
        Reload = "reload",
        /// Its group acted.
        Group = "group",
        /// One try after giving up.
        Probation = "probation",
        /// The system goes down.
        Shutdown = "shutdown",
        /// The runtime returned and found it as it is.
        Adopted = "adopted",
    }
}
words! {
    /// How a running module is.
    Health {
        /// Nothing was observed yet, or nothing observes it.
        Unknown = "unknown",
        /// All is well.
        Healthy = "healthy",
        /// It works, not fully.
        Degraded = "degraded",
        /// It does not work.
        Unhealthy = "unhealthy",
    }
}
words! {
    /// How the system as a whole is.
    SystemStatus {
        /// The first start is not over.
        Starting = "starting",
        /// Everything wished for runs and is well.
        Healthy = "healthy",
        /// Something optional failed, or something is not fully well.
        Degraded = "degraded",
        /// A required module failed.
        Critical = "critical",
        /// The ordered stop is on its way.
        Stopping = "stopping",
    }
}
words! {
    /// Who is squeezed first and who gets stop budget first.
    Importance {
        /// Squeezed first.
        Low = "low",
        /// The default.
        Normal = "normal",
        /// Squeezed late.
        High = "high",
        /// Squeezed last.
        Critical = "critical",
    }
}
words! {
    /// What a connection may do; each level includes those before it.
    Level {
        /// Exactly: its own health and settings, publish, subscribe, call.
        Module = "module",
        /// Look.
        Observe = "observe",
        /// Start, stop, restart.
        Operate = "operate",
        /// Everything.
        Admin = "admin",
    }
}
words! {
    /// The kind of a module.
    Kind {
        /// Runs until it is stopped.
        Service = "service",
        /// Runs to completion.
        Task = "task",
        /// Part of mainstay itself.
        Builtin = "builtin",
    }
}
words! {
    /// The rung of the throttle ladder a module stands on.
    Rung {
        /// Not throttled.
        None = "none",
        /// An event and a word to the module.
        Notice = "notice",
        /// A lower priority.
        Priority = "priority",
        /// Held at its limit.
        Cap = "cap",
        /// Restarted.
        Restart = "restart",
        /// Stopped.
        Stop = "stop",
    }
}

/// Exit codes of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CliExitCode {
    /// Done.
    Ok = 0,
    /// It was tried and failed.
    Failed = 1,
    /// The command line was not understood.
    Usage = 2,
    /// No mainstay answers.
    NotRunning = 3,
    /// mainstay said no.
    Refused = 4,
    /// The configuration is invalid.
    Configuration = 5,
}

impl From<CliExitCode> for std::process::ExitCode {
    fn from(code: CliExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

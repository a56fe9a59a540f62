//! The lists of values in JSON: states, causes, health, levels.
//! Owns their spelling, and that a value of a newer version is carried instead of refused.
//! Never grows a value that the documents do not name.

pub use crate::unknown_value::UnknownValue;

/// Declares a list of values: an enum, its spelling in JSON, `ALL`, `as_str` and `Display`. A value
/// that this version does not know is read as `Other`, and written as it was read.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$var_doc:meta])* $var:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
        pub enum $name {
            /// A value of a newer version. Sorts before all others, so that an unknown level
            /// permits nothing.
            #[schemars(skip)]
            Other($crate::enums::UnknownValue),
            $($(#[$var_doc])* #[schemars(rename = $text)] $var),+
        }

        impl $name {
            /// Every known value, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$var),+];

            /// The value as written in JSON.
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
            type Err = $crate::enums::UnknownVariant;
            fn from_str(text: &str) -> Result<Self, $crate::enums::UnknownVariant> {
                let value = Self::ALL.iter().copied().find(|value| value.as_str() == text);
                value.ok_or($crate::enums::UnknownVariant)
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
                let other = |_| $name::Other($crate::enums::UnknownValue::new(&text));
                Ok(text.parse().unwrap_or_else(other))
            }
        }
    };
}
pub(crate) use wire_enum;

/// A text that is not one of the known values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of the known values")]
pub struct UnknownVariant;

wire_enum! {
    /// The observed state of a module.
    ModuleState {
        /// Never started since this mainstay started.
        NotStarted = "not_started",
        /// Desired up; a dependency does not meet its condition yet.
        Waiting = "waiting",
        /// Its process is being spawned, or runs and is not ready.
        Starting = "starting",
        /// Ready.
        Running = "running",
        /// Its process was asked to stop and still runs.
        Stopping = "stopping",
        /// Its process exited on request, or its task has completed.
        Stopped = "stopped",
        /// Failed; a restart is scheduled.
        Backoff = "backoff",
        /// Failed; no restart is scheduled until a request or probation.
        Failed = "failed",
    }
}
wire_enum! {
    /// The desired state of a module, as last requested.
    DesiredState {
        /// It should not run.
        Down = "down",
        /// It should run.
        Up = "up",
    }
}
wire_enum! {
    /// Why a module changed its state.
    StateCause {
        /// Initial startup.
        Boot = "boot",
        /// A person or program requested it.
        Requested = "requested",
        /// A module it depends on changed.
        Dependency = "dependency",
        /// Its program could not be executed.
        Exec = "exec",
        /// Its process exited.
        Exit = "exit",
        /// It became ready, or its start failed before the program ran.
        Startup = "startup",
        /// A timeout expired.
        Timeout = "timeout",
        /// A health probe failed.
        Probe = "probe",
        /// Its watchdog was not fed in time.
        Watchdog = "watchdog",
        /// It exceeded a limit.
        Limit = "limit",
        /// The configuration changed.
        Reload = "reload",
        /// Another module of its group failed.
        Group = "group",
        /// One restart of a failed module, on probation.
        Probation = "probation",
        /// The system is stopping.
        Shutdown = "shutdown",
        /// It was not used for its `idle_stop`.
        Idle = "idle",
        /// A new runtime took over its process.
        Adopted = "adopted",
    }
}
wire_enum! {
    /// The health of a running module.
    HealthStatus {
        /// No probe or report so far, or none is configured.
        Unknown = "unknown",
        /// It works.
        Healthy = "healthy",
        /// It works in part.
        Degraded = "degraded",
        /// It does not work.
        Unhealthy = "unhealthy",
    }
}
wire_enum! {
    /// The status of the whole system.
    SystemStatus {
        /// Initial startup has not finished.
        Starting = "starting",
        /// Every module that should run is running and healthy.
        Healthy = "healthy",
        /// An optional module failed, or a module is degraded or unhealthy.
        Degraded = "degraded",
        /// A required module failed.
        Critical = "critical",
        /// The ordered stop has started.
        Stopping = "stopping",
    }
}
wire_enum! {
    /// The order in which modules are throttled, and in which they get stop budget.
    ModuleImportance {
        /// Throttled first.
        Low = "low",
        /// The default.
        Normal = "normal",
        /// Throttled after normal modules.
        High = "high",
        /// Throttled last.
        Critical = "critical",
    }
}
wire_enum! {
    /// What a connection may do; each level includes the levels before it.
    AccessLevel {
        /// Report its own health, read its settings, publish, subscribe, call.
        Module = "module",
        /// Read states, events and logs.
        Observe = "observe",
        /// Start, stop, restart.
        Operate = "operate",
        /// Change the configuration, stop the system.
        Admin = "admin",
    }
}
wire_enum! {
    /// The kind of a module.
    ModuleKind {
        /// Runs until it is stopped.
        Service = "service",
        /// Runs to completion.
        Task = "task",
        /// Part of mainstay itself.
        Builtin = "builtin",
    }
}
wire_enum! {
    /// The rung of the throttle ladder at which a module is.
    Rung {
        /// Not throttled.
        None = "none",
        /// An event, and a notification to the module.
        Notice = "notice",
        /// A lower priority.
        Priority = "priority",
        /// A hard cap at its limit.
        Cap = "cap",
        /// Restarted.
        Restart = "restart",
        /// Stopped.
        Stop = "stop",
    }
}

wire_enum! {
    /// Where a module wrote a line to.
    LogStream {
        /// stdout.
        Stdout = "stdout",
        /// stderr.
        Stderr = "stderr",
    }
}

/// Exit codes of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CliExitCode {
    /// Success.
    Ok = 0,
    /// The command failed.
    Failed = 1,
    /// The command line is invalid.
    Usage = 2,
    /// mainstay is not running.
    NotRunning = 3,
    /// mainstay refused the request.
    Refused = 4,
    /// The configuration is invalid.
    Configuration = 5,
}

impl From<CliExitCode> for std::process::ExitCode {
    fn from(code: CliExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

//! Conversions from policy's enums to those of the protocol, and to texts.
//! Owns the tables between the two.
//! Never adds a value that policy does not have.

use mainstay_policy::diff::KeyClass;
use mainstay_policy::lifecycle::PreviewAction;
use mainstay_policy::recovery::Failure;
use mainstay_policy::resources::Rung as ThrottleRung;
use mainstay_policy::run::RunEnd;
use mainstay_policy::spec::{Importance, Kind, Strategy};
use mainstay_policy::states::{Cause, Desired, Health, State, Status};
use mainstay_process::{Exit, Exited, StartFailure};
use mainstay_protocol::config_plan::KeyClass as WireKeyClass;
use mainstay_protocol::enums::{ModuleKind, Rung};
use mainstay_protocol::method::ChangeAction;
use mainstay_protocol::{
    DesiredState, HealthStatus, ModuleImportance, ModuleState, StateCause, SystemStatus,
};

use crate::os_text::{errno_text, exit_text, signal_name, step_text};

/// A function from an enum of policy to that of the protocol, which has the same variants. The
/// compiler insists on a variant that policy gains.
macro_rules! to_wire {
    ($($name:ident: $from:ident => $to:ident { $($variant:ident),+ };)+) => { $(
        pub(crate) fn $name(value: $from) -> $to {
            match value {
                $($from::$variant => $to::$variant,)+
            }
        }
    )+ };
}
to_wire! {
    state: State => ModuleState {
        NotStarted, Waiting, Starting, Running, Stopping, Stopped, Backoff, Failed
    };
    desired: Desired => DesiredState { Down, Up };
    status: Status => SystemStatus { Starting, Healthy, Degraded, Critical, Stopping };
    cause: Cause => StateCause {
        Boot, Requested, Dependency, Exec, Exit, Startup, Timeout, Probe, Watchdog, Limit, Reload,
        Group, Probation, Shutdown, Idle, Adopted
    };
    health: Health => HealthStatus { Unknown, Healthy, Degraded, Unhealthy };
    kind: Kind => ModuleKind { Service, Task, Builtin };
    importance: Importance => ModuleImportance { Low, Normal, High, Critical };
    rung: ThrottleRung => Rung { None, Notice, Priority, Cap, Restart, Stop };
    change_action: PreviewAction => ChangeAction { Start, Stop, Restart, Notify, Fail, Wait };
    key_class: KeyClass => WireKeyClass { Live, Notify, Restart, RestartDependents };
}

pub(crate) fn health_to_policy(health: HealthStatus) -> Health {
    match health {
        HealthStatus::Unknown | HealthStatus::Other(_) => Health::Unknown,
        HealthStatus::Healthy => Health::Healthy,
        HealthStatus::Degraded => Health::Degraded,
        HealthStatus::Unhealthy => Health::Unhealthy,
    }
}

/// Why a start failed, in words.
pub(crate) fn failure_text(failure: StartFailure) -> String {
    match failure.errno {
        0 => step_text(failure.step).to_owned(),
        errno => format!("{}: {}", step_text(failure.step), errno_text(errno)),
    }
}

/// How a run ended, in words.
pub(crate) fn ending_text(ending: RunEnd) -> String {
    match ending {
        RunEnd::NotStarted(failure) => failure_text(failure),
        RunEnd::Exited(exit) => exit_text(exit),
        RunEnd::StartTimeout => "it was not ready in time".to_owned(),
        RunEnd::Watchdog => "it did not feed its watchdog".to_owned(),
        RunEnd::Stopped { exit, forced } => {
            let how = exit.map_or_else(|| "before it ran".to_owned(), exit_text);
            if forced {
                format!("stopped by force, {how}")
            } else {
                format!("stopped, {how}")
            }
        }
    }
}

/// How the run of a task ended, as it reported; a process has only an exit status.
pub(crate) fn task_message(exited: &Exited) -> Option<String> {
    (exited.pid == 0 && !exited.output.is_empty()).then(|| exited.output.clone())
}

/// A rung of the ladder, as the configuration says it.
pub(crate) fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Restart => "restart",
        Strategy::RestartWithReset => "restart_with_reset",
        Strategy::Degrade => "degrade",
        Strategy::RestartSystem => "restart_system",
        Strategy::Stop => "stop",
    }
}

/// The opposite of [`strategy`].
pub(crate) fn strategy_from(word: &str) -> Option<Strategy> {
    let all = [
        Strategy::Restart,
        Strategy::RestartWithReset,
        Strategy::Degrade,
        Strategy::RestartSystem,
        Strategy::Stop,
    ];
    all.into_iter().find(|one| strategy(*one) == word)
}

/// A failure as a noun, for messages like "attempt 2 after …".
pub(crate) fn failure_noun(failure: Failure) -> String {
    match failure {
        Failure::NotStarted(_) => "a failed start".to_owned(),
        Failure::Exited(Exit::Code(code)) => format!("exit code {code}"),
        Failure::Exited(Exit::Signal { signal, .. }) => {
            format!("the end by {}", signal_name(signal))
        }
        Failure::Exited(Exit::Oom) => "running out of memory".to_owned(),
        Failure::Exited(Exit::Stuck) => "a run that cannot be ended".to_owned(),
        Failure::Exited(Exit::Unknown) => failure_noun(Failure::ExitUnknown),
        Failure::StartTimeout => "a start that took too long".to_owned(),
        Failure::Watchdog => "a watchdog that was not fed".to_owned(),
        Failure::Probe => "failed health probes".to_owned(),
        Failure::Procedure => "a reset that could not be done".to_owned(),
        Failure::Limit { .. } => "an exceeded limit".to_owned(),
        Failure::ExitUnknown => "an end that was not seen".to_owned(),
    }
}

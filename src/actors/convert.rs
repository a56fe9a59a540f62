//! Conversions from policy's enums to those of the protocol, and to texts.
//! Owns the tables between the two.
//! Never adds a value that policy does not have.

use mainstay_policy::recovery::Failure;
use mainstay_policy::run::{Exit, RunEnd, StartFailure, StartStep};
use mainstay_policy::spec::Strategy;
use mainstay_policy::states;
use mainstay_process::Exited;
use mainstay_protocol::{
    DesiredState, HealthStatus, ModuleImportance, ModuleState, StateCause, SystemStatus,
    enums::{ModuleKind, Rung},
};

use crate::os_text::{code_text, errno_text, signal_name};

pub(crate) fn state(state: states::State) -> ModuleState {
    match state {
        states::State::NotStarted => ModuleState::NotStarted,
        states::State::Waiting => ModuleState::Waiting,
        states::State::Starting => ModuleState::Starting,
        states::State::Running => ModuleState::Running,
        states::State::Stopping => ModuleState::Stopping,
        states::State::Stopped => ModuleState::Stopped,
        states::State::Backoff => ModuleState::Backoff,
        states::State::Failed => ModuleState::Failed,
    }
}

pub(crate) fn desired(desired: states::Desired) -> DesiredState {
    match desired {
        states::Desired::Down => DesiredState::Down,
        states::Desired::Up => DesiredState::Up,
    }
}

pub(crate) fn status(status: states::Status) -> SystemStatus {
    match status {
        states::Status::Starting => SystemStatus::Starting,
        states::Status::Healthy => SystemStatus::Healthy,
        states::Status::Degraded => SystemStatus::Degraded,
        states::Status::Critical => SystemStatus::Critical,
        states::Status::Stopping => SystemStatus::Stopping,
    }
}

pub(crate) fn cause(cause: states::Cause) -> StateCause {
    match cause {
        states::Cause::Boot => StateCause::Boot,
        states::Cause::Requested => StateCause::Requested,
        states::Cause::Dependency => StateCause::Dependency,
        states::Cause::Exec => StateCause::Exec,
        states::Cause::Exit => StateCause::Exit,
        states::Cause::Startup => StateCause::Startup,
        states::Cause::Timeout => StateCause::Timeout,
        states::Cause::Probe => StateCause::Probe,
        states::Cause::Watchdog => StateCause::Watchdog,
        states::Cause::Limit => StateCause::Limit,
        states::Cause::Reload => StateCause::Reload,
        states::Cause::Group => StateCause::Group,
        states::Cause::Probation => StateCause::Probation,
        states::Cause::Shutdown => StateCause::Shutdown,
        states::Cause::Adopted => StateCause::Adopted,
    }
}

pub(crate) fn health(health: states::Health) -> HealthStatus {
    match health {
        states::Health::Unknown => HealthStatus::Unknown,
        states::Health::Healthy => HealthStatus::Healthy,
        states::Health::Degraded => HealthStatus::Degraded,
        states::Health::Unhealthy => HealthStatus::Unhealthy,
    }
}

pub(crate) fn health_to_policy(health: HealthStatus) -> states::Health {
    match health {
        HealthStatus::Unknown | HealthStatus::Other(_) => states::Health::Unknown,
        HealthStatus::Healthy => states::Health::Healthy,
        HealthStatus::Degraded => states::Health::Degraded,
        HealthStatus::Unhealthy => states::Health::Unhealthy,
    }
}

pub(crate) fn kind(kind: mainstay_policy::spec::Kind) -> ModuleKind {
    match kind {
        mainstay_policy::spec::Kind::Service => ModuleKind::Service,
        mainstay_policy::spec::Kind::Task => ModuleKind::Task,
        mainstay_policy::spec::Kind::Builtin => ModuleKind::Builtin,
    }
}

pub(crate) fn importance(importance: mainstay_policy::spec::Importance) -> ModuleImportance {
    match importance {
        mainstay_policy::spec::Importance::Low => ModuleImportance::Low,
        mainstay_policy::spec::Importance::Normal => ModuleImportance::Normal,
        mainstay_policy::spec::Importance::High => ModuleImportance::High,
        mainstay_policy::spec::Importance::Critical => ModuleImportance::Critical,
    }
}

pub(crate) fn rung(rung: mainstay_policy::resources::Rung) -> Rung {
    match rung {
        mainstay_policy::resources::Rung::None => Rung::None,
        mainstay_policy::resources::Rung::Notice => Rung::Notice,
        mainstay_policy::resources::Rung::Priority => Rung::Priority,
        mainstay_policy::resources::Rung::Cap => Rung::Cap,
        mainstay_policy::resources::Rung::Restart => Rung::Restart,
        mainstay_policy::resources::Rung::Stop => Rung::Stop,
    }
}

/// How a process ended, in words.
pub(crate) fn exit_text(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => code_text(code),
        Exit::Signal { signal, core } => {
            let dumped = if core { ", core dumped" } else { "" };
            format!("killed by {}{dumped}", signal_name(signal))
        }
        Exit::Oom => "killed by the kernel: out of memory".to_owned(),
        Exit::Stuck => "it did not end when it was ended by force, and still lasts".to_owned(),
        Exit::Unknown => "ended, nobody knows how".to_owned(),
    }
}

/// Where a start failed, in words.
pub(crate) fn step_text(step: StartStep) -> &'static str {
    match step {
        StartStep::Fence => "another run still lives",
        StartStep::Prepare => "a before_start command failed",
        StartStep::Resources => "the machine has less left than it needs",
        StartStep::Pipe => "cannot make its pipes",
        StartStep::Fork => "cannot make a process",
        StartStep::Session => "cannot make a session",
        StartStep::Directory => "cannot enter its directory",
        StartStep::Limits => "cannot set its limits",
        StartStep::Isolation => "cannot isolate it",
        StartStep::Group => "cannot become its group",
        StartStep::User => "cannot become its user",
        StartStep::Descriptors => "cannot arrange its descriptors",
        StartStep::Exec => "cannot execute its command",
        StartStep::Other => "cannot start it",
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

/// How the run of a task ended, as it was told; a process says nothing but a number.
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

/// A failure as a noun, for sentences like "attempt 2 after …".
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

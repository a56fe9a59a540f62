//! From policy's words to the wire's, and to sentences.
//! Owns the tables between the two. Never invents a word.

use mainstay_policy::recovery::Failure;
use mainstay_policy::run::{Exit, RunEnd, StartFailure, StartStep};
use mainstay_policy::states;
use mainstay_process::Exited;
use mainstay_protocol::{Cause, Health, Importance, State, Wanted, words::Kind};

use crate::os_text::{code_text, errno_text, signal_name};

pub(crate) fn state(state: states::State) -> State {
    match state {
        states::State::NotStarted => State::NotStarted,
        states::State::Waiting => State::Waiting,
        states::State::Starting => State::Starting,
        states::State::Running => State::Running,
        states::State::Stopping => State::Stopping,
        states::State::Stopped => State::Stopped,
        states::State::Backoff => State::Backoff,
        states::State::Failed => State::Failed,
    }
}

pub(crate) fn wanted(wanted: states::Desired) -> Wanted {
    match wanted {
        states::Desired::Down => Wanted::Down,
        states::Desired::Up => Wanted::Up,
    }
}

pub(crate) fn cause(cause: states::Cause) -> Cause {
    match cause {
        states::Cause::Boot => Cause::Boot,
        states::Cause::Requested => Cause::Requested,
        states::Cause::Dependency => Cause::Dependency,
        states::Cause::Exec => Cause::Exec,
        states::Cause::Exit => Cause::Exit,
        states::Cause::Startup => Cause::Startup,
        states::Cause::Timeout => Cause::Timeout,
        states::Cause::Probe => Cause::Probe,
        states::Cause::Watchdog => Cause::Watchdog,
        states::Cause::Limit => Cause::Limit,
        states::Cause::Reload => Cause::Reload,
        states::Cause::Group => Cause::Group,
        states::Cause::Probation => Cause::Probation,
        states::Cause::Shutdown => Cause::Shutdown,
        states::Cause::Adopted => Cause::Adopted,
    }
}

pub(crate) fn health(health: states::Health) -> Health {
    match health {
        states::Health::Unknown => Health::Unknown,
        states::Health::Healthy => Health::Healthy,
        states::Health::Degraded => Health::Degraded,
        states::Health::Unhealthy => Health::Unhealthy,
    }
}

pub(crate) fn health_to_policy(health: Health) -> states::Health {
    match health {
        Health::Unknown | Health::Other(_) => states::Health::Unknown,
        Health::Healthy => states::Health::Healthy,
        Health::Degraded => states::Health::Degraded,
        Health::Unhealthy => states::Health::Unhealthy,
    }
}

pub(crate) fn kind(kind: mainstay_policy::spec::Kind) -> Kind {
    match kind {
        mainstay_policy::spec::Kind::Service => Kind::Service,
        mainstay_policy::spec::Kind::Task => Kind::Task,
        mainstay_policy::spec::Kind::Builtin => Kind::Builtin,
    }
}

pub(crate) fn importance(importance: mainstay_policy::spec::Importance) -> Importance {
    match importance {
        mainstay_policy::spec::Importance::Low => Importance::Low,
        mainstay_policy::spec::Importance::Normal => Importance::Normal,
        mainstay_policy::spec::Importance::High => Importance::High,
        mainstay_policy::spec::Importance::Critical => Importance::Critical,
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
        Failure::ExitUnknown => "an end that was not seen".to_owned(),
    }
}

//! Names of signals and errors, as people know them.
//! Owns the tables. Never touches the OS.

use mainstay_policy::recovery::EXIT_CONFIGURATION;
use mainstay_process::{Exit, Signal, StartStep};

/// Why a second start of what lives is refused.
#[cfg(unix)]
pub(crate) const BUSY: i32 = libc::EBUSY;
/// Why a start that is not newer than the last is refused.
#[cfg(unix)]
pub(crate) const STALE: i32 = libc::ESTALE;
/// Why nothing can be written any more.
#[cfg(unix)]
pub(crate) const DISK_FULL: i32 = libc::ENOSPC;
/// Why a second start of what lives is refused.
#[cfg(windows)]
pub(crate) const BUSY: i32 = 170; // ERROR_BUSY
/// Why a start that is not newer than the last is refused.
#[cfg(windows)]
pub(crate) const STALE: i32 = 1306; // ERROR_REVISION_MISMATCH
/// Why nothing can be written any more.
#[cfg(windows)]
pub(crate) const DISK_FULL: i32 = 112; // ERROR_DISK_FULL

/// `SIGKILL`, or `signal 40` for one without a name.
pub(crate) fn signal_name(signal: Signal) -> String {
    let name = signal_str(signal.0);
    name.map_or_else(|| signal.to_string(), ToOwned::to_owned)
}

#[cfg(unix)]
fn signal_str(signal: i32) -> Option<&'static str> {
    let signal = nix::sys::signal::Signal::try_from(signal).ok()?;
    Some(signal.as_str())
}

/// Those that mainstay itself says where there are no signals.
#[cfg(windows)]
fn signal_str(signal: i32) -> Option<&'static str> {
    match Signal(signal) {
        Signal::KILL => Some("SIGKILL"),
        Signal::TERMINATE => Some("SIGTERM"),
        _ => None,
    }
}

/// The number of a signal.
#[cfg(unix)]
pub(crate) fn signal_number(name: &str) -> Option<Signal> {
    let signal: nix::sys::signal::Signal = name.parse().ok()?;
    Some(Signal(signal as i32))
}

/// The number of a signal: the one that stands for asking to end.
#[cfg(windows)]
pub(crate) fn signal_number(name: &str) -> Option<Signal> {
    (name == "SIGTERM").then_some(Signal::TERMINATE)
}

/// `No such file or directory (ENOENT)`.
#[cfg(unix)]
pub(crate) fn errno_text(errno: i32) -> String {
    let name = nix::errno::Errno::from_raw(errno);
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    format!("{text} ({name:?})")
}

/// `exit code 3`, and what the code means where that is agreed on.
pub(crate) fn code_text(code: i32) -> String {
    let meaning = match code {
        EXIT_CONFIGURATION => "its configuration is wrong".to_owned(),
        126 => "a command it ran could not be executed".to_owned(),
        127 => "a command it ran was not found".to_owned(),
        129..=159 => format!(
            "a command it ran was killed by {}",
            signal_name(Signal(code - 128))
        ),
        #[cfg(windows)]
        ..0 => return format!("exit code {:#x}", code.cast_unsigned()), // a status of the system
        _ => return format!("exit code {code}"),
    };
    format!("exit code {code} ({meaning})")
}

/// `File not found. (os error 2)`.
#[cfg(windows)]
pub(crate) fn errno_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

/// How a process ended: `exit code 3`, `killed by SIGKILL`.
pub(crate) fn exit_text(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => code_text(code),
        Exit::Signal { signal, core } => {
            let dumped = if core { ", core dumped" } else { "" };
            format!("killed by {}{dumped}", signal_name(signal))
        }
        Exit::Oom => "killed by the kernel: out of memory".to_owned(),
        Exit::Stuck => "it did not end when it was ended by force, and still lasts".to_owned(),
        Exit::Unknown => "exited, exit code unknown".to_owned(),
    }
}

/// What failed at a step of a start; what it is about, as the path of a directory, may follow.
pub(crate) fn step_text(step: StartStep) -> &'static str {
    match step {
        StartStep::Fence => "another run still lives",
        StartStep::Prepare => "a before_start command failed",
        StartStep::Resources => "the machine has less left than it needs",
        StartStep::Pipe => "cannot open its pipes and sockets",
        StartStep::Fork => "cannot start a process",
        StartStep::Session => "cannot open a session",
        StartStep::Directory => "cannot enter the directory",
        StartStep::Limits => "cannot set its limits",
        StartStep::Isolation => "cannot isolate it (capabilities, read_only, private_tmp)",
        StartStep::Group => "cannot become group",
        StartStep::User => "cannot become user",
        StartStep::Descriptors => "cannot arrange its descriptors",
        StartStep::Exec => "cannot execute",
        StartStep::Holder => "its holder ended while it was started",
        StartStep::Other => "cannot start it",
    }
}

/// Formats a duration; see [`millis_text`].
pub(crate) fn duration_text(span: std::time::Duration) -> String {
    millis_text(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// Formats milliseconds: `214 ms`, `1.5 s`, `12 s`, `5 min`, `3 h`, `2 days`.
pub(crate) fn millis_text(ms: u64) -> String {
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    match ms {
        0..SECOND => format!("{ms} ms"),
        _ if ms < 10 * SECOND && ms % SECOND >= 100 => {
            format!("{}.{} s", ms / SECOND, ms % SECOND / 100)
        }
        _ if ms < 2 * MINUTE => format!("{} s", ms / SECOND),
        _ if ms < 2 * HOUR => format!("{} min", ms / MINUTE),
        _ if ms < 48 * HOUR => format!("{} h", ms / HOUR),
        _ => format!("{} days", ms / (24 * HOUR)),
    }
}

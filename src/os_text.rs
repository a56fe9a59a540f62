//! Names of signals and errors, as people know them.
//! Owns the tables. Never touches the OS.

use mainstay_policy::recovery::EXIT_CONFIGURATION;
use mainstay_process::Signal;

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
    let errno = nix::errno::Errno::from_raw(errno);
    format!("{} ({errno:?})", errno.desc())
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

/// A length of time as people say it: `250 ms`, `12 s`, `3 min`.
pub(crate) fn duration_text(span: std::time::Duration) -> String {
    let ms = span.as_millis();
    match ms {
        0..10_000 if ms < 1000 => format!("{ms} ms"),
        0..10_000 => format!("{:.1} s", span.as_secs_f64()),
        10_000..120_000 => format!("{} s", span.as_secs()),
        120_000..7_200_000 => format!("{} min", span.as_secs() / 60),
        _ => format!("{} h", span.as_secs() / 3600),
    }
}

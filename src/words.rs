//! Names of signals and errors, as people know them.
//! Owns the tables. Never touches the OS.

use mainstay_policy::recovery::EXIT_CONFIGURATION;

/// `SIGKILL`, or `signal 40` for one without a name.
pub(crate) fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |signal| signal.as_str().to_owned(),
    )
}

/// `No such file or directory (ENOENT)`.
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
        129..=159 => format!("a command it ran was killed by {}", signal_name(code - 128)),
        _ => return format!("exit code {code}"),
    };
    format!("exit code {code} ({meaning})")
}

/// A length of time as people say it: `250 ms`, `12 s`, `3 min`.
pub(crate) fn span(span: std::time::Duration) -> String {
    let ms = span.as_millis();
    match ms {
        0..10_000 if ms < 1000 => format!("{ms} ms"),
        0..10_000 => format!("{:.1} s", span.as_secs_f64()),
        10_000..120_000 => format!("{} s", span.as_secs()),
        120_000..7_200_000 => format!("{} min", span.as_secs() / 60),
        _ => format!("{} h", span.as_secs() / 3600),
    }
}

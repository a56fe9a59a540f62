//! Commands that belong to a module: how they are named on the wire, and how they ended.
//! Owns the form of both.
//! Never runs one.

use mainstay_holder::messages::Exited;

/// The name of a module's command: no module has one like it.
pub(crate) fn command_name(module: &str, number: u64) -> String {
    format!("{module}#{number}")
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandResult {
    /// Whether it exited 0.
    pub(crate) ok: bool,
    /// In words: `exit code 1: last line of output`.
    pub(crate) text: String,
}

/// `storage#probe` is a command, `storage` a module.
pub(super) fn is_command(instance: &str) -> bool {
    instance.contains('#')
}

pub(super) fn outcome(exited: &Exited) -> CommandResult {
    let last = exited
        .output
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty());
    let how = match (exited.overdue, exited.code, exited.signal) {
        (true, _, _) => "it took too long and was killed".to_owned(),
        (_, Some(code), _) => format!("exit code {code}"),
        (_, _, Some(signal)) => format!("killed by {}", crate::words::signal_name(signal)),
        _ => "it ended".to_owned(),
    };
    let text = last.map_or_else(|| how.clone(), |line| format!("{how}: {line}"));
    CommandResult {
        ok: exited.code == Some(0) && !exited.overdue,
        text,
    }
}

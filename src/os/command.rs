//! How a short-lived command of a module ended.
//! Owns its text.
//! Never runs one.

use mainstay_process::{Exit, Exited};

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandResult {
    /// Whether it exited 0.
    pub(crate) ok: bool,
    /// In words: `exit code 1: last line of output`.
    pub(crate) text: String,
    /// The end of what it wrote.
    pub(crate) output: String,
}

impl CommandResult {
    /// A command that did not run, or whose end is not known.
    pub(super) fn failed(text: String) -> CommandResult {
        CommandResult {
            ok: false,
            text,
            output: String::new(),
        }
    }
}

impl From<&Exited> for CommandResult {
    fn from(exited: &Exited) -> CommandResult {
        let mut lines = exited.output.lines().rev();
        let last = lines.find(|line| !line.trim().is_empty());
        let how = match exited.exit {
            _ if exited.timed_out => "it took too long and was killed".to_owned(),
            Exit::Code(code) => format!("exit code {code}"),
            exit => match exit.signal() {
                Some(signal) => format!("killed by {}", crate::os_text::signal_name(signal)),
                None => "it ended".to_owned(),
            },
        };
        let text = last.map_or_else(|| how.clone(), |line| format!("{how}: {line}"));
        CommandResult {
            ok: exited.exit == Exit::Code(0) && !exited.timed_out,
            text,
            output: exited.output.clone(),
        }
    }
}

//! The terminal, pipe or file that a verb prints to: width, colours, one write per reply.
//! Owns stdout and stderr of the verbs, and their clock.
//! Never colours or cuts output to a pipe or file.

use std::io::{IsTerminal, Write};
use std::time::SystemTime;

use mainstay_protocol::Timestamp;
use serde::Serialize;

use super::error::CliError;
use super::wrapping::wrap_text;

/// Columns of a terminal that does not say how wide it is.
const USUAL_WIDTH: usize = 80;

/// Lines of the help that are longer are hard to read.
const HELP_WIDTH_MAX: usize = 100;

/// The capabilities of stdout.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terminal {
    /// Columns of a terminal; none for a pipe or file.
    pub(crate) width: Option<usize>,
    pub(crate) colour: bool,
}

/// The colours, by the numbers of their escape sequences.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AnsiColour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Magenta = 35,
    Cyan = 36,
    Grey = 90,
}

impl Terminal {
    pub(crate) fn of_stdout() -> Terminal {
        if !std::io::stdout().is_terminal() {
            return Terminal::default();
        }
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Terminal {
            width: Some(width_of(std::io::stdout())),
            colour: !set("NO_COLOR") && !dumb,
        }
    }

    /// Returns the text in lines that fit.
    pub(crate) fn fit(self, text: String) -> String {
        match self.width {
            Some(width) => wrap_text(&text, width),
            None => text,
        }
    }

    /// Appends the text, coloured on a terminal.
    pub(crate) fn paint(self, out: &mut String, colour: Option<AnsiColour>, text: &str) {
        match colour.filter(|_| self.colour && !text.trim().is_empty()) {
            Some(colour) => {
                out.push_str(&format!("\x1b[{}m{text}\x1b[0m", colour as u8));
            }
            None => out.push_str(text),
        }
    }
}

#[cfg(unix)]
fn width_of(stream: impl std::os::fd::AsFd) -> usize {
    columns_of(terminal_size::terminal_size_of(stream))
}

#[cfg(windows)]
fn width_of(stream: impl std::os::windows::io::AsHandle) -> usize {
    columns_of(terminal_size::terminal_size_of(stream))
}

fn columns_of(size: Option<(terminal_size::Width, terminal_size::Height)>) -> usize {
    let width = size.map(|(width, _)| usize::from(width.0));
    width.filter(|width| *width > 0).unwrap_or(USUAL_WIDTH)
}

/// Columns of the help: those of the terminal, as long as lines can be read.
pub(crate) fn help_width() -> usize {
    let width = Terminal::of_stdout().width;
    width.map_or(USUAL_WIDTH, |width| width.min(HELP_WIDTH_MAX))
}

/// Writes text for people: a terminal gets lines that fit, a pipe or file gets it as it is.
pub(crate) fn print_text(text: &str) -> Result<(), CliError> {
    print(&Terminal::of_stdout().fit(text.to_owned()))
}

/// Writes the whole text at once, as it is.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    print_bytes(text.as_bytes())
}

/// Writes all bytes at once.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(CliError::Output)
}

/// Prints an object of the protocol for people and scripts.
pub(crate) fn print_json(object: &impl Serialize) -> Result<(), CliError> {
    print(&json_text(object, false)?)
}

/// Prints an object of the protocol on one line.
pub(crate) fn print_json_line(object: &impl Serialize) -> Result<(), CliError> {
    print(&json_text(object, true)?)
}

/// Returns an object of the protocol as JSON: on one line, or for people too.
pub(crate) fn json_text(object: &impl Serialize, line: bool) -> Result<String, CliError> {
    match line {
        true => json(object, serde_json::to_string),
        false => json(object, serde_json::to_string_pretty),
    }
}

fn json<T: Serialize>(
    object: &T,
    write: fn(&T) -> serde_json::Result<String>,
) -> Result<String, CliError> {
    let text = write(object).map_err(|error| CliError::Output(error.into()))?;
    Ok(text + "\n")
}

/// Prints a message for people on stderr, in lines that fit; a failure is ignored.
pub(crate) fn print_error(text: &str) {
    match std::io::stderr().is_terminal() {
        true => print_error_as_is(&wrap_text(text, width_of(std::io::stderr()))),
        false => print_error_as_is(text),
    }
}

/// Prints on stderr what programs read, or a module wrote; a failure is ignored.
pub(crate) fn print_error_as_is(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Returns the current time.
#[expect(
    clippy::disallowed_methods,
    reason = "ages are shown against the wall clock"
)]
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

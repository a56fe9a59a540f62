//! Shows a view again and again, on a terminal at the same place, until it is interrupted.
//! Owns the redrawing, and the pause between two views.
//! Never keeps more of a view than the terminal is high.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use mainstay_client::Error as ClientError;
use mainstay_client::blocking::Client;
use mainstay_protocol::enums::CliExitCode;

use super::error::CliError;
use super::system_locator::SystemLocator;
use super::terminal;

/// Shortest pause between two views.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Shows what `view` returns until the system is stopped. A runtime that is replaced meanwhile is
/// waited for.
#[expect(clippy::disallowed_methods, reason = "a person waits, not the runtime")]
pub(crate) fn run(
    instance: &SystemLocator,
    interval: Duration,
    mut view: impl FnMut(&mut Client) -> Result<String, CliError>,
) -> Result<CliExitCode, CliError> {
    let mut client = instance.connect()?;
    let is_terminal = std::io::stdout().is_terminal();
    let mut last = String::new();
    if is_terminal {
        terminal::print("\x1b[2J")?;
    }
    loop {
        match view(&mut client) {
            Ok(text) if is_terminal => terminal::print(&screen(&text, height()))?,
            // A reader of a pipe gets what is new.
            Ok(text) if text == last => {}
            Ok(text) => {
                terminal::print(&text)?;
                last = text;
            }
            Err(CliError::Client(ClientError::Closed { .. })) => {
                client = match instance.connect_again() {
                    Err(CliError::NotRunning { .. }) if instance.is_leaving() => {
                        terminal::print_error(&format!("mainstay '{}' was stopped", instance.name));
                        return Ok(CliExitCode::Ok);
                    }
                    connected => connected?,
                };
                continue;
            }
            Err(error) => return Err(error),
        }
        std::thread::sleep(interval.max(INTERVAL_MIN));
    }
}

fn height() -> Option<usize> {
    terminal_size::terminal_size().map(|(_, height)| usize::from(height.0))
}

/// Replaces what the terminal shows, line by line: it does not flicker.
fn screen(text: &str, height: Option<usize>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The last line holds the cursor.
    let room = height.unwrap_or(usize::MAX).saturating_sub(1);
    let shown = match lines.len() > room {
        true => room.saturating_sub(1),
        false => lines.len(),
    };
    let mut out = String::from("\x1b[H");
    for line in &lines[..shown] {
        out.extend([line, "\x1b[K\n"]);
    }
    if shown < lines.len() {
        let _ = write!(out, "… {} more lines\x1b[K", lines.len() - shown);
    }
    out + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_replaces_the_one_before_and_is_no_higher_than_the_terminal() {
        assert_eq!(screen("a\nb\n", None), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        let cut = screen("a\nb\nc\nd\n", Some(4));
        assert_eq!(cut, "\x1b[Ha\x1b[K\nb\x1b[K\n… 2 more lines\x1b[K\x1b[J");
        assert_eq!(
            screen("a\nb\n", Some(0)),
            "\x1b[H… 2 more lines\x1b[K\x1b[J"
        );
    }
}

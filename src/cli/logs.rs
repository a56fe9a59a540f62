//! `logs`: prints the output of modules, and new output with `-f`.
//! Owns the module name before each line if several modules are shown.
//! Never changes a line for a pipe or file.

use std::io::IsTerminal;

use mainstay_client::Error as ClientError;
use mainstay_client::blocking::Client;
use mainstay_protocol::enums::CliExitCode;
use mainstay_protocol::method::{LogLines, LogsParams};

use super::args::{GlobalArgs, LogsArgs};
use super::error::CliError;
use super::history::OfflineHistory;
use super::system_locator::SystemLocator;
use super::{format, terminal, terminal_text};

pub(crate) fn run(args: &LogsArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let instance = SystemLocator::find(global)?;
    let prefix = match &args.modules[..] {
        [_] => None,
        several => several.iter().map(|name| name.chars().count()).max(),
    };
    let mut client = match instance.connect() {
        Ok(client) => client,
        Err(failure) => {
            return past(
                &OfflineHistory::fallback_for(failure, global)?,
                args,
                prefix,
            );
        }
    };
    read(&mut client, args, args.lines, prefix)?;
    if !args.follow {
        return Ok(CliExitCode::Ok);
    }
    loop {
        follow(client, args, prefix)?;
        client = match instance.connect_again() {
            Err(CliError::NotRunning { .. }) if instance.is_leaving() => {
                terminal::print_error(&format!("mainstay '{}' was stopped", instance.name));
                return Ok(CliExitCode::Ok);
            }
            connected => connected?,
        };
        terminal::print_error("the connection was lost and restored; lines may be missing here");
        match read(&mut client, args, 0, prefix) {
            // Then it is lost again.
            Err(CliError::Client(ClientError::Closed { .. })) => {}
            read => read?,
        }
    }
}

/// Prints the output of a system that is not running.
fn past(
    history: &OfflineHistory,
    args: &LogsArgs,
    prefix: Option<usize>,
) -> Result<CliExitCode, CliError> {
    for lines in history.logs(&args.modules, args.lines)? {
        say_if_empty(&lines, args.lines);
        show(&lines, args, prefix)?;
    }
    if args.follow {
        let text = "cannot follow output: the system is not running; start it with `mainstay up`";
        return Err(CliError::new(CliExitCode::NotRunning, text));
    }
    Ok(CliExitCode::Ok)
}

fn read(
    client: &mut Client,
    args: &LogsArgs,
    lines: usize,
    prefix: Option<usize>,
) -> Result<(), CliError> {
    for module in &args.modules {
        let params = LogsParams {
            module: module.clone(),
            lines: Some(lines),
            follow: args.follow,
        };
        let read = client.logs(&params)?;
        say_if_empty(&read, lines);
        show(&read, args, prefix)?;
    }
    Ok(())
}

/// Prints lines until the connection is lost.
fn follow(client: Client, args: &LogsArgs, prefix: Option<usize>) -> Result<(), CliError> {
    for lines in client.follow::<LogLines>() {
        match lines {
            Ok(lines) => show(&lines, args, prefix)?,
            Err(ClientError::Closed { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Prints a note for a module without output.
fn say_if_empty(read: &LogLines, asked: usize) {
    if asked > 0 && read.lines.is_empty() {
        let module = format::single_line(&read.module);
        terminal::print_error(&format!("{module} has written nothing yet"));
    }
}

fn show(lines: &LogLines, args: &LogsArgs, prefix: Option<usize>) -> Result<(), CliError> {
    if args.json {
        return terminal::print_json_line(lines);
    }
    if lines.dropped_bytes > 0 {
        let (module, lost) = (
            format::single_line(&lines.module),
            format::bytes(lines.dropped_bytes),
        );
        terminal::print_error(&format!("{module}: {lost} of output are missing here"));
    }
    terminal::print(&render(lines, prefix, std::io::stdout().is_terminal()))
}

fn render(lines: &LogLines, prefix: Option<usize>, terminal: bool) -> String {
    let name = prefix.map(|width| format!("{:<width$} | ", format::single_line(&lines.module)));
    let name = name.as_deref().unwrap_or("");
    let mut out = String::new();
    for line in &lines.lines {
        let line = if terminal {
            terminal_text::for_terminal(line)
        } else {
            line.into()
        };
        out.extend([name, &*line, "\n"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_modules_have_their_name_in_front() {
        let lines = vec!["one".to_owned(), "two".to_owned()];
        let mut lines = LogLines {
            module: "ui".to_owned(),
            lines,
            records: Vec::new(),
            dropped_bytes: 0,
        };
        assert_eq!(render(&lines, None, false), "one\ntwo\n");
        assert_eq!(render(&lines, Some(4), true), "ui   | one\nui   | two\n");
        lines.lines = vec!["\x1b[31mred".to_owned(), "plain".to_owned()];
        let red = "ui | \x1b[31mred\x1b[0m\nui | plain\n";
        assert_eq!(render(&lines, Some(2), true), red);
        lines.lines = vec!["\x1b[2J".to_owned()];
        assert_eq!(render(&lines, None, false), "\x1b[2J\n");
        assert_eq!(render(&lines, None, true), "^[[2J\n");
    }
}

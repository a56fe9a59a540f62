//! `logs`: prints the output of modules, and new output with `-f`.
//! Owns the module name before each line if several modules are shown.
//! Never changes a line, except control sequences on a terminal.

use std::io::IsTerminal;

use mainstay_client::Error as ClientError;
use mainstay_client::blocking::Client;
use mainstay_protocol::method::{LogLines, LogsParams};
use mainstay_protocol::words::ExitCode;

use super::args::{Global, Logs};
use super::failure::Failure;
use super::history::History;
use super::instance::Instance;
use super::{human, screen};

pub(crate) fn run(args: &Logs, global: &Global) -> Result<ExitCode, Failure> {
    let instance = Instance::find(global)?;
    let prefix = match &args.modules[..] {
        [_] => None,
        several => several.iter().map(|name| name.chars().count()).max(),
    };
    let mut client = match instance.connect() {
        Ok(client) => client,
        Err(failure) => return past(&History::instead(failure, global)?, args, prefix),
    };
    read(&mut client, args, args.lines, prefix)?;
    if !args.follow {
        return Ok(ExitCode::Ok);
    }
    loop {
        follow(client, args, prefix)?;
        client = match instance.connect_again() {
            Err(Failure::NotRunning { .. }) if instance.is_leaving() => {
                screen::complain(&format!("mainstay '{}' was stopped", instance.name));
                return Ok(ExitCode::Ok);
            }
            connected => connected?,
        };
        screen::complain("the connection was lost and restored; lines may be missing here");
        match read(&mut client, args, 0, prefix) {
            // Then it is lost again.
            Err(Failure::Client(ClientError::Closed { .. })) => {}
            read => read?,
        }
    }
}

/// Prints the output of a system that is not running.
fn past(history: &History, args: &Logs, prefix: Option<usize>) -> Result<ExitCode, Failure> {
    for lines in history.logs(&args.modules, args.lines)? {
        say_if_empty(&lines, args.lines);
        show(&lines, args, prefix)?;
    }
    if args.follow {
        let text = "cannot follow output: the system is not running; start it with `mainstay up`";
        return Err(Failure::new(ExitCode::NotRunning, text));
    }
    Ok(ExitCode::Ok)
}

fn read(
    client: &mut Client,
    args: &Logs,
    lines: usize,
    prefix: Option<usize>,
) -> Result<(), Failure> {
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
fn follow(client: Client, args: &Logs, prefix: Option<usize>) -> Result<(), Failure> {
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
        let module = human::clean(&read.module);
        screen::complain(&format!("{module} has written nothing yet"));
    }
}

fn show(lines: &LogLines, args: &Logs, prefix: Option<usize>) -> Result<(), Failure> {
    if args.json {
        return screen::print_json_line(lines);
    }
    if lines.dropped_bytes > 0 {
        let (module, lost) = (
            human::clean(&lines.module),
            human::bytes(lines.dropped_bytes),
        );
        screen::complain(&format!("{module}: {lost} of output are missing here"));
    }
    screen::print(&render(lines, prefix, std::io::stdout().is_terminal()))
}

fn render(lines: &LogLines, prefix: Option<usize>, terminal: bool) -> String {
    let name = prefix.map(|width| format!("{:<width$} | ", human::clean(&lines.module)));
    let name = name.as_deref().unwrap_or("");
    let mut out = String::new();
    for line in &lines.lines {
        let line = if terminal {
            human::harmless(line)
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
        lines.lines = vec!["\x1b[2J".to_owned()];
        assert_eq!(render(&lines, None, false), "\x1b[2J\n");
        assert_eq!(render(&lines, None, true), "^[[2J\n");
    }
}

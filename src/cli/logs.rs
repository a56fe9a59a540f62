//! `logs`: what modules wrote, and what they write from now on.
//! Owns the name in front of lines when several modules are shown.
//! Never changes a line: colours and all, it is the module's own.

use mainstay_client::Error as ClientError;
use mainstay_client::blocking::Client;
use mainstay_protocol::method::{LogLines, LogsParams};
use mainstay_protocol::words::ExitCode;

use super::args::{Global, Logs};
use super::failure::Failure;
use super::instance::Instance;
use super::{human, screen};

pub(crate) fn run(args: &Logs, global: &Global) -> Result<ExitCode, Failure> {
    let instance = Instance::find(global)?;
    let mut client = instance.connect()?;
    let prefix = match &args.modules[..] {
        [_] => None,
        several => several.iter().map(|name| name.chars().count()).max(),
    };
    read(&mut client, args, args.lines, prefix)?;
    if !args.follow {
        return Ok(ExitCode::Ok);
    }
    loop {
        follow(client, args, prefix)?;
        client = instance.connect_again()?;
        screen::complain("the connection was lost and is back; lines may be missing here");
        read(&mut client, args, 0, prefix)?;
    }
}

fn read(
    client: &mut Client,
    args: &Logs,
    lines: usize,
    prefix: Option<usize>,
) -> Result<(), Failure> {
    for module in &args.modules {
        let (module, lines) = (module.clone(), Some(lines));
        let params = LogsParams {
            module,
            lines,
            follow: args.follow,
        };
        show(&client.logs(&params)?, args, prefix)?;
    }
    Ok(())
}

/// Shows lines until the connection is lost.
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

fn show(lines: &LogLines, args: &Logs, prefix: Option<usize>) -> Result<(), Failure> {
    if args.json {
        return screen::print_json_line(lines);
    }
    if lines.dropped_bytes > 0 {
        let (module, lost) = (
            human::clean(&lines.module),
            human::bytes(lines.dropped_bytes),
        );
        screen::complain(&format!("{module}: {lost} of output were lost here"));
    }
    screen::print(&render(lines, prefix))
}

fn render(lines: &LogLines, prefix: Option<usize>) -> String {
    let name = prefix.map(|width| format!("{:<width$} | ", human::clean(&lines.module)));
    let name = name.as_deref().unwrap_or("");
    let mut out = String::new();
    for line in &lines.lines {
        out.extend([name, line, "\n"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_modules_have_their_name_in_front() {
        let lines = vec!["one".to_owned(), "two".to_owned()];
        let lines = LogLines {
            module: "ui".to_owned(),
            lines,
            records: Vec::new(),
            dropped_bytes: 0,
        };
        assert_eq!(render(&lines, None), "one\ntwo\n");
        assert_eq!(render(&lines, Some(4)), "ui   | one\nui   | two\n");
    }
}

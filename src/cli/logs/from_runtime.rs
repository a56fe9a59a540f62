//! Lines that the runtime reads for a user who cannot read its files.
//! Owns the requests, and what happens when the connection is lost.
//! Never prints a line that was shown before, except where a lost connection was restored.

use std::time::Duration;

use mainstay_client::Error as ClientError;
use mainstay_client::blocking::Client;
use mainstay_protocol::method::{LogLines, LogsParams};

use super::super::args::{LogsArgs, RunSelection};
use super::super::error::CliError;
use super::super::system_locator::SystemLocator;
use super::super::{format, terminal};
use super::printer::LogPrinter;
use super::{LogQuery, say_if_empty};
use crate::os::log_reader::{LogLine, RunMark, stamp};

/// Lines that the runtime returns, at most.
const LINES_MAX: usize = 10_000;
/// A search through large logs may take this long.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn print(
    instance: &SystemLocator,
    client: Client,
    names: &[String],
    args: &LogsArgs,
    query: &LogQuery,
    printer: &mut LogPrinter,
) -> Result<(), CliError> {
    let mut client = client.with_timeout(SEARCH_TIMEOUT);
    let mut lines = Vec::new();
    for (log, module) in names.iter().enumerate() {
        let mut params = params(module, args.follow, query);
        match query.run {
            Some(RunSelection::Last) => params.run = Some(client.module(module)?.generation),
            Some(RunSelection::Previous) => {
                params.run = Some(client.module(module)?.generation.saturating_sub(1).max(1));
            }
            Some(RunSelection::Number(_)) | None => {}
        }
        let read = client.logs(&params)?;
        if read.lines.is_empty() && query.filter.is_empty() {
            say_if_empty(args, query, &[module]);
        }
        lines.extend(lines_of(&read).map(|line| (log, line)));
    }
    lines.sort_by_key(|(_, line)| line.at);
    let skipped = lines
        .len()
        .saturating_sub(query.count.unwrap_or(usize::MAX));
    print_lines(names, lines.drain(skipped..), printer)?;
    if !args.follow {
        return Ok(());
    }
    loop {
        follow(client, names, printer)?;
        client = match instance.connect_again() {
            Err(CliError::NotRunning { .. }) if instance.is_leaving() => {
                terminal::print_error(&format!("mainstay '{}' was stopped", instance.name));
                return Ok(());
            }
            connected => connected?,
        };
        terminal::print_error("the connection was lost and restored; lines may be missing here");
        for module in names {
            let again = LogsParams {
                lines: Some(0),
                ..params(module, true, query)
            };
            match client.logs(&again) {
                Err(ClientError::Closed { .. }) => {} // then it is lost again
                read => drop(read?),
            }
        }
    }
}

fn params(module: &str, follow: bool, query: &LogQuery) -> LogsParams {
    LogsParams {
        module: module.to_owned(),
        lines: query.count.or(Some(LINES_MAX)),
        follow,
        since: query.filter.since,
        until: query.filter.until,
        run: query.filter.run,
        stream: query.filter.stream.and_then(stamp::to_protocol),
        grep: query.grep.clone(),
    }
}

/// Prints lines until the connection is lost.
fn follow(client: Client, names: &[String], printer: &mut LogPrinter) -> Result<(), CliError> {
    for read in client.follow::<LogLines>() {
        let read = match read {
            Ok(read) => read,
            Err(ClientError::Closed { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        if read.dropped_bytes > 0 {
            let module = format::single_line(&read.module);
            let lost = format::bytes(read.dropped_bytes);
            terminal::print_error(&format!("{module}: {lost} of output are missing here"));
        }
        let log = names.iter().position(|name| *name == read.module);
        let lines = lines_of(&read).map(|line| (log.unwrap_or(0), line));
        print_lines(names, lines, printer)?;
    }
    Ok(())
}

fn print_lines(
    names: &[String],
    lines: impl Iterator<Item = (usize, LogLine)>,
    printer: &mut LogPrinter,
) -> Result<(), CliError> {
    for (log, line) in lines {
        printer.line(log, &names[log], &line);
    }
    printer.flush()
}

fn lines_of(read: &LogLines) -> impl Iterator<Item = LogLine> {
    let mut last = 0;
    read.lines.iter().enumerate().map(move |(number, text)| {
        let known = read.stamps.get(number).copied().unwrap_or_default();
        let run = known.run.unwrap_or(0);
        let is_other = last > 0 && run > last;
        last = last.max(run);
        let boundary = RunMark {
            started: None,
            ended: None,
        };
        LogLine {
            at: known.at,
            run,
            stream: stamp::from_protocol(known.stream),
            text: text.clone().into_bytes(),
            length: text.len() as u64,
            mark: is_other.then_some(boundary),
        }
    })
}

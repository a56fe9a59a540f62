//! `logs`: prints the output of modules in order of time, and new output with `-f`.
//! Owns where the lines come from: the files, or the runtime where this user cannot read them.
//! Never asks a running system for what its files say.

mod from_files;
mod from_runtime;
pub(crate) mod printer;

use std::path::{Path, PathBuf};

use mainstay_client::blocking::Client;
use mainstay_protocol::enums::{CliExitCode, ModuleKind};
use mainstay_protocol::method::LogsParams;

use super::args::{GlobalArgs, LogsArgs, RunSelection};
use super::error::CliError;
use super::history::OfflineHistory;
use super::system_locator::SystemLocator;
use super::{format, terminal};
use crate::os::log_reader::LogFilter;
use crate::os::process_limit::raise_open_files;
use from_files::FileLogs;
use printer::LogPrinter;

/// Lines, when neither a number nor a filter is given.
const LINES_DEFAULT: usize = 100;

/// Which lines are asked for.
pub(crate) struct LogQuery {
    filter: LogFilter,
    grep: Option<String>,
    run: Option<RunSelection>,
    /// The newest ones; all if none.
    count: Option<usize>,
}

impl LogQuery {
    fn of(args: &LogsArgs) -> Result<LogQuery, CliError> {
        let now = jiff::Zoned::now();
        let time = |argument: Option<super::time_argument::TimeArgument>| {
            let resolved = argument.map(|argument| argument.resolve(&now)).transpose();
            resolved.map_err(|error| usage(format!("cannot use the time: {error}")))
        };
        let grep = args.grep.as_deref().map(LogFilter::pattern).transpose();
        let filter = LogFilter {
            since: time(args.since)?,
            until: time(args.until)?,
            run: match args.run {
                Some(RunSelection::Number(run)) => Some(run),
                Some(RunSelection::Last | RunSelection::Previous) | None => None,
            },
            stream: args.stream.map(Into::into),
            grep: grep.map_err(|error| usage(format!("cannot use --grep: {error}")))?,
        };
        let selects = LogFilter {
            stream: None,
            ..filter.clone()
        };
        let all = !selects.is_empty() || args.run.is_some();
        Ok(LogQuery {
            filter,
            grep: args.grep.clone(),
            run: args.run,
            count: args.lines.or((!all).then_some(LINES_DEFAULT)),
        })
    }
}

fn usage(text: String) -> CliError {
    CliError::new(CliExitCode::Usage, text)
}

pub(crate) fn run(args: &LogsArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let query = LogQuery::of(args)?;
    raise_open_files();
    let instance = SystemLocator::find(global)?;
    let mut client = match instance.connect() {
        Ok(client) => client,
        Err(failure) => {
            let history = OfflineHistory::fallback_for(failure, global)?;
            return past(&history, args, &query);
        }
    };
    let names = names(&mut client, args)?;
    let mut printer = LogPrinter::of_stdout(args, &names);
    match files(&mut client, &names)? {
        Some(files) => {
            let mut logs = FileLogs::open(files, &query)?;
            logs.print(&query, args.follow, &mut printer)?;
            say_if_empty(args, &query, &logs.silent());
            logs.say_what_is_hidden();
            if args.follow {
                logs.follow(&instance, client, args.modules.is_empty(), &mut printer)?;
            }
        }
        None => from_runtime::print(&instance, client, &names, args, &query, &mut printer)?,
    }
    Ok(CliExitCode::Ok)
}

/// Prints the output of a system that is not running.
fn past(
    history: &OfflineHistory,
    args: &LogsArgs,
    query: &LogQuery,
) -> Result<CliExitCode, CliError> {
    let files = history.logs(&args.modules)?;
    let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
    let mut printer = LogPrinter::of_stdout(args, &names);
    let mut logs = FileLogs::open(files, query)?;
    logs.print(query, false, &mut printer)?;
    say_if_empty(args, query, &logs.silent());
    logs.say_what_is_hidden();
    if args.follow {
        let text = "cannot follow output: the system is not running; start it with `mainstay up`";
        return Err(CliError::new(CliExitCode::NotRunning, text));
    }
    Ok(CliExitCode::Ok)
}

/// The modules that are shown.
fn names(client: &mut Client, args: &LogsArgs) -> Result<Vec<String>, CliError> {
    if !args.modules.is_empty() {
        return Ok(args.modules.clone());
    }
    let modules = client.modules()?;
    let own = |kind| kind == ModuleKind::Builtin;
    let modules = modules.into_iter().filter(|module| !own(module.kind));
    Ok(modules.map(|module| module.module).collect())
}

/// Returns the files of all modules; none if this user cannot read them.
fn files(
    client: &mut Client,
    names: &[String],
) -> Result<Option<Vec<(String, PathBuf)>>, CliError> {
    let mut files = Vec::new();
    for name in names {
        let params = LogsParams {
            module: name.clone(),
            lines: Some(0),
            ..LogsParams::default()
        };
        match client.logs(&params)?.file.map(PathBuf::from) {
            Some(file) if is_readable(&file) => files.push((name.clone(), file)),
            _ => return Ok(None),
        }
    }
    Ok(Some(files))
}

/// Whether this process can read a log, or see that there is none yet.
fn is_readable(path: &Path) -> bool {
    let folder = path.parent().is_some_and(Path::is_dir);
    match std::fs::metadata(path) {
        Ok(about) if about.is_file() => std::fs::File::open(path).is_ok(),
        Ok(_) => true, // an error that says what it is
        Err(error) => folder && error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Prints a note for modules without output.
fn say_if_empty(args: &LogsArgs, query: &LogQuery, silent: &[&str]) {
    if query.count == Some(0) || args.modules.is_empty() {
        return;
    }
    for module in silent {
        let module = format::single_line(module);
        terminal::print_error(&format!("{module} has written nothing yet"));
    }
}

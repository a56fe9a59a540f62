//! The lines of several logs, merged by time, as their files have them.
//! Owns the order: by time, and for one module as it was written.
//! Never waits for a runtime; while following it only asks whether it is still there.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
use mainstay_protocol::enums::CliExitCode;

use super::super::args::RunSelection;
use super::super::error::CliError;
use super::super::system_locator::SystemLocator;
use super::super::{format, terminal};
use super::printer::LogPrinter;
use super::{LogQuery, files, names};
use crate::cli::args::LogsArgs;
use crate::os::log_reader::{LogLine, LogReader};
use crate::os::tail::NewestLines;

/// Bytes of the newest lines that are kept before they are printed.
const ROOM: u64 = 64 * 1024 * 1024;
/// Bytes that are collected before they are written.
const WRITE_BYTES: usize = 64 * 1024;
/// How often files are looked at while following.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(50);
/// How often it is looked whether the system runs, and which modules it has.
const SYSTEM_INTERVAL: Duration = Duration::from_secs(1);
/// The same while it is being stopped.
const LEAVING_INTERVAL: Duration = Duration::from_millis(200);

/// One log, and the line of it that is next.
struct Source {
    name: String,
    path: PathBuf,
    reader: LogReader,
    head: Option<LogLine>,
    /// The time of the last line that has one: those without follow it.
    time: u64,
    is_silent: bool,
}

impl Source {
    fn advance(&mut self) -> Result<(), CliError> {
        self.head = self.reader.next_line().map_err(self.failed())?;
        self.saw();
        Ok(())
    }

    fn saw(&mut self) {
        let Some(line) = &self.head else {
            return;
        };
        self.is_silent = false;
        self.time = line.at.map_or(self.time, |at| at.0);
    }

    fn failed(&self) -> impl Fn(io::Error) -> CliError + use<> {
        let path = self.path.display().to_string();
        move |error| {
            let text = format!("cannot read {path}: {error}");
            CliError::new(CliExitCode::Failed, text)
        }
    }
}

/// The logs of several modules.
pub(super) struct FileLogs(Vec<Source>);

impl FileLogs {
    pub(super) fn open(
        files: Vec<(String, PathBuf)>,
        query: &LogQuery,
    ) -> Result<FileLogs, CliError> {
        let open = |(name, path): (String, PathBuf)| {
            let is_plain = query.filter.is_empty() && query.run.is_none();
            let opened = match query.count.filter(|_| is_plain) {
                Some(count) => LogReader::open_last(&path, count),
                None => LogReader::open(&path, query.filter.clone()),
            };
            let mut reader = opened.map_err(|error| {
                let text = format!("cannot read {}: {error}", path.display());
                CliError::new(CliExitCode::Failed, text)
            })?;
            if query.run == Some(RunSelection::Last) && !reader.select_last_run() {
                let name = format::single_line(&name);
                let text = format!("{name}: no run is known; all of its lines are shown");
                terminal::print_error(&text);
            }
            let is_silent = !reader.has_files();
            Ok(Source {
                name,
                path,
                reader,
                head: None,
                time: 0,
                is_silent,
            })
        };
        files
            .into_iter()
            .map(open)
            .collect::<Result<_, _>>()
            .map(FileLogs)
    }

    /// The modules that never wrote.
    pub(super) fn silent(&self) -> Vec<&str> {
        let silent = self.0.iter().filter(|source| source.is_silent);
        silent.map(|source| source.name.as_str()).collect()
    }

    /// Prints what is there; if it is to be followed, up to the last whole line.
    pub(super) fn print(
        &mut self,
        query: &LogQuery,
        follows: bool,
        printer: &mut LogPrinter,
    ) -> Result<(), CliError> {
        match query.count {
            Some(count) => {
                let mut newest = NewestLines::new(count, ROOM);
                self.merge(follows, |log, _, line| {
                    newest.push(log, line);
                    Ok(())
                })?;
                for (log, line) in newest.lines {
                    printer.line(log, &self.0[log].name, &line);
                }
            }
            None => self.merge(follows, |log, name, line| {
                printer.line(log, name, &line);
                if printer.pending() > WRITE_BYTES {
                    printer.flush()?;
                }
                Ok(())
            })?,
        }
        self.print_ends(printer);
        printer.flush()
    }

    /// Passes all lines on, in order of time.
    fn merge(
        &mut self,
        follows: bool,
        mut each: impl FnMut(usize, &str, LogLine) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let next = |source: &mut Source| {
            if follows {
                source.head = source.reader.next_new().map_err(source.failed())?;
                source.saw();
                Ok(())
            } else {
                source.advance()
            }
        };
        self.0.iter_mut().try_for_each(next)?;
        loop {
            let with_line = self
                .0
                .iter()
                .enumerate()
                .filter(|(_, source)| source.head.is_some());
            let Some((log, _)) = with_line.min_by_key(|(_, source)| source.time) else {
                return Ok(());
            };
            let source = &mut self.0[log];
            if let Some(line) = source.head.take() {
                each(log, &source.name, line)?;
            }
            next(&mut self.0[log])?;
        }
    }

    fn print_ends(&mut self, printer: &mut LogPrinter) {
        if !printer.shows_ends() {
            return; // told with the start of the next run
        }
        for (log, source) in self.0.iter_mut().enumerate() {
            if let Some(mark) = source.reader.trailing_mark() {
                printer.trailing(log, &source.name, mark);
            }
        }
    }

    /// Prints what is written, until the system was stopped.
    #[expect(clippy::disallowed_methods, reason = "a person waits, not the runtime")]
    pub(super) fn follow(
        mut self,
        instance: &SystemLocator,
        client: Client,
        all: bool,
        printer: &mut LogPrinter,
    ) -> Result<(), CliError> {
        drop(client); // a seat that others may need
        let mut asked = Instant::now();
        loop {
            std::thread::sleep(FOLLOW_INTERVAL);
            let is_leaving = instance.is_leaving();
            let interval = if is_leaving {
                LEAVING_INTERVAL
            } else {
                SYSTEM_INTERVAL
            };
            let due = asked.elapsed() >= interval;
            let connected = due.then(|| instance.connect());
            self.print_new(printer)?;
            match connected {
                None | Some(Err(CliError::NotAnswering { .. })) => continue,
                Some(Ok(client)) if all => self.add_modules(client)?,
                Some(Ok(_)) => {}
                Some(Err(CliError::NotRunning { .. })) if is_leaving => {
                    terminal::print_error(&format!("mainstay '{}' was stopped", instance.name));
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
            }
            asked = Instant::now();
        }
    }

    fn print_new(&mut self, printer: &mut LogPrinter) -> Result<(), CliError> {
        for source in &mut self.0 {
            source.reader.refresh().map_err(source.failed())?;
        }
        self.merge(true, |log, name, mut line| {
            line.at = line.at.or_else(|| Some(terminal::now()));
            printer.line(log, name, &line);
            Ok(())
        })?;
        self.print_ends(printer);
        printer.flush()
    }

    /// Adds the modules that a new plan has.
    fn add_modules(&mut self, mut client: Client) -> Result<(), CliError> {
        let Ok(mut names) = names(&mut client, &LogsArgs::default()) else {
            return Ok(()); // asked again in a second
        };
        names.retain(|name| self.0.iter().all(|source| source.name != *name));
        let Ok(Some(files)) = files(&mut client, &names) else {
            return Ok(());
        };
        let query = LogQuery {
            filter: self
                .0
                .first()
                .map(|source| source.reader.filter())
                .unwrap_or_default(),
            grep: None,
            run: None,
            count: None,
        };
        self.0.extend(FileLogs::open(files, &query)?.0);
        Ok(())
    }
}

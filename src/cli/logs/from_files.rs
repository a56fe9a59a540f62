//! The lines of several logs, merged by time, as their files have them.
//! Owns the order: by time, and for one module as it was written.
//! Never waits for a runtime; while following it only asks whether it is still there.

use std::collections::VecDeque;
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
use crate::os::log_reader::{LogFilter, LogLine, LogReader, RunMark};
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
    /// How its newest run ended, after the last line.
    end: Option<RunMark>,
    /// The time of the last line that has one: those without follow it.
    time: u64,
    is_silent: bool,
}

impl Source {
    fn advance(&mut self, follows: bool, with_ends: bool) -> Result<(), CliError> {
        let line = match follows {
            true => self.reader.next_new(),
            false => self.reader.next_line(),
        };
        self.head = line.map_err(self.failed())?;
        match &self.head {
            Some(line) => {
                self.is_silent = false;
                self.time = line.at.map_or(self.time, |at| at.0);
            }
            // Else it is told with the start of the next run.
            None if with_ends => {
                let run = self.reader.filter().run;
                let is_asked = |mark: &RunMark| {
                    run.is_none_or(|run| mark.ended.is_some_and(|ended| ended.run == run))
                };
                self.end = self.reader.trailing_mark().filter(is_asked);
            }
            None => {}
        }
        Ok(())
    }

    /// When what is next happened.
    fn next_time(&self) -> Option<u64> {
        let end = || Some(self.end?.ended?.at.0);
        self.head.as_ref().map(|_| self.time).or_else(end)
    }

    fn failed(&self) -> impl Fn(io::Error) -> CliError + use<> {
        let path = self.path.display().to_string();
        move |error| {
            let text = format!("cannot read {path}: {error}");
            CliError::new(CliExitCode::Failed, text)
        }
    }
}

/// What is next in a log.
enum LogItem {
    Line(LogLine),
    End(RunMark),
}

/// Whether the end of a run is among what was asked for.
fn is_wanted(filter: &LogFilter, mark: &RunMark) -> bool {
    mark.ended.is_some_and(|ended| {
        filter.since.is_none_or(|since| ended.at >= since)
            && filter.until.is_none_or(|until| ended.at <= until)
            && filter.run.is_none_or(|run| ended.run == run)
    })
}

/// Restricts a log to a run that is named and not numbered, and says so when it is not known;
/// returns whether there is anything to show.
fn select_run(reader: &mut LogReader, run: Option<RunSelection>, name: &str) -> bool {
    let name = format::single_line(name);
    match run {
        Some(RunSelection::Last) if !reader.select_last_run() => {
            let text = format!("{name}: no run is known; all of its lines are shown");
            terminal::print_error(&text);
            true
        }
        Some(RunSelection::Previous) if !reader.select_previous_run() => {
            terminal::print_error(&format!("{name}: no run before its newest is known"));
            false
        }
        _ => true,
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
            if !select_run(&mut reader, query.run, &name) {
                return Ok(None);
            }
            let is_silent = !reader.has_files();
            Ok(Some(Source {
                name,
                path,
                reader,
                head: None,
                end: None,
                time: 0,
                is_silent,
            }))
        };
        let opened = files.into_iter().filter_map(|file| open(file).transpose());
        opened.collect::<Result<_, _>>().map(FileLogs)
    }

    /// The modules that never wrote.
    pub(super) fn silent(&self) -> Vec<&str> {
        let silent = self.0.iter().filter(|source| source.is_silent);
        silent.map(|source| source.name.as_str()).collect()
    }

    /// Prints a note if lines are left out because their stream is not known.
    pub(super) fn say_what_is_hidden(&self) {
        let hidden = self.0.iter().filter(|source| source.reader.hides_unknown());
        let names: Vec<String> = hidden.map(|source| source.name.clone()).collect();
        if !names.is_empty() {
            let names = format::list(&names);
            terminal::print_error(&format!(
                "{names}: lines whose stream is not known are not shown; with logs.streams = \
                 \"split\" a module that starts has its streams told apart"
            ));
        }
    }

    /// Prints what is there; if it is to be followed, up to the last whole line.
    pub(super) fn print(
        &mut self,
        query: &LogQuery,
        follows: bool,
        printer: &mut LogPrinter,
    ) -> Result<(), CliError> {
        let with_ends = printer.shows_ends();
        match query.count {
            Some(count) => self.print_newest(count, follows, query, printer)?,
            None => self.merge(follows, with_ends, |log, name, item| {
                match item {
                    LogItem::Line(line) => printer.line(log, name, &line),
                    LogItem::End(mark) if is_wanted(&query.filter, &mark) => {
                        printer.trailing(log, name, mark);
                    }
                    LogItem::End(_) => {}
                }
                if printer.pending() > WRITE_BYTES {
                    printer.flush()?;
                }
                Ok(())
            })?,
        }
        printer.flush()
    }

    /// Prints the newest lines, and the ends of runs among and after them.
    fn print_newest(
        &mut self,
        count: usize,
        follows: bool,
        query: &LogQuery,
        printer: &mut LogPrinter,
    ) -> Result<(), CliError> {
        let mut newest = NewestLines::new(count, ROOM);
        // Each with the number of lines before it.
        let (mut ends, mut lines) = (VecDeque::new(), 0);
        self.merge(follows, printer.shows_ends(), |log, _, item| {
            match item {
                LogItem::Line(line) => {
                    newest.push(log, line);
                    lines += 1;
                }
                LogItem::End(mark) if is_wanted(&query.filter, &mark) => {
                    ends.push_back((lines, log, mark));
                }
                LogItem::End(_) => {}
            }
            Ok(())
        })?;
        let first = lines - newest.lines.len();
        ends.retain(|(before, ..)| *before > first);
        for (number, (log, line)) in (first..).zip(newest.lines) {
            while let Some((_, log, mark)) = ends.pop_front_if(|(before, ..)| *before <= number) {
                printer.trailing(log, &self.0[log].name, mark);
            }
            printer.line(log, &self.0[log].name, &line);
        }
        for (_, log, mark) in ends {
            printer.trailing(log, &self.0[log].name, mark);
        }
        Ok(())
    }

    /// Passes all lines on, and the ends of runs that no line follows, in order of time.
    fn merge(
        &mut self,
        follows: bool,
        with_ends: bool,
        mut each: impl FnMut(usize, &str, LogItem) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut sources = self.0.iter_mut();
        sources.try_for_each(|source| source.advance(follows, with_ends))?;
        loop {
            let sources = self.0.iter().enumerate();
            let times = sources.filter_map(|(log, source)| Some((source.next_time()?, log)));
            let Some((_, log)) = times.min() else {
                return Ok(());
            };
            let source = &mut self.0[log];
            if let Some(line) = source.head.take() {
                each(log, &source.name, LogItem::Line(line))?;
                source.advance(follows, with_ends)?;
            } else if let Some(mark) = source.end.take() {
                each(log, &source.name, LogItem::End(mark))?;
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
        self.merge(true, printer.shows_ends(), |log, name, item| {
            match item {
                LogItem::Line(mut line) => {
                    line.at = line.at.or_else(|| Some(terminal::now()));
                    printer.line(log, name, &line);
                }
                LogItem::End(mark) => printer.trailing(log, name, mark),
            }
            Ok(())
        })?;
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

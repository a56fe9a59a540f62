//! Lines of output as a terminal, a pipe or a program gets them.
//! Owns the columns of time and module, the marks between runs and days, and the JSON form.
//! Never passes a control character of a module to a terminal; a pipe gets the bytes.

use std::collections::HashSet;
use std::io::IsTerminal;

use jiff::Zoned;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use mainstay_process::{Exit, StdStream};
use mainstay_protocol::Timestamp;
use mainstay_protocol::method::LogLines;
use serde_json::Value;

use super::super::args::LogsArgs;
use super::super::error::CliError;
use super::super::table::columns;
use super::super::terminal::{AnsiColour, Terminal};
use super::super::{format, terminal, terminal_text};
use crate::os::log_reader::{LogLine, RunMark};
use crate::os::tail;
use crate::os_text::signal_name;

const COLOURS: [AnsiColour; 6] = [
    AnsiColour::Cyan,
    AnsiColour::Yellow,
    AnsiColour::Green,
    AnsiColour::Magenta,
    AnsiColour::Blue,
    AnsiColour::Red,
];
/// Columns of a time.
const TIME_WIDTH: usize = 8;

/// Which boundaries of runs are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    All,
    /// Between two lines of a module.
    Between,
    None,
}

/// Prints lines of modules.
pub(crate) struct LogPrinter {
    terminal: Terminal,
    is_terminal: bool,
    /// The width of the column of names; none: there is none.
    names: Option<usize>,
    times: bool,
    marks: Marks,
    json: bool,
    zone: TimeZone,
    /// The day of the last line.
    day: Date,
    /// The second of the last time, and its text.
    last_time: (u64, String),
    /// The logs of which a line was printed.
    printed: HashSet<usize>,
    out: Vec<u8>,
}

impl LogPrinter {
    /// The printer for the standard output of this process.
    pub(crate) fn of_stdout(args: &LogsArgs, names: &[String]) -> LogPrinter {
        let is_terminal = std::io::stdout().is_terminal();
        let zone = if args.utc {
            TimeZone::UTC
        } else {
            format::zone()
        };
        let is_one = args.modules.len() == 1;
        let columns = !args.raw && !args.json;
        let marks = match (columns, is_terminal, &args.grep) {
            (true, true, _) => Marks::All,
            (true, false, None) => Marks::Between,
            _ => Marks::None,
        };
        LogPrinter {
            times: columns && (is_terminal || !is_one || args.times),
            marks,
            json: args.json,
            is_terminal: is_terminal && !args.raw,
            ..LogPrinter::new(
                Terminal::of_stdout(),
                zone,
                (columns && !is_one).then_some(names),
            )
        }
    }

    /// A printer with all columns, of names if there are some.
    pub(crate) fn new(terminal: Terminal, zone: TimeZone, names: Option<&[String]>) -> LogPrinter {
        let width = |names: &[String]| names.iter().map(|name| name.chars().count()).max();
        LogPrinter {
            terminal,
            is_terminal: true,
            names: names.map(|names| width(names).unwrap_or(0)),
            times: true,
            marks: Marks::All,
            json: false,
            day: local(terminal::now(), &zone).date(),
            zone,
            last_time: (u64::MAX, String::new()),
            printed: HashSet::new(),
            out: Vec::new(),
        }
    }

    /// Bytes that wait for [`LogPrinter::flush`].
    pub(crate) fn pending(&self) -> usize {
        self.out.len()
    }

    /// Returns what was printed.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Widens the column of names.
    pub(crate) fn widen(&mut self, width: usize) {
        self.names = self.names.map(|names| names.max(width));
    }

    /// Writes what was printed.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        if self.out.is_empty() {
            return Ok(());
        }
        terminal::print_bytes(&self.take())
    }

    /// Prints a line of the log of this number.
    pub(crate) fn line(&mut self, log: usize, name: &str, line: &LogLine) {
        if self.json {
            self.out.extend(json(name, line));
            return;
        }
        if let Some(mark) = line.mark {
            self.mark(log, name, Some(line.run), mark);
        }
        self.printed.insert(log);
        self.columns(log, name, line);
        if self.is_terminal {
            let text = tail::text(line);
            self.out
                .extend(terminal_text::for_terminal(&text).as_bytes());
        } else {
            self.out.extend(&line.text);
            if line.length > line.text.len() as u64 {
                self.out
                    .extend(tail::shortened_mark(line.length).as_bytes());
            }
        }
        self.out.push(b'\n');
    }

    /// Whether the end of a run is shown although nothing follows it.
    pub(crate) fn shows_ends(&self) -> bool {
        self.marks == Marks::All
    }

    /// Prints that a run ended and wrote nothing more.
    pub(crate) fn trailing(&mut self, log: usize, name: &str, mark: RunMark) {
        self.mark(log, name, None, mark);
    }

    /// Prints the columns before a line.
    fn columns(&mut self, log: usize, name: &str, line: &LogLine) {
        let mut columns = String::new();
        if self.times {
            self.day_mark(line.at);
            let time = line.at.map(|at| self.time(at)).unwrap_or_default();
            let time = format!("{time:TIME_WIDTH$} ");
            let colour = match line.stream {
                StdStream::Stderr => AnsiColour::Red,
                StdStream::Stdout | StdStream::Both => AnsiColour::Grey,
            };
            self.terminal.paint(&mut columns, Some(colour), &time);
        }
        if let Some(width) = self.names {
            let colour = COLOURS[log % COLOURS.len()];
            let name = format!("{:<width$} | ", format::single_line(name));
            self.terminal.paint(&mut columns, Some(colour), &name);
        }
        self.out.extend(columns.as_bytes());
    }

    /// Prints the day where it is another than that of the line before.
    fn day_mark(&mut self, at: Option<Timestamp>) {
        let Some(at) = at.filter(|at| at.0 / 1000 != self.last_time.0) else {
            return;
        };
        let day = local(at, &self.zone).date();
        if day != self.day {
            self.day = day;
            self.boundary(&day.strftime("%A %Y-%m-%d").to_string());
        }
    }

    fn time(&mut self, at: Timestamp) -> String {
        let second = at.0 / 1000;
        if second != self.last_time.0 {
            let text = local(at, &self.zone).strftime("%H:%M:%S").to_string();
            self.last_time = (second, text);
        }
        self.last_time.1.clone()
    }

    fn mark(&mut self, log: usize, name: &str, run: Option<u64>, mark: RunMark) {
        let is_shown = match self.marks {
            Marks::All => true,
            Marks::Between => self.printed.contains(&log),
            Marks::None => false,
        };
        if is_shown {
            let text = self.mark_text(&format::single_line(name), run, mark);
            self.boundary(&text);
        }
    }

    /// `web exited 3 after 4s; run 5 started 13:14:02`.
    fn mark_text(&self, name: &str, run: Option<u64>, mark: RunMark) -> String {
        let ended = mark.ended.map(|ended| {
            let how = exit_text(ended.exit);
            let ran = ended
                .ran
                .map(|ran| format!(" after {}", format::compact_duration(ran)));
            let ran = ran.unwrap_or_default();
            match self.marks {
                Marks::All => format!("{name} {how}{ran} at {}", self.moment(ended.at)),
                _ => format!("{name} {how}{ran}"),
            }
        });
        let started = match (mark.started, run) {
            (Some((run, at)), _) => Some(format!("run {run} started {}", self.moment(at))),
            (None, Some(run)) => Some(format!("run {run}")),
            (None, None) => None,
        };
        match (ended, started) {
            (Some(ended), Some(started)) => format!("{ended}; {started}"),
            (None, Some(started)) => format!("{name}: {started}"),
            (Some(ended), None) => ended,
            (None, None) => name.to_owned(),
        }
    }

    /// The time, and the day if it is not that of the lines around it.
    fn moment(&self, at: Timestamp) -> String {
        let at = local(at, &self.zone);
        let pattern = if self.times && at.date() == self.day {
            "%H:%M:%S"
        } else {
            "%Y-%m-%d %H:%M:%S"
        };
        at.strftime(pattern).to_string()
    }

    fn boundary(&mut self, text: &str) {
        let mut line = String::new();
        let mut text = format!("── {text} ──");
        // A mark that wraps looks like two.
        let is_wide = |text: &str| self.terminal.width.is_some_and(|room| columns(text) > room);
        if is_wide(&text) {
            text.truncate(text.len() - " ──".len());
        }
        self.terminal
            .paint(&mut line, Some(AnsiColour::Grey), &text);
        self.out.extend(line.as_bytes());
        self.out.push(b'\n');
    }
}

fn local(at: Timestamp, zone: &TimeZone) -> Zoned {
    let at = i64::try_from(at.0).ok();
    let at = at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    at.unwrap_or(jiff::Timestamp::MAX).to_zoned(zone.clone())
}

fn exit_text(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited {code}"),
        Exit::Signal { signal, core } => {
            let core = if core { ", with a core" } else { "" };
            format!("was ended by {}{core}", signal_name(signal))
        }
        Exit::Oom => "was killed because memory ran out".to_owned(),
        Exit::Stuck => "does not end".to_owned(),
        Exit::Unknown => "ended".to_owned(),
    }
}

/// A line as the object of the protocol.
fn json(name: &str, line: &LogLine) -> Vec<u8> {
    let text = tail::text(line);
    let record = serde_json::from_str(&text).ok().filter(Value::is_object);
    let lines = LogLines {
        module: name.to_owned(),
        records: record.into_iter().map(Some).collect(),
        lines: vec![text],
        stamps: vec![line.stamp()],
        ..LogLines::default()
    };
    let mut bytes = serde_json::to_vec(&lines).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::log_reader::RunEnded;
    use mainstay_protocol::enums::LogStream;
    use mainstay_protocol::method::LineStamp;
    use std::time::Duration;

    const AT: u64 = 1_795_000_000_123; // 2026-11-18 11:06:40 UTC

    fn line(text: &str, after: u64, mark: Option<RunMark>) -> LogLine {
        LogLine {
            at: Some(Timestamp(AT + after)),
            run: 2,
            stream: StdStream::Both,
            text: text.as_bytes().to_vec(),
            length: text.len() as u64,
            mark,
        }
    }

    fn printer(names: Option<&[String]>, colour: bool) -> LogPrinter {
        let width = None;
        let mut printer = LogPrinter::new(Terminal { width, colour }, TimeZone::UTC, names);
        printer.day = local(Timestamp(AT), &TimeZone::UTC).date();
        printer
    }

    fn printed(mut printer: LogPrinter, lines: &[(usize, &str, LogLine)]) -> String {
        for (log, name, line) in lines {
            printer.line(*log, name, line);
        }
        String::from_utf8(printer.out).expect("text")
    }

    fn boundary() -> RunMark {
        RunMark {
            started: Some((2, Timestamp(AT))),
            ended: Some(RunEnded {
                run: 1,
                exit: Exit::Code(3),
                at: Timestamp(AT - 1000),
                ran: Some(Duration::from_secs(4)),
            }),
        }
    }

    #[test]
    fn a_terminal_gets_time_name_and_marks() {
        let names = ["web".to_owned(), "worker".to_owned()];
        let lines = [
            (0, "web", line("one\x1b[2J", 0, Some(boundary()))),
            (1, "worker", line("\x1b[31mtwo", 1000, None)),
            (1, "worker", line("three", 86_400_000, None)),
        ];
        assert_eq!(
            printed(printer(Some(&names), false), &lines),
            "── web exited 3 after 4s at 11:06:39; run 2 started 11:06:40 ──\n\
             11:06:40 web    | one^[[2J\n\
             11:06:41 worker | \x1b[31mtwo\x1b[0m\n\
             ── Thursday 2026-11-19 ──\n\
             11:06:40 worker | three\n"
        );
        let coloured = printed(printer(Some(&names), true), &lines[1..2]);
        assert_eq!(
            coloured,
            "\x1b[90m11:06:41 \x1b[0m\x1b[33mworker | \x1b[0m\x1b[31mtwo\x1b[0m\n"
        );
        let mut error = line("four", 0, None);
        error.stream = StdStream::Stderr;
        let coloured = printed(printer(None, true), &[(0, "web", error)]);
        assert_eq!(
            coloured, "\x1b[31m11:06:40 \x1b[0mfour\n",
            "its time is red"
        );
    }

    #[test]
    fn a_pipe_gets_the_bytes_of_one_module_and_the_bounds_between_its_runs() {
        let mut pipe = printer(None, false);
        (pipe.is_terminal, pipe.times, pipe.marks) = (false, false, Marks::Between);
        let lines = [
            (0, "web", line("first\x1b[2J\r", 0, Some(boundary()))),
            (0, "web", line("second", 1, Some(boundary()))),
        ];
        assert_eq!(
            printed(pipe, &lines),
            "first\x1b[2J\r\n── web exited 3 after 4s; run 2 started 2026-11-18 11:06:40 ──\nsecond\n"
        );
    }

    #[test]
    fn a_program_gets_objects() {
        let mut program = printer(None, false);
        program.json = true;
        let mut object = line("{\"level\":1}", 0, Some(boundary()));
        object.stream = StdStream::Stdout;
        let text = printed(program, &[(0, "web", object)]);
        let read: LogLines = serde_json::from_str(&text).expect("an object");
        assert_eq!(
            read.stamps,
            [LineStamp {
                at: Some(Timestamp(AT)),
                run: Some(2),
                stream: Some(LogStream::Stdout),
            }]
        );
        assert_eq!(read.records, [Some(serde_json::json!({"level": 1}))]);
        assert_eq!(read.lines, ["{\"level\":1}"]);
    }
}

//! What modules write, shown by `up` in the foreground.
//! Owns the thread that reads the logs as they grow, and what is skipped when its reader lags.
//! Never holds up a module, the holder or the runtime: it only reads files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::console::{Console, Stream};
use super::format;
use super::logs::printer::LogPrinter;
use super::runtime_log;
use super::terminal::{self, Terminal};
use crate::os::log_reader::{LogFilter, LogReader};
use crate::os::log_watch::LogWatch;

/// Silence between two looks: many small writes are one look.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a prompt may wait for its newline, or output for its reader.
const WAIT_INTERVAL: Duration = Duration::from_millis(220);
/// Output that may wait for its reader; of more, only the end is shown.
const LAG_BYTES: u64 = 256 * 1024;
/// Lines that are read before it is looked whether their reader follows.
const LINES_AT_ONCE: usize = 256;

/// The output of all modules, as it is shown.
pub(super) struct OutputStream {
    state: Arc<Mutex<State>>,
    watch: Arc<LogWatch>,
}

struct State {
    console: Console,
    printer: LogPrinter,
    folder: PathBuf,
    logs: BTreeMap<String, (usize, LogReader)>,
    /// Logs that cannot be read, which was said.
    broken: BTreeSet<String>,
    /// Logs of which something waits for its newline, its time or its reader.
    waiting: BTreeSet<String>,
    names: Arc<Mutex<BTreeSet<String>>>,
}

/// Whether standard output goes to the journal of the service manager: the logs have all of it.
#[cfg(unix)]
pub(super) fn is_journal() -> bool {
    let about = nix::sys::stat::fstat(io::stdout());
    let own = about.map(|about| format!("{}:{}", about.st_dev, about.st_ino));
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| own == Ok(stream))
}

#[cfg(windows)]
pub(super) fn is_journal() -> bool {
    false
}

impl OutputStream {
    /// Starts to show what is written into this folder from now on. `names` has those of the
    /// modules, for the width of their column.
    pub(super) fn start(
        console: Console,
        folder: &Path,
        names: Arc<Mutex<BTreeSet<String>>>,
    ) -> OutputStream {
        let zone = format::zone();
        let mut state = State {
            console,
            printer: LogPrinter::new(Terminal::of_stdout(), zone, Some(&[])),
            folder: folder.to_owned(),
            logs: BTreeMap::new(),
            broken: BTreeSet::new(),
            waiting: BTreeSet::new(),
            names,
        };
        state.open(|path| LogReader::open_last(path, 0));
        let (state, watch) = (Arc::new(Mutex::new(state)), Arc::new(LogWatch::new(folder)));
        let stream = OutputStream { state, watch };
        let (shared, watch) = (Arc::clone(&stream.state), Arc::clone(&stream.watch));
        let thread = std::thread::Builder::new().name("output".to_owned());
        // Without its thread nothing is shown until the end.
        let _no_thread = thread.spawn(move || run(&shared, &watch));
        stream
    }

    /// The end is near: what is written is shown now and then.
    pub(super) fn unwatch(&self) {
        self.watch.end();
    }

    /// Shows what is left.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.look(None);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own that only reads files"
)]
fn run(shared: &Mutex<State>, watch: &LogWatch) {
    let mut again = None;
    loop {
        let changed = watch.wait(again);
        std::thread::sleep(LOOK_INTERVAL);
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
        state.look(changed);
        again = (!state.waiting.is_empty()).then_some(WAIT_INTERVAL);
    }
}

impl State {
    /// Shows what is new in the files that changed; None: in all.
    fn look(&mut self, changed: Option<BTreeSet<OsString>>) {
        let log_of = |file: OsString| Some(file.to_str()?.split_once(".log")?.0.to_owned());
        let changed: Option<BTreeSet<String>> =
            changed.map(|files| files.into_iter().filter_map(log_of).collect());
        let is_known = |names: &BTreeSet<String>| names.iter().all(|name| self.is_known(name));
        if !changed.as_ref().is_some_and(is_known) {
            self.open(|path| LogReader::open(path, LogFilter::default()));
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let width = names.iter().map(|name| name.chars().count()).max();
        drop(names);
        self.printer.widen(width.unwrap_or(0));
        let mut waiting = BTreeSet::new();
        for (name, (number, reader)) in &mut self.logs {
            let is_due = changed
                .as_ref()
                .is_none_or(|changed| changed.contains(name));
            if !is_due && !self.waiting.contains(name) {
                continue;
            }
            match show(&self.console, &mut self.printer, name, *number, reader) {
                Ok(true) => drop(waiting.insert(name.clone())),
                Ok(false) => {}
                Err(error) => {
                    if self.broken.insert(name.clone()) {
                        let name = format::single_line(name);
                        let text = format!("mainstay: cannot show output of {name}: {error}\n");
                        self.console.line(Stream::Out, text.into_bytes());
                    }
                }
            }
        }
        self.waiting = waiting;
    }

    /// Whether a log is open, or is none of a module.
    fn is_known(&self, name: &str) -> bool {
        self.logs.contains_key(name) || runtime_log::FILE.starts_with(&format!("{name}."))
    }

    /// Opens logs that are not open.
    fn open(&mut self, open: impl Fn(&Path) -> io::Result<LogReader>) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return; // it comes with the first line
        };
        for entry in entries.flatten() {
            let file = entry.file_name();
            let Some(name) = file.to_str().and_then(|name| name.strip_suffix(".log")) else {
                continue;
            };
            if self.is_known(name) {
                continue;
            }
            if let Ok(reader) = open(&entry.path()) {
                let number = self.logs.len();
                self.logs.insert(name.to_owned(), (number, reader));
            }
        }
    }
}

/// Shows what is new of one log; returns whether more waits.
fn show(
    console: &Console,
    printer: &mut LogPrinter,
    name: &str,
    number: usize,
    reader: &mut LogReader,
) -> io::Result<bool> {
    reader.refresh()?;
    loop {
        if !console.has_room() {
            let skipped = reader.skip_all_but(LAG_BYTES);
            if skipped > 0 {
                let name = format::single_line(name);
                let bytes = format::bytes(skipped);
                let text = format!("mainstay: {bytes} of output of {name} are not shown here\n");
                console.line(Stream::Out, text.into_bytes());
            }
            return Ok(true);
        }
        for _ in 0..LINES_AT_ONCE {
            let Some(mut line) = reader.next_new()? else {
                pass_on(console, printer);
                return Ok(reader.has_unfinished());
            };
            line.at = line.at.or_else(|| Some(terminal::now()));
            printer.line(number, name, &line);
        }
        pass_on(console, printer);
    }
}

fn pass_on(console: &Console, printer: &mut LogPrinter) {
    for line in printer.take().split_inclusive(|byte| *byte == b'\n') {
        console.line(Stream::Out, line.to_owned());
    }
}

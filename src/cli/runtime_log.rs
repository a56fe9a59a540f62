//! The log of the runtime: `mainstay.log` beside the logs of modules, and warnings on stderr.
//! Owns targets and formats; `MAINSTAY_LOG` sets levels, `MAINSTAY_LOG_FORMAT` the format.
//! Never blocks the runtime: lines that arrive faster than the disk writes are dropped.

pub(super) mod rotating;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::runtime::CONSOLE_TARGET;
use rotating::{RotatingFile, RotationLimits};

use super::console::{Console, Stream};

/// Its file, in the folder of the logs.
pub(super) const FILE: &str = "mainstay.log";
/// Lines that may be queued for the disk.
const LINES: usize = 1024;
/// How long a panic may take to reach its reader.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_millis(200);
/// Bytes kept in memory until the path of the file is known.
const EARLY_BYTES: usize = 64 * 1024;

/// The running log; queued lines are written when it is dropped.
pub(super) struct RuntimeLog {
    place: Arc<Mutex<LogTarget>>,
    _written: WorkerGuard,
}

/// The target of lines.
enum LogTarget {
    /// The path is unknown: lines are kept in memory.
    Early(Vec<u8>),
    /// The file.
    File(RotatingFile),
    /// The file cannot be written.
    Nowhere,
}

/// The writer of the log's thread.
struct DeferredWriter(Arc<Mutex<LogTarget>>);

impl Write for DeferredWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            LogTarget::Early(kept) if kept.len() + line.len() <= EARLY_BYTES => kept.extend(line),
            // Other components report a full disk.
            LogTarget::File(file) => drop(file.write_line(line)),
            LogTarget::Early(_) | LogTarget::Nowhere => {}
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts logging; lines are kept in memory until `open` names the file.
pub(super) fn start(console: &Console) -> RuntimeLog {
    let place = Arc::new(Mutex::new(LogTarget::Early(Vec::new())));
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .lossy(true)
        .thread_name("log")
        .finish(DeferredWriter(Arc::clone(&place)));
    // A second subscriber is a bug in mainstay; it is ignored.
    let _already_set = tracing_subscriber::registry()
        .with(to_file(writer))
        .with(to_stderr(console.clone()))
        .try_init();
    log_panics(console.clone());
    RuntimeLog {
        place,
        _written: guard,
    }
}

impl RuntimeLog {
    /// Opens the file and writes the lines kept in memory.
    pub(super) fn open(&self, directory: &Path, limits: Arc<RotationLimits>) {
        let opened = RotatingFile::open(&directory.join(FILE), limits);
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = match opened {
            Ok(mut file) => {
                if let LogTarget::Early(kept) = &*place {
                    let _full_disk = file.write_line(kept);
                }
                *place = LogTarget::File(file);
                None
            }
            Err(error) => {
                *place = LogTarget::Nowhere;
                Some(error)
            }
        };
        drop(place); // the next line is a line of this log
        if let Some(error) = problem {
            tracing::warn!(%error, "cannot write mainstay.log in {}", directory.display());
        }
    }
}

/// Returns the log levels: `MAINSTAY_LOG`, such as `info,mainstay::journal=debug`.
fn levels(usual: LevelFilter) -> EnvFilter {
    EnvFilter::builder()
        .with_default_directive(usual.into())
        .with_env_var("MAINSTAY_LOG")
        .from_env_lossy()
}

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

fn to_file(writer: NonBlocking) -> Boxed {
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false);
    if std::env::var_os("MAINSTAY_LOG_FORMAT").is_some_and(|form| form == "json") {
        let layer = layer.json().flatten_event(true);
        layer.with_filter(levels(LevelFilter::INFO)).boxed()
    } else {
        layer.with_filter(levels(LevelFilter::INFO)).boxed()
    }
}

/// Warnings on stderr look like announcements, and are omitted where stdout already shows them; the
/// system journal gets all lines, with priorities.
fn to_stderr<S>(console: Console) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(console);
    if stderr_is_journal() {
        let plain = Format::default().without_time().with_ansi(false);
        let layer = layer.with_ansi(false).event_format(PriorityFormat(plain));
        layer.with_filter(levels(LevelFilter::INFO)).boxed()
    } else {
        let together = read_together();
        let news = filter_fn(move |about| {
            *about.level() <= Level::WARN && !(together && about.target() == CONSOLE_TARGET)
        });
        // A closed terminal is ignored.
        let layer = layer.with_ansi(false).log_internal_errors(false);
        layer
            .event_format(PlainFormat)
            .with_filter(news.with_max_level_hint(LevelFilter::WARN))
            .boxed()
    }
}

/// Returns whether stderr and stdout have the same reader.
#[cfg(unix)]
fn read_together() -> bool {
    let place = |about: nix::sys::stat::FileStat| (about.st_dev, about.st_ino);
    let out = nix::sys::stat::fstat(io::stdout()).map(place);
    nix::sys::stat::fstat(io::stderr()).map(place) == out
}

#[cfg(windows)]
fn read_together() -> bool {
    use std::io::IsTerminal;
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// Formats lines as announcements; the file has time and location.
struct PlainFormat;

impl<S, N> FormatEvent<S, N> for PlainFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("mainstay: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Returns whether stderr is the stream that `JOURNAL_STREAM` (device:inode) names.
#[cfg(unix)]
fn stderr_is_journal() -> bool {
    let said = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    nix::sys::stat::fstat(io::stderr())
        .is_ok_and(|stat| said == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(windows)]
fn stderr_is_journal() -> bool {
    false
}

/// Formats lines with a priority prefix, as in sd-daemon(3).
struct PriorityFormat(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for PriorityFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// A panic is a bug in mainstay: it is logged where bugs are looked for, and on the console. The
/// usual hook would write to a reader that may have stopped.
fn log_panics(console: Console) {
    std::panic::set_hook(Box::new(move |panic| {
        let at = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(at, "cannot continue: this is a bug in mainstay: {text}");
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            console.line(Stream::Err, format!("{trace}\n").into_bytes());
        }
        console.flush(PANIC_FLUSH_TIMEOUT);
    }));
}

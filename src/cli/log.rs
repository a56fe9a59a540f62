//! The runtime's own log: `mainstay.log` beside the modules' logs, and stderr for what is wrong.
//! Owns what goes where, in which form; `MAINSTAY_LOG` sets levels, `MAINSTAY_LOG_FORMAT` the form.
//! Never holds the runtime up: lines that come faster than the disk takes them are dropped.

mod rotating;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::runtime::CONSOLE_TARGET;
use rotating::Rotating;

/// Lines that may wait for the disk.
const LINES: usize = 1024;
/// Bytes kept before it is known where the file is.
const EARLY_BYTES: usize = 64 * 1024;

/// The running log; what waits is written when it is dropped.
pub(super) struct Log {
    place: Arc<Mutex<Place>>,
    _written: WorkerGuard,
}

/// Where lines go.
enum Place {
    /// Not known yet: they are kept.
    Early(Vec<u8>),
    /// Here.
    File(Rotating),
    /// It cannot be written.
    Nowhere,
}

/// The end the log's thread writes into.
struct Late(Arc<Mutex<Place>>);

impl Write for Late {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Place::Early(kept) if kept.len() + line.len() <= EARLY_BYTES => kept.extend(line),
            // A full disk is told by what cannot be written there for others.
            Place::File(file) => drop(file.write(line)),
            Place::Early(_) | Place::Nowhere => {}
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to log; lines are kept until `open` says where.
pub(super) fn start() -> Log {
    let place = Arc::new(Mutex::new(Place::Early(Vec::new())));
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .lossy(true)
        .thread_name("log")
        .finish(Late(Arc::clone(&place)));
    // A second subscriber would be a bug of ours, not worth dying for.
    let _already_set = tracing_subscriber::registry()
        .with(to_file(writer))
        .with(to_stderr())
        .try_init();
    tell_panics();
    Log {
        place,
        _written: guard,
    }
}

impl Log {
    /// Says where the file is; what was kept goes there first.
    pub(super) fn open(&self, directory: &Path, max_bytes: u64, keep: u32) {
        let opened = Rotating::open(&directory.join("mainstay.log"), max_bytes, keep);
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = match opened {
            Ok(mut file) => {
                if let Place::Early(kept) = &*place {
                    let _full_disk = file.write(kept);
                }
                *place = Place::File(file);
                None
            }
            Err(error) => {
                *place = Place::Nowhere;
                Some(error)
            }
        };
        drop(place); // the next line is a line of this log
        if let Some(error) = problem {
            tracing::warn!(%error, "cannot write mainstay.log in {}", directory.display());
        }
    }
}

/// What is logged: `MAINSTAY_LOG`, for instance `info,mainstay::journal=debug`.
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

/// A person is told what is wrong in the voice of the announcements, and nothing that these say
/// where both are read together; a system's journal gets everything, in its form.
fn to_stderr<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if stderr_is_journal() {
        let plain = Format::default().without_time().with_ansi(false);
        let layer = layer.with_ansi(false).event_format(Prioritised(plain));
        layer.with_filter(levels(LevelFilter::INFO)).boxed()
    } else {
        let together = read_together();
        let news = filter_fn(move |about| {
            *about.level() <= Level::WARN && !(together && about.target() == CONSOLE_TARGET)
        });
        // A terminal that has gone away is nothing to panic about.
        let layer = layer.with_ansi(false).log_internal_errors(false);
        layer
            .event_format(Voice)
            .with_filter(news.with_max_level_hint(LevelFilter::WARN))
            .boxed()
    }
}

/// Whether whoever reads stderr reads stdout too.
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

/// Lines as the announcements have them; the file says when and where.
struct Voice;

impl<S, N> FormatEvent<S, N> for Voice
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

/// Whether stderr is the stream that `JOURNAL_STREAM` (device:inode) names.
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

/// Lines that begin with their priority, as sd-daemon(3) says.
struct Prioritised(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Prioritised
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

/// A panic is a bug of ours: it is told where bugs are looked for, and as usual.
fn tell_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let at = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(at, "cannot go on here, this is a bug of mainstay: {text}");
        usual(panic);
    }));
}

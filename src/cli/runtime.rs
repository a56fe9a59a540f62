//! `mainstay runtime` (hidden): the runtime itself, started by the holder.
//! Owns the lines that are printed while modules start and stop.
//! Never called by a person.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mainstay_protocol::ModuleState;
use mainstay_protocol::enums::CliExitCode;

use super::args::{GlobalArgs, RuntimeArgs};
use super::console::{Console, Stream, Target};
use super::error::CliError;
use super::output_stream::{OutputStream, is_journal};
use super::runtime_log::rotating::{RotatingFile, RotationLimits};
use super::start_progress::StartProgress;
use crate::config::ConfigSources;
use crate::os::process_limit::{check_threads, forbid_core_dumps, with_limit};
use crate::os::succession::ENV_DETACHED;
use crate::runtime::{ConsoleMessage, ConsoleSink};

/// Threads that a holder and its runtime have at least once the system runs: for starts and for
/// output, the log, the journal, samples and files.
const THREADS: usize = 8;

/// How long the last lines may take to reach their reader when the runtime exits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[expect(
    clippy::disallowed_methods,
    reason = "the exit code is passed on as it is"
)]
pub(super) fn run(args: &RuntimeArgs, global: &GlobalArgs) -> Result<CliExitCode, CliError> {
    let marked = std::env::var_os(super::up::ENV_RUNTIME).is_some();
    let Some(end) = marked
        .then(crate::os::transport::HolderEndpoint::inherited)
        .flatten()
    else {
        let text = "cannot run: this verb is for the holder; use `mainstay up`";
        return Err(CliError::new(CliExitCode::Usage, text));
    };
    crate::os::machine::name_process(c"mainstay");
    forbid_core_dumps();
    if let Err(problem) = check_threads(THREADS) {
        super::terminal::print_error(&format!("cannot start the runtime: {problem}"));
        std::process::exit(i32::from(CliExitCode::Failed as u8));
    }
    crate::os::machine::write_in_background();
    let console = Console::start();
    let detached = std::env::var_os(ENV_DETACHED).is_some();
    if !detached {
        console.open(Target::standard());
    }
    let log = super::runtime_log::start(&console);
    let sources = ConfigSources::find(global.config.as_deref(), &args.set);
    let sources = sources.map(|sources| ConfigSources {
        strict: args.strict,
        ..sources
    });
    let names = Arc::default();
    let stream: Arc<OnceLock<OutputStream>> = Arc::default();
    let limits: Arc<RotationLimits> = Arc::default();
    let begun = |first: &crate::config::Configuration, problem: Option<&str>| {
        let logs = &first.system.logs;
        limits.set(logs.max_bytes, logs.keep);
        log.open(&logs.directory, Arc::clone(&limits));
        if detached {
            console.open(detached_target(&logs.directory, Arc::clone(&limits)));
        }
        if let Some(problem) = problem {
            let text = super::up::fallback_text(problem);
            console.line(Stream::Err, text.into_bytes());
        }
        for text in super::check::warnings(first) {
            console.line(Stream::Err, format!("warning: {text}\n").into_bytes());
        }
        if !detached && !args.quiet && !is_journal() {
            let (console, names) = (console.clone(), Arc::clone(&names));
            stream.get_or_init(|| OutputStream::start(console, &logs.directory, names));
        }
    };
    let announce = announcer(
        console.clone(),
        Arc::clone(&names),
        Arc::clone(&limits),
        Arc::clone(&stream),
    );
    let code = match crate::runtime::run(end, sources, Some(announce), begun) {
        Ok(code) => code,
        Err(error) => {
            let text = with_limit(&error.to_string());
            console.line(Stream::Err, format!("{text}\n").into_bytes());
            error.exit()
        }
    };
    drop(log);
    if let Some(stream) = stream.get() {
        stream.finish();
    }
    console.open_if_closed(Target::standard);
    console.flush(FLUSH_TIMEOUT);
    // The holder returns this exit code unchanged.
    std::process::exit(i32::from(code))
}

/// A bounded file, which is rotated as the logs of modules are; where it cannot be opened, what
/// the detached start opened.
fn detached_target(directory: &Path, limits: Arc<RotationLimits>) -> Target {
    let path = directory.join(super::up::DETACHED_LOG);
    match RotatingFile::open(&path, limits) {
        Ok(file) => Target {
            out: Box::new(file),
            err: None,
        },
        Err(error) => {
            super::terminal::print_error(&format!("cannot write {}: {error}", path.display()));
            Target::standard()
        }
    }
}

/// Prints what happens, one line each; the reader may stop or go away at any time.
/// `names` learns those of the modules, `limits` those of the files of lines, `stream` when the
/// modules are to stop.
fn announcer(
    console: Console,
    names: Arc<Mutex<BTreeSet<String>>>,
    limits: Arc<RotationLimits>,
    stream: Arc<OnceLock<OutputStream>>,
) -> ConsoleSink {
    let is_terminal = std::io::stdout().is_terminal();
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let start = Mutex::new(is_terminal.then(StartProgress::default));
    Arc::new(move |what| {
        let mut start = start.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(started) = start.as_mut() {
            let text = started.text_after(what);
            if text.is_none() && started.has_begun() {
                *start = None;
            }
            console.set_progress(text);
        }
        drop(start);
        let line = match what {
            ConsoleMessage::StateChanged {
                module,
                state,
                text,
                ..
            } => {
                let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
                if !names.contains(module) {
                    names.insert(module.to_owned());
                }
                drop(names);
                let (on, off) = if colour {
                    (shade(state), "\u{1b}[0m")
                } else {
                    ("", "")
                };
                // The state says so already.
                let text = text.strip_prefix("stopped, ").unwrap_or(text);
                format!("  {module:<20} {on}{state:<9}{off} {text}")
            }
            ConsoleMessage::System(text) => format!("mainstay: {text}"),
            ConsoleMessage::LogsChanged(logs) => return limits.set(logs.max_bytes, logs.keep),
            ConsoleMessage::Stopping => return stream.get().map_or((), OutputStream::unwatch),
        };
        console.line(Stream::Out, format!("{}\n", line.trim_end()).into_bytes());
    })
}

fn shade(state: ModuleState) -> &'static str {
    match state {
        ModuleState::Running => "\u{1b}[32m",
        ModuleState::Backoff => "\u{1b}[33m",
        ModuleState::Failed => "\u{1b}[31m",
        _ => "\u{1b}[2m",
    }
}

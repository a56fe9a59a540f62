//! `mainstay runtime` (hidden): the runtime itself, started by the holder.
//! Owns the lines that are printed while modules start and stop.
//! Never called by a person.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use mainstay_protocol::State;
use mainstay_protocol::words::ExitCode;

use super::args::{Global, Runtime};
use super::failure::Failure;
use crate::config::Sources;
use crate::os::process_limit::{check_threads, with_limit};
use crate::runtime::{ConsoleMessage, ConsoleSink};

/// Threads that a holder and its runtime have at least once the system runs: for starts and for
/// output, the log, the journal, samples and files.
const THREADS: usize = 8;

#[expect(
    clippy::disallowed_methods,
    reason = "the exit code is passed on as it is"
)]
pub(super) fn run(args: &Runtime, global: &Global) -> Result<ExitCode, Failure> {
    let marked = std::env::var_os(super::up::ENV_RUNTIME).is_some();
    let Some(end) = marked
        .then(crate::os::transport::HolderEndpoint::inherited)
        .flatten()
    else {
        let text = "cannot run: this verb is for the holder; use `mainstay up`";
        return Err(Failure::new(ExitCode::Usage, text));
    };
    crate::os::machine::name_process(c"mainstay");
    if let Err(problem) = check_threads(THREADS) {
        super::screen::complain(&format!("cannot start the runtime: {problem}"));
        std::process::exit(i32::from(ExitCode::Failed as u8));
    }
    let log = super::log::start();
    let sources = Sources::find(global.config.as_deref(), &args.set);
    let begun = |logs: &crate::config::Logs| log.open(&logs.directory, logs.max_bytes, logs.keep);
    let code = match crate::runtime::run(end, sources, Some(announcer()), begun) {
        Ok(code) => code,
        Err(error) => {
            super::screen::complain(&with_limit(&error.to_string()));
            error.exit()
        }
    };
    drop(log);
    // The holder returns this exit code unchanged.
    std::process::exit(i32::from(code))
}

/// Prints changes, one per line; a closed reader is ignored.
fn announcer() -> ConsoleSink {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Arc::new(move |what| {
        let line = match what {
            ConsoleMessage::StateChanged {
                module,
                state,
                text,
            } => {
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
        };
        let _reader_left = writeln!(std::io::stdout().lock(), "{}", line.trim_end());
    })
}

fn shade(state: State) -> &'static str {
    match state {
        State::Running => "\u{1b}[32m",
        State::Backoff => "\u{1b}[33m",
        State::Failed => "\u{1b}[31m",
        _ => "\u{1b}[2m",
    }
}

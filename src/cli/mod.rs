//! The command line: one file per verb; verbs that read or change use the client alone.
//! Owns the dispatch and the exit code.
//! Never decides about modules: it requests, waits and prints.

pub(crate) mod args;
mod audit;
mod bus;
mod call;
mod change;
mod chaos;
mod check;
mod completions;
mod config;
mod config_change;
mod console;
mod dependency_tree;
mod doctor;
mod down;
pub(crate) mod error;
mod event_line;
mod events;
#[cfg(all(test, unix))]
mod fake;
mod format;
mod graph;
mod headline;
mod health;
mod history;
mod hold;
mod holder;
mod import;
mod init;
mod logs;
mod machine_checks;
mod man;
mod metrics;
mod module_details;
mod output_stream;
mod plan;
pub(crate) mod progress;
mod redaction;
mod repeat;
mod report;
mod run;
mod runtime;
mod runtime_log;
mod secret;
mod service;
mod signal;
mod simulate;
mod start_progress;
mod status;
mod status_rows;
pub(crate) mod system_locator;
mod table;
pub(crate) mod terminal;
mod terminal_text;
mod time_argument;
mod top;
mod up;
mod upgrade;
mod warnings;
mod what_if;
mod why;
mod wrapping;

use clap::Parser;
use mainstay_protocol::enums::CliExitCode;

use args::{Cli, Verb};
use change::ChangeVerb;
use error::CliError;

/// Runs the command line of this process and says how it ended.
#[must_use]
pub fn main() -> std::process::ExitCode {
    completions::answer_shell();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(CliExitCode::Usage as u8);
            if error.use_stderr() && error::wants_json() {
                let text = error.render().to_string();
                CliError::new(CliExitCode::Usage, text.trim_end()).print();
            } else {
                // Printing help into a closed pipe is no failure worth a word.
                let _ = error.print();
            }
            return std::process::ExitCode::from(code);
        }
    };
    match run(cli) {
        Ok(code) => code.into(),
        Err(failure) => failure.print().into(),
    }
}

fn run(cli: Cli) -> Result<CliExitCode, CliError> {
    let global = &cli.global;
    match cli.verb {
        Verb::Init(args) => init::run(&args, global),
        Verb::Import(args) => import::run(&args, global),
        Verb::Up(args) => up::run(&args, global),
        Verb::Down(args) => down::run(&args, global),
        Verb::Status(args) => status::run(&args, global),
        Verb::Top(args) => top::run(&args, global),
        Verb::Start(args) => change::start(&args, global),
        Verb::Stop(args) => change::run(ChangeVerb::Stop, &args, global),
        Verb::Restart(args) => change::run(ChangeVerb::Restart, &args, global),
        Verb::Run(args) => run::run(&args, global),
        Verb::Signal(args) => signal::run(&args, global),
        Verb::Hold(args) => hold::run(&args, global),
        Verb::Release(args) => hold::release(&args, global),
        Verb::Recover(args) => change::run(ChangeVerb::Recover, &args, global),
        Verb::Logs(args) => logs::run(&args, global),
        Verb::Events(args) => events::run(&args, global),
        Verb::Why(args) => why::run(&args, global),
        Verb::WhatIf(args) => what_if::run(&args, global),
        Verb::Report(args) => report::run(&args, global),
        Verb::Chaos(args) => chaos::run(&args, global),
        Verb::Bus(args) => bus::run(&args, global),
        Verb::Simulate(args) => simulate::run(&args, global),
        Verb::Graph(args) => graph::run(&args, global),
        Verb::Check(args) => check::run(&args, global),
        Verb::Health(args) => health::run(&args, global),
        Verb::Doctor(args) => doctor::run(&args, global),
        Verb::Metrics(args) => metrics::run(&args, global),
        Verb::Plan(args) => plan::run(&args, global),
        Verb::Reload(args) => plan::reload(&args, global),
        Verb::Config(args) => config::run(&args, global),
        Verb::Secret(args) => secret::run(&args, global),
        Verb::Audit(args) => audit::run(&args, global),
        Verb::Upgrade(args) => upgrade::run(&args, global),
        Verb::Call(args) => call::run(&args, global),
        Verb::Service(args) => service::run(&args, global),
        Verb::Man(args) => man::run(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Runtime(args) => runtime::run(&args, global),
        Verb::Holder(args) => holder::run(&args),
        Verb::Versions => upgrade::versions(),
    }
}

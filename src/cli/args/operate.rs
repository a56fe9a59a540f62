//! Options of the verbs that start, stop and change.
//! Owns their names.
//! Never reads the environment or a file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::completions;

#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  mainstay up               in the foreground; Ctrl-C stops it in order
  mainstay up -d && mainstay status
  mainstay up --set health.interval=10s")]
pub(crate) struct UpArgs {
    /// Return as soon as everything runs, and leave it running
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Override one value of the configuration, such as health.interval=10s
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Do not show what modules write
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Refuse files with problems [default: start the last committed plan, and say so]
    #[arg(long)]
    pub(crate) strict: bool,
    /// Timeout of the initial startup [default: mainstay.startup_timeout]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay down
  mainstay down --timeout 1m")]
pub(crate) struct DownArgs {
    /// Stop budget [default: mainstay.shutdown_timeout]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// The modules
    #[arg(required = true, value_name = "MODULE", add = completions::modules())]
    pub(crate) modules: Vec<String>,
    /// Show what would happen and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Return before the change is completed
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Print the objects of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HolderArgs {
    /// Descriptor of what the holder knows
    #[arg(long, value_name = "NUMBER", required_unless_present_any = ["check", "succeed"])]
    pub(crate) state: Option<i32>,
    /// Go on in the place of a holder that has died
    #[arg(long, conflicts_with_all = ["state", "check"])]
    pub(crate) succeed: bool,
    /// Say whether what the standard input has could be used
    #[arg(long, conflicts_with = "state")]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The runtime is replaced: everything but the small parent of the modules, which
follows on Linux, and elsewhere at the next `mainstay up`. When the new program
is not ready within 10 seconds, the one before runs again: exit code 1.

Examples:
  mainstay upgrade                             to the program that is typed here
  mainstay upgrade --binary /opt/new/mainstay")]
pub(crate) struct UpgradeArgs {
    /// The program [default: the one of this command]
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RuntimeArgs {
    /// Override one value of the configuration, as given to `up`
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Do not show what modules write, as given to `up`
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Refuse files with problems, as given to `up`
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay start web               web and what it needs, until it is ready
  mainstay start migrate --wait    until the task is done; exits 1 if it failed
  mainstay start web worker --dry-run")]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    /// Return when tasks are done, not when they run
    #[arg(long, conflicts_with_all = ["no_wait", "dry_run"])]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The exit code is that of the task, and 128 + N if signal N ended it.
An interrupted `run` leaves the task running; `mainstay stop TASK` stops it.

Examples:
  mainstay run migrate
  mainstay run backup && echo saved"
)]
pub(crate) struct RunArgs {
    /// The task: a module with kind = "task"
    #[arg(value_name = "TASK", add = completions::modules())]
    pub(crate) task: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The exit that may follow is treated as any other: recovery decides.

Examples:
  mainstay signal nginx HUP        ask it to read its configuration
  mainstay signal worker SIGUSR1"
)]
pub(crate) struct SignalArgs {
    /// The module
    #[arg(add = completions::modules())]
    pub(crate) module: String,
    /// The signal by its name or number, such as HUP, SIGUSR1 or 15
    #[arg(add = completions::signals())]
    pub(crate) signal: String,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay bus tap                     everything that is published
  mainstay bus tap 'samples.*' --json
  mainstay bus publish samples.cpu '{\"percent\":12}'
  mainstay bus call scorer score '{\"sample\":1}'")]
pub(crate) struct BusArgs {
    #[command(subcommand)]
    pub(crate) verb: BusVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BusVerb {
    /// Show what modules publish, as it happens
    Tap {
        /// The subjects; `*` matches one name, at the end one or more [default: everything]
        #[arg(value_name = "SUBJECT")]
        subjects: Vec<String>,
        /// Print the objects of the protocol, one per line
        #[arg(long)]
        json: bool,
    },
    /// Publish an event, as if a module did
    Publish {
        /// The subject: names joined by dots
        subject: String,
        /// JSON, or plain text [default: null]
        #[arg(allow_hyphen_values = true)]
        payload: Option<String>,
    },
    /// Call a method of a module and print its result
    Call {
        /// The module
        #[arg(add = completions::modules())]
        module: String,
        /// The method that it serves
        method: String,
        /// JSON, or plain text [default: null]
        #[arg(allow_hyphen_values = true)]
        params: Option<String>,
        /// How long the answer may take [default: 5s]
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "A run that goes on is left alone; one that ends is no failure.
A hold ends by itself.

Examples:
  mainstay hold web              for ten minutes, while its program is replaced
  mainstay hold web --for 1h"
)]
pub(crate) struct HoldArgs {
    /// The module
    #[arg(add = completions::modules())]
    pub(crate) module: String,
    /// For how long at most
    #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
    #[arg(value_parser = humantime::parse_duration)]
    pub(crate) time: Duration,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  mainstay release web")]
pub(crate) struct ReleaseArgs {
    /// The module
    #[arg(add = completions::modules())]
    pub(crate) module: String,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

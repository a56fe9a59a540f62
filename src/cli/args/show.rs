//! Options of the verbs that show something.
//! Owns their names.
//! Never reads the environment or a file.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mainstay_protocol::EventKind;

use crate::cli::completions;
use crate::cli::time_argument::TimeArgument;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay status                what runs, what failed and why
  mainstay status web            everything about web
  mainstay status --sort memory  what uses most comes first
  mainstay status --watch        again and again, until Ctrl-C
  mainstay status --json | jq .status")]
pub(crate) struct StatusArgs {
    /// Show this module only
    #[arg(add = completions::modules())]
    pub(crate) module: Option<String>,
    /// Every module, also those of mainstay itself; with --json the list instead of the system
    #[arg(long, conflicts_with = "module")]
    pub(crate) all: bool,
    /// A table with health, process and restarts, as wide as it is
    #[arg(long, conflicts_with_all = ["module", "json"])]
    pub(crate) wide: bool,
    /// Below each module what it needs
    #[arg(long, conflicts_with_all = ["module", "json", "wide"])]
    pub(crate) tree: bool,
    /// What uses most, or was restarted most often, comes first; or by name
    /// [default: trouble first]
    #[arg(long, value_name = "KEY", value_enum, conflicts_with_all = ["module", "tree"])]
    pub(crate) sort: Option<SortKey>,
    /// Show it again and again, every second or at this interval; a pipe gets what changed
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) watch: Option<Duration>,
    /// Print the objects of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

/// What modules are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SortKey {
    Cpu,
    Memory,
    Restarts,
    Name,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay health
  mainstay health web --json")]
pub(crate) struct HealthArgs {
    /// Show this module only
    #[arg(add = completions::modules())]
    pub(crate) module: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  mainstay doctor    which limits can be enforced here, and how to get others")]
pub(crate) struct DoctorArgs {
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay metrics
  mainstay metrics --output /var/lib/node_exporter/mainstay.prom")]
pub(crate) struct MetricsArgs {
    /// Replace this file instead, as a whole (for a textfile collector)
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay events -f                        what happens
  mainstay events --since 10m --module web
  mainstay events --since 'yesterday 18:00' --full")]
pub(crate) struct EventsArgs {
    /// Keep showing new events
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only events since then: an age such as 10m, a time such as 10:30 or "yesterday 18:00", or
    /// after this sequence number
    #[arg(long, value_name = "TIME|SEQ")]
    pub(crate) since: Option<EventsSince>,
    /// Only events of this kind; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = event_kind())]
    pub(crate) kinds: Vec<EventKind>,
    /// Only events of this module
    #[arg(long, add = completions::modules())]
    pub(crate) module: Option<String>,
    /// Number of newest events [default: 100, 10 when following, all with --since]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Every event, also those that only lead to another one
    #[arg(long)]
    pub(crate) full: bool,
    /// Print the objects of the protocol, one per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where `events` begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum EventsSince {
    /// After the event of this number.
    Seq(u64),
    Time(TimeArgument),
}

impl FromStr for EventsSince {
    type Err = String;

    fn from_str(text: &str) -> Result<EventsSince, String> {
        match text.trim_start_matches('#').parse() {
            Ok(seq) => Ok(EventsSince::Seq(seq)),
            Err(_) => text.parse().map(EventsSince::Time),
        }
    }
}

fn event_kind() -> impl TypedValueParser<Value = EventKind> {
    PossibleValuesParser::new(EventKind::ALL.iter().map(|kind| kind.as_str()))
        .try_map(|text| text.parse::<EventKind>())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay graph                      as text, by waves
  mainstay graph web                  what web needs, and what needs web
  mainstay graph --svg > graph.svg    as a picture, coloured by state
  mainstay graph --files --mermaid    of the files, whatever runs")]
pub(crate) struct GraphArgs {
    /// Only this module, what it needs and what needs it, directly or not
    #[arg(add = completions::modules())]
    pub(crate) module: Option<String>,
    /// As a picture
    #[arg(long, group = "form")]
    pub(crate) svg: bool,
    /// For Graphviz
    #[arg(long, group = "form")]
    pub(crate) dot: bool,
    /// For Mermaid
    #[arg(long, group = "form")]
    pub(crate) mermaid: bool,
    /// Print the object of the protocol
    #[arg(long, group = "form")]
    pub(crate) json: bool,
    /// Of the configuration files [default: of the running system; of the files if it is down]
    #[arg(long)]
    pub(crate) files: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Keys: l logs, w why, r restart, s start or stop, g graph, / filter, : any
command, ? help, q quit.

Examples:
  mainstay top
  mainstay top --interval 2s
  mainstay top --once > modules.txt    one picture, without a terminal"
)]
pub(crate) struct TopArgs {
    /// Pause between two samples
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    #[arg(value_parser = humantime::parse_duration)]
    pub(crate) interval: Duration,
    /// Print one picture and return
    #[arg(long)]
    pub(crate) once: bool,
}

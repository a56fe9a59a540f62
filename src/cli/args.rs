//! The command line: verbs, options and their help.
//! Owns the names on the command line, which scripts rely on.
//! Never reads the environment or a file.

mod explain;
mod service;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use mainstay_protocol::EventKind;

use explain::{CHAOS_EXAMPLES, REPORT_EXAMPLES, WHAT_IF_EXAMPLES, WHY_EXAMPLES};
pub(crate) use explain::{ChaosArgs, ReportArgs, WhatIfArgs, WhyArgs};

pub(crate) use service::{ServiceArgs, ServiceInstallArgs, ServiceScopeArgs, ServiceVerb};

use super::call;
use crate::config::is_name;
use crate::import::Format;

/// Keep it running, and be able to say why.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, max_term_width = 100, after_help = super::error::EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Selects the system.
#[derive(Debug, Default, Args)]
pub(crate) struct GlobalArgs {
    /// Folder that holds mainstay.toml [default: $MAINSTAY_CONFIG, ./config, the user's]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) config: Option<PathBuf>,
    /// Name of the system, instead of the one in its configuration
    #[arg(long, global = true, value_parser = instance_name)]
    pub(crate) name: Option<String>,
    /// Control socket of the system [default: $MAINSTAY_CONTROL, or found by name]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

fn instance_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(
        "a name has a-z, 0-9, - and _, begins with a letter or digit, and has at most 64"
            .to_owned(),
    )
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write a commented configuration with one example module
    Init(InitArgs),
    /// Write a Procfile, compose file or the like as a configuration of mainstay
    Import(ImportArgs),
    /// Start everything, in the foreground or detached
    Up(UpArgs),
    /// Stop everything in order and wait until it has exited
    Down(DownArgs),
    /// Show the system and its modules, or one module
    #[command(visible_aliases = ["ps", "ls"])]
    Status(StatusArgs),
    /// Start modules and their dependencies
    Start(ChangeArgs),
    /// Stop modules and their dependents
    Stop(ChangeArgs),
    /// Restart modules
    Restart(ChangeArgs),
    /// Accept the recovery that is proposed for failed modules (recovery.auto = false)
    Recover(ChangeArgs),
    /// Show what modules wrote
    Logs(LogsArgs),
    /// Show events
    Events(EventsArgs),
    /// Explain the state of a module, and what happens next
    #[command(after_help = WHY_EXAMPLES)]
    Why(WhyArgs),
    /// Say what would follow if a module were stopped, killed or failed; changes nothing
    #[command(after_help = WHAT_IF_EXAMPLES)]
    WhatIf(WhatIfArgs),
    /// Pack what a bug report needs into one archive, without secrets
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Inject faults into modules, to try their recovery ([chaos] allowed = true)
    #[command(after_help = CHAOS_EXAMPLES)]
    Chaos(ChaosArgs),
    /// Show the dependencies
    Graph(GraphArgs),
    /// Check the configuration without running it
    Check(CheckArgs),
    /// Show the health of the system and its modules: score, issues, metrics, trends
    Health(HealthArgs),
    /// Say what this machine can enforce of limits, what is missing and how to get it
    Doctor(DoctorArgs),
    /// Print the metrics of modules, machine and mainstay, as OpenMetrics
    Metrics(MetricsArgs),
    /// Show what the configuration files would change
    Plan(PlanArgs),
    /// Apply the configuration files: watched, then committed or rolled back
    Reload(ReloadArgs),
    /// Look up and change the configuration in force
    Config(ConfigArgs),
    /// Encrypt values of the configuration, and list them
    Secret(SecretArgs),
    /// List and verify requests and their requesters
    Audit(AuditArgs),
    /// Send one request of the protocol and print its result as JSON
    Call(CallArgs),
    /// Install mainstay as a service of the system: systemd, launchd, Windows
    Service(ServiceArgs),
    /// Print completions for a shell
    Completions(Completions),
    /// The runtime itself, started by the holder
    #[command(hide = true)]
    Runtime(RuntimeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Name of the system [default: the name of the current folder]
    pub(crate) instance: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Procfile, compose file, process-compose.yaml, supervisord.conf, ecosystem.json of pm2, or
    /// service units of systemd
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Folder that is written [default: ./config]
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// What the file is [default: by its name and content]
    #[arg(long, value_parser = import_format())]
    pub(crate) format: Option<Format>,
    /// Overwrite files that are there
    #[arg(long)]
    pub(crate) force: bool,
}

fn import_format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(|(name, _)| name)).map(|text| {
        let found = Format::ALL.iter().find(|(name, _)| *name == text);
        found.map_or(Format::Procfile, |(_, format)| *format)
    })
}

#[derive(Debug, Default, Args)]
pub(crate) struct UpArgs {
    /// Return as soon as everything runs, and leave it running
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Override one value of the configuration, such as health.interval=10s
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Refuse files with problems [default: start the last committed plan, and say so]
    #[arg(long)]
    pub(crate) strict: bool,
    /// Timeout of the initial startup [default: mainstay.startup_timeout]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// Stop budget [default: mainstay.shutdown_timeout]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show this module only
    pub(crate) module: Option<String>,
    /// Every module, also those of mainstay itself; with --json the list instead of the system
    #[arg(long, conflicts_with = "module")]
    pub(crate) all: bool,
    /// A table with health, process and restarts, as wide as it is
    #[arg(long, conflicts_with_all = ["module", "json"])]
    pub(crate) wide: bool,
    /// Print the objects of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Show this module only
    pub(crate) module: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Replace this file instead, as a whole (for a textfile collector)
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// The modules
    #[arg(required = true, value_name = "MODULE")]
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
pub(crate) struct LogsArgs {
    /// The modules; with several, each line begins with its module
    #[arg(required = true, value_name = "MODULE")]
    pub(crate) modules: Vec<String>,
    /// Keep showing new lines
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Number of newest lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub(crate) lines: usize,
    /// Print the objects of the protocol, one per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Keep showing new events
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only events after this sequence number
    #[arg(long, value_name = "SEQ")]
    pub(crate) since: Option<u64>,
    /// Only events of this kind; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = event_kind())]
    pub(crate) kinds: Vec<EventKind>,
    /// Only events of this module
    #[arg(long)]
    pub(crate) module: Option<String>,
    /// Number of newest events [default: 100, and 10 when following]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Print the objects of the protocol, one per line
    #[arg(long)]
    pub(crate) json: bool,
}

fn event_kind() -> impl TypedValueParser<Value = EventKind> {
    PossibleValuesParser::new(EventKind::ALL.iter().map(|kind| kind.as_str()))
        .try_map(|text| text.parse::<EventKind>())
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// For Graphviz
    #[arg(long, group = "form")]
    pub(crate) dot: bool,
    /// For Mermaid
    #[arg(long, group = "form")]
    pub(crate) mermaid: bool,
    /// Print the object of the protocol
    #[arg(long, group = "form")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Print the JSON schema of the configuration instead
    #[arg(long)]
    pub(crate) schema: bool,
    /// Override one value of the configuration, such as health.interval=10s
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print the problems as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// A file instead of mainstay.toml, or a folder instead of the configuration folder
    pub(crate) path: Option<PathBuf>,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Return when the plan is committed or rolled back
    #[arg(long)]
    pub(crate) wait: bool,
    /// Refuse if another plan than this one is in force
    #[arg(long, value_name = "NUMBER")]
    pub(crate) expect_plan: Option<u64>,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print a value, or all values of a table, as the running system uses them
    Get {
        /// A key, such as health.interval or module.storage [default: everything]
        path: Option<String>,
        /// Print the origin of each value: file and line, a variable, an option, the default
        #[arg(long)]
        origin: bool,
        /// Print the object of the protocol
        #[arg(long)]
        json: bool,
    },
    /// Set one value of the running system: watched, then committed or rolled back
    Set {
        /// The key, such as health.interval or module.storage.env.LEVEL
        key: String,
        /// The value; "-": read it from the standard input
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Write it into the file that sets the key, comments kept
        #[arg(long)]
        persist: bool,
        #[command(flatten)]
        change: ConfigChangeArgs,
    },
    /// Drop what `config set` set
    Unset {
        /// The key, or a table of keys
        key: String,
        /// Remove it from its file too
        #[arg(long)]
        persist: bool,
        #[command(flatten)]
        change: ConfigChangeArgs,
    },
    /// List the plans that are kept: who applied each, when, and what became of it
    History {
        /// Print the object of the protocol
        #[arg(long)]
        json: bool,
    },
    /// Show what differs: the files from the plan in force, or one plan from another
    Diff {
        /// A plan of the history [default: the plan in force, and the files]
        from: Option<u64>,
        /// Another one [default: the plan in force]
        to: Option<u64>,
        /// Print the object of the protocol
        #[arg(long)]
        json: bool,
    },
    /// Go back to a plan of the history: watched, then committed or rolled back
    Rollback {
        /// Its number [default: the newest committed one that differs]
        plan: Option<u64>,
        #[command(flatten)]
        change: ConfigChangeArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigChangeArgs {
    /// Show what would change and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Refuse if another plan than this one is in force
    #[arg(long, value_name = "PLAN")]
    pub(crate) if_plan: Option<u64>,
    /// Return when the plan is committed or rolled back
    #[arg(long)]
    pub(crate) wait: bool,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    pub(crate) verb: SecretVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretVerb {
    /// Encrypt a value, read from standard input, under a name
    Set(SecretValueArgs),
    /// Replace the value of a name; the modules that use it are restarted
    Rotate(SecretValueArgs),
    /// Encrypt all values for a new key, which replaces the old one
    Rekey,
    /// List the names and the modules that use each
    List,
}

#[derive(Debug, Args)]
pub(crate) struct SecretValueArgs {
    /// Its name
    #[arg(value_parser = instance_name)]
    pub(crate) name: String,
    /// Read the value from this file instead
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub(crate) from: Option<PathBuf>,
    /// Make up a random value
    #[arg(long)]
    pub(crate) generate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) verb: AuditVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// List requests, their requesters and their results
    List {
        /// Number of newest actions [default: 20]
        #[arg(short = 'n', long, value_name = "COUNT")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=5000))]
        limit: Option<u32>,
        /// Print one object per line
        #[arg(long)]
        json: bool,
    },
    /// Check that no administrative row of the journal was changed, removed, reordered or cut off
    Verify {
        /// The journal [default: journal.db in the state directory of the configuration]
        journal: Option<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The method
    #[arg(value_parser = call::methods())]
    pub(crate) method: String,
    /// Its parameters, a JSON object [default: none]
    pub(crate) params: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct RuntimeArgs {
    /// Override one value of the configuration, as given to `up`
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Refuse files with problems, as given to `up`
    #[arg(long)]
    pub(crate) strict: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_behind_the_verb() {
        for line in ["mainstay --name app status", "mainstay status --name app"] {
            let cli = parsed(line).expect(line);
            assert_eq!(cli.global.name.as_deref(), Some("app"));
        }
    }

    #[test]
    fn wrong_lines_are_usage_errors() {
        for line in [
            "mainstay",
            "mainstay stats",
            "mainstay start",
            "mainstay status storage --all",
            "mainstay graph --dot --json",
            "mainstay events --kind module.slept",
            "mainstay down --timeout soon",
            "mainstay audit",
            "mainstay check --name a/b",
            "mainstay up --name A",
            "mainstay config",
        ] {
            assert_eq!(parsed(line).expect_err(line).exit_code(), 2);
        }
    }

    #[test]
    fn kinds_and_durations_are_read() {
        let cli = parsed("mainstay events --kind module.ready --kind journal.gap -n 5");
        let Verb::Events(events) = cli.expect("parsed").verb else {
            panic!("events")
        };
        let kinds = [EventKind::ModuleReady, EventKind::JournalGap];
        assert_eq!(events.kinds, kinds);
        let cli = parsed("mainstay down --timeout 1m30s");
        let Verb::Down(down) = cli.expect("parsed").verb else {
            panic!("down")
        };
        assert_eq!(down.timeout, Some(Duration::from_secs(90)));
    }
}

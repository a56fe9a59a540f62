//! The command line: verbs, options and their help.
//! Owns the names on the command line, which scripts rely on.
//! Never reads the environment or a file.

mod config;
mod explain;
mod logs;
mod operate;
mod service;
mod setup;
mod show;
mod simulate;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use config::*;
pub(crate) use explain::*;
pub(crate) use logs::*;
pub(crate) use operate::*;
pub(crate) use service::*;
pub(crate) use setup::*;
pub(crate) use show::*;
pub(crate) use simulate::SimulateArgs;

use super::terminal;
use crate::config::is_name;

/// Keep it running, and be able to say why.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, term_width = terminal::help_width())]
#[command(after_help = super::error::EXIT_CODES)]
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
#[command(defer = true)]
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
    /// Show a live table of the modules; keys show their output and restart them
    Top(TopArgs),
    /// Start modules and their dependencies
    Start(StartArgs),
    /// Stop modules and their dependents
    #[command(after_help = "Examples:
  mainstay stop web                 web and what requires it
  mainstay stop web worker --dry-run")]
    Stop(ChangeArgs),
    /// Restart modules
    #[command(after_help = "Examples:
  mainstay restart web
  mainstay restart web worker --no-wait")]
    Restart(ChangeArgs),
    /// Start a task, show what it writes, and exit with its exit code
    Run(RunArgs),
    /// Send a signal to the main process of a module
    Signal(SignalArgs),
    /// Start no run of a module for a time: its program can be replaced
    Hold(HoldArgs),
    /// End the hold of a module; it is started if it is to be up
    Release(ReleaseArgs),
    /// Accept the recovery that is proposed for failed modules (recovery.auto = false)
    #[command(after_help = "Example:
  mainstay recover web    do what `mainstay status` proposes")]
    Recover(ChangeArgs),
    /// Show what modules wrote, in order of time
    Logs(LogsArgs),
    /// Show events
    Events(EventsArgs),
    /// Explain the state of a module, and what happens next
    Why(WhyArgs),
    /// Say what would follow if a module were stopped, killed or failed; changes nothing
    WhatIf(WhatIfArgs),
    /// Pack what a bug report needs into one archive, without secrets
    Report(ReportArgs),
    /// Inject faults into modules, to try their recovery ([chaos] allowed = true)
    Chaos(ChaosArgs),
    /// Show, publish and call on the event bus of the modules
    Bus(BusArgs),
    /// Try the configuration under faults, in virtual time: does it come up, and come back?
    Simulate(SimulateArgs),
    /// Show the dependencies: of all modules, or what one needs and what needs it
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
    /// Replace the running mainstay by another program, while all modules run on
    Upgrade(UpgradeArgs),
    /// Send one request of the protocol and print its result as JSON
    Call(CallArgs),
    /// Install mainstay as a service of the system: systemd, launchd, Windows
    Service(ServiceArgs),
    /// Print completions for a shell
    Completions(Completions),
    /// Write the manual pages
    Man(ManArgs),
    /// The runtime itself, started by the holder
    #[command(hide = true)]
    Runtime(RuntimeArgs),
    /// The holder goes on as this program, executed by the one before
    #[command(hide = true)]
    Holder(HolderArgs),
    /// The versions of what this program shares with others, for `upgrade`
    #[command(hide = true)]
    Versions,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use mainstay_protocol::EventKind;
    use std::time::Duration;

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
    fn the_help_of_every_verb_has_an_example() {
        let cli = Cli::command();
        for verb in cli.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let help = verb.clone().render_help().to_string();
            let name = verb.get_name();
            assert!(
                help.contains("Example") && help.contains("\n  mainstay "),
                "{name}"
            );
        }
    }

    #[test]
    fn no_line_of_the_help_is_wider_than_a_small_terminal() {
        let mut cli = Cli::command().term_width(80);
        cli.build();
        let verbs = cli.get_subcommands_mut().filter(|verb| !verb.is_hide_set());
        for verb in verbs {
            let name = verb.get_name().to_owned();
            for help in [verb.render_help(), verb.render_long_help()] {
                let help = help.to_string();
                let wide = help.lines().find(|line| line.chars().count() > 80);
                assert_eq!(wide, None, "{name}");
            }
            // What is aligned must not be broken.
            let after = verb
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let wide = after.lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None, "{name}");
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

//! The options of `mainstay service`.
//! Owns their names and their help.
//! Never reads the environment or a file.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay service install --explain      what would be written and run
  mainstay service install --user
  mainstay service status")]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    pub(crate) verb: ServiceVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceVerb {
    /// Install the service, start it and wait until it answers; again: bring it up to date
    Install(ServiceInstallArgs),
    /// Stop the service and remove what was installed
    Uninstall {
        #[command(flatten)]
        scope: ServiceScopeArgs,
        /// Print what would be done, and do nothing
        #[arg(long)]
        explain: bool,
    },
    /// Show whether the service is installed, runs and answers
    Status {
        #[command(flatten)]
        scope: ServiceScopeArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The service itself, started by Windows
    #[cfg(windows)]
    #[command(hide = true)]
    Run {
        /// Override one value of the configuration, as given to `up`
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServiceScopeArgs {
    /// For this user: from login to logout [default, unless root]
    #[arg(long, conflicts_with = "system")]
    pub(crate) user: bool,
    /// For the machine: from the boot on [default for root]
    #[arg(long)]
    pub(crate) system: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct ServiceInstallArgs {
    #[command(flatten)]
    pub(crate) scope: ServiceScopeArgs,
    /// Print each file, right and command, and do nothing
    #[arg(long)]
    pub(crate) explain: bool,
    /// Start it with the system, and not now
    #[arg(long)]
    pub(crate) no_start: bool,
    /// A directory that modules write to, beside their own; may be repeated (systemd)
    #[arg(long, value_name = "DIR")]
    pub(crate) writable: Vec<PathBuf>,
}

//! Options of the verbs that explain, suppose, inject faults and report.
//! Owns their names and examples.
//! Never reads the environment or a file.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::completions;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay why web               why web is as it is, and what happens next
  mainstay why web --full        every event that is kept of web
  mainstay why --not-started     what is not up, by root cause")]
pub(crate) struct WhyArgs {
    /// The module
    #[arg(required_unless_present = "not_started", add = completions::modules())]
    pub(crate) module: Option<String>,
    /// Every module that is not up, by root cause
    #[arg(long, conflicts_with_all = ["module", "full"])]
    pub(crate) not_started: bool,
    /// The whole history that is kept of the module
    #[arg(long)]
    pub(crate) full: bool,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay report                        of the running system, or of its files
  mainstay report --output bug.tar.gz    into this file, which must not be there")]
pub(crate) struct ReportArgs {
    /// The archive [default: mainstay-report-NAME-TIME.tar.gz in the current folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay what-if stop postgres     who would be stopped with it
  mainstay what-if kill web          what recovery would do
  mainstay what-if fail redis        how the system would be without it")]
pub(crate) struct WhatIfArgs {
    /// What is supposed to happen
    #[arg(value_parser = ["stop", "kill", "fail"])]
    pub(crate) action: String,
    /// The module
    #[arg(add = completions::modules())]
    pub(crate) module: String,
    /// Print the object of the protocol
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mainstay chaos kill web                              once
  mainstay chaos hang web --for 30s                    until its probes notice
  mainstay chaos kill web api --count 20 --every 5s    in turn")]
pub(crate) struct ChaosArgs {
    /// The fault
    #[arg(value_parser = ["kill", "hang", "slow"])]
    pub(crate) action: String,
    /// The modules, in turn
    #[arg(required = true, value_name = "MODULE", add = completions::modules())]
    pub(crate) modules: Vec<String>,
    /// How long a module hangs or is slow, at most 10m [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) r#for: Option<Duration>,
    /// Number of faults
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    /// Pause between two faults
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = humantime::parse_duration)]
    pub(crate) every: Duration,
    /// Print one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

//! Options of `simulate`.
//! Owns their names, defaults and examples.
//! Never reads the environment or a file.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

const SIMULATE_EXAMPLES: &str = "Examples:
  mainstay simulate                         with faults that most have
  mainstay simulate --faults faults.toml    with those of docs/simulate.md
  mainstay simulate --faults faults.toml --set module.db.recovery.max_attempts=6
  mainstay simulate --require 0.99          fails where fewer histories come up";

#[derive(Debug, Args)]
#[command(after_help = SIMULATE_EXAMPLES)]
pub(crate) struct SimulateArgs {
    /// What goes wrong with which module, and how often [default: 5 % of the starts of each module
    /// fail, and it crashes every 30m]
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
    /// Number of histories, each with a seed of its own
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) seeds: u32,
    /// The first seed; the same seed is the same history
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Virtual time of each history
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    #[arg(value_parser = duration)]
    pub(crate) r#for: Duration,
    /// Exit with 1 if a smaller share of the histories comes up whole, such as 0.99
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) require: Option<f64>,
    /// Override one value of the configuration, such as health.interval=10s
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print one object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Virtual time is cheap, and not free.
fn duration(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let most = Duration::from_hours(24 * 366);
    if span.is_zero() || span > most {
        return Err("a history lasts at least 1ms and at most a year".to_owned());
    }
    Ok(span)
}

fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is from 0.0, none, to 1.0, all".to_owned())
}

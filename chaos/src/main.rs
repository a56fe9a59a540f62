//! chaos: run seeds until one trips a checker.
//! Owns the command line and the summary. Never decides what is a violation.

use std::process::ExitCode;
use std::time::Instant;

use chaos::{SimOptions, Summary};
use clap::Parser;

/// Simulates mainstay's policy with random plans, faults and wishes.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many histories.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Modules in each plan.
    #[arg(long, default_value_t = 20)]
    modules: u32,
    /// Policy steps of each history, about.
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
}

#[expect(
    clippy::disallowed_methods,
    reason = "steps a second are measured by the wall clock"
)]
fn main() -> ExitCode {
    let Arguments {
        seeds,
        seed: first,
        modules,
        steps,
    } = Arguments::parse();
    let begin = Instant::now();
    let mut all = Summary::default();
    for seed in first..first.saturating_add(seeds) {
        match chaos::run(SimOptions {
            seed,
            modules,
            steps,
            sabotage: None,
        }) {
            Ok(summary) => {
                all.steps += summary.steps;
                all.spawns += summary.spawns;
                all.kills += summary.kills;
                all.returns += summary.returns;
                all.lost_records += summary.lost_records;
                all.sleeps += summary.sleeps;
                all.stops += summary.stops;
                all.lasted += summary.lasted;
            }
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds, {} steps ({:.0} a second), {:.1} virtual hours, {} processes, {} kills, \
         {} returns of the runtime, {} records lost, {} sleeps, {} stops of everything",
        all.steps,
        all.steps as f64 / seconds,
        all.lasted as f64 / 3.6e12,
        all.spawns,
        all.kills,
        all.returns,
        all.lost_records,
        all.sleeps,
        all.stops,
    );
    ExitCode::SUCCESS
}

//! chaos: run seeds until one trips a checker.
//! Owns the command line and the summary. Never decides what is a violation.

use std::process::ExitCode;
use std::time::Instant;

use chaos::holder::{self, HolderOptions, HolderSummary};
use chaos::{SimOptions, Summary};
use clap::{Parser, ValueEnum};

/// Which state machines are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Model {
    /// The lifecycle and its run machines, with random plans, faults and operations.
    Policy,
    /// The roster of the holder and its runtime supervisor.
    Holder,
}

/// Simulates mainstay's state machines under faults, until a checker finds a violation.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is simulated.
    #[arg(long, value_enum, default_value_t = Model::Policy)]
    model: Model,
    /// How many histories.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Modules in each plan.
    #[arg(long, default_value_t = 20)]
    modules: u32,
    /// How many lines of the trace of a failure are shown; 0: the usual number.
    #[arg(long, default_value_t = 0)]
    trace: usize,
    /// Policy steps of each history, about; of the holder, its faults.
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
}

#[expect(
    clippy::disallowed_methods,
    reason = "steps a second are measured by the wall clock"
)]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let begin = Instant::now();
    let done = match arguments.model {
        Model::Policy => policy(&arguments),
        Model::Holder => holder(&arguments),
    };
    match done {
        Ok((steps, text)) => {
            let rate = steps as f64 / begin.elapsed().as_secs_f64();
            let seeds = arguments.seeds;
            println!("{seeds} seeds, {steps} steps ({rate:.0} a second), {text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn seeds(arguments: &Arguments) -> std::ops::Range<u64> {
    arguments.seed..arguments.seed.saturating_add(arguments.seeds)
}

/// The number of steps, and what the histories had in them.
type Done = Result<(u64, String), Box<dyn std::error::Error>>;

fn policy(arguments: &Arguments) -> Done {
    let mut all = Summary::default();
    for seed in seeds(arguments) {
        let summary = chaos::run(SimOptions {
            seed,
            modules: arguments.modules,
            steps: arguments.steps,
            sabotage: None,
            trace: arguments.trace,
        })?;
        all.steps += summary.steps;
        all.spawns += summary.spawns;
        all.kills += summary.kills;
        all.returns += summary.returns;
        all.lost_records += summary.lost_records;
        all.sleeps += summary.sleeps;
        all.stops += summary.stops;
        all.plans += summary.plans;
        all.shared += summary.shared;
        all.procedures += summary.procedures;
        all.restored += summary.restored;
        all.cascades += summary.cascades;
        all.lasted += summary.lasted;
    }
    let text = format!(
        "{:.1} virtual hours, {} processes, {} kills, {} returns of the runtime, {} records lost, \
         {} sleeps, {} stops of everything, \
         {} changes of the plan, {} failures for more than one, {} resets, {} modules restored, \
         {} cascades",
        all.lasted as f64 / 3.6e12,
        all.spawns,
        all.kills,
        all.returns,
        all.lost_records,
        all.sleeps,
        all.stops,
        all.plans,
        all.shared,
        all.procedures,
        all.restored,
        all.cascades,
    );
    Ok((all.steps, text))
}

fn holder(arguments: &Arguments) -> Done {
    let mut all = HolderSummary::default();
    for seed in seeds(arguments) {
        all += holder::run(HolderOptions {
            seed,
            modules: arguments.modules,
            faults: u32::try_from(arguments.steps)?,
            injected_bug: None,
        })?;
    }
    let text = format!(
        "{:.1} virtual hours, {} processes, {} hung spawns, {} slow kills, {} runtimes, {} \
         unresponsive, {} messages dropped",
        all.lasted.as_secs_f64() / 3600.0,
        all.processes,
        all.hung_spawns,
        all.slow_kills,
        all.runtimes,
        all.unresponsive,
        all.dropped_messages,
    );
    Ok((all.steps, text))
}

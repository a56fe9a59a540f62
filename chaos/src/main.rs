//! chaos: run seeds until one trips a checker.
//! Owns the command line and the summary. Never decides what is a violation.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use chaos::holder::{self, HolderOptions, HolderSummary};
use chaos::report::report;
use chaos::shrink;
use chaos::{SimOptions, Summary, Violation};
use clap::{Parser, ValueEnum};

/// Which state machines are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Model {
    /// The lifecycle and its run machines, with random plans, faults and operations.
    Policy,
    /// The roster of the holder and its runtime supervisor.
    Holder,
    /// The real actors over a fake machine, on a paused clock.
    Actors,
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
    /// Shows this number of lines of the trace of a failure, and does not shrink it.
    #[arg(long, default_value_t = 0)]
    trace: usize,
    /// Policy steps of each history, about; of the holder and the actors, its faults.
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
    /// Runs one seed again with these parts of its record alone, as a shrunk failure names them.
    #[arg(long, value_delimiter = ',')]
    keep: Vec<usize>,
    /// Of the actors: the mean time between two faults, in milliseconds.
    #[arg(long, default_value_t = 200)]
    gap: u64,
    /// Of the actors: processes fail by faults alone, and messages are on time.
    #[arg(long)]
    calm: bool,
    /// Prints how often each fault, decision and end was reached.
    #[arg(long)]
    coverage: bool,
}

/// One history of this number is run twice, to see that it is the same.
const RUN_TWICE: u64 = 64;

#[expect(
    clippy::disallowed_methods,
    reason = "steps a second are measured by the wall clock"
)]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let begin = Instant::now();
    let done = match arguments.model {
        Model::Policy if !arguments.keep.is_empty() => kept(&arguments),
        Model::Policy => policy(&arguments),
        Model::Holder => holder(&arguments),
        Model::Actors => actors(&arguments),
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

fn options(arguments: &Arguments, seed: u64) -> SimOptions {
    SimOptions {
        seed,
        modules: arguments.modules,
        steps: arguments.steps,
        sabotage: None,
        trace: arguments.trace,
    }
}

fn policy(arguments: &Arguments) -> Done {
    let mut all = Summary::default();
    for seed in seeds(arguments) {
        let options = options(arguments, seed);
        match chaos::run(options) {
            Ok(summary) => {
                if seed.is_multiple_of(RUN_TWICE) && chaos::run(options).ok() != Some(summary) {
                    let what = chaos::explain::sentence(&Violation::NotDeterministic);
                    return Err(format!("FAIL seed {seed}: {what}").into());
                }
                all += summary;
            }
            Err(failure) => return Err(report(&failure).into()),
        }
    }
    let mut text = format!(
        "{:.1} virtual hours, {} processes, {} kills, {} that survived, {} returns of the runtime, \
         {} records lost, {} sleeps, {} stops of everything, \
         {} changes of the plan, {} failures for more than one, {} resets, {} modules restored, \
         {} cascades; fingerprint {:016x}",
        all.lasted as f64 / 3.6e12,
        all.spawns,
        all.kills,
        all.stuck,
        all.returns,
        all.lost_records,
        all.sleeps,
        all.stops,
        all.plans,
        all.shared,
        all.procedures,
        all.restored,
        all.cascades,
        all.fingerprint,
    );
    for (count, point) in all.coverage.table().iter().filter(|_| arguments.coverage) {
        write!(text, "\n{count:>12}  {point}")?;
    }
    match &all.coverage.missed()[..] {
        [] => text.push_str("\neach fault, decision and end was reached"),
        missed => write!(text, "\nnever reached: {}", missed.join("; "))?,
    }
    Ok((all.steps, text))
}

/// Runs a shrunk failure again.
fn kept(arguments: &Arguments) -> Done {
    let options = SimOptions {
        trace: usize::MAX,
        ..options(arguments, arguments.seed)
    };
    let (record, _) = shrink::record(options).ok_or("this history does not fail any more")?;
    let mut kept = vec![false; arguments.keep.iter().max().map_or(0, |most| most + 1)];
    arguments.keep.iter().for_each(|at| kept[*at] = true);
    kept.resize(kept.len().max(shrink::places(&record, options)), false);
    match shrink::replay(options, &record, &kept) {
        Some(failure) => Err(format!("{}\n\n{}", failure.headline(), failure.story()).into()),
        None => Ok((0, "the shrunk history does not fail any more".to_owned())),
    }
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

#[cfg(not(unix))]
fn actors(_: &Arguments) -> Done {
    Err("the actors are simulated on Unix alone".into())
}

#[cfg(unix)]
fn actors(arguments: &Arguments) -> Done {
    use chaos::actors::{self, ActorOptions, ActorSummary};
    let mut all = ActorSummary::default();
    for seed in seeds(arguments) {
        let options = ActorOptions {
            seed,
            modules: arguments.modules,
            faults: u32::try_from(arguments.steps)?,
            gap_ms: arguments.gap,
            is_wild: !arguments.calm,
            reloads: true,
            loses_exits: false,
            trace: arguments.trace,
        };
        if !arguments.keep.is_empty() {
            return match actors::replay(options, &arguments.keep) {
                Some(failure) => Err(failure.to_string().into()),
                None => Ok((0, "the shrunk history does not fail any more".to_owned())),
            };
        }
        all += actors::run(options).map_err(|failure| actors::report(&failure))?;
    }
    let text = format!(
        "{:.1} virtual hours, {} processes, {} requests, {} actors died, {} runtimes died, {} \
         messages lost, {} reloads committed, {} rolled back, {} without effect, {} sleeps, {} \
         jumps of the clock, {} drains lost, {} stops of everything, {} holders lost",
        all.lasted as f64 / 3.6e12,
        all.processes,
        all.requests,
        all.actor_deaths,
        all.runtime_deaths,
        all.lost_messages,
        all.committed,
        all.rolled_back,
        all.other_reloads,
        all.sleeps,
        all.jumps,
        all.lost_drains,
        all.stops,
        all.lost_holders,
    );
    Ok((all.faults, text))
}

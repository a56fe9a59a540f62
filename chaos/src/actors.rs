//! The real actors in a simulated machine: paused clock, fake processes, faults, and checkers.
//! Owns what is simulated and what a history had in it. Never decides what a module should do.

use std::fmt;
use std::ops::AddAssign;

use mainstay_policy::MonoTime;

mod config_text;
mod fault;
mod history;
mod machine;
mod quiet;
mod report;
mod trace;
mod violation;

pub use fault::ActorFault;
pub use report::{replay, report};
pub use violation::ActorViolation;

use crate::choices::Choices;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct ActorOptions {
    /// The seed of everything random.
    pub seed: u64,
    /// Modules in the first configuration.
    pub modules: u32,
    /// Faults until it is quiet.
    pub faults: u32,
    /// The time between two faults is below twice this, in milliseconds.
    pub gap_ms: u64,
    /// Processes fail by themselves too, and messages are late.
    pub is_wild: bool,
    /// Files are edited and reloaded.
    pub reloads: bool,
    /// A bug of the machine: the runtime is told of no exit. Something has to notice that.
    pub loses_exits: bool,
    /// Lines of the trace that are kept; 0: the usual number.
    pub trace: usize,
}

impl ActorOptions {
    /// A short history in which faults meet.
    #[must_use]
    pub fn short(seed: u64) -> ActorOptions {
        ActorOptions {
            seed,
            modules: 4 + u32::from(seed.is_multiple_of(2)) * 3,
            faults: 40,
            gap_ms: 400,
            is_wild: true,
            reloads: true,
            loses_exits: false,
            trace: 0,
        }
    }

    /// A long one: a fault a virtual minute.
    #[must_use]
    pub fn long(seed: u64, modules: u32, faults: u32) -> ActorOptions {
        ActorOptions {
            seed,
            modules,
            faults,
            gap_ms: 60_000,
            is_wild: false,
            reloads: true,
            loses_exits: false,
            trace: 0,
        }
    }
}

/// What a history had in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ActorSummary {
    /// Faults.
    pub faults: u64,
    /// Requests.
    pub requests: u64,
    /// Processes.
    pub processes: u64,
    /// Actors that died.
    pub actor_deaths: u64,
    /// Runtimes that died.
    pub runtime_deaths: u64,
    /// Messages that a dead runtime never got.
    pub lost_messages: u64,
    /// Reloads that were applied and committed, rolled back, and refused or without effect.
    pub committed: u64,
    /// Rolled back.
    pub rolled_back: u64,
    /// Neither.
    pub other_reloads: u64,
    /// Times the machine was suspended.
    pub sleeps: u64,
    /// Jumps of the wall clock.
    pub jumps: u64,
    /// Drains of a notify socket that were lost.
    pub lost_drains: u64,
    /// Stops of everything, by a failed start or on request.
    pub stops: u64,
    /// Times the holder was lost at the end.
    pub lost_holders: u64,
    /// Virtual nanoseconds.
    pub lasted: u64,
    /// Of all that the machine saw.
    pub fingerprint: u64,
}

impl AddAssign for ActorSummary {
    fn add_assign(&mut self, other: ActorSummary) {
        let counts = [
            (&mut self.faults, other.faults),
            (&mut self.requests, other.requests),
            (&mut self.processes, other.processes),
            (&mut self.actor_deaths, other.actor_deaths),
            (&mut self.runtime_deaths, other.runtime_deaths),
            (&mut self.lost_messages, other.lost_messages),
            (&mut self.committed, other.committed),
            (&mut self.rolled_back, other.rolled_back),
            (&mut self.other_reloads, other.other_reloads),
            (&mut self.sleeps, other.sleeps),
            (&mut self.jumps, other.jumps),
            (&mut self.lost_drains, other.lost_drains),
            (&mut self.stops, other.stops),
            (&mut self.lost_holders, other.lost_holders),
            (&mut self.lasted, other.lasted),
        ];
        for (count, more) in counts {
            *count += more;
        }
        self.fingerprint = self.fingerprint.rotate_left(1) ^ other.fingerprint;
    }
}

/// A checker tripped.
#[derive(Debug, Clone)]
pub struct ActorFailure {
    /// The history.
    pub options: ActorOptions,
    /// What happened.
    pub violation: ActorViolation,
    /// When.
    pub at: MonoTime,
    /// The last lines.
    pub trace: String,
    /// What is published of each module, and why the one that the violation names is where it is.
    pub why: String,
}

impl ActorFailure {
    /// What happened, what is published, and why.
    fn story(&self) -> String {
        let (seconds, violation) = (self.at.0 as f64 / 1e9, &self.violation);
        format!(
            "timeline\n{}{seconds:>14.6}  BROKEN: {violation:?}\n\n{}",
            self.trace, self.why
        )
    }

    /// What runs it again.
    fn command(&self) -> String {
        let ActorOptions {
            seed,
            modules,
            faults,
            gap_ms,
            ..
        } = self.options;
        let calm = if self.options.is_wild { "" } else { " --calm" };
        format!(
            "cargo run -p chaos -- --model actors --seeds 1 --seed {seed} --modules {modules} \
             --steps {faults} --gap {gap_ms}{calm}"
        )
    }
}

impl fmt::Display for ActorFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, seconds) = (self.options.seed, self.at.0 as f64 / 1e9);
        writeln!(f, "{}", self.story())?;
        let violation = &self.violation;
        writeln!(f, "FAIL seed {seed} at t={seconds:.6} s: {violation:?}")?;
        write!(f, "{violation}\nagain: {}", self.command())
    }
}

impl std::error::Error for ActorFailure {}

/// Runs one history.
///
/// # Errors
/// The first violation, with what led to it.
pub fn run(options: ActorOptions) -> Result<ActorSummary, Box<ActorFailure>> {
    history::run(options, Choices::Drawn).0
}

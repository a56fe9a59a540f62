//! A checker tripped: where, and what a person needs to understand it.
//! Owns the order of what is printed. Never shrinks anything: `shrink` does.

use std::fmt::{self, Write as _};

use mainstay_policy::MonoTime;

use super::SimOptions;
use crate::explain;
use crate::trace::Trace;
use crate::violation::Violation;

/// A checker tripped.
#[derive(Debug, Clone)]
pub struct SimFailure {
    /// The history.
    pub options: SimOptions,
    /// What happened.
    pub violation: Violation,
    /// When.
    pub at: MonoTime,
    /// The last steps.
    pub trace: Trace,
    /// The plan at that time.
    pub plan: String,
    /// Why the module that the violation names is where it is, or how the system is.
    pub why: String,
}

impl SimFailure {
    /// What is broken, and when.
    #[must_use]
    pub fn headline(&self) -> String {
        let (seed, at) = (self.options.seed, explain::seconds(self.at));
        let violation = &self.violation;
        let sentence = explain::sentence(violation);
        format!("FAIL seed {seed} at t={at}: {violation:?}\n{sentence}")
    }

    /// The plan, what happened, and why the module is where it is.
    #[must_use]
    pub fn story(&self) -> String {
        let mut text = format!("plan\n{}\ntimeline\n{}", self.plan, self.trace);
        let (at, violation) = (self.at.0 as f64 / 1e9, &self.violation);
        let _infallible = writeln!(text, "{at:>14.6}  BROKEN: {violation:?}\n");
        let about = self.violation.module().or_else(|| self.trace.last_module());
        let about = about.map(explain::name);
        let about = about.unwrap_or_else(|| "the system".to_owned());
        let _infallible = write!(text, "why is {about} where it is\n{}", self.why);
        text
    }

    /// The command that runs it again.
    #[must_use]
    pub fn command(&self) -> String {
        let SimOptions {
            seed,
            modules,
            steps,
            ..
        } = self.options;
        format!("cargo run -p chaos -- --seeds 1 --seed {seed} --modules {modules} --steps {steps}")
    }
}

impl fmt::Display for SimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.story(), self.headline())?;
        write!(f, "again: {}", self.command())
    }
}

impl std::error::Error for SimFailure {}

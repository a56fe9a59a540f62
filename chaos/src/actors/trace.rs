//! What happened in a history of the actors, one line an event.
//! Owns the lines that are kept and a fingerprint of all of them. Never decides.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};

use mainstay_policy::MonoTime;

/// One thing that happened.
#[derive(Debug, Clone, Hash)]
pub(super) enum Line {
    /// Something happened to the system.
    Fault(String),
    /// The runtime ordered something of a run.
    Order(String, u64, &'static str),
    /// A process did something.
    Process(String, u64, &'static str),
    /// The runtime was told something of a run.
    Told(String, u64, String),
}

/// The lines.
#[derive(Debug, Clone, Default)]
pub(super) struct ActorTrace {
    lines: VecDeque<(MonoTime, Line)>,
    kept: usize,
    fingerprint: u64,
}

impl ActorTrace {
    pub(super) fn of(kept: usize) -> ActorTrace {
        ActorTrace {
            kept,
            ..ActorTrace::default()
        }
    }

    pub(super) fn push(&mut self, at: MonoTime, line: Line) {
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        (self.fingerprint, at.0, &line).hash(&mut hasher);
        self.fingerprint = hasher.finish();
        if self.lines.len() >= self.kept {
            self.lines.pop_front();
        }
        self.lines.push_back((at, line));
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl fmt::Display for ActorTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>14}  {:<6} {:>4}  {:<8}  event",
            "seconds", "module", "run", "who"
        )?;
        for (at, line) in &self.lines {
            let (module, run, who, text) = match line {
                Line::Fault(text) => ("-", 0, "FAULT", text.clone()),
                Line::Order(module, run, what) => {
                    (module.as_str(), *run, "runtime", format!("→ {what}"))
                }
                Line::Process(module, run, what) => {
                    (module.as_str(), *run, "process", (*what).to_owned())
                }
                Line::Told(module, run, what) => {
                    (module.as_str(), *run, "runtime", format!("hears {what}"))
                }
            };
            let run = if run == 0 {
                String::new()
            } else {
                run.to_string()
            };
            let micros = at.0 / 1000;
            writeln!(
                f,
                "{:>7}.{:06}  {module:<6} {run:>4}  {who:<8}  {text}",
                micros / 1_000_000,
                micros % 1_000_000
            )?;
        }
        Ok(())
    }
}

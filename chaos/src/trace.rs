//! The last steps of a simulation.
//! Owns a ring of what was noted and what came of it, as values: nothing is formatted until a
//! checker fails. Never grows.

use std::fmt;

use mainstay_policy::{ModuleId, MonoTime, lifecycle, run};

/// How many steps are kept.
const KEPT: usize = 50;

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum TraceLine {
    /// The lifecycle was told.
    ToLifecycle(lifecycle::LifecycleEvent),
    /// The lifecycle was given the next plan.
    Plan(u64, Vec<(ModuleId, lifecycle::ChangeClass)>),
    /// The lifecycle decided.
    Lifecycle(lifecycle::LifecycleEffect),
    /// A module was told.
    ToModule(ModuleId, run::RunEvent),
    /// A module decided.
    Module(ModuleId, run::RunEffect),
    /// The world did something by itself.
    World(ModuleId, &'static str, u64),
}

/// The ring.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    lines: Vec<(MonoTime, TraceLine)>,
    next: usize,
    /// How many it keeps; 0: the usual number.
    kept: usize,
}

impl Trace {
    /// A ring of this size.
    #[must_use]
    pub fn of(kept: usize) -> Trace {
        Trace {
            kept,
            ..Trace::default()
        }
    }

    /// Keeps one more, and forgets the oldest.
    pub fn push(&mut self, at: MonoTime, line: TraceLine) {
        let kept = if self.kept == 0 { KEPT } else { self.kept };
        if self.lines.len() < kept {
            self.lines.push((at, line));
        } else {
            self.lines[self.next] = (at, line);
        }
        self.next = (self.next + 1) % kept;
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (newer, older) = self.lines.split_at(self.next.min(self.lines.len()));
        for (at, line) in older.iter().chain(newer) {
            let micros = at.0 / 1000;
            write!(f, "{:>10}.{:06} ", micros / 1_000_000, micros % 1_000_000)?;
            match line {
                TraceLine::ToLifecycle(event) => writeln!(f, "lifecycle <- {event:?}")?,
                TraceLine::Plan(number, changes) => {
                    writeln!(f, "lifecycle <- plan {number}: {changes:?}")?;
                }
                TraceLine::Lifecycle(effect) => writeln!(f, "lifecycle -> {effect:?}")?,
                TraceLine::ToModule(module, event) => writeln!(f, "m{} <- {event:?}", module.0)?,
                TraceLine::Module(module, effect) => writeln!(f, "m{} -> {effect:?}", module.0)?,
                TraceLine::World(module, what, generation) => {
                    writeln!(f, "world: m{} generation {generation} {what}", module.0)?;
                }
            }
        }
        Ok(())
    }
}

//! The last steps of a simulation.
//! Owns a ring of what was noted and what came of it, as values: nothing is formatted until a
//! checker fails. Never grows.

use std::fmt;

use mainstay_policy::{ModuleId, Time, lifecycle, module};

/// How many steps are kept.
const KEPT: usize = 50;

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Line {
    /// The lifecycle was told.
    ToLifecycle(lifecycle::Event),
    /// The lifecycle decided.
    Lifecycle(lifecycle::Effect),
    /// A module was told.
    ToModule(ModuleId, module::Event),
    /// A module decided.
    Module(ModuleId, module::Effect),
    /// The world did something by itself.
    World(ModuleId, &'static str, u64),
}

/// The ring.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    lines: Vec<(Time, Line)>,
    next: usize,
}

impl Trace {
    /// Keeps one more, and forgets the oldest.
    pub fn push(&mut self, at: Time, line: Line) {
        if self.lines.len() < KEPT {
            self.lines.push((at, line));
        } else {
            self.lines[self.next] = (at, line);
        }
        self.next = (self.next + 1) % KEPT;
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (newer, older) = self.lines.split_at(self.next.min(self.lines.len()));
        for (at, line) in older.iter().chain(newer) {
            let micros = at.0 / 1000;
            write!(f, "{:>10}.{:06} ", micros / 1_000_000, micros % 1_000_000)?;
            match line {
                Line::ToLifecycle(event) => writeln!(f, "lifecycle <- {event:?}")?,
                Line::Lifecycle(effect) => writeln!(f, "lifecycle -> {effect:?}")?,
                Line::ToModule(module, event) => writeln!(f, "m{} <- {event:?}", module.0)?,
                Line::Module(module, effect) => writeln!(f, "m{} -> {effect:?}", module.0)?,
                Line::World(module, what, generation) => {
                    writeln!(f, "world: m{} generation {generation} {what}", module.0)?;
                }
            }
        }
        Ok(())
    }
}

//! What happened in a history, one line an event.
//! Owns a ring of what was noted and what came of it, as values, and a fingerprint of all of it:
//! nothing is formatted until a checker fails. Never grows.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::discriminant;

use mainstay_policy::lifecycle::{ChangeClass, LifecycleEffect, LifecycleEvent};
use mainstay_policy::run::{RunEffect, RunEvent};
use mainstay_policy::{ModuleId, MonoTime};

use crate::explain::name;
use crate::fault::Fault;

/// How many steps are kept.
const KEPT: usize = 50;

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum TraceLine {
    /// Something happened to the system.
    Fault(Fault),
    /// The lifecycle was told.
    ToLifecycle(LifecycleEvent),
    /// The lifecycle was given the next plan.
    Plan(u64, Vec<(ModuleId, ChangeClass)>),
    /// The lifecycle decided.
    Lifecycle(LifecycleEffect),
    /// A run was told.
    ToModule(ModuleId, RunEvent),
    /// A run decided.
    Module(ModuleId, RunEffect),
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
    fingerprint: Fingerprint,
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
    #[inline]
    pub fn push(&mut self, at: MonoTime, line: TraceLine) {
        self.fingerprint.line(at, &line);
        let kept = if self.kept == 0 { KEPT } else { self.kept };
        if self.lines.len() < kept {
            self.lines.push((at, line));
            self.next = self.lines.len() % kept;
        } else {
            self.lines[self.next] = (at, line);
            self.next = (self.next + 1) % kept;
        }
    }

    /// The module of the newest line, if it has one.
    #[must_use]
    pub fn last_module(&self) -> Option<ModuleId> {
        let last = self.lines.len().min(KEPT.max(self.kept));
        let newest = (self.next + last).checked_sub(1)? % last.max(1);
        match &self.lines.get(newest)?.1 {
            TraceLine::ToModule(module, _) | TraceLine::Module(module, _) => Some(*module),
            _ => None,
        }
    }

    /// Of every line so far, kept or not, in their order.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint.0
    }
}

/// A hash that costs a few instructions a line.
#[derive(Debug, Clone, Copy, Default)]
struct Fingerprint(u64);

impl Fingerprint {
    fn line(&mut self, at: MonoTime, line: &TraceLine) {
        self.write_u64(at.0);
        discriminant(line).hash(self);
        match line {
            TraceLine::Fault(fault) => discriminant(fault).hash(self),
            TraceLine::ToLifecycle(event) => discriminant(event).hash(self),
            TraceLine::Plan(number, changes) => {
                self.write_u64(*number);
                self.write_usize(changes.len());
            }
            TraceLine::Lifecycle(effect) => {
                discriminant(effect).hash(self);
                if let LifecycleEffect::StateChanged { module, to, .. } = effect {
                    (module, to).hash(self);
                }
            }
            TraceLine::ToModule(module, event) => (module, discriminant(event)).hash(self),
            TraceLine::Module(module, effect) => (module, discriminant(effect)).hash(self),
            TraceLine::World(module, _, generation) => (module, generation).hash(self),
        }
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number.unsigned_abs() as u64);
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
        self.0 = mixed ^ (mixed >> 29);
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>14}  {:<6} {:>3}  {:<9}  event",
            "seconds", "module", "run", "who"
        )?;
        let (newer, older) = self.lines.split_at(self.next.min(self.lines.len()));
        let (mut last, mut again) = (String::new(), 0_u32);
        for (at, line) in older.iter().chain(newer) {
            if is_silent(line) {
                continue;
            }
            let micros = at.0 / 1000;
            let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
            let row = format!("{seconds:>7}.{micros:06}  {}", row(line));
            if row == last {
                again += 1;
                continue;
            }
            told_again(f, again)?;
            writeln!(f, "{row}")?;
            (last, again) = (row, 0);
        }
        told_again(f, again)
    }
}

/// How often the last line was the same.
fn told_again(f: &mut fmt::Formatter<'_>, again: u32) -> fmt::Result {
    match again {
        0 => Ok(()),
        times => writeln!(f, "{:>14}  ({times} more times)", ""),
    }
}

/// A timer that fired and led to nothing says nothing.
fn is_silent(line: &TraceLine) -> bool {
    matches!(line, TraceLine::ToLifecycle(LifecycleEvent::TimerFired))
}

fn row(line: &TraceLine) -> String {
    let (module, run, who, text) = match line {
        TraceLine::Fault(fault) => (fault.module(), 0, "FAULT", fault.to_string()),
        TraceLine::Plan(number, changes) => {
            let changes = changes
                .iter()
                .map(|(id, change)| format!("{} {change:?}", name(*id)));
            let changes: Vec<String> = changes.collect();
            let text = format!("plan {number} follows: {}", changes.join(", "));
            (None, 0, "lifecycle", text)
        }
        TraceLine::ToLifecycle(event) => {
            let (module, run, text) = heard(event);
            (module, run, "lifecycle", format!("hears {text}"))
        }
        TraceLine::Lifecycle(effect) => {
            let (module, run, text) = decided(effect);
            (module, run, "lifecycle", text)
        }
        TraceLine::ToModule(module, event) => {
            let (run, text) = without_generation(&format!("{event:?}"));
            (Some(*module), run, "run", format!("hears {text}"))
        }
        TraceLine::Module(module, effect) => {
            let (run, text) = without_generation(&format!("{effect:?}"));
            let report = text.strip_prefix("Report(RunReport { what: ");
            let report = report.and_then(|report| report.strip_suffix(" })"));
            let text = report.map_or_else(|| format!("→ {text}"), |it| format!("reports {it}"));
            (Some(*module), run, "run", text)
        }
        TraceLine::World(module, what, run) => (Some(*module), *run, "process", (*what).to_owned()),
    };
    let module = module.map_or_else(|| "-".to_owned(), name);
    let run = if run == 0 {
        String::new()
    } else {
        run.to_string()
    };
    format!("{module:<6} {run:>3}  {who:<9}  {text}")
}

fn heard(event: &LifecycleEvent) -> (Option<ModuleId>, u64, String) {
    match event {
        LifecycleEvent::Requested { module, operation } => (
            Some(*module),
            0,
            format!("request to {operation:?}").to_lowercase(),
        ),
        LifecycleEvent::Reported { module, report } => (
            Some(*module),
            report.generation,
            format!("{:?}", report.what),
        ),
        LifecycleEvent::Health {
            module,
            generation,
            health,
            passes,
            restart,
        } => {
            let restart = match (restart, passes) {
                (true, _) => ", to be restarted",
                (false, true) => "",
                (false, false) => ", its readiness probes fail",
            };
            (
                Some(*module),
                *generation,
                format!("health {health:?}{restart}"),
            )
        }
        LifecycleEvent::Adopted {
            module,
            record,
            alive,
        } => {
            let alive = alive.map_or_else(
                || "no process".to_owned(),
                |alive| format!("its process of run {}", alive.generation),
            );
            let text = format!(
                "record of the last runtime: {:?}, desired {:?}; {alive}",
                record.state, record.desired
            );
            (Some(*module), record.generation, text)
        }
        LifecycleEvent::ProcedureEnded { module, .. }
        | LifecycleEvent::Held { module, .. }
        | LifecycleEvent::LimitExceeded { module, .. }
        | LifecycleEvent::Idle { module, .. } => (
            Some(*module),
            0,
            format!("{event:?}").replace(&format!("{module:?}"), &name(*module)),
        ),
        LifecycleEvent::Boot
        | LifecycleEvent::Resume
        | LifecycleEvent::StopAll { .. }
        | LifecycleEvent::TimerFired => (None, 0, format!("{event:?}")),
    }
}

fn decided(effect: &LifecycleEffect) -> (Option<ModuleId>, u64, String) {
    match effect {
        LifecycleEffect::Run { module, generation } => {
            (Some(*module), *generation, "→ run".to_owned())
        }
        LifecycleEffect::Stop {
            module,
            generation,
            grace,
            limit,
        } => {
            let text = format!("→ stop, kill after {grace:.1?}, at the latest {limit:.1?}");
            (Some(*module), *generation, text)
        }
        LifecycleEffect::StateChanged {
            module,
            from,
            to,
            cause,
            by,
        } => {
            let by = by.map_or_else(String::new, |by| format!(" by {}", name(by)));
            let text = format!("{from:?} → {to:?}, cause {cause:?}{by}");
            (Some(*module), 0, text)
        }
        LifecycleEffect::RecoveryDecided {
            module,
            failure,
            attempt,
            decision,
        } => {
            let text = format!(
                "judges {failure:?}: {:?}, scope {:?}, attempt {attempt}{}",
                decision.verdict,
                decision.scope,
                if decision.excused { ", excused" } else { "" }
            );
            (Some(*module), 0, text)
        }
        LifecycleEffect::Removed { module } => (Some(*module), 0, "→ forget it".to_owned()),
        LifecycleEffect::NotifyDependent {
            module,
            about,
            news,
        } => (
            Some(*module),
            0,
            format!("→ tell it that {} {news:?}", name(*about)),
        ),
        other => (None, 0, format!("→ {other:?}").replace("ModuleId(", "m(")),
    }
}

/// The debug form of something about a run, without the number that has its own column.
fn without_generation(text: &str) -> (u64, String) {
    let Some(from) = text.find("generation: ") else {
        return (0, text.to_owned());
    };
    let rest = &text[from + "generation: ".len()..];
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let run = rest[..digits].parse().unwrap_or(0);
    let rest = rest[digits..].trim_start_matches(", ");
    let text = format!("{}{rest}", &text[..from]);
    (run, text.replace(" {  }", "").replace(" { }", ""))
}

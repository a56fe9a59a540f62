//! The throttle ladder: from samples of what a module uses to its rung.
//! Owns dwell, hysteresis and the order of rungs of one run, and what machine pressure throttles.
//! Never throttles anything, and never reads a clock.
//!
//! CPU time has a ceiling that the machine enforces: a module that reaches it is on `cap` at once
//! and climbs no further for it. Memory, threads, processes and machine pressure climb one rung
//! each `dwell`.

use alloc::vec::Vec;
use core::time::Duration;

use mainstay_process::RunLimits;

use crate::mono_time::MonoTime;
use crate::spec::{Importance, ModuleId};

#[cfg(test)]
mod tests;

/// Below this share of its limit a module comes down, in percent.
const RELEASE_BELOW: u64 = 80;
/// From this share on it counts as held by its ceiling, in percent.
const HELD_FROM: u64 = 90;
/// What machine pressure leaves alone: less than this share of a core, in thousandths.
const IDLE_PERMILLE: u64 = 50;
/// What machine pressure leaves to a module that is capped, in thousandths of a core.
const PRESSURE_MIN_PERMILLE: u64 = 50;
/// What stands for machine pressure where its kind makes no difference.
const PRESSURE: Resource = Resource::MachineCpu;
/// Machine pressure has ended below this share of its threshold.
const PRESSURE_RELEASE: f64 = 0.9;
/// Share of time in which tasks wait for a processor that makes a busy machine a short one.
const CPU_PRESSURE: f64 = 40.0;
/// The same for memory, when no task can continue.
const MEMORY_PRESSURE: f64 = 10.0;

/// What is done about a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Rung {
    /// Nothing.
    #[default]
    None,
    /// The module is notified.
    Notice,
    /// Its priority is lowered.
    Priority,
    /// It is held at its limit.
    Cap,
    /// It is restarted by recovery.
    Restart,
    /// It is stopped permanently.
    Stop,
}

/// What can be short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// CPU time, in thousandths of a core.
    Cpu,
    /// Bytes of memory.
    Memory,
    /// Threads.
    Threads,
    /// Processes.
    Processes,
    /// CPU time of the machine.
    MachineCpu,
    /// Memory of the machine.
    MachineMemory,
}

impl Resource {
    fn is_of_machine(self) -> bool {
        matches!(self, Resource::MachineCpu | Resource::MachineMemory)
    }
}

/// What a module may use; None: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Thousandths of a core.
    pub cpu_permille: Option<u64>,
    /// Bytes.
    pub memory_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
    /// Bytes a second read from each disk, and as many written to it: a standing ceiling.
    pub io_bytes_per_s: Option<u64>,
}

/// By what a module is throttled, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThrottleSpec {
    /// What it may use.
    pub limits: ResourceLimits,
    /// How long over a limit before the next rung.
    pub dwell: Duration,
    /// How long below 80 % of all limits before a rung down.
    pub release: Duration,
    /// The rungs that are climbed, lowest first.
    pub rungs: Vec<Rung>,
}

impl Default for ThrottleSpec {
    /// Without limits.
    fn default() -> ThrottleSpec {
        ThrottleSpec {
            limits: ResourceLimits::default(),
            dwell: Duration::from_secs(10),
            release: Duration::from_secs(30),
            rungs: Vec::from([Rung::Notice, Rung::Priority, Rung::Cap, Rung::Restart]),
        }
    }
}

/// By what a module is throttled on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LadderSpec {
    /// What is configured.
    pub throttle: ThrottleSpec,
    /// How far machine pressure may throttle it.
    pub importance: Importance,
    /// Whether this machine can hold a module at its memory limit.
    pub can_cap_memory: bool,
}

/// What a module uses; None: not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceUsage {
    /// Thousandths of a core.
    pub cpu_permille: Option<u64>,
    /// Bytes.
    pub memory_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
}

/// A step of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RungChange {
    /// The rung before.
    pub from: Rung,
    /// The rung from now on.
    pub to: Rung,
    /// What it is about.
    pub resource: Resource,
    /// What is used of it.
    pub used: u64,
    /// The limit; of the machine what there is.
    pub limit: u64,
}

/// One run on the ladder. A new run begins with a new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ladder {
    climbed: Rung,
    /// Held by its ceiling on CPU time.
    held: bool,
    over_since: Option<MonoTime>,
    below_since: Option<MonoTime>,
    cpu_below_since: Option<MonoTime>,
    /// What it was last over.
    resource: Option<Resource>,
    /// The ceiling on CPU time that machine pressure gave it, in thousandths of a core.
    pressed: Option<u64>,
    /// Since when it stands on `cap` or above.
    capped_since: Option<MonoTime>,
}

/// One resource that a module uses too much of.
#[derive(Debug, Clone, Copy)]
struct Excess {
    resource: Resource,
    used: u64,
    limit: u64,
}

impl Ladder {
    /// Its rung.
    #[must_use]
    pub fn rung(&self) -> Rung {
        if self.held {
            self.climbed.max(Rung::Cap)
        } else {
            self.climbed
        }
    }

    /// The rung it climbed to, its ceiling on CPU time aside.
    #[must_use]
    pub fn climbed(&self) -> Rung {
        self.climbed
    }

    /// What it was last over.
    #[must_use]
    pub fn resource(&self) -> Option<Resource> {
        self.resource
    }

    /// Whether machine pressure can take it to a higher rung.
    #[must_use]
    pub fn can_be_squeezed(&self, spec: &LadderSpec) -> bool {
        let climbs = |rung: &Rung| *rung > self.climbed && is_usable(spec, *rung, PRESSURE);
        spec.throttle.rungs.iter().any(climbs)
    }

    /// Whether machine pressure took it as far as it can.
    #[must_use]
    pub fn is_held_by_machine(&self, spec: &LadderSpec) -> bool {
        let by_machine = self.resource.is_some_and(Resource::is_of_machine);
        by_machine && self.climbed > Rung::None && !self.can_be_squeezed(spec)
    }

    /// Applies a sample. `squeeze`: what the machine is short of, if this module is to be
    /// throttled.
    pub fn sample(
        &mut self,
        spec: &LadderSpec,
        now: MonoTime,
        usage: &ResourceUsage,
        squeeze: Option<Resource>,
    ) -> Option<RungChange> {
        let before = self.rung();
        let cpu = self.hold(spec, now, usage);
        let excess = excess(&spec.throttle.limits, usage, 100).or_else(|| {
            squeeze.map(|resource| Excess {
                resource,
                used: usage.cpu_permille.unwrap_or(0),
                limit: 0,
            })
        });
        let moved = match excess {
            Some(excess) => self.over(spec, now, excess),
            None => self.within(spec, now, usage),
        };
        self.follow_cap(now, usage);
        let about = moved.or(cpu)?;
        let to = self.rung();
        (to != before).then_some(RungChange {
            from: before,
            to,
            resource: about.resource,
            used: about.used,
            limit: about.limit,
        })
    }

    /// A module that climbs to `cap` because of the machine keeps half of what it used then.
    fn follow_cap(&mut self, now: MonoTime, usage: &ResourceUsage) {
        if self.climbed < Rung::Cap {
            (self.pressed, self.capped_since) = (None, None);
        } else if self.capped_since.is_none() {
            let by_machine = self.resource.is_some_and(Resource::is_of_machine);
            let half = usage.cpu_permille.unwrap_or(0) / 2;
            self.pressed = by_machine.then_some(half.max(PRESSURE_MIN_PERMILLE));
            self.capped_since = Some(now);
        }
    }

    /// What is to hold for its run now.
    #[must_use]
    pub fn limits(&self, spec: &LadderSpec, now: MonoTime) -> RunLimits {
        let standing = &spec.throttle.limits;
        let is_held = spec.can_cap_memory
            && self.resource == Some(Resource::Memory)
            && self.climbed >= Rung::Cap;
        let memory = standing.memory_bytes.filter(|_| is_held);
        let is_due = |since: MonoTime| since.after(spec.throttle.dwell) <= now;
        RunLimits {
            cpu_permille: standing.cpu_permille.into_iter().chain(self.pressed).min(),
            memory_high: memory,
            // Reclaiming alone would go on for ever where there is nothing to reclaim.
            memory_max: memory.filter(|_| self.capped_since.is_some_and(is_due)),
            threads: standing.threads,
            processes: standing.processes,
            io_bytes_per_s: standing.io_bytes_per_s,
            background: self.climbed >= Rung::Priority,
        }
    }

    /// Whether its ceiling holds it.
    fn hold(&mut self, spec: &LadderSpec, now: MonoTime, usage: &ResourceUsage) -> Option<Excess> {
        let was = self.held;
        let (used, limit) = (
            usage.cpu_permille.unwrap_or(0),
            spec.throttle.limits.cpu_permille,
        );
        let limit = limit.unwrap_or(u64::MAX);
        if used >= share(limit, HELD_FROM) {
            (self.held, self.cpu_below_since) = (true, None);
        } else if used >= share(limit, RELEASE_BELOW) {
            self.cpu_below_since = None;
        } else if self.held {
            let since = *self.cpu_below_since.get_or_insert(now);
            self.held = since.after(spec.throttle.release) > now;
        }
        (self.held != was).then_some(Excess {
            resource: Resource::Cpu,
            used,
            limit: spec.throttle.limits.cpu_permille.unwrap_or(0),
        })
    }

    fn over(&mut self, spec: &LadderSpec, now: MonoTime, excess: Excess) -> Option<Excess> {
        self.below_since = None;
        let since = *self.over_since.get_or_insert(now);
        if since.after(spec.throttle.dwell) > now {
            return None;
        }
        let usable =
            |rung: &&Rung| **rung > self.climbed && is_usable(spec, **rung, excess.resource);
        let next = spec.throttle.rungs.iter().filter(usable).min()?;
        self.climbed = *next;
        (self.over_since, self.resource) = (Some(now), Some(excess.resource));
        Some(excess)
    }

    fn within(
        &mut self,
        spec: &LadderSpec,
        now: MonoTime,
        usage: &ResourceUsage,
    ) -> Option<Excess> {
        self.over_since = None;
        if excess(&spec.throttle.limits, usage, RELEASE_BELOW).is_some() {
            self.below_since = None;
            return None;
        }
        let since = *self.below_since.get_or_insert(now);
        if self.climbed == Rung::None || since.after(spec.throttle.release) > now {
            return None;
        }
        let resource = self.resource.unwrap_or(Resource::Memory);
        let usable = |rung: &&Rung| **rung < self.climbed && is_usable(spec, **rung, resource);
        let next = spec.throttle.rungs.iter().filter(usable).max();
        self.climbed = next.copied().unwrap_or(Rung::None);
        self.below_since = Some(now);
        let (used, limit) = level(&spec.throttle.limits, usage, resource).unwrap_or((0, 0));
        Some(Excess {
            resource,
            used,
            limit,
        })
    }
}

/// Whether a rung does anything about this resource here.
fn is_usable(spec: &LadderSpec, rung: Rung, resource: Resource) -> bool {
    match resource {
        Resource::Memory => rung != Rung::Cap || spec.can_cap_memory,
        // The kernel counts them as they start, or nothing does.
        Resource::Threads | Resource::Processes => rung != Rung::Cap,
        Resource::Cpu | Resource::MachineCpu | Resource::MachineMemory => {
            rung <= squeeze_max(spec.importance)
        }
    }
}

/// How far machine pressure throttles: no module is restarted because others need the machine.
fn squeeze_max(importance: Importance) -> Rung {
    match importance {
        Importance::Low | Importance::Normal => Rung::Cap,
        Importance::High => Rung::Priority,
        Importance::Critical => Rung::None,
    }
}

fn share(limit: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(limit) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// What is used of a resource, and its limit.
fn level(limits: &ResourceLimits, usage: &ResourceUsage, of: Resource) -> Option<(u64, u64)> {
    match of {
        Resource::Memory => usage.memory_bytes.zip(limits.memory_bytes),
        Resource::Threads => usage.threads.zip(limits.threads),
        Resource::Processes => usage.processes.zip(limits.processes),
        Resource::Cpu => usage.cpu_permille.zip(limits.cpu_permille),
        Resource::MachineCpu | Resource::MachineMemory => None,
    }
}

/// The first resource of which more than this share of its limit is used.
fn excess(limits: &ResourceLimits, usage: &ResourceUsage, percent: u64) -> Option<Excess> {
    let climbing = [Resource::Memory, Resource::Threads, Resource::Processes];
    climbing.into_iter().find_map(|resource| {
        let (used, limit) = level(limits, usage, resource)?;
        (used > share(limit, percent)).then_some(Excess {
            resource,
            used,
            limit,
        })
    })
}

/// How busy the machine is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MachineLoad {
    /// The share of all cores in use, 0 to 1.
    pub cpu: f64,
    /// The share of memory in use, 0 to 1.
    pub memory: f64,
    /// Percent of the time in which a task waited for a processor; None: not measured.
    pub cpu_pressure: Option<f64>,
    /// Percent of the time in which all tasks waited for memory; None: not measured.
    pub memory_pressure: Option<f64>,
}

impl MachineLoad {
    /// What is short when more than `threshold` is used: memory before CPU time. A machine whose
    /// processors are busy is not short of them as long as tasks do not wait.
    #[must_use]
    pub fn scarce(&self, threshold: f64) -> Option<Resource> {
        let waits = self
            .memory_pressure
            .is_some_and(|share| share >= MEMORY_PRESSURE);
        if self.memory > threshold || waits {
            return Some(Resource::MachineMemory);
        }
        let waits = self.cpu_pressure.is_none_or(|share| share >= CPU_PRESSURE);
        (self.cpu > threshold && waits).then_some(Resource::MachineCpu)
    }
}

/// What the machine is short of, with hysteresis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachinePressure {
    scarce: Option<Resource>,
}

impl MachinePressure {
    /// Takes in how busy the machine is; returns what is short.
    pub fn sample(&mut self, load: &MachineLoad, threshold: f64) -> Option<Resource> {
        let share = if self.scarce.is_some() {
            PRESSURE_RELEASE
        } else {
            1.0
        };
        self.scarce = load.scarce(threshold * share);
        self.scarce
    }

    /// What was short at the last sample.
    #[must_use]
    pub fn scarce(&self) -> Option<Resource> {
        self.scarce
    }
}

/// A module that machine pressure may throttle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Squeezable {
    /// The module.
    pub module: ModuleId,
    /// Its importance.
    pub importance: Importance,
    /// What it uses of what is short: thousandths of a core, or bytes.
    pub used: u64,
    /// Whether machine pressure can take it to a higher rung.
    pub can_climb: bool,
    /// Machine pressure holds it where it is: it uses little because of that.
    pub is_held: bool,
}

/// Returns the modules to throttle: the least important that use `scarce`, and those that are held
/// already; when none of them can climb further, the next more important ones too.
#[must_use]
pub fn squeezed(scarce: Resource, modules: &[Squeezable]) -> Vec<ModuleId> {
    let total: u64 = modules.iter().map(|one| one.used).sum();
    let least = match scarce {
        Resource::MachineMemory => total / 20,
        _ => IDLE_PERMILLE,
    };
    let users = || (modules.iter()).filter(move |one| one.used > least || one.is_held);
    let can_climb = |one: &&Squeezable| one.can_climb;
    let Some(level) = users().filter(can_climb).map(|one| one.importance).min() else {
        let all = users().filter(|one| one.importance < Importance::Critical);
        return all.map(|one| one.module).collect();
    };
    let turn = users().filter(|one| one.importance <= level);
    turn.map(|one| one.module).collect()
}

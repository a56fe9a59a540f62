//! The return of the runtime: from what the one before knew to where each module stands.
//! Owns the record that must survive. Times in it are of the same boot.
//! Never guesses: what lives is adopted, what was recorded as living and is not has failed.

use alloc::sync::Arc;

use super::fall::Gone;
use super::slot::{Fall, Slot};
use super::{Lifecycle, Phase};
use crate::module::ADOPTED_MIN;
use crate::recovery::{Ledger, Remembered};
use crate::spec::{Kind, ModuleId, Start};
use crate::states::{Cause, State, Wanted};
use crate::time::Time;

/// What must survive the runtime, of one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What is wished.
    pub wanted: Wanted,
    /// How many wishes there were.
    pub intent: u64,
    /// Where it stood; `stopping` as soon as it was to be ended.
    pub state: State,
    /// Its last run.
    pub generation: u64,
    /// Whether that run is (or was) ready.
    pub ready: bool,
    /// Whether that run ended by itself with a clean code.
    pub completed: bool,
    /// When its start is over time.
    pub ready_by: Option<Time>,
    /// While the first start waits for it: when that is over time.
    pub boot_by: Option<Time>,
    /// The end of backoff, or the next probation.
    pub retry_at: Option<Time>,
    /// Attempts, rung and breaker.
    pub remembered: Remembered,
    /// Runs after the first.
    pub restarts: u32,
}

/// A process that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alive {
    /// Its run.
    pub generation: u64,
    /// Its process.
    pub pid: u32,
}

impl Lifecycle {
    /// What must survive the runtime. A module that is not of the plan has the empty record.
    #[must_use]
    pub fn record(&self, module: ModuleId) -> Record {
        let fresh = Slot::new();
        let slot = self.slots.get(module.index()).unwrap_or(&fresh);
        Record {
            wanted: slot.wanted,
            intent: slot.intent,
            // Why it has to end may be lost with the runtime; that it has to is not.
            state: if slot.is_falling() {
                State::Stopping
            } else {
                slot.state
            },
            generation: slot.generation,
            ready: slot.stands() && slot.state == State::Running,
            completed: slot.completed,
            ready_by: slot.ready_by,
            boot_by: slot.booting.then_some(self.startup_by),
            retry_at: slot.retry_at,
            remembered: slot.ledger.remembered(),
            restarts: slot.restarts,
        }
    }

    pub(super) fn adopted(
        &mut self,
        now: Time,
        module: ModuleId,
        record: Record,
        alive: Option<Alive>,
    ) {
        if self.phase != Phase::New || !self.plan.has(module) || self.is_builtin(module) {
            return;
        }
        let recovery = &self.plan.module(module).recovery;
        let slot = &mut self.slots[module.index()];
        slot.ledger = Ledger::restored(recovery, now, record.remembered);
        // A record of nothing is none: the runtime before died at the beginning of its first start.
        slot.adopted = alive.is_some() || record.state != State::NotStarted;
        slot.wanted = record.wanted;
        slot.intent = record.intent;
        slot.restarts = record.restarts;
        // The holder is right about processes: its generation may be newer than the record.
        slot.generation = alive
            .map_or(0, |alive| alive.generation)
            .max(record.generation);
        slot.pid = alive.map(|alive| alive.pid);
        let same_run = alive.is_none_or(|alive| alive.generation == record.generation);
        slot.completed = record.completed && alive.is_none();
        slot.needs_token = record.state == State::Waiting && record.generation > 0;
        slot.lost = alive.is_none() && record.state.is_live();
        let to = match (alive, record.state) {
            (Some(_), _) if record.ready && same_run => State::Running,
            (Some(_), State::Stopping) => {
                slot.fall = Some(Fall::Adopted);
                State::Running
            }
            (Some(_), _) => State::Starting,
            (None, state) => state,
        };
        if to != State::NotStarted {
            self.moved(now, module, to, Cause::Adopted, None);
        }
        if to == State::Starting {
            let full = now.after(self.plan.module(module).startup_timeout);
            let ready_by = record.ready_by.filter(|_| same_run).unwrap_or(full);
            self.slot_mut(module).ready_by = Some(ready_by);
        }
        if let Some(boot_by) = record.boot_by.filter(|_| to != State::Running) {
            self.slot_mut(module).booting = true;
            self.booting += 1;
            self.startup_by = self.startup_by.min(boot_by);
        }
        if let (State::Backoff | State::Failed, Some(at)) = (to, record.retry_at) {
            self.retry_at(module, at);
        }
    }

    /// Goes on from what was adopted. A run that was recorded as living, was not found, and
    /// whose exit nobody told has failed. An eager module that nobody knew is wished up.
    pub(super) fn resume(&mut self, now: Time) {
        if self.phase != Phase::New {
            return;
        }
        let plan = Arc::clone(&self.plan);
        let fresh = |own: &Lifecycle, module: ModuleId| !own.slot(module).adopted;
        let eager = |module: &ModuleId| {
            let spec = plan.module(*module);
            spec.start == Start::Eager && spec.kind != Kind::Builtin
        };
        // An eager one that nobody knows is part of a first start of which nothing was kept.
        let goes_on = self.booting > 0;
        let begins = plan.ids().filter(eager).any(|module| fresh(self, module));
        (self.phase, self.startup_by) = match (goes_on, begins) {
            // News that waited for this runtime comes behind this.
            (true, _) => (Phase::Starting, self.startup_by.max(now.after(ADOPTED_MIN))),
            (false, true) => (Phase::Starting, now.after(plan.system().startup_timeout)),
            (false, false) => (Phase::Up, Time::NEVER),
        };
        for module in plan.ids() {
            if self.slot(module).lost {
                self.ended(now, module, None);
            } else if plan.module(module).kind != Kind::Builtin {
                self.mark(module);
            }
        }
        // Who was to fall with whom is not recorded, because it follows from what is.
        for module in plan.ids() {
            let slot = self.slot(module);
            let gone = slot.state == State::Failed || slot.wanted == Wanted::Down;
            if slot.adopted && gone && slot.state != State::NotStarted {
                self.walk.insert(plan.rank(module));
            }
        }
        self.fall_from_walk(Gone::Stopped);
        self.raise_eager(now, fresh);
        self.count_booting(fresh);
        if !plan.system().parallel_startup {
            let starts = |module: &ModuleId| self.slot(*module).state == State::Starting;
            self.turn = plan.ids().find(starts);
        }
    }
}

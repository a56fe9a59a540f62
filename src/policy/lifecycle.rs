//! All modules: who may start now, who falls and rises with whom, the ordered stop.
//! Owns wishes, attempts and order; calls `recovery::decide` inline.
//! Never runs or signals anything: it returns effects; never reads a clock.
//!
//! [`Lifecycle::note`] records a wish or a fact and marks whom it concerns; [`Lifecycle::settle`]
//! then looks at each marked module once and closes the gap between what is wished and what is.
//! A module that cannot go on remembers the one edge that holds it and is looked at again when
//! that edge changes, so that a start or stop of everything is linear in modules and edges.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::plan::Plan;
use crate::shutdown::Shares;
use crate::spec::{Kind, ModuleId};
use crate::states::{Cause, State};
use crate::time::Time;

mod adopt;
mod alarms;
#[cfg(test)]
mod corners;
mod fall;
mod look;
mod preview;
#[cfg(test)]
mod product;
mod ranks;
mod report;
mod slot;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod view;
mod wish;
mod words;

pub use adopt::{Alive, Record};
pub use preview::{Action, Step};
pub use view::{System, View};
pub use words::{Effect, Event, News, StartupFailure, Wish};

use alarms::Alarms;
use ranks::Ranks;
use slot::Slot;

/// Where the system as a whole stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before `Boot` or `Resume`: nothing is run.
    New,
    /// The first start.
    Starting,
    Up,
    /// The ordered stop of everything.
    Down,
    /// After it; nothing happens any more.
    Over,
}

/// The stop of everything.
#[derive(Debug, Clone)]
struct Stop {
    by: Time,
    shares: Shares,
}

/// The modules of a plan, together.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    plan: Arc<Plan>,
    seed: u64,
    phase: Phase,
    slots: Vec<Slot>,
    /// Decided and not yet handed out.
    out: VecDeque<Effect>,
    /// Whom to look at, by rank.
    dirty: Ranks,
    /// Whose record may have changed.
    changed: Ranks,
    /// Scratch of the walks along edges; empty between calls.
    walk: Ranks,
    rising: Ranks,
    alarms: Alarms,
    /// May start but for a restart token, in topological order.
    for_token: Ranks,
    tokens_out: u32,
    /// May start but for their turn (`parallel_startup = false`).
    for_turn: Ranks,
    turn: Option<ModuleId>,
    turn_at: Time,
    startup_by: Time,
    /// Modules the first start still waits for.
    booting: u32,
    /// Runs that are out.
    live: u32,
    forced: u32,
    stop: Option<Stop>,
    tally: view::Tally,
}

impl Lifecycle {
    /// Nothing is wished yet. `seed` feeds the jitter of delays.
    #[must_use]
    pub fn new(plan: impl Into<Arc<Plan>>, seed: u64) -> Lifecycle {
        let plan = plan.into();
        let len = plan.len();
        Lifecycle {
            seed,
            phase: Phase::New,
            slots: (0..len).map(|_| Slot::new()).collect(),
            out: VecDeque::with_capacity(64),
            dirty: Ranks::new(len),
            changed: Ranks::new(len),
            walk: Ranks::new(len),
            rising: Ranks::new(len),
            alarms: Alarms::new(len),
            for_token: Ranks::new(len),
            tokens_out: 0,
            for_turn: Ranks::new(len),
            turn: None,
            turn_at: Time(0),
            startup_by: Time::NEVER,
            booting: 0,
            live: 0,
            forced: 0,
            stop: None,
            tally: view::Tally::default(),
            plan,
        }
    }

    /// The plan it runs.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Records a wish or a fact. News of a run that is no longer ours changes nothing.
    pub fn note(&mut self, now: Time, event: Event) {
        match event {
            Event::Boot => self.boot(now),
            Event::Wished { module, wish } => self.wished(now, module, wish),
            Event::StopAll { budget } => {
                let budget = budget.unwrap_or(self.plan.system().shutdown_timeout);
                self.stop_all(now, budget);
            }
            Event::Reported { module, report } => self.reported(now, module, report),
            Event::Health {
                module,
                generation,
                health,
                restart,
            } => {
                self.felt(module, generation, health, restart);
            }
            Event::Adopted {
                module,
                record,
                alive,
            } => self.adopted(now, module, record, alive),
            Event::Resume => self.resume(now),
            Event::Woke => {}
        }
    }

    /// Closes the gap, one effect at a time; call until None.
    pub fn settle(&mut self, now: Time) -> Option<Effect> {
        loop {
            if let Some(effect) = self.out.pop_front() {
                return Some(effect);
            }
            if self.phase == Phase::New {
                // What is known so far may be half of it: nobody is run or halted by it.
                return None;
            }
            self.collect_due(now);
            if let Some(rank) = self.dirty.pop_first() {
                self.look(now, self.plan.order()[rank as usize]);
            } else if !self.hand_out(now) && !self.conclude(now) {
                return None;
            }
        }
    }

    /// When `settle` next has something to do without news. The actor keeps one alarm for it.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let alarm = self.alarms.first().map_or(Time::NEVER, |(at, _)| at);
        let turn = match self.turn {
            None if !self.for_turn.is_empty() => self.turn_at,
            _ => Time::NEVER,
        };
        let startup = if self.phase == Phase::Starting {
            self.startup_by
        } else {
            Time::NEVER
        };
        let first = alarm.min(turn).min(startup);
        (first != Time::NEVER).then_some(first)
    }

    /// Marks those whose time has come.
    fn collect_due(&mut self, now: Time) {
        while let Some((at, module)) = self.alarms.first()
            && at <= now
        {
            self.alarms.clear(module);
            self.dirty.insert(self.plan.rank(module));
        }
        if self.phase == Phase::Starting && now >= self.startup_by {
            self.startup_timed_out(now);
        }
    }

    /// One whose record may have changed since it was last named here. Orders follow from what
    /// is wished: the record has to be kept before they are given.
    pub fn changed(&mut self) -> Option<ModuleId> {
        let rank = self.changed.pop_first()?;
        Some(self.plan.order()[rank as usize])
    }

    fn mark(&mut self, module: ModuleId) {
        let rank = self.plan.rank(module);
        self.dirty.insert(rank);
        self.changed.insert(rank);
    }

    fn slot(&self, module: ModuleId) -> &Slot {
        &self.slots[module.index()]
    }

    fn slot_mut(&mut self, module: ModuleId) -> &mut Slot {
        &mut self.slots[module.index()]
    }

    fn is_builtin(&self, module: ModuleId) -> bool {
        self.plan.module(module).kind == Kind::Builtin
    }

    /// The one place where a state changes.
    fn moved(
        &mut self,
        now: Time,
        module: ModuleId,
        to: State,
        cause: Cause,
        by: Option<ModuleId>,
    ) {
        let slot = &mut self.slots[module.index()];
        let from = core::mem::replace(&mut slot.state, to);
        (slot.since, slot.cause, slot.by, slot.retry_at) = (now, cause, by, None);
        if !self.is_builtin(module) {
            self.live += u32::from(to.is_live());
            self.live -= u32::from(from.is_live());
        }
        self.alarms.clear(module);
        self.retally(module);
        self.out.push_back(Effect::Moved {
            module,
            from,
            to,
            cause,
            by,
        });
        self.mark(module);
        self.wake_dependents(module);
    }
}

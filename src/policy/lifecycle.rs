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
use core::time::Duration;

use crate::module::Report;
use crate::plan::Plan;
use crate::recovery::{Failure, Verdict};
use crate::shutdown::Shares;
use crate::spec::{Kind, ModuleId};
use crate::states::{Cause, Health, State};
use crate::time::Time;

mod adopt;
mod alarms;
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

pub use adopt::{Alive, Record};
pub use preview::{Action, Step};
pub use view::{System, View};

use alarms::Alarms;
use ranks::Ranks;
use slot::Slot;

/// What somebody asks of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Be up.
    Start,
    /// Be down.
    Stop,
    /// End, then be up.
    Restart,
}

/// A wish or a fact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Wish up every eager module (and what it needs) and begin the first start.
    Boot,
    /// Somebody asks.
    Wished {
        /// Of whom.
        module: ModuleId,
        /// What.
        wish: Wish,
    },
    /// Ordered stop of everything.
    StopAll {
        /// Replaces the configured one.
        budget: Option<Duration>,
    },
    /// From the module's own state machine.
    Reported {
        /// Whose.
        module: ModuleId,
        /// What.
        report: Report,
    },
    /// From the health actor.
    Health {
        /// Whose.
        module: ModuleId,
        /// The run that was looked at.
        generation: u64,
        /// How it is.
        health: Health,
        /// A liveness probe failed for good.
        restart: bool,
    },
    /// The runtime returned; once per known module, before `Boot` or `Resume`.
    Adopted {
        /// Which.
        module: ModuleId,
        /// What the runtime before knew.
        record: Record,
        /// Its process, if it lives.
        alive: Option<Alive>,
    },
    /// After the `Adopted` events: go on from there instead of `Boot`.
    Resume,
    /// Time passed.
    Woke,
}

/// What a dependent that goes on is told about a module it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It ended and will be back.
    Restarting,
    /// It is ready again.
    Back,
    /// It was given up.
    Failed,
}

/// Why the first start failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupFailure {
    /// A required module was given up.
    CriticalModuleFailed {
        /// Which.
        module: ModuleId,
    },
    /// The system's start took longer than it may.
    TimedOut {
        /// Who was not there yet, in start order.
        missing: Vec<ModuleId>,
    },
}

/// What is to be done, or to be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Run a module; its reports carry this generation.
    Run {
        /// Which.
        module: ModuleId,
        /// The run, newer than every one before.
        generation: u64,
    },
    /// End the run of a module. Said again with a shorter grace when the time got shorter.
    Halt {
        /// Which.
        module: ModuleId,
        /// The run.
        generation: u64,
        /// From now to the kill.
        grace: Duration,
    },
    /// A dependent that goes on is told about a module it depends on.
    Tell {
        /// Who is told.
        module: ModuleId,
        /// About whom.
        about: ModuleId,
        /// What.
        news: News,
    },
    /// A state change to publish and journal.
    Moved {
        /// Whose.
        module: ModuleId,
        /// What it left.
        from: State,
        /// What it is in.
        to: State,
        /// Why.
        cause: Cause,
        /// The module that led to it.
        by: Option<ModuleId>,
    },
    /// A failure was judged.
    Judged {
        /// Whose.
        module: ModuleId,
        /// What happened.
        failure: Failure,
        /// Attempts that count at the moment, the one that follows included.
        attempt: u32,
        /// What follows.
        verdict: Verdict,
    },
    /// The first start is over: every eager module is ready, done, or (optional) failed.
    StartupCompleted,
    /// The first start failed; what runs is being stopped.
    StartupFailed {
        /// Why.
        reason: StartupFailure,
    },
    /// Everything is down after `StopAll` or a failed start.
    AllStopped {
        /// How many had to be killed.
        forced: u32,
    },
}

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
            self.mark(module);
        }
        if self.phase == Phase::Starting && now >= self.startup_by {
            self.startup_timed_out(now);
        }
    }

    fn mark(&mut self, module: ModuleId) {
        self.dirty.insert(self.plan.rank(module));
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

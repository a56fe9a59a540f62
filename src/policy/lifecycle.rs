//! All modules: which may start now, which stop and start together, the ordered stop.
//! Owns desired states, attempts and order; calls `recovery::decide` inline.
//! Never runs or signals anything: it returns effects; never reads a clock.
//!
//! [`Lifecycle::apply`] records a request or an event and marks the modules it concerns;
//! [`Lifecycle::next_effect`] then reconciles each marked module once. A blocked module keeps the
//! one edge that blocks it and is marked again when that edge changes, so that a start or stop of
//! everything is linear in modules and edges.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::cascade::CascadeDetector;
use crate::graph::DependencyGraph;
use crate::group::GroupBudgets;
use crate::mono_time::MonoTime;
use crate::plan::Plan;
use crate::spec::{ModuleId, ModuleSpec};
use crate::states::{Cause, State};
use crate::stop_budget::StopBudget;

mod adopt;
mod deadlines;
#[cfg(test)]
mod decision_tests;
#[cfg(test)]
mod edge_case_tests;
mod forecast;
#[cfg(test)]
mod former_runs_tests;
mod hold;
#[cfg(test)]
mod idle_tests;
mod info;
mod interface;
mod managed_module;
mod operation;
mod preview;
mod propagation;
mod rank_set;
mod reconcile;
mod recover;
#[cfg(test)]
mod recovery_tests;
mod replan;
#[cfg(test)]
mod replan_tests;
mod report;
mod shared_restart;
mod startup;
#[cfg(test)]
mod state_product_tests;
mod stop;
#[cfg(test)]
mod tests;
mod what_if;
#[cfg(test)]
mod what_if_tests;

pub use adopt::{AdoptedProcess, ModuleRecord};
pub use forecast::Forecast;
pub use info::{ModuleInfo, SystemInfo};
pub use interface::{
    ChangeClass, DependencyNotice, LifecycleEffect, LifecycleEvent, Operation, ProcedureOrder,
    ReplanError, StartupFailure,
};
pub use preview::{PreviewAction, PreviewStep};
pub use what_if::{Supposition, WhatIf};

use deadlines::DeadlineHeap;
use managed_module::ManagedModule;
use rank_set::RankSet;
use shared_restart::SharedRestart;

/// The phase of the system as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SystemPhase {
    /// Before `Boot` or `Resume`: nothing is run.
    New,
    /// The initial startup.
    Starting,
    Up,
    /// The ordered stop of everything.
    Stopping,
    /// After it; nothing happens any more.
    Stopped,
}

/// The stop of everything.
#[derive(Debug, Clone)]
struct SystemStop {
    by: MonoTime,
    shares: StopBudget,
}

/// The modules of a plan, together.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    plan: Arc<Plan>,
    /// The edges and the order of all modules here.
    graph: Arc<DependencyGraph>,
    seed: u64,
    phase: SystemPhase,
    /// By slot; None: there is no module now.
    modules: Vec<Option<ManagedModule>>,
    /// The last record of those that were removed, by slot.
    removed: Vec<ModuleRecord>,
    /// Earlier runs that live, of modules that the next plan adds.
    found: Vec<(ModuleId, u32)>,
    /// Runs that follow a former plan.
    outdated_runs: u32,
    /// Whether a change of the plan is not over.
    is_changing: bool,
    /// Decided and not yet handed out.
    effects: VecDeque<LifecycleEffect>,
    /// Whom to look at, by rank.
    dirty: RankSet,
    /// Whose record may have changed.
    next_changed_record: RankSet,
    /// Scratch of the walks along edges; empty between calls.
    worklist: RankSet,
    to_start: RankSet,
    alarms: DeadlineHeap,
    /// May start but for a restart token: by wave, and within a wave the longest waiting first.
    for_token: BTreeSet<(u32, MonoTime, ModuleId)>,
    /// The modules that have one.
    token_holders: Vec<ModuleId>,
    /// May start but for their turn (`parallel_startup = false`).
    for_turn: RankSet,
    turn: Option<ModuleId>,
    turn_at: MonoTime,
    startup_by: MonoTime,
    /// Modules that the initial startup still waits for.
    booting: u32,
    /// Runs that are out.
    live_runs: u32,
    forced: u32,
    stop: Option<SystemStop>,
    tally: info::StatusCounts,
    /// A group shut everything down before `Resume`.
    stops_on_resume: bool,
    group_budgets: GroupBudgets,
    shared_restarts: Vec<SharedRestart>,
    cascade: CascadeDetector,
}

impl Lifecycle {
    /// Nothing is wished yet. `seed` feeds the jitter of delays.
    #[must_use]
    pub fn new(plan: impl Into<Arc<Plan>>, seed: u64) -> Lifecycle {
        let plan = plan.into();
        let len = plan.len();
        let managed = |spec| ManagedModule::new(spec, plan.number());
        let slots = (0_u32..).map(ModuleId).take(plan.slots());
        Lifecycle {
            seed,
            phase: SystemPhase::New,
            modules: slots.map(|id| plan.get(id).map(managed)).collect(),
            removed: Vec::new(),
            found: Vec::new(),
            outdated_runs: 0,
            is_changing: false,
            effects: VecDeque::with_capacity(64),
            dirty: RankSet::new(len),
            next_changed_record: RankSet::new(len),
            worklist: RankSet::new(len),
            to_start: RankSet::new(len),
            alarms: DeadlineHeap::new(plan.slots()),
            for_token: BTreeSet::new(),
            token_holders: Vec::new(),
            for_turn: RankSet::new(len),
            turn: None,
            turn_at: MonoTime(0),
            startup_by: MonoTime::NEVER,
            booting: 0,
            live_runs: 0,
            forced: 0,
            stop: None,
            tally: info::StatusCounts::default(),
            stops_on_resume: false,
            group_budgets: GroupBudgets::new(plan.groups()),
            shared_restarts: Vec::new(),
            cascade: CascadeDetector::default(),
            graph: Arc::clone(plan.graph()),
            plan,
        }
    }

    /// The plan it runs.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What a module runs by, and the number of the plan that is from; None: there is no such
    /// module.
    #[must_use]
    pub fn spec(&self, module: ModuleId) -> Option<(&Arc<ModuleSpec>, u64)> {
        self.get(module)
            .map(|managed| (&managed.spec, managed.plan))
    }

    /// Records a request or an event. An event of another generation changes nothing.
    pub fn apply(&mut self, now: MonoTime, event: LifecycleEvent) {
        match event {
            LifecycleEvent::Boot => self.boot(now),
            LifecycleEvent::Requested { module, operation } => {
                self.apply_operation(now, module, operation)
            }
            LifecycleEvent::StopAll { budget } => {
                let budget = budget.unwrap_or(self.plan.system().shutdown_timeout);
                self.stop_all(now, budget);
            }
            LifecycleEvent::Reported { module, report } => self.apply_report(now, module, report),
            LifecycleEvent::Health {
                module,
                generation,
                health,
                passes,
                restart,
            } => {
                self.apply_health(module, generation, (health, passes), restart);
            }
            LifecycleEvent::Held { module, until } => self.apply_hold(module, until),
            LifecycleEvent::ProcedureEnded { module, ticket, ok } => {
                self.procedure_ended(now, module, ticket, ok);
            }
            LifecycleEvent::LimitExceeded {
                module,
                generation,
                stop,
            } => self.apply_limit(module, generation, stop),
            LifecycleEvent::Idle { module, generation } => self.apply_idle(module, generation),
            LifecycleEvent::Adopted {
                module,
                record,
                alive,
            } => self.adopted(now, module, record, alive),
            LifecycleEvent::Resume => self.resume(now),
            LifecycleEvent::TimerFired => {}
        }
    }

    /// Closes the gap, one effect at a time; call until None.
    pub fn next_effect(&mut self, now: MonoTime) -> Option<LifecycleEffect> {
        loop {
            if let Some(effect) = self.effects.pop_front() {
                return Some(effect);
            }
            if self.phase == SystemPhase::New {
                // Not all adopted modules are known yet: none is started or stopped because of the
                // others.
                return None;
            }
            self.fire_deadlines(now);
            if let Some(rank) = self.dirty.pop_first() {
                self.reconcile_module(now, self.graph.at(rank));
            } else if !self.grant_next_start(now)
                && !self.finish_change()
                && !self.finish_phase(now)
            {
                return None;
            }
        }
    }

    /// When `next_effect` next has something to do without news. The actor keeps one alarm for it.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoTime> {
        let alarm = self.alarms.first().map_or(MonoTime::NEVER, |(at, _)| at);
        let turn = match self.turn {
            None if !self.for_turn.is_empty() => self.turn_at,
            _ => MonoTime::NEVER,
        };
        let startup = if self.phase == SystemPhase::Starting {
            self.startup_by
        } else {
            MonoTime::NEVER
        };
        let first = alarm.min(turn).min(startup);
        (first != MonoTime::NEVER).then_some(first)
    }

    /// Marks those whose time has come.
    fn fire_deadlines(&mut self, now: MonoTime) {
        while let Some((at, module)) = self.alarms.first()
            && at <= now
        {
            self.alarms.clear(module);
            self.dirty.insert(self.graph.rank(module));
        }
        if self.phase == SystemPhase::Starting && now >= self.startup_by {
            self.startup_timed_out(now);
        }
    }

    /// Arms what becomes due in the state a module is in now.
    fn arm(&mut self, module: ModuleId) {
        match self.module(module).own_deadline() {
            Some(at) => self.alarms.set(module, at),
            None => self.alarms.clear(module),
        }
    }

    /// One whose record may have changed since it was last named here. Orders follow from what
    /// is wished: the record has to be kept before they are given.
    pub fn next_changed_record(&mut self) -> Option<ModuleId> {
        let rank = self.next_changed_record.pop_first()?;
        Some(self.graph.at(rank))
    }

    fn mark_dirty(&mut self, module: ModuleId) {
        let rank = self.graph.rank(module);
        self.dirty.insert(rank);
        self.next_changed_record.insert(rank);
    }

    /// The module in a slot, if there is one.
    fn get(&self, module: ModuleId) -> Option<&ManagedModule> {
        self.modules.get(module.index())?.as_ref()
    }

    /// A module that there is: edges, orders and sets name no other.
    fn module(&self, module: ModuleId) -> &ManagedModule {
        match &self.modules[module.index()] {
            Some(managed) => managed,
            None => unreachable!("no module in slot {}", module.0),
        }
    }

    fn module_mut(&mut self, module: ModuleId) -> &mut ManagedModule {
        match &mut self.modules[module.index()] {
            Some(managed) => managed,
            None => unreachable!("no module in slot {}", module.0),
        }
    }

    /// Its spec, to be held while something else changes.
    fn spec_of(&self, module: ModuleId) -> Arc<ModuleSpec> {
        Arc::clone(&self.module(module).spec)
    }

    /// Every module here, in start order.
    fn ids(&self) -> impl DoubleEndedIterator<Item = ModuleId> + use<> {
        let graph = Arc::clone(&self.graph);
        (0..graph.order().len()).map(move |rank| graph.order()[rank])
    }

    /// Counts the runs that are out. A run that follows a former plan was the last one to do so.
    fn count_runs(&mut self, now: MonoTime, module: ModuleId, from: State, to: State) {
        self.live_runs += u32::from(to.is_live());
        self.live_runs -= u32::from(from.is_live());
        if self.is_changing && from.is_live() && !to.is_live() {
            self.leave_former_plan(now, module);
        }
    }

    /// The one place where a state changes.
    fn set_state(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        to: State,
        cause: Cause,
        by: Option<ModuleId>,
    ) {
        let slot = self.module_mut(module);
        let from = core::mem::replace(&mut slot.state, to);
        (slot.since, slot.cause, slot.by, slot.retry_at) = (now, cause, by, None);
        if !slot.is_builtin() {
            self.count_runs(now, module, from, to);
        }
        self.arm(module);
        self.update_counts(module);
        self.effects.push_back(LifecycleEffect::StateChanged {
            module,
            from,
            to,
            cause,
            by,
        });
        self.mark_dirty(module);
        self.mark_waiting_dependents(module);
        if from == State::Backoff {
            self.release_shared_restarts();
        }
    }
}

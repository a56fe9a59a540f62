//! One plan after another, while modules run.
//! Owns what becomes of each module, and the time in which modules of two plans run side by side.
//! Never compares specs: the caller says which change needs a new run.
//!
//! A module without a run, or with one that can go on, follows the new spec at once. A run that
//! cannot is stopped by its old spec and in the order of its old edges; the next one is started by
//! the new spec. Which modules stop, start or wait follows from where they are, by the same rules
//! as after the return of the runtime ([`Lifecycle::join_plan`]).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::managed_module::{ManagedModule, StopReason};
use super::propagation::DependencyLoss;
use super::rank_set::RankSet;
use super::{ChangeClass, Lifecycle, LifecycleEffect, ModuleRecord, ReplanError, SystemPhase};
use crate::graph::{DependencyGraph, Dependent};
use crate::mono_time::MonoTime;
use crate::plan::Plan;
use crate::spec::{Edge, Kind, ModuleId, ModuleSpec};
use crate::states::{Cause, Desired, State};

impl Lifecycle {
    /// Brings every module to `plan`, whatever it is doing and whether the change before this one
    /// has ended or not. `changes` says which modules need a new run; all others continue. What the
    /// plans themselves show (a module is new, or gone) needs no entry; a module that a plan which
    /// was not committed removed is as it was then, unless it has an entry.
    ///
    /// # Errors
    /// The plan cannot follow; nothing has changed then.
    pub fn replan(
        &mut self,
        now: MonoTime,
        plan: impl Into<Arc<Plan>>,
        changes: &[(ModuleId, ChangeClass)],
    ) -> Result<(), ReplanError> {
        let (plan, found) = (plan.into(), core::mem::take(&mut self.found));
        self.can_follow(&plan)?;
        let former = core::mem::replace(&mut self.plan, plan);
        let (before, groups) = (former.groups(), self.plan.groups());
        self.group_budgets = self.group_budgets.carried_over(before, groups);
        let changes: BTreeMap<ModuleId, ChangeClass> = changes.iter().copied().collect();
        let changed = self.carry_over(now, former.number(), &changes);
        self.is_changing = true;
        // Whoever waits is looked at again: it may wait in another queue now.
        self.for_turn = RankSet::new(self.graph.order().len());
        self.for_token.clear();
        self.merge_graphs();
        let starting: BTreeSet<ModuleId> = self
            .ids()
            .filter(|id| self.module(*id).in_initial_start)
            .collect();
        for (module, change) in &changed {
            self.apply_change(now, *module, *change);
        }
        for module in self.ids() {
            self.update_counts(module);
            match self.module(module).state {
                State::Waiting => self.mark_dirty(module),
                State::Running => self.arm(module),
                _ => {}
            }
        }
        let fresh = self.ids().filter(|id| self.is_untouched(*id));
        let fresh: BTreeSet<ModuleId> = fresh.collect();
        self.end_found_runs(now, found);
        let needs = changed
            .iter()
            .flat_map(|(module, _)| self.missing_needs(*module));
        let needs: Vec<ModuleId> = needs.collect();
        self.join_plan(now, Cause::Reload, &needs, |_, module| {
            fresh.contains(&module)
        });
        if self.phase == SystemPhase::Starting {
            self.count_initial_starts(|_, id| fresh.contains(&id) || starting.contains(&id));
        }
        Ok(())
    }

    fn can_follow(&self, plan: &Plan) -> Result<(), ReplanError> {
        if !matches!(self.phase, SystemPhase::Starting | SystemPhase::Up) {
            return Err(ReplanError::NotRunning);
        }
        let newest = self.plan.number();
        if plan.number() <= newest {
            return Err(ReplanError::Superseded { newest });
        }
        for spec in plan.modules() {
            let slot = self.get(spec.id);
            if slot.is_some_and(|slot| slot.is_builtin() != (spec.kind == Kind::Builtin)) {
                return Err(ReplanError::BuiltinChanged { module: spec.id });
            }
        }
        Ok(())
    }

    /// Before [`Lifecycle::replan`] adds `module`: an earlier runtime left a run of that name. It
    /// has ended, or lives as `pid`. The next one has a greater generation, and follows its end.
    pub fn found_run(&mut self, module: ModuleId, generation: u64, pid: Option<u32>) {
        if self.get(module).is_some() {
            return;
        }
        self.grow_slots(module.index() + 1);
        let last = &mut self.removed[module.index()].generation;
        *last = generation.max(*last);
        if let Some(pid) = pid.filter(|_| *last == generation) {
            self.found.push((module, pid));
        }
    }

    /// Ends what lives of modules that are new.
    fn end_found_runs(&mut self, now: MonoTime, found: Vec<(ModuleId, u32)>) {
        for (module, pid) in found {
            let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
                continue;
            };
            if matches!(
                slot.state,
                State::NotStarted | State::Waiting | State::Stopped
            ) {
                slot.pid = Some(pid);
                slot.stop_reason = Some(StopReason::Adopted);
                self.set_state(now, module, State::Running, Cause::Adopted, None);
            }
        }
    }

    /// The newest plan is the one to return to from now on: a module that it removed is new when
    /// a later one has it again. Until then a plan brings it back as it was.
    pub fn commit(&mut self) {
        for (slot, record) in self.modules.iter().zip(&mut self.removed) {
            if slot.is_none() {
                let generation = record.generation;
                *record = ModuleRecord {
                    generation,
                    ..ModuleRecord::default()
                };
            }
        }
    }

    /// Whether runs that follow a former plan are left.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.is_changing
    }

    /// Makes room for `slots` modules at least. What is known of one beyond them stays: the newest
    /// plan may have fewer than one before it.
    pub(super) fn grow_slots(&mut self, slots: usize) {
        let slots = slots.max(self.modules.len());
        self.modules.resize_with(slots, || None);
        self.removed.resize(slots, ModuleRecord::default());
        self.alarms.grow(slots);
    }

    /// Gives each module its new spec, or notes that its run has to end first. Returns what is to
    /// be done about whom, in the order of the slots.
    fn carry_over(
        &mut self,
        now: MonoTime,
        former: u64,
        changes: &BTreeMap<ModuleId, ChangeClass>,
    ) -> Vec<(ModuleId, ChangeClass)> {
        let plan = Arc::clone(&self.plan);
        self.grow_slots(plan.slots());
        let mut changed = Vec::new();
        for (id, slot) in (0_u32..).map(ModuleId).zip(&mut self.modules) {
            let change = match (plan.get(id), slot) {
                (None, None) => continue,
                (None, Some(slot)) => match core::mem::take(&mut slot.in_plan) {
                    true => ChangeClass::Removed,
                    false => continue,
                },
                (Some(spec), slot @ None) => {
                    let record = &mut self.removed[id.index()];
                    if changes.contains_key(&id) && record.state == State::Failed {
                        // What it failed for may be what is new.
                        record.state = State::Waiting;
                    }
                    let follows = (spec, plan.number());
                    *slot = Some(ManagedModule::returned(now, follows, *record));
                    ChangeClass::Added
                }
                (Some(spec), Some(slot)) => {
                    let returns = !core::mem::replace(&mut slot.in_plan, true);
                    let change = match changes.get(&id) {
                        _ if returns => Some(ChangeClass::Restart),
                        Some(ChangeClass::Restart) => Some(ChangeClass::Restart),
                        change => change.map(|_| ChangeClass::Live),
                    };
                    let restarts = change == Some(ChangeClass::Restart) && slot.state.is_live();
                    if !restarts && !slot.is_outdated(former) {
                        slot.follow(now, spec, plan.number());
                    }
                    match change {
                        Some(change) => change,
                        None => continue,
                    }
                }
            };
            changed.push((id, change));
        }
        changed
    }

    /// Puts the edges of runs that follow a former plan beside those of the newest, and brings
    /// everything that is kept in start order into the new one.
    pub(super) fn merge_graphs(&mut self) {
        let newest = self.plan.number();
        let slots = self.modules.iter().flatten();
        self.outdated_runs = 0;
        let mut former: Vec<Arc<ModuleSpec>> = Vec::new();
        for slot in slots.filter(|slot| !slot.in_plan || slot.is_outdated(newest)) {
            self.outdated_runs += u32::from(slot.is_outdated(newest));
            former.push(Arc::clone(&slot.spec));
        }
        let graph = match former.is_empty() {
            true => Arc::clone(self.plan.graph()),
            false => Arc::new(self.plan.graph().with_former(&former)),
        };
        self.use_graph(graph);
    }

    fn use_graph(&mut self, graph: Arc<DependencyGraph>) {
        let before = core::mem::replace(&mut self.graph, graph);
        let (graph, len) = (&self.graph, self.graph.order().len());
        let sets = [
            &mut self.dirty,
            &mut self.next_changed_record,
            &mut self.worklist,
            &mut self.to_start,
            &mut self.for_turn,
        ];
        for set in sets {
            let mut ranks = RankSet::new(len);
            while let Some(rank) = set.pop_first() {
                // A module that is gone is in no order.
                let module = before.at(rank);
                if self.modules[module.index()].is_some() {
                    ranks.insert(graph.rank(module));
                }
            }
            *set = ranks;
        }
        let queued = core::mem::take(&mut self.for_token).into_iter();
        let queued = queued.filter(|(_, _, id)| self.modules[id.index()].is_some());
        self.for_token = queued.map(|(_, _, id)| self.token_queue_key(id)).collect();
        for module in self.ids() {
            let slot = self.module_mut(module);
            slot.stop_blocked_by = 0;
            if slot.awaits_stop() {
                self.dirty.insert(self.graph.rank(module));
            }
        }
    }

    fn apply_change(&mut self, now: MonoTime, module: ModuleId, change: ChangeClass) {
        self.next_changed_record.insert(self.graph.rank(module));
        let returns_failed = self.removed[module.index()].state == State::Failed;
        let slot = self.module_mut(module);
        // What a former spec completed does not count for the new one.
        slot.completed &= change != ChangeClass::Restart;
        let (state, goal) = (slot.state, slot.goal());
        match change {
            // It was removed by a plan that was never committed, and is desired up.
            ChangeClass::Added if goal == Desired::Up && returns_failed => {
                self.return_failed(now, module);
            }
            ChangeClass::Added if goal == Desired::Up && state == State::NotStarted => {
                self.start_anew(now, module);
            }
            ChangeClass::Added => {}
            ChangeClass::Removed if slot.is_builtin() => {
                self.set_state(now, module, State::Stopped, Cause::Reload, None);
            }
            ChangeClass::Removed => {
                self.leave_initial_start(module);
                self.mark_dirty(module);
                self.propagate_stop(module, DependencyLoss::Stopped);
                self.mark_waiting_dependents(module);
            }
            ChangeClass::Restart if state.is_live() => {
                if self.module(module).dependents_must_be_told() {
                    // Before its own stop: those that stop with it must be marked first.
                    self.propagate_restart(module);
                }
                let slot = self.module_mut(module);
                slot.forgive();
                slot.stop_reason = Some(StopReason::Reload);
                self.mark_dirty(module);
            }
            ChangeClass::Restart if goal == Desired::Up && state != State::NotStarted => {
                self.start_anew(now, module);
            }
            // It may be what it failed for that was changed.
            ChangeClass::Live if goal == Desired::Up && state == State::Failed => {
                self.start_anew(now, module);
            }
            ChangeClass::Restart | ChangeClass::Live => self.mark_dirty(module),
        }
    }

    /// What a module that is desired up needs under the newest plan and may never have started.
    fn missing_needs(&self, module: ModuleId) -> Vec<ModuleId> {
        if self.module(module).goal() == Desired::Down {
            return Vec::new();
        }
        let next = self.next_spec_of(module);
        let missing = next.edges.iter().filter(|edge| {
            let unmet = edge.hard && !self.is_satisfied(edge);
            unmet && !self.module(edge.to).is_builtin() && self.comes_along(edge.to)
        });
        missing.map(|edge| edge.to).collect()
    }

    /// A module had failed when a plan removed it that was not committed: it is failed, and its
    /// try on probation comes when it would have.
    fn return_failed(&mut self, now: MonoTime, module: ModuleId) {
        let record = self.removed[module.index()];
        self.set_state(now, module, State::Failed, Cause::Adopted, None);
        if let Some(at) = record.retry_at {
            self.retry_at(module, at);
        }
        if let Some(reset) = record.procedure {
            self.request_procedure(now, module, reset, true);
        }
    }

    /// A module without a run begins again, as on a request.
    fn start_anew(&mut self, now: MonoTime, module: ModuleId) {
        let slot = self.module_mut(module);
        slot.forgive();
        slot.needs_token = slot.generation > 0;
        if slot.state == State::Waiting {
            self.mark_dirty(module);
        } else {
            self.set_state(now, module, State::Waiting, Cause::Reload, None);
        }
    }

    /// Derives what follows for all modules from their states and the plan. Which module stops with
    /// which is neither recorded nor carried over, because it follows from those. Then starts
    /// the eager modules that are `fresh`, and what they and others need.
    pub(super) fn join_plan(
        &mut self,
        now: MonoTime,
        cause: Cause,
        needs: &[ModuleId],
        fresh: impl Fn(&Lifecycle, ModuleId) -> bool,
    ) {
        for why in [DependencyLoss::Failed, DependencyLoss::Stopped] {
            for module in self.ids() {
                let slot = self.module(module);
                let lost = match (slot.state, slot.goal()) {
                    (State::NotStarted, _) => None,
                    (_, Desired::Down) => Some(DependencyLoss::Stopped),
                    (State::Failed, Desired::Up) => Some(DependencyLoss::Failed),
                    (_, Desired::Up) => None,
                };
                if lost == Some(why) {
                    self.worklist.insert(self.graph.rank(module));
                }
            }
            self.propagate_worklist(why);
        }
        for module in needs {
            self.worklist.insert(self.graph.rank(*module));
        }
        self.start_eager(now, cause, fresh);
    }

    /// The last run of a module by a former plan has ended.
    pub(super) fn leave_former_plan(&mut self, now: MonoTime, module: ModuleId) {
        let plan = Arc::clone(&self.plan);
        let slot = self.module_mut(module);
        if slot.plan == plan.number() {
            return;
        }
        if let Some(spec) = plan.get(module) {
            slot.follow(now, spec, plan.number());
        }
        self.outdated_runs -= 1;
    }

    /// No run by a former plan is left: what was removed is forgotten. True if there is an effect.
    pub(super) fn finish_change(&mut self) -> bool {
        if !self.is_changing || self.outdated_runs > 0 {
            return false;
        }
        self.is_changing = false;
        let gone = self.ids().filter(|id| !self.module(*id).in_plan);
        for module in gone.collect::<Vec<ModuleId>>() {
            self.removed[module.index()] = self.record(module);
            self.modules[module.index()] = None;
            self.alarms.clear(module);
            self.effects.push_back(LifecycleEffect::Removed { module });
        }
        self.use_graph(Arc::clone(self.plan.graph()));
        let plan = self.plan.number();
        self.effects
            .push_back(LifecycleEffect::PlanInForce { plan });
        true
    }

    /// Whether `dependent` runs by a spec that has this edge to `module`.
    pub(super) fn is_in_force(&self, dependent: &Dependent, module: ModuleId) -> bool {
        let Dependent { from, hard, until } = *dependent;
        let to = module;
        !self.is_changing
            || self
                .module(from)
                .spec
                .edges
                .contains(&Edge { to, hard, until })
    }

    /// The spec of the next run of a module.
    pub(super) fn next_spec_of(&self, module: ModuleId) -> Arc<ModuleSpec> {
        let next = self.plan.get(module);
        Arc::clone(next.unwrap_or(&self.module(module).spec))
    }
}

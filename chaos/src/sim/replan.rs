//! The plan changes: in the middle of starts, stops, returns and other changes.
//! Owns the plan in the world, and what becomes of the places of modules that are gone.
//! Never asks the lifecycle what a change should do.

use std::sync::Arc;

use mainstay_policy::lifecycle::LifecycleEffect;
use mainstay_policy::{ModuleId, Plan};

use super::{InjectedBug, Sim};
use crate::checker::Checked;
use crate::coverage::Point;
use crate::plans;
use crate::rng::Rng;
use crate::trace::TraceLine;
use crate::world::SimModule;

impl Sim {
    pub(super) fn change_plan(&mut self, mut rng: Rng) -> Checked {
        if self.check.is_stopping() {
            return Ok(());
        }
        let most = self.options.modules * 3 / 2;
        let (full, mut changes) = match plans::next(&mut rng, &self.full_plan, most) {
            Ok(next) => next,
            Err(error) => unreachable!("cannot change to a plan that is wrong by itself: {error}"),
        };
        let full = Arc::new(full);
        let former_full = std::mem::replace(&mut self.full_plan, Arc::clone(&full));
        let plan = match self.choices.replay() {
            Some(replay) => {
                changes.retain(|(module, _)| !replay.dropped.contains(module));
                Arc::new(plans::without(Plan::clone(&full), &replay.dropped))
            }
            None => full,
        };
        self.summary.plans += 1;
        let coverage = &mut self.summary.coverage;
        let changing = self.lifecycle.is_changing();
        coverage.reach_if(changing, Point::PlanWhileChanging);
        changes
            .iter()
            .for_each(|(_, change)| coverage.change(*change));
        self.summary.steps += 1;
        let line = TraceLine::Plan(plan.number(), changes.clone());
        self.trace.push(self.now, line);
        let completed = self.former_completions();
        let before = self.check.before_replan();
        let former = Arc::clone(&self.plan);
        self.take_plan(plan);
        self.check.replanned(&self.plan, &changes);
        let lost = completed
            .into_iter()
            .filter(|id| !self.check.completed(*id));
        lost.for_each(|module| self.records.uncompleted(module));
        let bug = self.is(InjectedBug::OldPlan);
        let changes = if bug { &[][..] } else { &changes };
        let plan = Arc::clone(&self.runtime_plan);
        if let Err(error) = self.lifecycle.replan(self.now, plan, changes) {
            unreachable!("cannot change the plan: {error:?}");
        }
        if self.is(InjectedBug::ForgetAtOnce) {
            for module in former.ids().filter(|module| !self.plan.has(*module)) {
                let gone = LifecycleEffect::Removed { module };
                self.check.decided(&self.plan, self.now, &gone)?;
            }
        }
        self.records.plan_follows((former_full, former), before);
        for slot in (0_u32..).map(ModuleId).take(self.specs.len()) {
            let spec = self.lifecycle.spec(slot).map(|(spec, _)| Arc::clone(spec));
            // A run learns of its watchdog when it starts: one that lost it is not watched again.
            let process = &mut self.modules_in_world[slot.index()].process;
            if let (Some(spec), Some(process)) = (&spec, process) {
                process.fed = process.fed.filter(|_| spec.watchdog.is_some());
            }
            self.specs[slot.index()] = spec.or(self.specs[slot.index()].take());
        }
        self.perform_effects()
    }

    fn former_completions(&self) -> Vec<ModuleId> {
        let completed = self.plan.ids().filter(|id| self.check.completed(*id));
        completed.collect()
    }

    /// From now on the world has this plan.
    pub(super) fn take_plan(&mut self, plan: Arc<Plan>) {
        let slots = plan.slots().max(self.modules.len());
        self.modules.resize_with(slots, Default::default);
        self.modules_in_world.resize(slots, SimModule::default());
        self.armed.resize(slots, mainstay_policy::MonoTime::NEVER);
        self.channels.resize(slots, Default::default());
        self.specs.resize(slots, None);
        self.records.grow(slots);
        self.runtime_plan = match self.options.sabotage {
            Some(InjectedBug::WeakenedPlan) => Arc::new(plans::weakened(&plan)),
            Some(InjectedBug::NoGroups) => Arc::new(plans::without_groups(&plan)),
            _ => Arc::clone(&plan),
        };
        self.plan = plan;
    }

    /// The holder forgets a module that has no run.
    pub(super) fn forget(&mut self, module: ModuleId) {
        self.modules_in_world[module.index()] = SimModule::default();
    }

    /// A runtime that starts ends what the kept plan does not have.
    pub(super) fn forget_what_has_no_plan(&mut self) {
        for module in (0_u32..).map(ModuleId).take(self.modules.len()) {
            if !self.plan.has(module) {
                self.modules_in_world[module.index()] = SimModule::default();
                self.records.forget(module);
            }
        }
    }
}

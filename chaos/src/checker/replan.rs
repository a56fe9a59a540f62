//! What a new plan changes in the second picture.
//! Owns which runs are accepted, who may run, and in which order old runs stop.
//! Never asks the lifecycle what it did with the plan.

use std::collections::BTreeMap;

use mainstay_policy::lifecycle::ChangeClass;
use mainstay_policy::spec::{DependencyCondition, StartMode};
use mainstay_policy::{ModuleId, Plan};

use super::{Checked, Checker, DesiredReach, ModelModule, ensure};
use crate::violation::Violation;

/// What a change of the plan takes from the picture, in case it is lost with the runtime.
#[derive(Debug, Clone)]
pub struct BeforeReplan(Vec<(DesiredReach, u64)>);

impl Checker {
    /// What is known before the plan changes.
    #[must_use]
    pub fn before_replan(&self) -> BeforeReplan {
        let shadows = self.shadows.iter();
        BeforeReplan(
            shadows
                .map(|one| (one.reach, one.last_outdated_run))
                .collect(),
        )
    }

    /// A new plan follows.
    pub fn replanned(&mut self, plan: &Plan, changes: &[(ModuleId, ChangeClass)]) {
        let changes: BTreeMap<ModuleId, ChangeClass> = changes.iter().copied().collect();
        self.forget_recovery();
        self.doubt_all();
        self.start_is_certain = false;
        self.shadows
            .resize_with(self.shadows.len().max(plan.slots()), ModelModule::default);
        let slots = (0_u32..).map(ModuleId).take(self.shadows.len());
        let (runs, mut eager) = (self.runs, Vec::new());
        for (module, shadow) in slots.zip(&mut self.shadows) {
            let Some(spec) = plan.get(module) else {
                shadow.in_plan = false;
                shadow.outdated = shadow.out;
                continue;
            };
            let was_there = std::mem::replace(&mut shadow.in_plan, true);
            let restarts = changes.get(&module) == Some(&ChangeClass::Restart) || !was_there;
            if restarts {
                shadow.last_outdated_run = runs;
                shadow.outdated |= shadow.out;
                shadow.completed = false;
            }
            if !shadow.outdated {
                shadow.spec = Some(spec.clone());
            }
            if restarts || changes.contains_key(&module) {
                // A change forgives, and holds for runs that begin after it.
                shadow.attempts.clear();
                shadow.has_new_edges = shadow.out;
            }
            let untouched = !shadow.reach.allowed && !shadow.reach.stopped_by_name;
            if spec.start == StartMode::Eager && untouched {
                eager.push(module);
            }
        }
        eager
            .into_iter()
            .for_each(|module| self.allow_untouched(plan, module));
        for module in plan.ids() {
            if self.of(module).reach.allowed {
                self.allow_needs(plan, module);
            }
        }
        self.serial |= self.starting && !plan.system().parallel_startup;
        self.changing = true;
        self.turned_around = self.has_cycle(plan);
    }

    fn allow_untouched(&mut self, plan: &Plan, module: ModuleId) {
        let reach = &mut self.of(module).reach;
        (reach.requested, reach.allowed) = (true, true);
        self.allow_needs(plan, module);
    }

    /// What is needed may run, unless a person stopped it.
    fn allow_needs(&mut self, plan: &Plan, module: ModuleId) {
        let mut more = vec![module];
        while let Some(module) = more.pop() {
            for edge in plan.dependencies(module).iter().filter(|edge| edge.hard) {
                let reach = &mut self.of(edge.to).reach;
                if !reach.allowed && !reach.stopped_by_name {
                    reach.allowed = true;
                    more.push(edge.to);
                }
            }
        }
    }

    /// A module is forgotten.
    pub(super) fn removed(&mut self, module: ModuleId) -> Checked {
        let shadow = self.of(module);
        ensure(!shadow.out && !shadow.in_plan, || {
            Violation::RemovedTooEarly(module)
        })?;
        *shadow = ModelModule {
            generation: shadow.generation,
            ..ModelModule::default()
        };
        Ok(())
    }

    /// No run by a former plan is left.
    pub(super) fn in_force(&mut self, plan: &Plan, number: u64) -> Checked {
        let old = self.shadows.iter().position(|shadow| shadow.outdated);
        let old = old.map(|slot| ModuleId(u32::try_from(slot).unwrap_or(u32::MAX)));
        ensure(old.is_none() && number == plan.number(), || {
            Violation::OldRun(old.unwrap_or_default())
        })?;
        self.changing = false;
        Ok(())
    }

    /// While runs of two plans are out, each stops by the edges it was started by.
    pub(super) fn halts_in_old_order(&self, module: ModuleId, wished_down: bool) -> Checked {
        if self.turned_around {
            return Ok(());
        }
        for (from, shadow) in (0_u32..).map(ModuleId).zip(&self.shadows) {
            let Some(spec) = shadow.spec.as_ref().filter(|_| shadow.out) else {
                continue;
            };
            for edge in spec.edges.iter().filter(|edge| edge.to == module) {
                let needs = edge.hard && edge.until != DependencyCondition::Completed;
                let early = self.is_stopping() || (wished_down && needs);
                ensure(!early, || Violation::StopOrder(module, from))?;
            }
        }
        Ok(())
    }

    /// Whether the edges of the plan and those of the runs that are out form a cycle.
    fn has_cycle(&self, plan: &Plan) -> bool {
        let edges = |slot: usize| {
            let id = ModuleId(u32::try_from(slot).unwrap_or(u32::MAX));
            let next = plan.get(id).into_iter();
            let specs = next.chain(&self.shadows[slot].spec);
            specs.flat_map(|spec| spec.edges.iter().map(|edge| edge.to.index()))
        };
        let mut unmet: Vec<usize> = (0..self.shadows.len())
            .map(|at| edges(at).count())
            .collect();
        let mut free: Vec<usize> = (0..unmet.len()).filter(|at| unmet[*at] == 0).collect();
        let mut met = 0;
        while let Some(target) = free.pop() {
            met += 1;
            for (from, unmet) in unmet.iter_mut().enumerate() {
                let to = edges(from).filter(|to| *to == target).count();
                *unmet -= to;
                if to > 0 && *unmet == 0 {
                    free.push(from);
                }
            }
        }
        met < unmet.len()
    }

    /// That a completed run counts no more was lost with the runtime.
    pub fn undo_uncompleted(&mut self, module: ModuleId) {
        self.of(module).completed = true;
    }

    /// All that is known of a module.
    #[must_use]
    pub fn known_of(&self, module: ModuleId) -> ModelModule {
        self.shadows[module.index()].clone()
    }

    /// That a module was forgotten was lost with the runtime.
    pub fn undo_removed(&mut self, module: ModuleId, known: ModelModule) {
        *self.of(module) = known;
    }

    /// A plan was lost with the runtime before anybody could rely on it.
    pub fn undo_replan(&mut self, plan: &Plan, before: &BeforeReplan) {
        let slots = (0_u32..).map(ModuleId);
        let none = (DesiredReach::default(), 0);
        let before = before.0.iter().chain(std::iter::repeat(&none));
        for ((module, shadow), (reach, last)) in slots.zip(&mut self.shadows).zip(before) {
            // What the lost plan needed may have been started, and recorded.
            let allowed = reach.allowed || shadow.reach.allowed;
            shadow.reach = DesiredReach { allowed, ..*reach };
            (shadow.last_outdated_run, shadow.in_plan) = (*last, plan.has(module));
        }
    }
}

//! What must hold long after the last fault, when nothing is about to happen.
//! Owns the comparison of the two pictures. Never changes either.

use mainstay_policy::lifecycle::ModuleInfo;
use mainstay_policy::spec::{DependencyCondition, Kind, OnDependencyRestart};
use mainstay_policy::{Desired, Health, Lifecycle, ModuleId, MonoTime, Plan, State, Status};

use super::{Checked, Checker, ensure};
use crate::violation::Violation;

impl Checker {
    /// Long after the last fault: everything is where it was wished, or has a reason not to be.
    ///
    /// # Errors
    /// Who is not.
    pub fn at_rest(&self, plan: &Plan, now: MonoTime, lifecycle: &Lifecycle) -> Checked {
        let starting = lifecycle.status() == Status::Starting;
        ensure(!self.changing && !starting, || Violation::NotQuiet(None))?;
        let slots = (0_u32..).map(ModuleId).take(plan.slots());
        let views: Vec<_> = slots.map(|module| lifecycle.view(module)).collect();
        let mut stuck = vec![false; plan.slots()];
        for &module in plan.order() {
            let at = module.index();
            let (view, shadow) = (&views[at], &self.shadows[at]);
            let builtin = plan.module(module).kind == Kind::Builtin;
            let desired = view.desired == Desired::Up;
            let lost = (shadow.reach.requested && !desired) || (desired && !shadow.reach.allowed);
            ensure(builtin || !lost, || Violation::WishLost(module))?;
            self.restarted_with(plan, module)?;
            self.shared_ends_are_over(module)?;
            self.needs_are_there(plan, module, &views)?;
            self.attempts_are_paid_back(plan, now, module, view)?;
            let old = shadow.out && shadow.run <= shadow.last_outdated_run;
            ensure(!old, || Violation::OldRun(module))?;
            let held = plan.dependencies(module).iter().any(|edge| {
                let target = &views[edge.to.index()];
                let never =
                    edge.until == DependencyCondition::Completed && !self.is_met(plan, edge);
                edge.hard
                    && (stuck[edge.to.index()]
                        || never
                        || self.rests(edge.to, target) && !self.is_met(plan, edge)
                        || (edge.until == DependencyCondition::Healthy
                            || edge.until == DependencyCondition::Ready
                                && plan.module(edge.to).has_readiness_probes)
                            && target.health != Health::Healthy)
            });
            // Without attempts to pay back a run has nothing to earn.
            let owes = view.attempts > 0 || view.on_trial;
            ensure(owes || view.earns_at.is_none(), || {
                Violation::NotQuiet(Some(module))
            })?;
            stuck[at] = match (view.desired, view.state) {
                (Desired::Up, State::Failed) if view.retry_at.is_none() => true,
                (Desired::Up, State::Waiting) if held => true,
                (Desired::Down, State::Stopped | State::NotStarted) => true,
                (Desired::Down, State::Failed) if shadow.is_stuck => true,
                (Desired::Up, State::Running | State::Stopped) => false,
                (_, state) => return Err(Violation::WishNotReached(module, state)),
            };
            let wrong = !builtin && (view.state == State::Running) != shadow.out;
            ensure(!(wrong || (shadow.out && shadow.halted)), || {
                Violation::WishNotReached(module, view.state)
            })?;
        }
        let due = views.iter().flat_map(|view| [view.retry_at, view.earns_at]);
        ensure(lifecycle.deadline() == due.flatten().min(), || {
            Violation::NotQuiet(None)
        })
    }

    /// Whether a module is down and nobody has to start it for a dependent: one that ended as it
    /// may after it was ready is started again.
    fn rests(&self, module: ModuleId, view: &ModuleInfo) -> bool {
        let returns = view.desired == Desired::Up && self.shadows[module.index()].bounds.was_ready;
        match view.state {
            State::NotStarted => true,
            State::Stopped => !returns,
            _ => false,
        }
    }

    /// What a module that runs needs is up, comes back by itself, or exited cleanly.
    fn needs_are_there(&self, plan: &Plan, module: ModuleId, views: &[ModuleInfo]) -> Checked {
        if !self.shadows[module.index()].out {
            return Ok(());
        }
        for edge in plan.dependencies(module).iter().filter(|edge| edge.hard) {
            let target = &views[edge.to.index()];
            let task = plan.module(edge.to).kind == Kind::Task;
            let lasts = edge.until != DependencyCondition::Completed && !task;
            let down = target.desired == Desired::Down
                && matches!(target.state, State::Stopped | State::NotStarted);
            let lost = down || (target.state == State::Failed && target.retry_at.is_none());
            let new_edges = self.shadows[module.index()].has_new_edges;
            ensure(!lasts || !lost || new_edges, || {
                Violation::NeedGone(module, edge.to)
            })?;
        }
        Ok(())
    }

    /// A run that has lasted for long owes nothing.
    fn attempts_are_paid_back(
        &self,
        plan: &Plan,
        now: MonoTime,
        module: ModuleId,
        view: &ModuleInfo,
    ) -> Checked {
        let recovery = &plan.module(module).recovery;
        let stable = view.since.after(recovery.stable_after.max(recovery.window)) < now;
        let owes = view.on_trial || (recovery.max_attempts > 0 && view.attempts > 0);
        let kept = view.state == State::Running && stable && owes;
        ensure(!kept, || Violation::AttemptsKept(module))
    }

    /// Who restarts with what it needs began after it.
    fn restarted_with(&self, plan: &Plan, module: ModuleId) -> Checked {
        let shadow = &self.shadows[module.index()];
        let alone = plan.module(module).on_dependency_restart != OnDependencyRestart::Restart;
        if alone || !shadow.out || shadow.has_new_edges {
            return Ok(());
        }
        for edge in plan.dependencies(module) {
            let target = &self.shadows[edge.to.index()];
            // Of a task, and of what was to complete, the end is all that was needed.
            let lasts = edge.until != DependencyCondition::Completed
                && plan.module(edge.to).kind != Kind::Task;
            let behind = edge.hard && lasts && target.restart > shadow.run;
            ensure(!behind, || Violation::LeftBehind(module, edge.to))?;
        }
        Ok(())
    }
}

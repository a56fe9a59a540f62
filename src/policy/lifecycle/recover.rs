//! What follows from a failure: for the module, its group, or all modules.
//! Owns the proposals, the procedures before a restart, and degraded mode.
//! Never judges: `recovery::decide` does; never performs a procedure: it asks for it.

use core::time::Duration;

use super::managed_module::{Procedure, Proposal, StopReason};
use super::propagation::DependencyLoss;
use super::{Lifecycle, LifecycleEffect, ProcedureOrder, StartupFailure, SystemPhase};
use crate::backoff::splitmix64;
use crate::group::Scope;
use crate::mono_time::MonoTime;
use crate::recovery::{Case, Decision, Failure, MIN_READY_TIME, Verdict, accept, decide};
use crate::spec::{ModuleId, Strategy};
use crate::states::{Cause, Desired, State};

/// How long a start waits for the procedure before it.
const PROCEDURE_TIMEOUT: Duration = Duration::from_secs(30);

impl Lifecycle {
    pub(super) fn decide_recovery(&mut self, now: MonoTime, module: ModuleId, failure: Failure) {
        let (spec, groups) = (
            self.spec_of(module),
            alloc::sync::Arc::clone(self.plan.groups()),
        );
        let case = Case {
            module,
            recovery: &spec.recovery,
            groups: &groups,
            failure,
            dependency_is_down: self.is_dependency_down(module),
            seed: self.seed_for(module),
        };
        let budgets = &mut self.group_budgets;
        let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
            return;
        };
        let since = slot.recovery.ready_since();
        let proved = since.is_some_and(|since| since.after(MIN_READY_TIME) <= now);
        slot.on_trial &= !proved;
        let decision = decide(case, &mut slot.recovery, budgets, now);
        self.emit_decision(module, failure, &decision);
        self.carry_out(now, module, failure.cause(), &decision);
        if let Verdict::Propose { strategy } = decision.verdict {
            self.module_mut(module).proposal = Some(Proposal { strategy, failure });
        }
    }

    /// A person accepts what was proposed for a failed module.
    pub(super) fn accept_proposal(&mut self, now: MonoTime, module: ModuleId) {
        let slot = self.module_mut(module);
        let is_failed = slot.state == State::Failed;
        let Some(Proposal { strategy, failure }) = slot.proposal.take_if(|_| is_failed) else {
            return;
        };
        slot.desired_revision += 1;
        let (spec, groups) = (
            self.spec_of(module),
            alloc::sync::Arc::clone(self.plan.groups()),
        );
        let case = Case {
            module,
            recovery: &spec.recovery,
            groups: &groups,
            failure,
            dependency_is_down: false,
            seed: 0,
        };
        let budgets = &mut self.group_budgets;
        let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
            return;
        };
        let decision = accept(case, strategy, &mut slot.recovery, budgets, now);
        self.emit_decision(module, failure, &decision);
        self.carry_out(now, module, Cause::Requested, &decision);
    }

    fn emit_decision(&mut self, module: ModuleId, failure: Failure, decision: &Decision) {
        self.effects.push_back(LifecycleEffect::RecoveryDecided {
            module,
            failure,
            attempt: self.module(module).recovery.attempts(),
            decision: decision.clone(),
        });
    }

    fn seed_for(&self, module: ModuleId) -> u64 {
        let seed = splitmix64(self.seed ^ u64::from(module.0) << 32);
        seed ^ self.module(module).generation
    }

    /// Whether something that `module` needs is down and desired up.
    fn is_dependency_down(&self, module: ModuleId) -> bool {
        let spec = &self.module(module).spec;
        spec.edges.iter().filter(|edge| edge.hard).any(|edge| {
            let target = self.module(edge.to);
            let rests = matches!(
                target.state,
                State::Running | State::Stopped | State::NotStarted
            );
            target.goal() == Desired::Up && !rests && !self.is_satisfied(edge)
        })
    }

    fn carry_out(&mut self, now: MonoTime, module: ModuleId, cause: Cause, decision: &Decision) {
        match decision.verdict {
            Verdict::Done => {
                self.leave_initial_start(module);
                self.set_state(now, module, State::Stopped, cause, None);
                self.fail_initial_starts(now, module);
            }
            Verdict::Retry { after, strategy } => {
                if !self.module(module).spec.required {
                    self.leave_initial_start(module);
                }
                self.set_state(now, module, State::Backoff, cause, None);
                self.retry_at(module, now.after(after));
                self.prepare_retry(now, module, strategy);
                self.restart_along(module, decision.scope, strategy == Strategy::Degrade);
                self.propagate_restart(module);
            }
            Verdict::Propose { .. } => {
                self.give_up(now, module, (cause, None), None);
                self.count_failed(now, module);
            }
            Verdict::GiveUp { probation } => {
                self.give_up(now, module, (cause, None), probation);
                self.stop_along(now, module, decision.scope);
                self.count_failed(now, module);
            }
        }
    }

    /// `module` is failed, and perhaps there is one more try.
    pub(super) fn give_up(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        (cause, by): (Cause, Option<ModuleId>),
        probation: Option<Duration>,
    ) {
        self.roll_back(now, module);
        self.set_state(now, module, State::Failed, cause, by);
        if let Some(after) = probation {
            self.retry_at(module, now.after(after));
        }
        self.propagate_stop(module, DependencyLoss::Failed);
        self.notify_failed(module);
        if self.module(module).spec.required && self.phase == SystemPhase::Starting {
            self.startup_failed(now, StartupFailure::RequiredModuleFailed { module });
        }
        self.leave_initial_start(module);
        self.fail_initial_starts(now, module);
    }

    /// Members of the group, or all modules, stop permanently because `module` failed.
    fn stop_along(&mut self, now: MonoTime, module: ModuleId, scope: Scope) {
        match scope {
            Scope::This | Scope::Siblings { .. } => {}
            Scope::Group(_) => {
                let members = self.plan.groups().taken_along(scope, module);
                self.stop_permanently(now, &members, module);
            }
            // What a returning runtime knows so far may be half of it.
            Scope::System if self.phase == SystemPhase::New => self.stops_on_resume = true,
            Scope::System => self.stop_all(now, self.plan.system().shutdown_timeout),
        }
    }

    /// Stops modules in order and leaves them failed, until their start is requested.
    pub(super) fn stop_permanently(&mut self, now: MonoTime, modules: &[ModuleId], by: ModuleId) {
        let mut at_rest = alloc::vec::Vec::new();
        for &module in modules {
            let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
                continue;
            };
            if slot.is_builtin() || slot.goal() == Desired::Down {
                continue;
            }
            match slot.state {
                // A person asked for its next run, which may still wait for the end of dependents.
                State::Starting | State::Running | State::Stopping
                    if slot.stop_reason == Some(StopReason::Requested) => {}
                State::Starting | State::Running | State::Stopping => {
                    slot.stop_reason = Some(StopReason::GroupFailed(by));
                    self.mark_dirty(module);
                }
                State::Waiting | State::Backoff => at_rest.push(module),
                State::Failed => {
                    slot.retry_at = None;
                    self.alarms.clear(module);
                    self.mark_dirty(module);
                    self.update_counts(module);
                }
                State::NotStarted | State::Stopped => {}
            }
        }
        for module in at_rest {
            self.give_up(now, module, (Cause::Group, Some(by)), None);
        }
    }

    /// What a restart by `strategy` needs before it.
    fn prepare_retry(&mut self, now: MonoTime, module: ModuleId, strategy: Strategy) {
        match strategy {
            Strategy::RestartWithReset => {
                let keeps_earlier = self.module(module).on_trial;
                self.request_procedure(now, module, true, keeps_earlier);
            }
            Strategy::Degrade => {
                self.module_mut(module).is_degraded = true;
                self.roll_back(now, module);
            }
            Strategy::Restart | Strategy::RestartSystem | Strategy::Stop => {
                self.roll_back(now, module);
            }
        }
    }

    /// A reset that did not help is taken back.
    fn roll_back(&mut self, now: MonoTime, module: ModuleId) {
        if core::mem::take(&mut self.module_mut(module).on_trial) {
            self.request_procedure(now, module, false, true);
        }
    }

    /// Requests a reset, or the rollback of one. No run starts before that has ended.
    pub(super) fn request_procedure(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        reset: bool,
        keeps_earlier: bool,
    ) {
        let slot = self.module_mut(module);
        slot.tickets = slot.tickets.wrapping_add(1);
        let (ticket, generation) = (slot.tickets, slot.generation);
        let by = now.after(PROCEDURE_TIMEOUT);
        slot.procedure = Some(Procedure { ticket, reset, by });
        self.effects
            .push_back(LifecycleEffect::Prepare(ProcedureOrder {
                module,
                generation,
                ticket,
                reset,
                keeps_earlier,
            }));
        self.mark_dirty(module);
    }

    /// A procedure has ended.
    pub(super) fn procedure_ended(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        ticket: u32,
        ok: bool,
    ) {
        let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
            return;
        };
        let current = |procedure: &mut Procedure| procedure.ticket == ticket;
        let Some(procedure) = slot.procedure.take_if(current) else {
            return;
        };
        slot.on_trial = procedure.reset && ok;
        let waits = slot.state == State::Backoff && slot.goal() == Desired::Up;
        if procedure.reset && !ok && waits {
            self.decide_recovery(now, module, Failure::Procedure);
        }
        self.mark_dirty(module);
    }

    /// Whether a start has to wait for the procedure before it. One that takes too long has
    /// failed: true then too, because the failure is judged.
    pub(super) fn awaits_procedure(&mut self, now: MonoTime, module: ModuleId) -> bool {
        let slot = self.module(module);
        let Some(procedure) = slot.procedure else {
            return false;
        };
        if now < procedure.by {
            self.alarms.set(module, procedure.by);
            return true;
        }
        self.procedure_ended(now, module, procedure.ticket, false);
        true
    }

    /// The run of a degraded module is ready: it is notified, and its features are restored once
    /// the run is stable.
    pub(super) fn notify_degraded(&mut self, module: ModuleId) {
        let slot = self.module(module);
        if slot.is_degraded && slot.state == State::Running {
            self.arm(module);
            self.push_degraded(module, true);
        }
    }

    /// A degraded run may be stable.
    pub(super) fn restore_if_stable(&mut self, now: MonoTime, module: ModuleId) {
        let slot = self.module_mut(module);
        if slot.restored_at().is_some_and(|at| at <= now) {
            slot.is_degraded = false;
            self.push_degraded(module, false);
        }
    }

    fn push_degraded(&mut self, module: ModuleId, degraded: bool) {
        let generation = self.module(module).generation;
        self.effects.push_back(LifecycleEffect::DegradedChanged {
            module,
            generation,
            degraded,
        });
    }

    pub(super) fn retry_at(&mut self, module: ModuleId, at: MonoTime) {
        self.module_mut(module).retry_at = Some(at);
        self.alarms.set(module, at);
    }

    /// A module was given up for its own failure.
    fn count_failed(&mut self, now: MonoTime, module: ModuleId) {
        self.cascade.count(now, module);
        self.stop_cascade(now);
    }

    /// Too many modules that were given up within a window stop the branches that they are in.
    pub(super) fn stop_cascade(&mut self, now: MonoTime) {
        // What a returning runtime knows so far may be half of it.
        if !matches!(self.phase, SystemPhase::Starting | SystemPhase::Up) {
            return;
        }
        let modules = self.modules.iter().flatten();
        let count = modules
            .filter(|slot| !slot.is_builtin() && slot.in_plan)
            .count();
        let cascade = self.plan.system().cascade;
        let Some(failed) = self.cascade.take(cascade, now, count) else {
            return;
        };
        let Some(&last) = failed.last() else {
            return;
        };
        let branch = self.branch_of(&failed);
        self.effects.push_back(LifecycleEffect::CascadeStopped {
            failed,
            branch: branch.clone(),
        });
        self.stop_permanently(now, &branch, last);
    }

    /// The modules and all that depend on them, hard or soft, at any remove.
    fn branch_of(&mut self, modules: &[ModuleId]) -> alloc::vec::Vec<ModuleId> {
        for module in modules {
            if self.get(*module).is_some() {
                self.worklist.insert(self.graph.rank(*module));
            }
        }
        let mut branch = alloc::vec::Vec::new();
        while let Some(rank) = self.worklist.pop_first() {
            let module = self.graph.at(rank);
            branch.push(module);
            for dependent in self.graph.dependents(module) {
                self.worklist.insert(self.graph.rank(dependent.from));
            }
        }
        branch
    }
}

//! Reconciles one module: the next step from its observed to its desired state.
//! Owns the edges: which modules they keep in `waiting`, and which must stop before which.
//! Never walks further than a module's own edges.

use alloc::sync::Arc;
use core::time::Duration;

use super::managed_module::StopReason;
use super::{Lifecycle, LifecycleEffect, SystemPhase};
use crate::graph::Dependent;
use crate::mono_time::MonoTime;
use crate::spec::{DependencyCondition, Edge, Kind, ModuleId};
use crate::states::{Cause, Desired, Health, State};

/// A start that hangs holds its restart token no longer than this.
const TOKEN_HOLD: Duration = Duration::from_secs(5);

impl Lifecycle {
    /// Takes the step that is due, if any.
    pub(super) fn reconcile_module(&mut self, now: MonoTime, module: ModuleId) {
        if self
            .module(module)
            .own_deadline()
            .is_some_and(|at| at <= now)
        {
            self.apply_own_deadline(now, module);
        }
        let slot = self.module(module);
        match (slot.state, slot.goal()) {
            _ if slot.awaits_stop() => {
                if !self.stop_is_blocked(module) {
                    self.stop_module(now, module);
                }
            }
            // A plan that is not committed removed it: the plan before may bring it back as it was.
            (State::Failed, _) if !slot.in_plan => self.alarms.clear(module),
            // It is stuck although it is desired down: only the end of everything hides that.
            (State::Failed, Desired::Down)
                if slot.is_stuck() && self.phase != SystemPhase::Stopping =>
            {
                self.module_mut(module).retry_at = None;
                self.alarms.clear(module);
            }
            (State::Waiting | State::Backoff | State::Failed, Desired::Down) => {
                let cause = self.stop_cause(module);
                self.set_state(now, module, State::Stopped, cause, None);
            }
            (State::Waiting, Desired::Up) => self.start_if_allowed(now, module),
            (State::Backoff | State::Failed, Desired::Up) => self.retry_if_due(now, module),
            (State::Starting | State::Running | State::Stopping, _)
            | (State::NotStarted | State::Stopped, _) => {}
        }
    }

    /// A start that hangs gives its token back; a run that lasts gets attempts back.
    fn apply_own_deadline(&mut self, now: MonoTime, module: ModuleId) {
        self.restore_if_stable(now, module);
        let slot = self.module_mut(module);
        if slot.state == State::Running {
            let spec = Arc::clone(&slot.spec);
            slot.recovery.credit(&spec.recovery, now);
            self.next_changed_record.insert(self.graph.rank(module));
            self.update_counts(module);
        } else {
            self.return_token(module);
        }
        self.arm(module);
    }

    /// The cause of a stop of a module that is desired down.
    pub(super) fn stop_cause(&self, module: ModuleId) -> Cause {
        match self.phase {
            SystemPhase::Stopping | SystemPhase::Stopped => Cause::Shutdown,
            _ if !self.module(module).in_plan => Cause::Reload,
            SystemPhase::New | SystemPhase::Starting | SystemPhase::Up => Cause::Requested,
        }
    }

    /// Backoff or probation may be over.
    fn retry_if_due(&mut self, now: MonoTime, module: ModuleId) {
        let slot = self.module_mut(module);
        if slot.retry_at.is_none_or(|at| now < at) || self.awaits_procedure(now, module) {
            return;
        }
        let slot = self.module_mut(module);
        let (cause, by) = match slot.state {
            State::Failed => {
                slot.recovery.half_open();
                (Cause::Probation, None)
            }
            _ => (slot.cause, slot.by),
        };
        slot.needs_token = true;
        self.set_state(now, module, State::Waiting, cause, by);
    }

    /// Leaves `waiting` if nothing holds it; tokens and turns are handed out when all is settled.
    fn start_if_allowed(&mut self, now: MonoTime, module: ModuleId) {
        if !matches!(self.phase, SystemPhase::Starting | SystemPhase::Up) {
            return;
        }
        if let Some(edge) = self.waits_for(now, module) {
            if edge.hard && self.module(edge.to).can_be_resumed() {
                self.resume_need(now, edge.to, module);
            }
            return;
        }
        if self.is_held(now, module) {
            self.start_without_held(module);
            return;
        }
        if self.awaits_members(module) || self.awaits_procedure(now, module) {
            return;
        }
        let rank = self.graph.rank(module);
        if self.is_serial() {
            self.for_turn.insert(rank);
        } else if self.module(module).needs_token && self.plan.system().concurrent_restarts > 0 {
            self.for_token.insert(self.token_queue_key(module));
        } else {
            self.start_module(now, module);
        }
    }

    pub(super) fn is_serial(&self) -> bool {
        self.phase == SystemPhase::Starting && !self.plan.system().parallel_startup
    }

    /// Starts what `module` needs and what ended with a clean exit code, at the pace of its
    /// backoff. Not a request: its attempts count, and it needs a token.
    fn resume_need(&mut self, now: MonoTime, need: ModuleId, module: ModuleId) {
        let from = self.module(need).resumed_from();
        if now < from {
            self.alarms.set(module, from);
            return;
        }
        self.module_mut(need).needs_token = true;
        self.set_state(now, need, State::Waiting, Cause::Dependency, Some(module));
    }

    /// Gives one free token or turn to the first that can use it. True if there was one to try.
    pub(super) fn grant_next_start(&mut self, now: MonoTime) -> bool {
        if let Some(module) = self.next_for_token() {
            if self.may_start(now, module) {
                self.module_mut(module).token_until = Some(now.after(TOKEN_HOLD));
                self.token_holders.push(module);
                self.start_module(now, module);
            } else {
                self.mark_dirty(module);
            }
            return true;
        }
        if self.turn.is_none()
            && now >= self.turn_at
            && let Some(rank) = self.for_turn.pop_first()
        {
            let module = self.graph.at(rank);
            if self.may_start(now, module) {
                self.turn = Some(module);
                self.start_module(now, module);
            } else {
                self.mark_dirty(module);
            }
            return true;
        }
        false
    }

    /// Takes the module out of the queue that gets the next free token: in topological order, and
    /// within a wave the one that has waited longest.
    fn next_for_token(&mut self) -> Option<ModuleId> {
        let limit = self.plan.system().concurrent_restarts as usize;
        if self.token_holders.len() >= limit {
            return None;
        }
        self.for_token.pop_first().map(|(_, _, module)| module)
    }

    /// Its place in the queue for a token.
    pub(super) fn token_queue_key(&self, module: ModuleId) -> (u32, MonoTime, ModuleId) {
        let since = self.module(module).since;
        (self.graph.wave(module), since, module)
    }

    /// Returns the restart token of the module, if it holds one.
    pub(super) fn return_token(&mut self, module: ModuleId) {
        if self.module_mut(module).token_until.take().is_some() {
            self.token_holders.retain(|holder| *holder != module);
        }
    }

    /// A queued module may have been stopped or blocked since; it is reconciled then, because what
    /// it needs may have ended meanwhile.
    fn may_start(&mut self, now: MonoTime, module: ModuleId) -> bool {
        let slot = self.module(module);
        matches!(self.phase, SystemPhase::Starting | SystemPhase::Up)
            && (slot.state, slot.goal()) == (State::Waiting, Desired::Up)
            && self.waits_for(now, module).is_none()
            && !self.is_held(now, module)
            && !self.awaits_members(module)
            && !self.awaits_procedure(now, module)
    }

    fn start_module(&mut self, now: MonoTime, module: ModuleId) {
        let rank = self.graph.rank(module);
        self.for_token.remove(&self.token_queue_key(module));
        self.for_turn.remove(rank);
        let slot = self.module_mut(module);
        if slot.generation > 0 {
            let is_requested = matches!(slot.cause, Cause::Boot | Cause::Requested | Cause::Reload);
            match is_requested {
                true => slot.requested_restarts += 1,
                false => slot.restarts += 1,
            }
        }
        slot.generation += 1;
        slot.needs_token = false;
        (slot.completed, slot.was_ready, slot.ends_by_itself) = (false, false, false);
        slot.is_called = false;
        (slot.health, slot.passes) = (Health::Unknown, false);
        slot.ready_deadline = Some(now.after(slot.spec.startup_timeout));
        let (generation, cause, by) = (slot.generation, slot.cause, slot.by);
        self.effects
            .push_back(LifecycleEffect::Run { module, generation });
        self.set_state(now, module, State::Starting, cause, by);
    }

    fn stop_module(&mut self, now: MonoTime, module: ModuleId) {
        let slot = self.module(module);
        let generation = slot.generation;
        let (cause, by) = match (slot.goal(), slot.stop_reason) {
            (Desired::Down, _) | (_, None) => (self.stop_cause(module), None),
            (Desired::Up, Some(StopReason::Dependency(by))) => (Cause::Dependency, Some(by)),
            (Desired::Up, Some(StopReason::Requested)) => (Cause::Requested, None),
            (Desired::Up, Some(StopReason::Probe)) => (Cause::Probe, None),
            (Desired::Up, Some(StopReason::Limit { .. })) => (Cause::Limit, None),
            (Desired::Up, Some(StopReason::Adopted)) => (Cause::Adopted, None),
            (Desired::Up, Some(StopReason::Reload)) => (Cause::Reload, None),
            (Desired::Up, Some(StopReason::Idle)) => (Cause::Idle, None),
            (Desired::Up, Some(StopReason::Group(by) | StopReason::GroupFailed(by))) => {
                (Cause::Group, Some(by))
            }
        };
        self.emit_stop(now, module, generation);
        if !core::mem::take(&mut self.module_mut(module).ends_by_itself) {
            self.set_state(now, module, State::Stopping, cause, by);
        }
    }

    /// Orders again what was ordered last and has no end yet: who carries it out began anew, and
    /// may not have received it. An order that it did receive changes nothing.
    pub fn repeat_order(&mut self, now: MonoTime, module: ModuleId) {
        let Some(slot) = self.get(module) else {
            return;
        };
        let generation = slot.generation;
        match slot.state {
            State::Starting => self
                .effects
                .push_back(LifecycleEffect::Run { module, generation }),
            State::Stopping => self.emit_stop(now, module, generation),
            _ => {}
        }
    }

    /// Until the end of the run: the module's own timeout, and up to the budget of a whole stop if
    /// it asks for more; within what is left of that when those that end after it get their shares.
    /// A stop that is in force, also one of an earlier runtime, is never given more time.
    pub(super) fn emit_stop(&mut self, now: MonoTime, module: ModuleId, generation: u64) {
        let spec = &self.module(module).spec;
        let own = spec.shutdown_timeout;
        let limit = match &self.stop {
            None => own.max(self.plan.system().shutdown_timeout),
            Some(stop) => {
                let left = stop.by.since(now);
                left.saturating_sub(stop.shares.time_after(module))
            }
        };
        let slot = self.module_mut(module);
        let desired = (now.after(own.min(limit)), now.after(limit));
        let (by, limit_at) = slot.stop_deadlines.map_or(desired, |before| {
            (before.0.min(desired.0), before.1.min(desired.1))
        });
        slot.stop_deadlines = Some((by, limit_at));
        let (grace, limit) = (by.since(now), limit_at.since(now));
        self.effects.push_back(LifecycleEffect::Stop {
            module,
            generation,
            grace,
            limit,
        });
    }

    /// The edge that holds `module` in `waiting`. Remembers it, and arms the end of a soft one.
    /// The search continues where the last one ended: in total each edge is visited once.
    fn waits_for(&mut self, now: MonoTime, module: ModuleId) -> Option<Edge> {
        let slot = self.module(module);
        let edges = &slot.spec.edges;
        let (from, since) = (slot.waiting_on_edge as usize, slot.since);
        let mut places = (from..edges.len()).chain(0..from);
        let at = places.find(|at| self.edge_blocks(&edges[*at], since, now))?;
        let edge = edges[at];
        self.module_mut(module).waiting_on_edge = u32::try_from(at).unwrap_or(0);
        if !edge.hard {
            self.alarms
                .set(module, self.soft_wait_deadline(&edge, since));
        }
        Some(edge)
    }

    /// A soft edge holds only this long.
    pub(super) fn soft_wait_deadline(&self, edge: &Edge, since: MonoTime) -> MonoTime {
        since.after(self.module(edge.to).spec.startup_timeout)
    }

    /// Whether `edge` holds one that is waiting `since`.
    pub(super) fn edge_blocks(&self, edge: &Edge, since: MonoTime, now: MonoTime) -> bool {
        if self.is_satisfied(edge) {
            return false;
        }
        let target = self.module(edge.to);
        edge.hard
            || (target.goal() == Desired::Up
                && matches!(target.state, State::Waiting | State::Starting)
                && now < self.soft_wait_deadline(edge, since))
    }

    /// Whether the target is, in its current run, what the edge asks for.
    pub(super) fn is_satisfied(&self, edge: &Edge) -> bool {
        let target = self.module(edge.to);
        // A task that is done is all that it can ever be.
        if target.completed
            && (edge.until == DependencyCondition::Completed || target.spec.kind == Kind::Task)
        {
            return true;
        }
        let ready = target.is_active() && target.state == State::Running;
        match edge.until {
            DependencyCondition::Started => ready || (target.is_active() && target.pid.is_some()),
            DependencyCondition::Ready => {
                ready && (target.passes || !target.spec.has_readiness_probes)
            }
            DependencyCondition::Healthy => ready && target.health == Health::Healthy,
            DependencyCondition::Completed => false,
        }
    }

    /// Marks those that wait for `module` and nothing before it.
    pub(super) fn mark_waiting_dependents(&mut self, module: ModuleId) {
        for dependent in self.graph.dependents(module) {
            let slot = self.module(dependent.from);
            let first = slot.spec.edges.get(slot.waiting_on_edge as usize);
            if slot.state == State::Waiting && first.is_some_and(|edge| edge.to == module) {
                self.dirty.insert(self.graph.rank(dependent.from));
            }
        }
    }

    /// Whether a dependent that is being ended too must be down before `module`. None relies on a
    /// run that has no process yet: that one gets none.
    fn stop_is_blocked(&mut self, module: ModuleId) -> bool {
        let slot = self.module(module);
        if slot.state == State::Starting && slot.pid.is_none() {
            return false;
        }
        let dependents = self.graph.dependents(module);
        let from = self.module(module).stop_blocked_by as usize;
        let mut places = (from..dependents.len()).chain(0..from);
        let stopping = |dependent: &Dependent| {
            self.module(dependent.from).is_stopping() && self.is_in_force(dependent, module)
        };
        let Some(at) = places.find(|at| stopping(&dependents[*at])) else {
            return false;
        };
        self.module_mut(module).stop_blocked_by = u32::try_from(at).unwrap_or(0);
        true
    }

    /// Marks those that are blocked by `module`, which is down now.
    pub(super) fn mark_blocked_dependencies(&mut self, module: ModuleId) {
        let spec = self.spec_of(module);
        for edge in &spec.edges {
            let slot = self.module(edge.to);
            if slot.awaits_stop() {
                let blocking = self.graph.dependents(edge.to);
                let first = blocking.get(slot.stop_blocked_by as usize);
                if first.is_some_and(|dependent| dependent.from == module) {
                    self.dirty.insert(self.graph.rank(edge.to));
                }
            }
        }
    }
}

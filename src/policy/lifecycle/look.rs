//! One look at one module: the next step from what is to what is wished.
//! Owns the edges: whom they hold in `waiting`, and who must end before whom.
//! Never walks further than a module's own edges.

use super::slot::Fall;
use super::{Effect, Lifecycle, Phase};
use crate::shutdown::phases;
use crate::spec::{Edge, Kind, ModuleId, Until};
use crate::states::{Cause, Health, State, Wanted};
use crate::time::Time;

impl Lifecycle {
    /// Takes the step that is due, if any.
    pub(super) fn look(&mut self, now: Time, module: ModuleId) {
        let slot = self.slot(module);
        match (slot.state, slot.wanted) {
            (State::Starting | State::Running, _) if slot.must_fall() => {
                if !self.is_blocked(module) {
                    self.halt(now, module);
                }
            }
            // It lasts although it is wished down: only the end of everything hides that.
            (State::Failed, Wanted::Down) if slot.is_stuck() && self.phase != Phase::Down => {}
            (State::Waiting | State::Backoff | State::Failed, Wanted::Down) => {
                let cause = self.down_cause();
                self.moved(now, module, State::Stopped, cause, None);
            }
            (State::Waiting, Wanted::Up) => self.try_run(now, module),
            (State::Backoff | State::Failed, Wanted::Up) => self.try_again(now, module),
            (State::Starting | State::Running | State::Stopping, _)
            | (State::NotStarted | State::Stopped, _) => {}
        }
    }

    /// Why a module that is wished down goes there.
    pub(super) fn down_cause(&self) -> Cause {
        match self.phase {
            Phase::Down | Phase::Over => Cause::Shutdown,
            Phase::New | Phase::Starting | Phase::Up => Cause::Requested,
        }
    }

    /// Backoff or probation may be over.
    fn try_again(&mut self, now: Time, module: ModuleId) {
        let slot = self.slot_mut(module);
        if slot.retry_at.is_none_or(|at| now < at) {
            return;
        }
        let (cause, by) = match slot.state {
            State::Failed => {
                slot.ledger.half_open();
                (Cause::Probation, None)
            }
            _ => (slot.cause, slot.by),
        };
        slot.needs_token = true;
        self.moved(now, module, State::Waiting, cause, by);
    }

    /// Leaves `waiting` if nothing holds it; tokens and turns are handed out when all is settled.
    fn try_run(&mut self, now: Time, module: ModuleId) {
        if !matches!(self.phase, Phase::Starting | Phase::Up) || self.is_held(now, module) {
            return;
        }
        let rank = self.plan.rank(module);
        if self.is_serial() {
            self.for_turn.insert(rank);
        } else if self.slot(module).needs_token && self.plan.system().concurrent_restarts > 0 {
            self.for_token.insert(rank);
        } else {
            self.run(now, module);
        }
    }

    fn is_serial(&self) -> bool {
        self.phase == Phase::Starting && !self.plan.system().parallel_startup
    }

    /// Gives one free token or turn to the first that can use it. True if there was one to try.
    pub(super) fn hand_out(&mut self, now: Time) -> bool {
        if self.tokens_out < self.plan.system().concurrent_restarts
            && let Some(rank) = self.for_token.pop_first()
        {
            let module = self.plan.order()[rank as usize];
            if self.may_run(now, module) {
                self.slot_mut(module).holds_token = true;
                self.tokens_out += 1;
                self.run(now, module);
            }
            return true;
        }
        if self.turn.is_none()
            && now >= self.turn_at
            && let Some(rank) = self.for_turn.pop_first()
        {
            let module = self.plan.order()[rank as usize];
            if self.may_run(now, module) {
                self.turn = Some(module);
                self.run(now, module);
            }
            return true;
        }
        false
    }

    /// Who was queued may have been stopped or held since.
    fn may_run(&mut self, now: Time, module: ModuleId) -> bool {
        let slot = self.slot(module);
        matches!(self.phase, Phase::Starting | Phase::Up)
            && (slot.state, slot.wanted) == (State::Waiting, Wanted::Up)
            && !self.is_held(now, module)
    }

    fn run(&mut self, now: Time, module: ModuleId) {
        let rank = self.plan.rank(module);
        self.for_token.remove(rank);
        self.for_turn.remove(rank);
        let timeout = self.plan.module(module).startup_timeout;
        let slot = self.slot_mut(module);
        slot.restarts += u32::from(slot.generation > 0);
        slot.generation += 1;
        slot.needs_token = false;
        slot.completed = false;
        slot.health = Health::Unknown;
        slot.ready_by = Some(now.after(timeout));
        let (generation, cause, by) = (slot.generation, slot.cause, slot.by);
        self.out.push_back(Effect::Run { module, generation });
        self.moved(now, module, State::Starting, cause, by);
    }

    fn halt(&mut self, now: Time, module: ModuleId) {
        let slot = self.slot(module);
        let generation = slot.generation;
        let (cause, by) = match (slot.wanted, slot.fall) {
            (Wanted::Down, _) | (_, None) => (self.down_cause(), None),
            (Wanted::Up, Some(Fall::Dependency(by))) => (Cause::Dependency, Some(by)),
            (Wanted::Up, Some(Fall::Requested)) => (Cause::Requested, None),
            (Wanted::Up, Some(Fall::Probe)) => (Cause::Probe, None),
            (Wanted::Up, Some(Fall::Adopted)) => (Cause::Adopted, None),
        };
        self.order_halt(now, module, generation);
        self.moved(now, module, State::Stopping, cause, by);
    }

    /// Until the kill: the module's own timeout, and up to the budget of a whole stop if it asks
    /// for more; within what is left of that when those that end after it get their shares.
    pub(super) fn order_halt(&mut self, now: Time, module: ModuleId, generation: u64) {
        let spec = self.plan.module(module);
        let own = spec.shutdown_timeout;
        let limit = match &self.stop {
            None => own.max(self.plan.system().shutdown_timeout),
            Some(stop) => {
                let left = stop.by.since(now).saturating_sub(stop.shares.below(module));
                left / phases(spec)
            }
        };
        let grace = own.min(limit);
        self.out.push_back(Effect::Halt {
            module,
            generation,
            grace,
            limit,
        });
    }

    /// Whether an edge holds `module` in `waiting`. Remembers which, and arms the end of a soft
    /// one. The search goes on where the last one ended: over time each edge is passed once.
    fn is_held(&mut self, now: Time, module: ModuleId) -> bool {
        let edges = self.plan.dependencies(module);
        let slot = self.slot(module);
        let (from, since) = (slot.held_by as usize, slot.since);
        let mut places = (from..edges.len()).chain(0..from);
        let Some(at) = places.find(|at| self.holds(&edges[*at], since, now)) else {
            return false;
        };
        let edge = edges[at];
        self.slot_mut(module).held_by = u32::try_from(at).unwrap_or(0);
        if !edge.hard {
            self.alarms.set(module, self.soft_until(&edge, since));
        }
        true
    }

    /// A soft edge holds only this long.
    fn soft_until(&self, edge: &Edge, since: Time) -> Time {
        since.after(self.plan.module(edge.to).startup_timeout)
    }

    /// Whether `edge` holds one that is waiting `since`.
    pub(super) fn holds(&self, edge: &Edge, since: Time, now: Time) -> bool {
        if self.is_satisfied(edge) {
            return false;
        }
        let target = self.slot(edge.to);
        edge.hard
            || (target.wanted == Wanted::Up
                && matches!(target.state, State::Waiting | State::Starting)
                && now < self.soft_until(edge, since))
    }

    /// Whether the target is, in its current run, what the edge asks for.
    pub(super) fn is_satisfied(&self, edge: &Edge) -> bool {
        let target = self.slot(edge.to);
        // A task that is done is all that it can ever be.
        if target.completed
            && (edge.until == Until::Completed || self.plan.module(edge.to).kind == Kind::Task)
        {
            return true;
        }
        let ready = target.stands() && target.state == State::Running;
        match edge.until {
            Until::Started => ready || (target.stands() && target.pid.is_some()),
            Until::Ready => ready,
            Until::Healthy => ready && target.health == Health::Healthy,
            Until::Completed => false,
        }
    }

    /// Marks those that wait for `module` and nothing before it.
    pub(super) fn wake_dependents(&mut self, module: ModuleId) {
        for dependent in self.plan.dependents(module) {
            let slot = &self.slots[dependent.from.index()];
            if slot.state == State::Waiting {
                let edges = self.plan.dependencies(dependent.from);
                if edges
                    .get(slot.held_by as usize)
                    .is_some_and(|edge| edge.to == module)
                {
                    self.dirty.insert(self.plan.rank(dependent.from));
                }
            }
        }
    }

    /// Whether a dependent that is being ended too must be down before `module`.
    fn is_blocked(&mut self, module: ModuleId) -> bool {
        let dependents = self.plan.dependents(module);
        let from = self.slot(module).blocked_by as usize;
        let mut places = (from..dependents.len()).chain(0..from);
        let Some(at) = places.find(|at| self.slot(dependents[*at].from).is_falling()) else {
            return false;
        };
        self.slot_mut(module).blocked_by = u32::try_from(at).unwrap_or(0);
        true
    }

    /// Marks those that are blocked by `module`, which is down now.
    pub(super) fn wake_dependencies(&mut self, module: ModuleId) {
        for edge in self.plan.dependencies(module) {
            let slot = &self.slots[edge.to.index()];
            if slot.state.is_up() && slot.must_fall() {
                let blocking = self.plan.dependents(edge.to);
                let first = blocking.get(slot.blocked_by as usize);
                if first.is_some_and(|dependent| dependent.from == module) {
                    self.dirty.insert(self.plan.rank(edge.to));
                }
            }
        }
    }
}

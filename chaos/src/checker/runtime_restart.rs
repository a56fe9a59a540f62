//! What the death and the return of the runtime change in the second picture.
//! Owns what may be lost: what nobody was told yet. Never forgets a process.

use std::time::Duration;

use mainstay_policy::{ModuleId, MonoTime, Plan, Status};

use super::{Checker, DesiredReach};

/// What a run was before its end.
#[derive(Debug, Clone, Copy)]
pub struct ObservedRun {
    out: bool,
    stable_from: Option<MonoTime>,
}

/// What is known of a module before a run, in case that is lost with the runtime.
#[derive(Debug, Clone, Copy)]
pub struct BeforeRun {
    generation: u64,
    completed: bool,
    at_rest: bool,
    /// Its places among all runs.
    places: (u64, u64),
}

impl Checker {
    /// Whom the wishes so far reach.
    #[must_use]
    pub fn desired(&self) -> Vec<DesiredReach> {
        self.shadows.iter().map(|shadow| shadow.reach).collect()
    }

    /// Until when a module is held.
    #[must_use]
    pub fn held_until(&self, module: ModuleId) -> MonoTime {
        self.shadows[module.index()].held_until
    }

    /// A hold or a release was lost with the runtime.
    pub fn undo_hold(&mut self, module: ModuleId, before: MonoTime) {
        self.of(module).held_until = before;
    }

    /// A wish was lost with the runtime, before anybody could rely on it.
    pub fn undo_request(&mut self, before: &[DesiredReach]) {
        for (shadow, before) in self.shadows.iter_mut().zip(before) {
            shadow.reach = *before;
        }
    }

    /// A verdict was lost with the runtime; the failure will be judged again.
    pub fn undo_verdict(&mut self, module: ModuleId) {
        let shadow = self.of(module);
        shadow.attempts.pop_back();
        shadow.coming_back = false;
    }

    /// Until when everything has to be stopped, if that was asked for.
    #[must_use]
    pub fn stop_by(&self) -> Option<MonoTime> {
        self.stop_by
    }

    /// A stop of everything was lost with the runtime: whoever asked has no answer.
    pub fn undo_stop(&mut self, before: Option<MonoTime>) {
        self.stop_by = before;
    }

    /// Whether its last run ended with a clean exit.
    #[must_use]
    pub fn completed(&self, module: ModuleId) -> bool {
        self.shadows[module.index()].completed
    }

    /// A run was lost with the runtime before there was anything of it.
    pub fn undo_run(&mut self, module: ModuleId, before: BeforeRun) {
        let shadow = self.of(module);
        (shadow.out, shadow.generation) = (false, before.generation);
        (shadow.completed, shadow.at_rest) = (before.completed, before.at_rest);
        (shadow.run, shadow.restart) = before.places;
    }

    /// What is known of a module before it is run once more.
    #[must_use]
    pub fn before_run(&self, module: ModuleId, generation: u64) -> BeforeRun {
        let shadow = &self.shadows[module.index()];
        BeforeRun {
            generation,
            completed: shadow.completed,
            at_rest: shadow.at_rest,
            places: (shadow.run, shadow.restart),
        }
    }

    /// What is seen of the run of a module.
    #[must_use]
    pub fn observed_run(&self, module: ModuleId) -> ObservedRun {
        let shadow = &self.shadows[module.index()];
        ObservedRun {
            out: shadow.out,
            stable_from: shadow.stable_from,
        }
    }

    /// The end of a run was lost with the runtime: it will be told again.
    pub fn undo_end(&mut self, module: ModuleId, seen: ObservedRun) {
        let shadow = self.of(module);
        (shadow.out, shadow.stable_from) = (seen.out, seen.stable_from);
    }

    /// Nobody ran for this long: neither the runtime nor any process.
    pub fn slept(&mut self, span: Duration) {
        let later = |by: &mut Option<MonoTime>| *by = by.map(|by| by.after(span));
        later(&mut self.stop_by);
        for shadow in &mut self.shadows {
            later(&mut shadow.stop_by);
        }
    }

    /// The new runtime has taken over what there is.
    pub fn resumed(&mut self, status: Status) {
        self.serial &= status == Status::Starting;
    }

    /// A new runtime begins: with nothing (None), or with the processes that live.
    pub fn returned(&mut self, plan: &Plan, ready: impl Fn(ModuleId) -> Option<(u64, bool)>) {
        self.forget_recovery();
        self.bounds_returned();
        // The new runtime is asked again, with a budget of its own, and says by itself that all
        // have stopped: its predecessor may have died with that word.
        self.stop_by = self.stop_by.map(|_| MonoTime::NEVER);
        self.stopped = false;
        self.changing = false;
        // That the first start was over may not be in the records.
        self.serial = !plan.system().parallel_startup;
        let slots = (0_u32..).map(ModuleId).take(self.shadows.len());
        for module in slots {
            let alive = ready(module);
            let shadow = self.of(module);
            (shadow.spec, shadow.outdated) = (plan.get(module).cloned(), false);
            shadow.in_plan = plan.has(module);
            if !plan.has(module) {
                *shadow = super::ModelModule::default();
                continue;
            }
            shadow.token_until = MonoTime(0);
            shadow.halted_before |= shadow.halted;
            shadow.prepared_by = MonoTime(0);
            (shadow.halted, shadow.stop_by, shadow.healthy) = (false, None, false);
            shadow.ending = false;
            // A lost run counts as out until its end is told or judged.
            if let Some((generation, ready)) = alive {
                (shadow.out, shadow.started, shadow.generation) = (true, true, generation);
                shadow.ready = shadow.ready.filter(|_| ready);
            }
        }
    }

    /// Nothing lives of a run, and nobody told its end.
    pub fn lost(&mut self, module: ModuleId) {
        let shadow = self.of(module);
        (shadow.out, shadow.halted, shadow.stop_by) = (false, false, None);
        (shadow.started, shadow.ending, shadow.ready) = (false, false, None);
    }
}

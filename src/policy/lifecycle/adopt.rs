//! The return of the runtime: from the records of the last one to the state of each module.
//! Owns the record that must survive. Times in it are of the same boot.
//! Never guesses: what lives is adopted, what was recorded as living and is not has failed.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::managed_module::{ManagedModule, StopReason};
use super::{Lifecycle, SystemPhase};
use crate::mono_time::MonoTime;
use crate::recovery::SavedRecovery;
use crate::run::ADOPTED_MIN;
use crate::spec::{ModuleId, ModuleSpec, StartMode, Strategy};
use crate::states::{Cause, Desired, State};

/// Stands for any plan before the newest.
const FORMER_PLAN: u64 = 0;

/// What must survive the runtime, of one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModuleRecord {
    /// The desired state.
    pub desired: Desired,
    /// Number of requests so far.
    pub desired_revision: u64,
    /// Its state; `stopping` as soon as a stop was decided.
    pub state: State,
    /// Its last run.
    pub generation: u64,
    /// Whether that run is (or was) ready.
    pub ready: bool,
    /// Whether that run ended by itself with a clean code.
    pub completed: bool,
    /// The deadline of its start.
    pub ready_deadline: Option<MonoTime>,
    /// The deadline of its stop, and the latest to which that can be extended.
    pub stop_deadlines: Option<(MonoTime, MonoTime)>,
    /// The deadline of the initial startup, while that waits for the module.
    pub initial_start_deadline: Option<MonoTime>,
    /// The end of backoff, or the next probation.
    pub retry_at: Option<MonoTime>,
    /// No run is to start until then.
    pub held_until: Option<MonoTime>,
    /// Attempts, rung and probation.
    pub recovery: SavedRecovery,
    /// Runs after the first that no request led to.
    pub restarts: u32,
    /// Runs after the first that a request or a new plan led to.
    pub requested_restarts: u32,
    /// `auto = false`: what a person may accept.
    pub proposal: Option<Strategy>,
    /// Its features are switched off until a run is stable.
    pub degraded: bool,
    /// The reset before its next run (true), or taking one back, is not over.
    pub procedure: Option<bool>,
    /// A reset was made, and no run since has proved itself.
    pub on_trial: bool,
    /// Its run was ending by itself: its process, if it lives, is to end.
    pub ending: bool,
}

/// A process that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdoptedProcess {
    /// The number of the run.
    pub generation: u64,
    /// Its process.
    pub pid: u32,
}

impl Lifecycle {
    /// What must survive the runtime. A module that was removed keeps its last record, and one
    /// that never existed has the empty one.
    #[must_use]
    pub fn record(&self, module: ModuleId) -> ModuleRecord {
        let Some(slot) = self.get(module) else {
            let removed = self.removed.get(module.index());
            return removed.copied().unwrap_or_default();
        };
        // A returning runtime may have to continue with the former plan, which has the module.
        let stopped_by_plan = !slot.in_plan && slot.cause == Cause::Reload;
        let is_ending = slot.ends_by_itself && !slot.must_stop();
        ModuleRecord {
            desired: slot.desired,
            desired_revision: slot.desired_revision,
            // Why it has to end may be lost with the runtime; that it has to is not.
            state: match slot.state {
                // Of its end no more than that may be known to the next runtime: it has failed.
                _ if is_ending && slot.was_ready => State::Running,
                _ if is_ending => State::Starting,
                _ if slot.is_stopping() => State::Stopping,
                State::Stopped if stopped_by_plan && slot.desired == Desired::Up => State::Waiting,
                state => state,
            },
            generation: slot.generation,
            ready: match slot.state {
                _ if is_ending => slot.was_ready,
                State::Stopped => slot.was_ready,
                state => slot.is_active() && state == State::Running,
            },
            completed: slot.completed,
            ready_deadline: slot.ready_deadline,
            stop_deadlines: slot.stop_deadlines,
            initial_start_deadline: slot.in_initial_start.then_some(self.startup_by),
            retry_at: slot.retry_at,
            held_until: slot.held_until,
            recovery: slot.recovery.save(),
            restarts: slot.restarts,
            requested_restarts: slot.requested_restarts,
            proposal: slot.proposal.map(|proposal| proposal.strategy),
            degraded: slot.is_degraded,
            procedure: slot.procedure.map(|procedure| procedure.reset),
            on_trial: slot.on_trial,
            ending: is_ending,
        }
    }

    /// Before the `Adopted` events: modules that the plan has no more, and whose run is out by
    /// these specs. It is ended as after a change of the plan, which is not over before that.
    pub fn keep_former(&mut self, specs: impl IntoIterator<Item = Arc<ModuleSpec>>) {
        for spec in specs {
            self.grow_slots(spec.id.index() + 1);
            let slot = &mut self.modules[spec.id.index()];
            if slot.is_none() && self.phase == SystemPhase::New {
                let mut former = ManagedModule::new(&spec, FORMER_PLAN);
                former.in_plan = false;
                *slot = Some(former);
                self.is_changing = true;
            }
        }
        if self.is_changing {
            self.merge_graphs();
        }
    }

    pub(super) fn adopted(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        record: ModuleRecord,
        alive: Option<AdoptedProcess>,
    ) {
        let in_time = self.phase == SystemPhase::New;
        let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
            // A plan that is not committed removed it, and the one before may bring it back.
            self.grow_slots(module.index() + 1);
            self.removed[module.index()] = record;
            return;
        };
        if !in_time || slot.is_builtin() {
            return;
        }
        let spec = Arc::clone(&slot.spec);
        slot.restore_recovery(now, &record);
        // An untouched record counts as none: the last runtime died as its initial startup began.
        let touched = record.state != State::NotStarted || record.desired_revision > 0;
        slot.adopted = alive.is_some() || touched;
        slot.desired = record.desired;
        slot.desired_revision = record.desired_revision;
        slot.held_until = record.held_until;
        slot.restarts = record.restarts;
        slot.requested_restarts = record.requested_restarts;
        // The holder is right about processes: its generation may be newer than the record.
        slot.generation = alive
            .map_or(0, |alive| alive.generation)
            .max(record.generation);
        slot.pid = alive.map(|alive| alive.pid);
        let same_run = alive.is_none_or(|alive| alive.generation == record.generation);
        slot.stop_deadlines = record
            .stop_deadlines
            .filter(|_| alive.is_some() && same_run);
        slot.completed = record.completed && alive.is_none();
        slot.was_ready = record.ready;
        slot.needs_token = record.state == State::Waiting && record.generation > 0;
        slot.exit_unknown = alive.is_none() && record.state.is_live();
        let ends = record.state == State::Stopping || (record.ending && same_run);
        let to = match (alive, record.state) {
            (Some(_), _) if ends => {
                slot.stop_reason = Some(StopReason::Adopted);
                State::Running
            }
            (Some(_), state) if state.is_up() && record.ready && same_run => State::Running,
            (Some(_), _) => State::Starting,
            (None, state) => state,
        };
        if to != State::NotStarted {
            self.set_state(now, module, to, Cause::Adopted, None);
        }
        let newest = self.plan.number();
        self.outdated_runs += u32::from(self.module(module).is_outdated(newest));
        if to == State::Starting {
            let full = now.after(spec.startup_timeout);
            let ready_deadline = record.ready_deadline.filter(|_| same_run).unwrap_or(full);
            self.module_mut(module).ready_deadline = Some(ready_deadline);
        }
        if let Some(initial_start_deadline) = record
            .initial_start_deadline
            .filter(|_| to != State::Running)
        {
            self.module_mut(module).in_initial_start = true;
            self.booting += 1;
            self.startup_by = self.startup_by.min(initial_start_deadline);
        }
        if let (State::Backoff | State::Failed, Some(at)) = (to, record.retry_at) {
            self.retry_at(module, at);
        }
        self.restore_recovery(now, module, record);
    }

    /// Requests again what has to be done before the next run, notifies a degraded run again, and
    /// counts the attempts of the module in its group.
    pub(super) fn restore_recovery(
        &mut self,
        now: MonoTime,
        module: ModuleId,
        record: ModuleRecord,
    ) {
        if let Some(reset) = record.procedure {
            self.request_procedure(now, module, reset, true);
        }
        self.notify_degraded(module);
        let groups = Arc::clone(self.plan.groups());
        let attempts = record.recovery.attempts;
        self.group_budgets.restore(&groups, now, module, attempts);
    }

    /// Continues from what was adopted. A run that was recorded as live, has no process and no
    /// reported exit has failed. An eager module without a record becomes desired up.
    pub(super) fn resume(&mut self, now: MonoTime) {
        if self.phase == SystemPhase::Stopping {
            // What ended meanwhile already stops everything.
            let lost = self.ids().filter(|id| self.module(*id).exit_unknown);
            for module in lost.collect::<Vec<ModuleId>>() {
                self.apply_run_end(now, module, None);
            }
        }
        if self.phase != SystemPhase::New {
            return;
        }
        let fresh = |own: &Lifecycle, module: ModuleId| !own.module(module).adopted;
        let eager = |module: &ModuleId| {
            let slot = self.module(*module);
            slot.spec.start == StartMode::Eager && !slot.is_builtin()
        };
        // An eager module without a record belongs to an initial startup that kept no records.
        let goes_on = self.booting > 0;
        let begins = self.ids().filter(eager).any(|module| fresh(self, module));
        (self.phase, self.startup_by) = match (goes_on, begins) {
            // Events that waited for this runtime arrive after this.
            (true, _) => (
                SystemPhase::Starting,
                self.startup_by.max(now.after(ADOPTED_MIN)),
            ),
            (false, true) => (
                SystemPhase::Starting,
                now.after(self.plan.system().startup_timeout),
            ),
            (false, false) => (SystemPhase::Up, MonoTime::NEVER),
        };
        for module in self.ids() {
            if self.module(module).exit_unknown {
                self.apply_run_end(now, module, None);
            } else if !self.module(module).is_builtin() {
                self.mark_dirty(module);
            }
        }
        self.join_plan(now, Cause::Boot, &[], fresh);
        self.count_initial_starts(fresh);
        if !self.plan.system().parallel_startup {
            let starts = |module: &ModuleId| self.module(*module).state == State::Starting;
            self.turn = self.ids().find(starts);
        }
        self.stop_cascade(now);
        if core::mem::take(&mut self.stops_on_resume) {
            self.stop_all(now, self.plan.system().shutdown_timeout);
        }
    }
}

//! What a run tells: it exists, it is ready, it is over.
//! Owns what an ending means: as wished, a fall that was ours, or a failure to be judged.
//! Never asks again: a report of another run than the current one changes nothing.

use super::fall::Gone;
use super::slot::Fall;
use super::{Effect, Lifecycle, Phase, StartupFailure};
use crate::backoff::splitmix64;
use crate::module::{Ending, Exit, Report, Reported, Step};
use crate::recovery::{Failure, Verdict, decide};
use crate::spec::{Kind, ModuleId};
use crate::states::{Cause, Health, State, Wanted};
use crate::time::Time;

impl Lifecycle {
    pub(super) fn reported(&mut self, now: Time, module: ModuleId, report: Report) {
        if !self.plan.has(module) {
            return;
        }
        let slot = self.slot_mut(module);
        if report.generation != slot.generation || !slot.state.is_live() {
            return;
        }
        match report.what {
            Reported::Started { pid } => {
                slot.pid = Some(pid);
                self.wake_dependents(module);
            }
            Reported::Extended { ready_by } => {
                if slot.state == State::Starting {
                    slot.ready_by = Some(ready_by);
                    self.mark(module);
                }
            }
            Reported::Ready => {
                if slot.state == State::Starting {
                    slot.ledger.ready(now);
                    self.start_over(now, module);
                    self.boot_done(module);
                    self.moved(now, module, State::Running, Cause::Startup, None);
                    self.tell_back(module);
                }
            }
            Reported::Ended(ending) => {
                slot.last = Some(ending);
                self.ended(now, module, Some(ending));
            }
        }
    }

    /// How a run feels. A probe that failed for good ends it; its end is then judged.
    pub(super) fn felt(&mut self, module: ModuleId, generation: u64, health: Health, ill: bool) {
        if !self.plan.has(module) {
            return;
        }
        let builtin = self.is_builtin(module);
        let slot = self.slot_mut(module);
        if generation != slot.generation || !slot.state.is_up() {
            return;
        }
        slot.health = health;
        if ill && !builtin && slot.stands() {
            slot.fall = Some(Fall::Probe);
            self.mark(module);
        }
        self.retally(module);
        self.wake_dependents(module);
    }

    /// The run is no longer on its way up: its token and its turn go to the next.
    fn start_over(&mut self, now: Time, module: ModuleId) {
        let slot = self.slot_mut(module);
        slot.ready_by = None;
        if core::mem::take(&mut slot.holds_token) {
            self.tokens_out -= 1;
        }
        if self.turn == Some(module) {
            self.turn = None;
            self.turn_at = now.after(self.plan.system().module_start_delay);
        }
    }

    /// The run is over. `ending` is None when nobody knows how.
    pub(super) fn ended(&mut self, now: Time, module: ModuleId, ending: Option<Ending>) {
        self.start_over(now, module);
        self.wake_dependencies(module);
        let killed = matches!(ending, Some(Ending::Halted { forced: true, .. }));
        if self.phase == Phase::Down && killed {
            self.forced += 1;
        }
        let recovery = &self.plan.module(module).recovery;
        let clean = matches!(ending, Some(Ending::Exited(Exit::Code(code)))
            if recovery.clean_exit_codes.contains(&code));
        let is_task = self.plan.module(module).kind == Kind::Task;
        let slot = &mut self.slots[module.index()];
        (slot.pid, slot.health, slot.lost) = (None, Health::Unknown, false);
        let fall = slot.fall.take();
        let halted = slot.state == State::Stopping || fall.is_some();
        let stuck = slot.is_stuck() && ending.is_some();
        slot.completed = clean && slot.state != State::Stopping;
        match (slot.wanted, fall) {
            (Wanted::Down, _) if stuck && self.phase != Phase::Down => {
                self.moved(now, module, State::Failed, Cause::Timeout, None);
            }
            (Wanted::Up, _) if stuck => {
                self.judge(now, module, Failure::Exited(Exit::Stuck));
            }
            (Wanted::Down, _) => {
                slot.ledger.run_over(recovery, now);
                (slot.owes_hard, slot.owes_soft) = (false, false);
                let cause = self.down_cause();
                self.moved(now, module, State::Stopped, cause, None);
            }
            (Wanted::Up, Some(Fall::Probe)) => self.judge(now, module, Failure::Probe),
            (Wanted::Up, _) if halted => {
                slot.ledger.run_over(recovery, now);
                slot.needs_token = matches!(fall, Some(Fall::Dependency(_)));
                let (cause, by) = match fall {
                    // It may have ended by itself before the order to halt.
                    Some(Fall::Dependency(by)) => (Cause::Dependency, Some(by)),
                    _ => (Cause::Requested, None),
                };
                self.moved(now, module, State::Waiting, cause, by);
                if matches!(fall, None | Some(Fall::Adopted)) {
                    // Why it had to end died with a runtime; its dependents may not know of it.
                    self.restarts_under(module);
                }
            }
            (Wanted::Up, _) if clean && is_task => {
                slot.ledger.run_over(recovery, now);
                self.boot_done(module);
                self.moved(now, module, State::Stopped, Cause::Exit, None);
            }
            (Wanted::Up, _) => {
                self.judge(now, module, ending.map_or(Failure::Lost, Failure::from));
            }
        }
    }

    fn judge(&mut self, now: Time, module: ModuleId, failure: Failure) {
        let spec = self.plan.module(module);
        let required = spec.required;
        let slot = &mut self.slots[module.index()];
        let seed = splitmix64(self.seed ^ u64::from(module.0) << 32) ^ slot.generation;
        let verdict = decide(&spec.recovery, &mut slot.ledger, now, failure, seed);
        let attempt = slot.ledger.attempts();
        self.out.push_back(Effect::Judged {
            module,
            failure,
            attempt,
            verdict,
        });
        let cause = cause(failure);
        match verdict {
            Verdict::Done => {
                self.boot_done(module);
                self.moved(now, module, State::Stopped, cause, None);
            }
            Verdict::Retry { after } => {
                if !required {
                    self.boot_done(module);
                }
                self.moved(now, module, State::Backoff, cause, None);
                self.retry_at(module, now.after(after));
                self.restarts_under(module);
            }
            Verdict::GiveUp { probation } => {
                self.moved(now, module, State::Failed, cause, None);
                if let Some(after) = probation {
                    self.retry_at(module, now.after(after));
                }
                self.falls_with(module, Gone::Failed);
                self.tell_failed(module);
                if required && self.phase == Phase::Starting {
                    self.startup_failed(now, StartupFailure::CriticalModuleFailed { module });
                }
                self.boot_done(module);
            }
        }
    }

    pub(super) fn retry_at(&mut self, module: ModuleId, at: Time) {
        self.slot_mut(module).retry_at = Some(at);
        self.alarms.set(module, at);
    }
}

/// The word for a failure.
fn cause(failure: Failure) -> Cause {
    match failure {
        Failure::NotStarted(failure) if matches!(failure.step, Step::Prepare | Step::Resources) => {
            Cause::Startup
        }
        Failure::NotStarted(_) => Cause::Exec,
        Failure::Exited(_) | Failure::Lost => Cause::Exit,
        Failure::StartTimeout => Cause::Timeout,
        Failure::Watchdog => Cause::Watchdog,
        Failure::Probe => Cause::Probe,
    }
}

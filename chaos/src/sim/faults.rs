//! What people and accidents do: wishes, stops of everything, the death of the runtime.
//! Owns how often. Never happens any more once the faults are over.

use std::time::Duration;

use mainstay_policy::lifecycle::{AdoptedProcess, LifecycleEvent, ModuleRecord, Operation};
use mainstay_policy::run::{RunEnd, RunEvent as ToModule, RunMachine, RunReport, RunReportKind};
use mainstay_policy::{Health, Lifecycle, ModuleId, MonoTime};

use super::{InjectedBug, Sim};
use crate::checker::Checked;
use crate::choices::ChoiceKind;
use crate::coverage::Point;
use crate::fault::{Fault, ProcessReport};
use crate::rng::Rng;
use crate::trace::TraceLine;
use crate::violation::Violation;
use crate::world::WorldEvent;

const MS: fn(u64) -> Duration = Duration::from_millis;

impl Sim {
    /// The faults are drawn one after the other, or those of a record; returns when they end.
    pub(super) fn schedule_faults(&mut self) -> MonoTime {
        let Some(replay) = self.choices.replay() else {
            self.agenda.push_lasting(self.now, WorldEvent::FaultDue);
            return MonoTime::NEVER;
        };
        for (nth, (at, _)) in replay.faults.iter().enumerate() {
            self.agenda
                .push_lasting(*at, WorldEvent::FaultReplayed(nth));
        }
        replay.end
    }

    pub(super) fn replay_fault(&mut self, nth: usize) -> Checked {
        let fault = self.choices.replay().map(|replay| replay.faults[nth].1);
        let Some(fault) = fault.filter(|_| self.faults && !self.runtime_down) else {
            return Ok(());
        };
        let gone = fault.module().is_some_and(|module| !self.plan.has(module));
        match gone {
            true => Ok(()),
            false => self.perform_fault(fault),
        }
    }

    pub(super) fn inject_fault(&mut self) -> Checked {
        if !self.faults {
            return Ok(());
        }
        // Often the next one comes before anything has settled.
        let gap = if self.rng.permille(300) {
            MS(10)
        } else {
            MS(400)
        };
        let next = self.now.after(self.rng.span(gap));
        self.agenda.push_lasting(next, WorldEvent::FaultDue);
        if self.runtime_down {
            return Ok(());
        }
        let Some(fault) = self.draw_fault() else {
            return Ok(());
        };
        self.choices.record_fault(self.now, fault);
        self.perform_fault(fault)
    }

    fn draw_fault(&mut self) -> Option<Fault> {
        let Some(module) = self.next_victim() else {
            return Some(self.draw_replan());
        };
        self.focus = Some(module);
        Some(match self.rng.below(100) {
            0..=49 => Fault::Request(module, self.draw_operation()),
            50..=69 => {
                let healths = [Health::Healthy, Health::Degraded, Health::Unhealthy];
                let health = self.rng.pick(&healths);
                let ill = health == Health::Unhealthy && self.rng.permille(500);
                Fault::Health(module, health, ill)
            }
            70..=79 => {
                let by = self.rng.span(MS(2_000));
                let pid = u32::try_from(self.rng.below(1 << 20)).unwrap_or(0);
                let reports = [
                    ProcessReport::MainChanged(pid),
                    ProcessReport::Stopping,
                    ProcessReport::Extend(by),
                    ProcessReport::WatchdogTriggered,
                    ProcessReport::WatchdogFed,
                ];
                Fault::Report(module, self.rng.pick(&reports))
            }
            80..=81 => Fault::StopAll(self.rng.span(MS(5_000))),
            82..=86 => Fault::RuntimeDeath(self.rng.below(12)),
            87 => Fault::Sleep(self.rng.span(MS(20_000))),
            88..=91 => self.draw_replan(),
            92..=93 => Fault::Limit(module, self.rng.permille(200)),
            94 => {
                let is_release = self.rng.permille(300);
                let span = self.rng.span(MS(5_000));
                Fault::Hold(module, if is_release { Duration::ZERO } else { span })
            }
            95 => Fault::Idle(module),
            _ => return None,
        })
    }

    fn draw_replan(&mut self) -> Fault {
        Fault::Replan(self.rng.draw() | 1)
    }

    fn draw_operation(&mut self) -> Operation {
        match self.rng.below(10) {
            0..=4 => Operation::Start,
            5..=6 => Operation::Stop,
            7 if self.rng.permille(500) => Operation::Recover,
            7..=8 => Operation::Restart,
            _ => Operation::Wake,
        }
    }

    fn perform_fault(&mut self, fault: Fault) -> Checked {
        self.summary.coverage.fault(&fault);
        self.trace.push(self.now, TraceLine::Fault(fault));
        match fault {
            Fault::Request(module, operation) => self.request(module, operation)?,
            Fault::Health(module, health, ill) => {
                let generation = self.lifecycle.view(module).generation;
                let changed = WorldEvent::HealthChanged(module, generation, health, ill);
                self.agenda.push(self.now, changed);
            }
            Fault::Report(module, report) => {
                let event = report.of(self.lifecycle.view(module).generation);
                self.agenda
                    .push(self.now, WorldEvent::ToModule(module, event));
            }
            Fault::Limit(module, stop) => {
                let generation = self.lifecycle.view(module).generation;
                self.apply_to_lifecycle(LifecycleEvent::LimitExceeded {
                    module,
                    generation,
                    stop,
                })?;
            }
            Fault::Idle(module) => {
                let generation = self.lifecycle.view(module).generation;
                self.check.unused(module);
                self.apply_to_lifecycle(LifecycleEvent::Idle { module, generation })?;
            }
            Fault::Hold(module, span) => self.hold(module, span)?,
            Fault::StopAll(budget) => self.stop_all(Some(budget))?,
            Fault::RuntimeDeath(after) => self.crash_after = Some(after),
            Fault::Sleep(span) => self.sleep(span),
            Fault::Replan(state) => self.change_plan(Rng::from_state(state))?,
        }
        self.reboot_if_stopped()
    }

    /// Any module; often the last one again, or one that it depends on or that depends on it: what
    /// goes wrong together is where decisions meet.
    fn next_victim(&mut self) -> Option<ModuleId> {
        let last = self.focus.filter(|module| self.plan.has(*module));
        if let Some(last) = last.filter(|_| self.rng.permille(500)) {
            let needs = self.plan.dependencies(last).iter().map(|edge| edge.to);
            let dependents = self.plan.dependents(last).iter().map(|one| one.from);
            let near: Vec<ModuleId> = [last, last]
                .into_iter()
                .chain(needs)
                .chain(dependents)
                .collect();
            return Some(self.rng.pick(&near));
        }
        let nth = usize::try_from(self.rng.below(self.plan.len() as u64)).unwrap_or(0);
        self.plan.ids().nth(nth)
    }

    fn request(&mut self, module: ModuleId, operation: Operation) -> Checked {
        if !self.is_builtin(module) {
            self.records.requested(self.check.desired());
            self.check.requested(&self.plan, module, operation);
        }
        if operation == Operation::Stop && self.is(InjectedBug::IgnoreStop) {
            return Ok(());
        }
        self.apply_to_lifecycle(LifecycleEvent::Requested { module, operation })
    }

    fn hold(&mut self, module: ModuleId, span: Duration) -> Checked {
        let until = (!span.is_zero()).then(|| self.now.after(span));
        self.records.held(module, self.check.held_until(module));
        if !self.is_builtin(module) {
            self.check.held(module, until);
        }
        self.apply_to_lifecycle(LifecycleEvent::Held { module, until })
    }

    pub(super) fn stop_all(&mut self, budget: Option<Duration>) -> Checked {
        let total = budget.unwrap_or(self.plan.system().shutdown_timeout);
        self.records.stops(self.check.stop_by());
        self.check.stop_requested(&self.plan, self.now, total);
        self.apply_to_lifecycle(LifecycleEvent::StopAll { budget })
    }

    /// After a stop of everything the system is started again, as long as there are faults.
    pub(super) fn reboot_if_stopped(&mut self) -> Checked {
        if !self.check.is_stopped() || self.ending {
            return Ok(());
        }
        let idle = self
            .modules_in_world
            .iter()
            .all(|place| place.known_process().is_none() && place.hook.is_none());
        if !idle {
            return Err(Violation::NotStopped);
        }
        // What was stuck has ended before anything is started again.
        for place in &mut self.modules_in_world {
            place.process = None;
        }
        self.forget_what_has_no_plan();
        self.new_runtime();
        let places = &self.modules_in_world;
        self.records.begin_anew(|at| places[at].newest);
        self.check
            .rebooted(&self.plan, |module| places[module.index()].newest);
        let plan = std::sync::Arc::clone(&self.plan);
        for module in plan.ids() {
            let record = self.records.saved(module);
            self.apply_to_lifecycle(LifecycleEvent::Adopted {
                module,
                record,
                alive: None,
            })?;
        }
        self.apply_to_lifecycle(LifecycleEvent::Boot)
    }

    fn new_runtime(&mut self) {
        self.agenda.runtime_died();
        self.choose(ChoiceKind::Seed, ModuleId(0));
        self.lifecycle = Lifecycle::new(std::sync::Arc::clone(&self.runtime_plan), self.rng.draw());
        self.records.begin();
        self.modules.fill(RunMachine::new());
        self.specs = super::specs_of(&self.runtime_plan, self.specs.len());
        self.armed.fill(MonoTime::NEVER);
        self.lifecycle_armed = MonoTime::NEVER;
    }

    /// The machine sleeps: what was due meanwhile happens late, all at once, in its order.
    fn sleep(&mut self, span: Duration) {
        self.summary.sleeps += 1;
        self.now = self.now.after(span);
        self.check.slept(span);
    }

    /// A death is most telling in the middle of things.
    pub(super) fn crash_if_due(&mut self) -> Checked {
        match self.crash_after {
            Some(0) if self.runtime_down => Ok(()),
            Some(0) => {
                self.crash_after = None;
                self.runtime_dies()
            }
            Some(left) => {
                self.crash_after = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The runtime is gone. Of its last words to the system, records and orders, the first still
    /// arrive and the others do not; hooks die with it.
    fn runtime_dies(&mut self) -> Checked {
        self.summary.returns += 1;
        self.runtime_down = true;
        self.choose(ChoiceKind::RuntimeDeath, ModuleId(0));
        let until = self.now.after(self.rng.span(MS(20)));
        let until = if self.rng.permille(500) {
            self.now
        } else {
            until
        };
        self.lose_records(until);
        // What the death loses is not chosen by what still happens.
        let returns_after = self.rng.span(MS(1_000));
        for (at, order) in self.agenda.runtime_died() {
            let lost = at > until;
            self.summary.coverage.reach_if(lost, Point::FaultLostOrder);
            if !lost {
                self.dispatch(self.now, order)?;
            }
        }
        for place in &mut self.modules_in_world {
            place.hook = None;
        }
        let at = self.now.after(returns_after);
        self.agenda.push_lasting(at, WorldEvent::RuntimeStarts);
        Ok(())
    }

    /// A new runtime takes over what lives and hears of what ended meanwhile.
    pub(super) fn runtime_returns(&mut self) -> Checked {
        if !std::mem::take(&mut self.runtime_down) {
            return Ok(());
        }
        self.forget_what_has_no_plan();
        let records = self.records.all_saved();
        self.new_runtime();
        let alive = |sim: &Sim, module: ModuleId| {
            let process = sim.modules_in_world[module.index()].known_process();
            process.map(|process| AdoptedProcess {
                generation: process.generation,
                pid: process.pid,
            })
        };
        let plan = std::sync::Arc::clone(&self.plan);
        self.check.returned(&plan, |module| {
            let process = self.modules_in_world[module.index()].known_process()?;
            let record = &records[module.index()];
            Some((
                process.generation,
                record.ready && record.generation == process.generation,
            ))
        });
        for module in plan.ids() {
            let (record, alive) = (records[module.index()], alive(self, module));
            self.apply_to_lifecycle(LifecycleEvent::Adopted {
                module,
                record,
                alive,
            })?;
            if let Some(alive) = alive {
                self.take_over(module, &record, alive)?;
            }
        }
        for module in plan.ids() {
            let record = records[module.index()];
            let place = &self.modules_in_world[module.index()];
            if place.known_process().is_none()
                && let Some((generation, exit)) = place.exit
                && generation == record.generation
            {
                let what = RunReportKind::Ended(RunEnd::Exited(exit));
                let report = RunReport { generation, what };
                self.records.ends(module, self.check.observed_run(module));
                self.check.reported(self.now, module, report)?;
                self.tell_lifecycle(LifecycleEvent::Reported { module, report });
            }
        }
        for module in plan.ids().filter(|module| {
            self.modules_in_world[module.index()]
                .known_process()
                .is_none()
        }) {
            self.check.lost(module);
        }
        self.apply_to_lifecycle(LifecycleEvent::Resume)?;
        self.check.resumed(self.lifecycle.status());
        if self.check.is_stopping() {
            self.stop_all(None)?;
        }
        self.reboot_if_stopped()
    }

    fn take_over(
        &mut self,
        module: ModuleId,
        record: &ModuleRecord,
        alive: AdoptedProcess,
    ) -> Checked {
        let AdoptedProcess { generation, pid } = alive;
        let same = record.generation == generation;
        let event = ToModule::Adopted {
            generation,
            pid,
            ready: record.ready && same,
            ready_deadline: record.ready_deadline.filter(|_| same),
        };
        self.apply_to_module(module, event)?;
        let said = self.modules_in_world[module.index()]
            .known_process()
            .is_some_and(|it| it.ready_sent);
        match said {
            true => self.apply_to_module(module, ToModule::ReadyReported { generation }),
            false => Ok(()),
        }
    }
}

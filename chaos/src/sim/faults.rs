//! What people and accidents do: wishes, stops of everything, the death of the runtime.
//! Owns how often. Never happens any more once the faults are over.

use std::time::Duration;

use mainstay_policy::lifecycle::{AdoptedProcess, LifecycleEvent, ModuleRecord, Operation};
use mainstay_policy::run::{RunEnd, RunEvent as ToModule, RunMachine, RunReport, RunReportKind};
use mainstay_policy::{Health, Lifecycle, ModuleId, MonoTime};

use super::{InjectedBug, Sim};
use crate::checker::Checked;
use crate::violation::Violation;
use crate::world::WorldEvent;

const MS: fn(u64) -> Duration = Duration::from_millis;

impl Sim {
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
        let Some(module) = self.next_victim() else {
            return self.change_plan();
        };
        self.focus = Some(module);
        let generation = self.lifecycle.view(module).generation;
        match self.rng.below(100) {
            0..=49 => self.request_random(module)?,
            50..=69 => {
                let healths = [Health::Healthy, Health::Degraded, Health::Unhealthy];
                let health = self.rng.pick(&healths);
                let ill = health == Health::Unhealthy && self.rng.permille(500);
                self.agenda.push(
                    self.now,
                    WorldEvent::HealthChanged(module, generation, health, ill),
                );
            }
            70..=79 => {
                let by = self.rng.span(MS(2_000));
                let pid = u32::try_from(self.rng.below(1 << 20)).unwrap_or(0);
                let events = [
                    ToModule::MainChanged { generation, pid },
                    ToModule::StoppingReported { generation },
                    ToModule::TimeoutExtended { generation, by },
                    ToModule::WatchdogTriggered { generation },
                    ToModule::WatchdogFed { generation },
                ];
                let event = self.rng.pick(&events);
                self.agenda
                    .push(self.now, WorldEvent::ToModule(module, event));
            }
            80..=81 => {
                let budget = self.rng.span(MS(5_000));
                self.stop_all(Some(budget))?;
            }
            82..=86 => self.crash_after = Some(self.rng.below(12)),
            87 => self.sleep(),
            88..=91 => self.change_plan()?,
            92..=93 => {
                let stop = self.rng.permille(200);
                self.apply_to_lifecycle(LifecycleEvent::LimitExceeded {
                    module,
                    generation,
                    stop,
                })?;
            }
            _ => {}
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

    fn request_random(&mut self, module: ModuleId) -> Checked {
        let operation = match self.rng.below(10) {
            0..=4 => Operation::Start,
            5..=6 => Operation::Stop,
            7 if self.rng.permille(500) => Operation::Recover,
            7..=8 => Operation::Restart,
            _ => Operation::Wake,
        };
        if !self.is_builtin(module) {
            self.records.requested(self.check.desired());
            self.check.requested(&self.plan, module, operation);
        }
        if operation == Operation::Stop && self.is(InjectedBug::IgnoreStop) {
            return Ok(());
        }
        self.apply_to_lifecycle(LifecycleEvent::Requested { module, operation })
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
        self.lifecycle = Lifecycle::new(std::sync::Arc::clone(&self.runtime_plan), self.rng.draw());
        self.records.begin();
        self.modules.fill(RunMachine::new());
        self.specs = super::specs_of(&self.runtime_plan, self.specs.len());
        self.armed.fill(MonoTime::NEVER);
        self.lifecycle_armed = MonoTime::NEVER;
    }

    /// The machine sleeps: what was due meanwhile happens late, all at once, in its order.
    fn sleep(&mut self) {
        self.summary.sleeps += 1;
        let span = self.rng.span(MS(20_000));
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
        let until = self.now.after(self.rng.span(MS(20)));
        let until = if self.rng.permille(500) {
            self.now
        } else {
            until
        };
        self.lose_records(until);
        for (at, order) in self.agenda.runtime_died() {
            if at <= until {
                self.dispatch(self.now, order)?;
            }
        }
        for place in &mut self.modules_in_world {
            place.hook = None;
        }
        let at = self.now.after(self.rng.span(MS(1_000)));
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

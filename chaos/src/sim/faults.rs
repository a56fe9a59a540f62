//! What people and accidents do: wishes, stops of everything, the death of the runtime.
//! Owns how often. Never happens any more once the faults are over.

use std::time::Duration;

use mainstay_policy::lifecycle::{Alive, Event, Record, Wish};
use mainstay_policy::module::{Ending, Event as ToModule, Module, Report, Reported};
use mainstay_policy::{Health, Lifecycle, ModuleId, Time};

use super::{Sabotage, Sim};
use crate::check::Checked;
use crate::violation::Violation;
use crate::world::Item;

const MS: fn(u64) -> Duration = Duration::from_millis;

impl Sim {
    pub(super) fn mischief(&mut self) -> Checked {
        if !self.faults {
            return Ok(());
        }
        let next = self.now.after(self.rng.span(MS(400)));
        self.agenda.push_lasting(next, Item::Mischief);
        if self.alone {
            return Ok(());
        }
        let id = u32::try_from(self.rng.below(self.plan.len() as u64)).unwrap_or(0);
        let module = ModuleId(id);
        let generation = self.lifecycle.view(module).generation;
        match self.rng.below(100) {
            0..=49 => self.wish(module)?,
            50..=69 => {
                let healths = [Health::Healthy, Health::Degraded, Health::Unhealthy];
                let health = self.rng.pick(&healths);
                let ill = health == Health::Unhealthy && self.rng.permille(500);
                self.agenda
                    .push(self.now, Item::Feels(module, generation, health, ill));
            }
            70..=79 => {
                let by = self.rng.span(MS(2_000));
                let pid = u32::try_from(self.rng.below(1 << 20)).unwrap_or(0);
                let events = [
                    ToModule::MainChanged { generation, pid },
                    ToModule::Leaving { generation },
                    ToModule::TimeoutExtended { generation, by },
                    ToModule::WatchdogTriggered { generation },
                    ToModule::WatchdogFed { generation },
                ];
                let event = self.rng.pick(&events);
                self.agenda.push(self.now, Item::ToModule(module, event));
            }
            80..=81 => {
                let budget = self.rng.span(MS(5_000));
                self.stop_all(Some(budget))?;
            }
            82..=86 => self.doom = Some(self.rng.below(12)),
            87 => self.sleep(),
            _ => {}
        }
        self.reboot_if_stopped()
    }

    fn wish(&mut self, module: ModuleId) -> Checked {
        let wish = match self.rng.below(10) {
            0..=4 => Wish::Start,
            5..=6 => Wish::Stop,
            7..=8 => Wish::Restart,
            _ => Wish::Wake,
        };
        if !self.is_builtin(module) {
            self.records.wished(self.check.wishes());
            self.check.wished(&self.plan, module, wish);
        }
        if wish == Wish::Stop && self.is(Sabotage::DeafToStop) {
            return Ok(());
        }
        self.tell_lifecycle(Event::Wished { module, wish })
    }

    pub(super) fn stop_all(&mut self, budget: Option<Duration>) -> Checked {
        let total = budget.unwrap_or(self.plan.system().shutdown_timeout);
        self.records.stops(self.check.stop_by());
        self.check.stop_asked(&self.plan, self.now, total);
        self.tell_lifecycle(Event::StopAll { budget })
    }

    /// After a stop of everything the system is started again, as long as there are faults.
    pub(super) fn reboot_if_stopped(&mut self) -> Checked {
        if !self.check.is_stopped() || self.ending {
            return Ok(());
        }
        let idle = self
            .places
            .iter()
            .all(|place| place.process.is_none() && place.hook.is_none());
        if !idle {
            return Err(Violation::NotStopped);
        }
        self.new_runtime();
        let places = &self.places;
        self.records.begin_anew(|at| places[at].newest);
        self.check
            .rebooted(&self.plan, |module| places[module.index()].newest);
        for module in self.plan.ids() {
            let record = self.records.held(module);
            self.tell_lifecycle(Event::Adopted {
                module,
                record,
                alive: None,
            })?;
        }
        self.tell_lifecycle(Event::Boot)
    }

    fn new_runtime(&mut self) {
        self.agenda.runtime_died();
        self.lifecycle = Lifecycle::new(std::sync::Arc::clone(&self.believed), self.rng.draw());
        self.records.begin();
        self.modules.fill(Module::new());
        self.armed.fill(Time::NEVER);
        self.lifecycle_armed = Time::NEVER;
    }

    /// The machine sleeps: what was due meanwhile happens late, all at once, in its order.
    fn sleep(&mut self) {
        self.summary.sleeps += 1;
        let span = self.rng.span(MS(20_000));
        self.now = self.now.after(span);
        self.check.slept(span);
    }

    /// A death is most telling in the middle of things.
    pub(super) fn meet_doom(&mut self) -> Checked {
        match self.doom {
            Some(0) if self.alone => Ok(()),
            Some(0) => {
                self.doom = None;
                self.runtime_dies()
            }
            Some(left) => {
                self.doom = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The runtime is gone. Of its last words to the system, records and orders, the first still
    /// arrive and the others do not; hooks die with it.
    fn runtime_dies(&mut self) -> Checked {
        self.summary.returns += 1;
        self.alone = true;
        let until = self.now.after(self.rng.span(MS(20)));
        let until = if self.rng.permille(500) {
            self.now
        } else {
            until
        };
        self.lose_records(until);
        for (at, order) in self.agenda.runtime_died() {
            if at <= until {
                self.happen(self.now, order)?;
            }
        }
        for place in &mut self.places {
            place.hook = None;
        }
        let at = self.now.after(self.rng.span(MS(1_000)));
        self.agenda.push_lasting(at, Item::Return);
        Ok(())
    }

    /// A new runtime takes over what lives and hears of what ended meanwhile.
    pub(super) fn runtime_returns(&mut self) -> Checked {
        if !std::mem::take(&mut self.alone) {
            return Ok(());
        }
        let held = |module| self.records.held(module);
        let records: Vec<Record> = self.plan.ids().map(held).collect();
        self.new_runtime();
        let alive = |sim: &Sim, module: ModuleId| {
            let process = sim.places[module.index()].process;
            process.map(|process| Alive {
                generation: process.generation,
                pid: process.pid,
            })
        };
        let plan = std::sync::Arc::clone(&self.plan);
        self.check.returned(&plan, |module| {
            let process = self.places[module.index()].process?;
            let record = &records[module.index()];
            Some((
                process.generation,
                record.ready && record.generation == process.generation,
            ))
        });
        for (module, record) in plan.ids().zip(&records) {
            let (record, alive) = (*record, alive(self, module));
            self.tell_lifecycle(Event::Adopted {
                module,
                record,
                alive,
            })?;
            if let Some(alive) = alive {
                self.take_over(module, &record, alive)?;
            }
        }
        for (module, record) in plan.ids().zip(records) {
            let place = &self.places[module.index()];
            if place.process.is_none()
                && let Some((generation, exit)) = place.exit
                && generation == record.generation
            {
                let what = Reported::Ended(Ending::Exited(exit));
                let report = Report { generation, what };
                self.records.ends(module, self.check.seen(module));
                self.check.reported(&plan, self.now, module, report)?;
                self.tell_lifecycle(Event::Reported { module, report })?;
            }
        }
        for module in plan
            .ids()
            .filter(|module| self.places[module.index()].process.is_none())
        {
            self.check.lost(module);
        }
        self.tell_lifecycle(Event::Resume)?;
        if self.check.is_stopping() {
            self.stop_all(None)?;
        }
        self.reboot_if_stopped()
    }

    fn take_over(&mut self, module: ModuleId, record: &Record, alive: Alive) -> Checked {
        let Alive { generation, pid } = alive;
        let same = record.generation == generation;
        let event = ToModule::Adopted {
            generation,
            pid,
            ready: record.ready && same,
            ready_by: record.ready_by.filter(|_| same),
        };
        self.tell_module(module, event)?;
        let said = self.places[module.index()]
            .process
            .is_some_and(|it| it.said);
        match said {
            true => self.tell_module(module, ToModule::ReadyTold { generation }),
            false => Ok(()),
        }
    }
}

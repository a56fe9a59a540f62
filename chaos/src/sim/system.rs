//! What happens in the fake system: orders arrive, processes live and die, news goes out.
//! Owns the life of a process from spawn to exit. Never tells the runtime anything directly:
//! all news takes its channel.

use std::time::Duration;

use mainstay_policy::lifecycle::Event;
use mainstay_policy::module::{Effect, Event as ToModule, Exit, Reported, StartFailure, Step};
use mainstay_policy::spec::{Kind, Readiness};
use mainstay_policy::{Health, ModuleId, Time};

use super::{Sabotage, Sim};
use crate::check::Checked;
use crate::trace::Line;
use crate::world::{Hook, Item, Process};

const MS: fn(u64) -> Duration = Duration::from_millis;
const KILLED: Exit = Exit::Signal {
    signal: 9,
    core: false,
};

impl Sim {
    /// A module's effect goes on its way.
    pub(super) fn perform(&mut self, module: ModuleId, effect: Effect) {
        // No order overtakes the records of what led to it.
        let delay = self.delay().max(self.records.arrive().since(self.now));
        let at = self.channels[module.index()][1].arrival(self.now, delay);
        match effect {
            Effect::Prepare { generation } => self.start_hook(module, generation, true),
            Effect::CleanUp { generation } => self.start_hook(module, generation, false),
            Effect::Spawn { generation } => self.agenda.push(at, Item::Spawn(module, generation)),
            Effect::Terminate { generation } => {
                self.agenda.push(at, Item::Terminate(module, generation));
            }
            Effect::Kill { generation } => {
                self.summary.kills += 1;
                self.agenda.push(at, Item::Kill(module, generation));
            }
            Effect::Probe { generation } => {
                let process = self.places[module.index()].process;
                let ok = process.is_some_and(|process| process.ready_from <= self.now);
                self.news(module, ToModule::Probed { generation, ok });
            }
            Effect::Listen { generation } => self.news(module, ToModule::Listened { generation }),
            Effect::Report(report) => {
                let delay = self.delay();
                let at = self.channels[module.index()][3].arrival(self.now, delay);
                self.agenda.push(at, Item::Report(module, report));
                if self.faults && self.rng.permille(20) {
                    let later = at.after(self.rng.span(MS(500)));
                    self.agenda.push(later, Item::Report(module, report));
                }
            }
        }
    }

    /// From the system to a module's state machine; sometimes once more, much later. Without a
    /// runtime nobody hears it.
    fn news(&mut self, module: ModuleId, event: ToModule) {
        if self.alone {
            return;
        }
        let delay = self.delay();
        let at = self.channels[module.index()][2].arrival(self.now, delay);
        self.agenda.push(at, Item::ToModule(module, event));
        if self.faults && self.rng.permille(20) {
            let later = at.after(self.rng.span(MS(500)));
            self.agenda.push(later, Item::ToModule(module, event));
        }
    }

    /// One thing happens.
    pub(super) fn happen(&mut self, at: Time, item: Item) -> Checked {
        // After a sleep everything is late.
        self.now = self.now.max(at);
        let at = self.now;
        match item {
            Item::ToModule(module, event) => self.tell_module(module, event),
            Item::Report(module, report) => {
                if matches!(report.what, Reported::Ended(_)) {
                    self.records.ends(module, self.check.seen(module));
                }
                self.check.reported(&self.plan, at, module, report)?;
                self.tell_lifecycle(Event::Reported { module, report })?;
                self.feel(module, report);
                self.reboot_if_stopped()
            }
            Item::Feels(module, generation, health, restart) => {
                self.check.felt(module, generation, health);
                self.tell_lifecycle(Event::Health {
                    module,
                    generation,
                    health,
                    restart,
                })
            }
            Item::Spawn(module, generation) => {
                self.spawn(module, generation)?;
                if self.is(Sabotage::SpawnTwice) {
                    return self.spawn(module, generation);
                }
                Ok(())
            }
            Item::Terminate(module, generation) => {
                self.terminate(module, generation);
                Ok(())
            }
            Item::Kill(module, generation) => {
                self.kill(module, generation);
                Ok(())
            }
            Item::Exit(module, generation, exit) => {
                self.exit(module, generation, exit);
                Ok(())
            }
            Item::HookEnds(module, generation, before, ok) => {
                self.hook_ends(module, generation, before, ok);
                Ok(())
            }
            Item::Feed(module, generation) => {
                self.feed(module, generation);
                Ok(())
            }
            Item::Says(module, generation) => {
                self.says(module, generation);
                Ok(())
            }
            Item::WakeModule(module) => self.wake_module(at, module),
            Item::WakeLifecycle if self.is(Sabotage::NoAlarm) => Ok(()),
            Item::WakeLifecycle => {
                self.lifecycle_armed = Time::NEVER;
                self.tell_lifecycle(Event::Woke)?;
                self.reboot_if_stopped()
            }
            Item::Mischief => self.mischief(),
            Item::Return => self.runtime_returns(),
        }
    }

    fn wake_module(&mut self, at: Time, module: ModuleId) -> Checked {
        self.armed[module.index()] = Time::NEVER;
        let deadline = self.modules[module.index()].deadline();
        if deadline.is_none_or(|due| due > at) {
            self.arm_module(module);
            return Ok(());
        }
        match self.is(Sabotage::NoAlarm) {
            true => Ok(()),
            false => self.tell_module(module, ToModule::Woke),
        }
    }

    fn spawn(&mut self, module: ModuleId, generation: u64) -> Checked {
        let place = &self.places[module.index()];
        let lives = place.process.is_some() || place.hook.is_some();
        self.check
            .spawning(module, lives || generation <= place.newest)?;
        self.places[module.index()].newest = generation;
        if self.faults && self.rng.permille(60) {
            let failure = StartFailure {
                step: Step::Exec,
                errno: 2,
            };
            self.news(
                module,
                ToModule::SpawnFailed {
                    generation,
                    failure,
                },
            );
            return Ok(());
        }
        self.summary.spawns += 1;
        self.next_pid += 1;
        let pid = self.next_pid;
        self.news(module, ToModule::Spawned { generation, pid });
        self.be_born(module, generation, pid);
        Ok(())
    }

    /// A process begins, and with it what it will do.
    fn be_born(&mut self, module: ModuleId, generation: u64, pid: u32) {
        let (now, faults) = (self.now, self.faults);
        self.trace
            .push(now, Line::World(module, "is born", generation));
        let never = faults && self.rng.permille(50);
        let slow = if faults && self.rng.permille(100) {
            MS(4_000)
        } else {
            MS(30)
        };
        let ready_from = if never {
            Time::NEVER
        } else {
            now.after(self.rng.span(slow))
        };
        let deaf = (faults && self.rng.permille(100)) || self.is(Sabotage::NoKill);
        let process = Process {
            generation,
            pid,
            ready_from,
            deaf,
            said: false,
        };
        self.places[module.index()].process = Some(process);
        let spec = self.plan.module(module);
        let (kind, told) = (spec.kind, matches!(spec.readiness, Readiness::Notify));
        let watched = spec.watchdog.is_some();
        if told && !never {
            self.agenda
                .push_lasting(ready_from, Item::Says(module, generation));
        }
        if watched {
            self.agenda
                .push_lasting(now.after(MS(200)), Item::Feed(module, generation));
        }
        let crash = [
            Exit::Code(1),
            Exit::Code(0),
            KILLED,
            Exit::Oom,
            Exit::Code(78),
        ];
        let (share, end, exit) = match (kind, faults) {
            (Kind::Task, true) => (
                1000,
                MS(400),
                self.rng.pick(&[Exit::Code(0), Exit::Code(1)]),
            ),
            (Kind::Task, false) => (1000, MS(400), Exit::Code(0)),
            (_, true) => (300, MS(3_000), self.rng.pick(&crash)),
            (_, false) => (0, MS(1), Exit::Code(0)),
        };
        if self.rng.permille(share) {
            let at = now.after(self.rng.span(end));
            self.agenda
                .push_lasting(at, Item::Exit(module, generation, exit));
        }
    }

    fn says(&mut self, module: ModuleId, generation: u64) {
        if let Some(process) = &mut self.places[module.index()].process
            && process.generation == generation
        {
            process.said = true;
            self.news(module, ToModule::ReadyTold { generation });
        }
    }

    fn feed(&mut self, module: ModuleId, generation: u64) {
        let process = self.places[module.index()].process;
        let lives = process.is_some_and(|process| process.generation == generation);
        let hangs = self.faults && self.rng.permille(20);
        if !lives || hangs {
            return;
        }
        self.news(module, ToModule::WatchdogFed { generation });
        self.agenda
            .push_lasting(self.now.after(MS(200)), Item::Feed(module, generation));
    }

    fn terminate(&mut self, module: ModuleId, generation: u64) {
        let place = self.places[module.index()];
        if let Some(hook) = place.hook
            && hook.generation == generation
            && !hook.deaf
        {
            let at = self.now.after(self.rng.span(MS(5)));
            self.agenda
                .push(at, Item::HookEnds(module, generation, hook.before, false));
        }
        if let Some(process) = place.process
            && process.generation == generation
            && !process.deaf
        {
            let at = self.now.after(self.rng.span(MS(30)));
            let exit = Exit::Signal {
                signal: 15,
                core: false,
            };
            self.agenda
                .push_lasting(at, Item::Exit(module, generation, exit));
        }
    }

    fn kill(&mut self, module: ModuleId, generation: u64) {
        if self.is(Sabotage::NoKill) {
            return;
        }
        let place = self.places[module.index()];
        let at = self.now.after(self.rng.span(MS(3)));
        if let Some(hook) = place.hook.filter(|hook| hook.generation == generation) {
            self.agenda
                .push(at, Item::HookEnds(module, generation, hook.before, false));
        }
        if place
            .process
            .is_some_and(|process| process.generation == generation)
        {
            self.agenda
                .push_lasting(at, Item::Exit(module, generation, KILLED));
        }
    }

    fn exit(&mut self, module: ModuleId, generation: u64, exit: Exit) {
        let place = &mut self.places[module.index()];
        if place
            .process
            .is_none_or(|process| process.generation != generation)
        {
            return;
        }
        place.process = None;
        place.exit = Some((generation, exit));
        self.trace
            .push(self.now, Line::World(module, "ends", generation));
        let lost = self.is(Sabotage::LostExits) && self.rng.permille(300);
        if !lost {
            self.news(module, ToModule::Exited { generation, exit });
        }
    }

    fn start_hook(&mut self, module: ModuleId, generation: u64, before: bool) {
        let deaf = self.faults && self.rng.permille(50);
        let hangs = self.faults && self.rng.permille(50);
        let ok = !(self.faults && self.rng.permille(80));
        self.places[module.index()].hook = Some(Hook {
            generation,
            before,
            deaf,
        });
        if !hangs {
            let at = self.now.after(self.rng.span(MS(40)));
            self.agenda
                .push(at, Item::HookEnds(module, generation, before, ok));
        }
    }

    fn hook_ends(&mut self, module: ModuleId, generation: u64, before: bool, ok: bool) {
        let place = &mut self.places[module.index()];
        let mine = place
            .hook
            .is_some_and(|hook| (hook.generation, hook.before) == (generation, before));
        if !mine {
            return;
        }
        place.hook = None;
        let news = match before {
            true => ToModule::Prepared { generation, ok },
            false => ToModule::CleanedUp { generation },
        };
        self.news(module, news);
    }

    /// Who is ready is looked at by the health checks, a little later.
    fn feel(&mut self, module: ModuleId, report: mainstay_policy::module::Report) {
        let ready = report.what == mainstay_policy::module::Reported::Ready;
        if !ready || !self.plan.module(module).has_probes {
            return;
        }
        let health = match self.faults && self.rng.permille(200) {
            true => Health::Unhealthy,
            false => Health::Healthy,
        };
        let at = self.now.after(self.rng.span(MS(200)));
        self.agenda
            .push(at, Item::Feels(module, report.generation, health, false));
    }

    /// Everything that lives feels well: the health checks of a quiet system.
    pub(super) fn feel_well(&mut self) {
        for module in self.plan.ids() {
            let view = self.lifecycle.view(module);
            if view.ready && self.plan.module(module).has_probes {
                let (at, generation) = (self.now, view.generation);
                self.agenda
                    .push(at, Item::Feels(module, generation, Health::Healthy, false));
            }
        }
    }
}

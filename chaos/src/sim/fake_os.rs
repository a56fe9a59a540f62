//! What happens in the fake system: orders arrive, processes live and die, news goes out.
//! Owns the life of a process from spawn to exit. Never tells the runtime anything directly:
//! all news takes its channel.

use std::time::Duration;

use mainstay_policy::lifecycle::LifecycleEvent;
use mainstay_policy::run::{
    Exit, RunEffect, RunEvent as ToModule, RunReportKind, StartFailure, StartStep,
};
use mainstay_policy::spec::{Kind, Readiness};
use mainstay_policy::{Health, ModuleId, MonoTime};
use mainstay_process::Signal;

use super::{InjectedBug, Sim};
use crate::checker::Checked;
use crate::choices::ChoiceKind;
use crate::coverage::Point;
use crate::trace::TraceLine;
use crate::world::{Mortality, SimHook, SimProcess, WorldEvent};

const MS: fn(u64) -> Duration = Duration::from_millis;
const KILLED: Exit = Exit::Signal {
    signal: Signal::KILL,
    core: false,
};

impl Sim {
    /// A module's effect goes on its way.
    pub(super) fn perform(&mut self, module: ModuleId, effect: RunEffect) {
        // No order overtakes the records of what led to it.
        let delay = self
            .delay(module)
            .max(self.records.arrive().since(self.now));
        let at = self.channels[module.index()][1].arrival(self.now, delay);
        match effect {
            RunEffect::Prepare { generation } => self.start_hook(module, generation, true),
            RunEffect::CleanUp { generation } => self.start_hook(module, generation, false),
            RunEffect::Spawn { generation } => {
                self.agenda.push(at, WorldEvent::Spawn(module, generation))
            }
            RunEffect::Terminate { generation, .. } => {
                self.agenda
                    .push(at, WorldEvent::Terminate(module, generation));
            }
            RunEffect::Kill { generation } => {
                self.summary.kills += 1;
                self.agenda.push(at, WorldEvent::Kill(module, generation));
            }
            RunEffect::Probe { generation, .. } => {
                let process = self.modules_in_world[module.index()].process;
                let ok = process.is_some_and(|process| process.ready_from <= self.now);
                self.news(module, ToModule::Probed { generation, ok });
            }
            RunEffect::DrainNotify { generation } => {
                if !self.is_lost(module) {
                    self.news(module, ToModule::NotifyDrained { generation });
                }
            }
            RunEffect::Report(report) => {
                let delay = self.delay(module);
                let at = self.channels[module.index()][3].arrival(self.now, delay);
                self.agenda.push(at, WorldEvent::Report(module, report));
                if self.arrives_twice(module) {
                    let later = at.after(self.rng.span(MS(500)));
                    self.agenda.push(later, WorldEvent::Report(module, report));
                }
            }
        }
    }

    /// From the system to a module's state machine; sometimes once more, much later. Without a
    /// runtime nobody hears it.
    #[inline]
    fn news(&mut self, module: ModuleId, event: ToModule) {
        if self.runtime_down {
            return;
        }
        let delay = self.delay(module);
        let at = self.channels[module.index()][2].arrival(self.now, delay);
        self.agenda.push(at, WorldEvent::ToModule(module, event));
        if self.arrives_twice(module) {
            let later = at.after(self.rng.span(MS(500)));
            self.agenda.push(later, WorldEvent::ToModule(module, event));
        }
    }

    fn arrives_twice(&mut self, module: ModuleId) -> bool {
        self.choose(ChoiceKind::Twice, module);
        let twice = self.faults && self.rng.permille(20);
        self.summary.coverage.reach_if(twice, Point::FaultTwice);
        twice
    }

    /// The holder may die with an answer.
    fn is_lost(&mut self, module: ModuleId) -> bool {
        self.choose(ChoiceKind::Twice, module);
        let lost = self.faults && self.rng.permille(200);
        self.summary.coverage.reach_if(lost, Point::FaultLostDrain);
        lost
    }

    /// One thing happens.
    pub(super) fn dispatch(&mut self, at: MonoTime, item: WorldEvent) -> Checked {
        let due = at;
        // After a sleep everything is late.
        self.now = self.now.max(at);
        let at = self.now;
        match item {
            WorldEvent::ToModule(module, event) => self.apply_to_module(module, event),
            WorldEvent::Report(module, report) => {
                if matches!(report.what, RunReportKind::Ended(_)) {
                    self.records.ends(module, self.check.observed_run(module));
                }
                self.check.reported(at, module, report)?;
                self.apply_to_lifecycle(LifecycleEvent::Reported { module, report })?;
                self.probe(module, report);
                self.reboot_if_stopped()
            }
            WorldEvent::HealthChanged(module, generation, health, restart) => {
                self.check.health_reported(module, generation, health);
                self.apply_to_lifecycle(LifecycleEvent::Health {
                    module,
                    generation,
                    health,
                    passes: health == Health::Healthy,
                    restart,
                })
            }
            WorldEvent::ProcedureEnded(module, ticket, ok) => {
                self.check.prepared(module);
                self.apply_to_lifecycle(LifecycleEvent::ProcedureEnded { module, ticket, ok })?;
                self.reboot_if_stopped()
            }
            WorldEvent::Spawn(module, generation) => self.spawn_ordered(module, generation),
            WorldEvent::Terminate(module, generation) => {
                self.terminate(module, generation);
                Ok(())
            }
            WorldEvent::Kill(module, generation) => {
                self.kill(module, generation);
                Ok(())
            }
            WorldEvent::Exit(module, generation, exit) => {
                self.exit(module, generation, exit);
                Ok(())
            }
            WorldEvent::HookEnds(module, generation, before, ok) => {
                self.hook_ends(module, generation, before, ok);
                Ok(())
            }
            WorldEvent::Feed(module, generation) => {
                self.feed(module, generation);
                Ok(())
            }
            WorldEvent::ReadyReported(module, generation) => {
                self.report_ready(module, generation);
                Ok(())
            }
            WorldEvent::WakeModule(module) => self.wake_module(due, module),
            WorldEvent::WakeLifecycle if self.is(InjectedBug::NoAlarm) => Ok(()),
            // An earlier one replaced it.
            WorldEvent::WakeLifecycle if self.lifecycle_armed != due => Ok(()),
            WorldEvent::WakeLifecycle => {
                self.lifecycle_armed = MonoTime::NEVER;
                self.time_passes()?;
                self.reboot_if_stopped()
            }
            WorldEvent::FaultDue => self.inject_fault(),
            WorldEvent::FaultReplayed(nth) => self.replay_fault(nth),
            WorldEvent::RuntimeStarts => self.runtime_returns(),
        }
    }

    fn wake_module(&mut self, due: MonoTime, module: ModuleId) -> Checked {
        if self.armed[module.index()] != due {
            // An earlier one replaced it.
            return Ok(());
        }
        self.armed[module.index()] = MonoTime::NEVER;
        let deadline = self.modules[module.index()].deadline();
        if deadline.is_none_or(|due| due > self.now) {
            self.arm_module(module);
            return Ok(());
        }
        match self.is(InjectedBug::NoAlarm) {
            true => Ok(()),
            false => self.apply_to_module(module, ToModule::TimerFired),
        }
    }

    fn spawn_ordered(&mut self, module: ModuleId, generation: u64) -> Checked {
        self.spawn(module, generation)?;
        match self.is(InjectedBug::SpawnTwice) {
            true => self.spawn(module, generation),
            false => Ok(()),
        }
    }

    fn spawn(&mut self, module: ModuleId, generation: u64) -> Checked {
        let place = &self.modules_in_world[module.index()];
        if place.process.is_some() && place.known_process().is_none() {
            let failure = StartFailure {
                step: StartStep::Fence,
                errno: 16,
            };
            let failed = ToModule::SpawnFailed {
                generation,
                failure,
            };
            self.summary.coverage.reach(Point::FaultFence);
            self.news(module, failed);
            return Ok(());
        }
        let lives = place.process.is_some() || place.hook.is_some();
        self.check
            .spawning(module, lives || generation <= place.newest)?;
        self.modules_in_world[module.index()].newest = generation;
        self.choose(ChoiceKind::Spawn, module);
        if self.faults && self.rng.permille(60) {
            self.summary.coverage.reach(Point::FaultSpawnFails);
            let failure = StartFailure {
                step: StartStep::Exec,
                // No memory, or no program: that one is not tried again at once.
                errno: if generation.is_multiple_of(4) { 2 } else { 12 },
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
        self.start_process(module, generation, pid);
        Ok(())
    }

    /// A process begins, and with it what it will do.
    fn start_process(&mut self, module: ModuleId, generation: u64, pid: u32) {
        let (now, faults) = (self.now, self.faults);
        self.trace
            .push(now, TraceLine::World(module, "is born", generation));
        self.choose(ChoiceKind::Process, module);
        let never = faults && self.rng.permille(80);
        let is_slow = faults && self.rng.permille(100);
        let slow = if is_slow { MS(4_000) } else { MS(30) };
        let ready_from = if never {
            MonoTime::NEVER
        } else {
            now.after(self.rng.span(slow))
        };
        let deaf = (faults && self.rng.permille(100)) || self.is(InjectedBug::NoKill);
        let process = SimProcess {
            generation,
            pid,
            ready_from,
            ignores_sigterm: deaf,
            ready_sent: false,
            fed: None,
            mortality: match faults && self.rng.permille(20) {
                true => Mortality::Survives,
                false => Mortality::Dies,
            },
        };
        self.reach_if(never, Point::FaultNeverReady);
        self.reach_if(is_slow, Point::FaultSlowReady);
        self.reach_if(deaf, Point::FaultIgnoresStop);
        self.modules_in_world[module.index()].process = Some(process);
        let Some(spec) = self.specs[module.index()].clone() else {
            return;
        };
        let (kind, told) = (spec.kind, matches!(spec.readiness, Readiness::Notify));
        let watched = spec.watchdog.is_some();
        if told && !never {
            self.agenda
                .push_lasting(ready_from, WorldEvent::ReadyReported(module, generation));
        }
        if watched {
            if let Some(process) = &mut self.modules_in_world[module.index()].process {
                process.fed = Some(now);
            }
            self.agenda
                .push_lasting(now.after(MS(200)), WorldEvent::Feed(module, generation));
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
            (_, true) => (450, MS(2_000), self.rng.pick(&crash)),
            (_, false) => (0, MS(1), Exit::Code(0)),
        };
        let drawn = self.rng.permille(share);
        if drawn || share == 1000 {
            self.reach_if(kind != Kind::Task, Point::FaultCrash);
            let at = now.after(self.rng.span(end));
            self.agenda
                .push_lasting(at, WorldEvent::Exit(module, generation, exit));
        }
    }

    fn reach_if(&mut self, is: bool, point: Point) {
        self.summary.coverage.reach_if(is, point);
    }

    fn report_ready(&mut self, module: ModuleId, generation: u64) {
        if let Some(process) = &mut self.modules_in_world[module.index()].process
            && process.generation == generation
            && process.mortality != Mortality::Stuck
        {
            process.ready_sent = true;
            self.news(module, ToModule::ReadyReported { generation });
        }
    }

    fn feed(&mut self, module: ModuleId, generation: u64) {
        let process = self.modules_in_world[module.index()].known_process();
        let lives = process.is_some_and(|process| process.generation == generation);
        self.choose(ChoiceKind::Feed, module);
        let hangs = self.faults && self.rng.permille(20);
        let unfed = hangs && lives;
        self.summary.coverage.reach_if(unfed, Point::FaultUnfed);
        if !lives || hangs {
            return;
        }
        if let Some(process) = &mut self.modules_in_world[module.index()].process {
            process.fed = process.fed.map(|_| self.now);
        }
        self.news(module, ToModule::WatchdogFed { generation });
        self.agenda.push_lasting(
            self.now.after(MS(200)),
            WorldEvent::Feed(module, generation),
        );
    }

    fn terminate(&mut self, module: ModuleId, generation: u64) {
        let place = self.modules_in_world[module.index()];
        self.choose(ChoiceKind::End, module);
        if let Some(hook) = place.hook
            && hook.generation == generation
            && !hook.ignores_sigterm
        {
            let at = self.now.after(self.rng.span(MS(5)));
            self.agenda.push(
                at,
                WorldEvent::HookEnds(module, generation, hook.before, false),
            );
        }
        if let Some(process) = place.process
            && process.generation == generation
            && !process.ignores_sigterm
        {
            let at = self.now.after(self.rng.span(MS(30)));
            let exit = Exit::Signal {
                signal: Signal::TERMINATE,
                core: false,
            };
            self.agenda
                .push_lasting(at, WorldEvent::Exit(module, generation, exit));
        }
    }

    fn kill(&mut self, module: ModuleId, generation: u64) {
        if self.is(InjectedBug::NoKill) {
            return;
        }
        let place = self.modules_in_world[module.index()];
        self.choose(ChoiceKind::End, module);
        let at = self.now.after(self.rng.span(MS(3)));
        if let Some(hook) = place.hook.filter(|hook| hook.generation == generation) {
            self.agenda.push(
                at,
                WorldEvent::HookEnds(module, generation, hook.before, false),
            );
        }
        let process = place.process.filter(|it| it.generation == generation);
        match process.map(|process| process.mortality) {
            Some(Mortality::Dies) => {
                self.agenda
                    .push_lasting(at, WorldEvent::Exit(module, generation, KILLED));
            }
            Some(Mortality::Survives) => self.survive(module, generation),
            Some(Mortality::Stuck) | None => {}
        }
    }

    /// A process survives a kill; the second time it is reported as stuck, and ends much later.
    fn survive(&mut self, module: ModuleId, generation: u64) {
        self.check.survived(module);
        let place = &mut self.modules_in_world[module.index()];
        let again = std::mem::replace(&mut place.killed, generation) == generation;
        let Some(process) = place.process.as_mut().filter(|_| again) else {
            return;
        };
        process.mortality = Mortality::Stuck;
        place.exit = Some((generation, Exit::Stuck));
        self.summary.stuck += 1;
        self.summary.coverage.reach(Point::FaultSurvives);
        self.trace
            .push(self.now, TraceLine::World(module, "is stuck", generation));
        let exit = Exit::Stuck;
        self.news(module, ToModule::Exited { generation, exit });
        let at = self.now.after(self.rng.span(MS(30_000)));
        self.agenda
            .push_lasting(at, WorldEvent::Exit(module, generation, KILLED));
    }

    fn exit(&mut self, module: ModuleId, generation: u64, exit: Exit) {
        let place = &mut self.modules_in_world[module.index()];
        if place
            .process
            .is_none_or(|process| process.generation != generation)
        {
            return;
        }
        let is_known = place.known_process().is_some();
        place.process = None;
        self.trace
            .push(self.now, TraceLine::World(module, "ends", generation));
        if !is_known {
            return;
        }
        let place = &mut self.modules_in_world[module.index()];
        place.exit = Some((generation, exit));
        let lost = self.is(InjectedBug::LostExits) && self.rng.permille(300);
        if !lost {
            self.news(module, ToModule::Exited { generation, exit });
        }
    }

    fn start_hook(&mut self, module: ModuleId, generation: u64, before: bool) {
        self.choose(ChoiceKind::Hook, module);
        let deaf = self.faults && self.rng.permille(50);
        let hangs = self.faults && self.rng.permille(50);
        let ok = !(self.faults && self.rng.permille(80));
        let coverage = &mut self.summary.coverage;
        coverage.reach_if(hangs, Point::FaultHookHangs);
        coverage.reach_if(!ok, Point::FaultHookFails);
        self.modules_in_world[module.index()].hook = Some(SimHook {
            generation,
            before,
            ignores_sigterm: deaf,
        });
        if !hangs {
            let at = self.now.after(self.rng.span(MS(40)));
            self.agenda
                .push(at, WorldEvent::HookEnds(module, generation, before, ok));
        }
    }

    fn hook_ends(&mut self, module: ModuleId, generation: u64, before: bool, ok: bool) {
        let place = &mut self.modules_in_world[module.index()];
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
    fn probe(&mut self, module: ModuleId, report: mainstay_policy::run::RunReport) {
        let ready = report.what == mainstay_policy::run::RunReportKind::Ready;
        let spec = self.specs[module.index()].as_ref();
        if !ready || !spec.is_some_and(|spec| spec.has_probes) {
            return;
        }
        self.choose(ChoiceKind::Probe, module);
        let health = match self.faults && self.rng.permille(200) {
            true => Health::Unhealthy,
            false => Health::Healthy,
        };
        let at = self.now.after(self.rng.span(MS(200)));
        self.agenda.push(
            at,
            WorldEvent::HealthChanged(module, report.generation, health, false),
        );
    }

    /// Everything that lives feels well: the health checks of a quiet system.
    pub(super) fn report_all_healthy(&mut self) {
        let plan = std::sync::Arc::clone(&self.plan);
        for module in plan.ids() {
            let view = self.lifecycle.view(module);
            if view.ready && plan.module(module).has_probes {
                let (at, generation) = (self.now, view.generation);
                self.agenda.push(
                    at,
                    WorldEvent::HealthChanged(module, generation, Health::Healthy, false),
                );
            }
        }
    }
}

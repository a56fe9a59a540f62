//! What the runtime orders of the fake machine: processes, signals, commands, records.
//! Owns what each order leads to. Never decides when anything is told: `machine` does.

use std::time::Duration;

use mainstay::simulation::{CommandEnd, SimulatedMachine};
use mainstay_policy::MonoTime;
use mainstay_process::{
    Exit, Exited, Instance, ProcessEventKind, Signal, SpawnRequest, StartFailure, StartStep,
};
use mainstay_protocol::Timestamp;
use tokio::sync::oneshot;

use super::{Item, KILLED, MS, Machine, Place, Process, ReadyKind, Spawned, WALL_BEGIN, World};
use crate::actors::trace::Line;
use crate::actors::violation::ActorViolation;
use crate::choices::ChoiceKind;

impl World {
    fn spawn(&mut self, spawn: &SpawnRequest) {
        let (instance, generation) = (spawn.instance.clone(), spawn.generation);
        let (name, now) = (instance.to_string(), self.now());
        self.trace
            .push(now, Line::Order(name.clone(), generation, "spawn"));
        let place = self.places.entry(name.clone()).or_default();
        let is_same = place.known().is_some_and(|it| it.generation == generation);
        if let Some(process) = place.known() {
            if !is_same {
                let running = process.generation;
                self.broken
                    .get_or_insert(ActorViolation::TwoProcesses(name, running));
            }
            return;
        }
        // One that fails has used it up as well.
        let seen = self.before_run.remove(&name);
        let place = self.places.entry(name.clone()).or_default();
        let barred = place.process.is_some() || generation <= place.newest;
        self.choose(ChoiceKind::Spawn, &name);
        let fails = self.wildness.is_wild && self.faults && self.rng.permille(40);
        if barred || fails {
            let step = if barred {
                StartStep::Fence
            } else {
                StartStep::Exec
            };
            let errno = if barred { 16 } else { 12 };
            let failure = StartFailure { step, errno };
            let message = "cannot start it".to_owned();
            if !barred {
                self.places.entry(name).or_default().newest = generation;
            }
            self.tell(
                &instance,
                generation,
                ProcessEventKind::SpawnFailed { failure, message },
            );
            return;
        }
        let truth = seen.map_or_else(|| self.truth(), |(_, truth)| truth);
        self.spawned.push(Spawned {
            instance: instance.clone(),
            truth,
        });
        self.start_process(spawn, generation);
    }

    fn start_process(&mut self, spawn: &SpawnRequest, generation: u64) {
        let (instance, now) = (spawn.instance.clone(), self.now());
        self.choose(ChoiceKind::Process, instance.as_str());
        let wild = self.faults && self.wildness.is_wild;
        let never = wild && self.rng.permille(60);
        let slow = if wild && self.rng.permille(100) {
            MS(4_000)
        } else {
            MS(30)
        };
        let ready_from = match never {
            true => MonoTime::NEVER,
            false => now.after(self.rng.span(slow)),
        };
        self.next_pid += 1;
        self.processes += 1;
        let pid = self.next_pid;
        let every = spawn.watchdog_usec.map(Duration::from_micros);
        let process = Process {
            generation,
            pid,
            ready_from,
            has_said_ready: false,
            ignores_stop: self.faults && self.rng.permille(80),
            survives_kill: self.faults && self.rng.permille(15),
            was_stopped: false,
            was_killed: false,
            is_stuck: false,
            hangs: false,
            every,
            kind: match spawn.argv.get(1).map_or("", String::as_str) {
                "notify" => ReadyKind::Notifies,
                "exec" => ReadyKind::Answers,
                _ => ReadyKind::Runs,
            },
        };
        let place = self.places.entry(instance.to_string()).or_default();
        (place.newest, place.process) = (generation, Some(process));
        let start_time = 1;
        self.tell(
            &instance,
            generation,
            ProcessEventKind::Spawned { pid, start_time },
        );
        if spawn.notify && !never {
            self.push(ready_from, Item::Ready(instance.clone(), generation));
        }
        if let Some(every) = every {
            self.push(
                now.after(every / 2),
                Item::Feed(instance.clone(), generation),
            );
        }
        self.plan_exit(spawn, wild);
    }

    /// When a new process will end by itself.
    fn plan_exit(&mut self, spawn: &SpawnRequest, wild: bool) {
        let (instance, generation) = (spawn.instance.clone(), spawn.generation);
        let now = self.now();
        self.choose(ChoiceKind::OwnEnd, instance.as_str());
        let is_task = spawn.argv.get(1).is_some_and(|kind| kind == "task");
        let crashes = wild && self.rng.permille(350);
        let exits = [
            Exit::Code(1),
            Exit::Code(0),
            KILLED,
            Exit::Oom,
            Exit::Code(78),
        ];
        let exit = match is_task {
            true => Some(if wild && self.rng.permille(300) {
                Exit::Code(1)
            } else {
                Exit::Code(0)
            }),
            false => crashes.then(|| self.rng.pick(&exits)),
        };
        if let Some(exit) = exit {
            let at = now.after(self.rng.span(if is_task { MS(400) } else { MS(3_000) }));
            self.push(at, Item::Exit(instance, generation, exit));
        }
    }

    fn stop(&mut self, instance: &Instance, generation: u64, within: Duration) {
        let (name, now) = (instance.to_string(), self.now());
        self.trace
            .push(now, Line::Order(name.clone(), generation, "stop"));
        self.choose(ChoiceKind::End, &name);
        if let Some(at) = name.find('#').map(|_| now.after(self.rng.span(MS(5)))) {
            self.no_run_follows(&name);
            self.push_for_runtime(at, Item::CommandEnds(name, false));
            return;
        }
        let place = self.places.get_mut(&name);
        let Some(process) = place.and_then(|place| place.process.as_mut()) else {
            return;
        };
        if process.is_stuck {
            return;
        }
        process.was_stopped |= process.generation == generation;
        if process.generation == generation && !process.ignores_stop {
            let at = now.after(self.rng.span(MS(30)));
            let signal = Signal::TERMINATE;
            let exit = Exit::Signal {
                signal,
                core: false,
            };
            self.push(at, Item::Exit(instance.clone(), generation, exit));
        } else if process.generation == generation && !process.survives_kill {
            // The holder kills what no runtime does.
            self.push(
                now.after(within),
                Item::Exit(instance.clone(), generation, KILLED),
            );
        }
    }

    fn kill(&mut self, instance: &Instance, generation: u64) {
        let (name, now) = (instance.to_string(), self.now());
        self.trace
            .push(now, Line::Order(name.clone(), generation, "kill"));
        self.choose(ChoiceKind::End, &name);
        let at = now.after(self.rng.span(MS(3)));
        if name.contains('#') {
            self.no_run_follows(&name);
            self.push_for_runtime(at, Item::CommandEnds(name, false));
            return;
        }
        let place = self.places.entry(name).or_default();
        let Some(process) = place.process.as_mut() else {
            return;
        };
        if process.generation != generation || process.is_stuck {
            return;
        }
        if !process.survives_kill {
            self.push(at, Item::Exit(instance.clone(), generation, KILLED));
            return;
        }
        if !std::mem::replace(&mut process.was_killed, true) {
            return;
        }
        process.is_stuck = true;
        let process = process.clone();
        self.ended(instance, &process, Exit::Stuck);
        self.choose(ChoiceKind::End, instance.as_str());
        let at = now.after(self.rng.span(MS(30_000)));
        self.push(at, Item::Exit(instance.clone(), generation, KILLED));
    }

    /// The run of the instance is killed, then everything of it is dropped.
    fn forget(&mut self, instance: &Instance) {
        let name = instance.to_string();
        self.records.remove(&name);
        let Some(place) = self.places.get_mut(&name) else {
            return;
        };
        match place.known().map(|process| process.generation) {
            Some(generation) => self.kill(instance, generation),
            None => (place.newest, place.last_exit) = (0, None),
        }
    }

    /// A command ends otherwise than well: what was true before it is of no later run.
    pub(super) fn no_run_follows(&mut self, command: &str) {
        let module = command.split('#').next().unwrap_or(command);
        let before = self.before_run.get(module);
        if before.is_some_and(|(key, _)| key == command) {
            self.before_run.remove(module);
        }
    }

    fn command(&mut self, spawn: &SpawnRequest) -> oneshot::Receiver<(bool, String)> {
        let (name, now) = (spawn.instance.to_string(), self.now());
        let key = format!("{name}#{}", spawn.generation);
        let (result, receiver) = oneshot::channel();
        self.commands.insert(key.clone(), result);
        let kind = spawn.argv.first().map_or("", String::as_str);
        let what = match kind {
            "before" => "before_start",
            "after" => "after_stop",
            "ready" => "readiness check",
            _ => "health probe",
        };
        match kind {
            "before" => {
                let died = self.begun_again.remove(&name);
                let goes_on = died.is_some_and(|at| now.since(at) <= MS(100));
                if !goes_on || !self.before_run.contains_key(&name) {
                    let truth = self.truth();
                    self.before_run.insert(name.clone(), (key.clone(), truth));
                }
            }
            "after" => {
                self.before_run.remove(&name);
            }
            _ => {}
        }
        if what != "health probe" {
            self.trace.push(now, Line::Order(key.clone(), 0, what));
        }
        self.choose(ChoiceKind::Hook, &name);
        let process = self.places.get(&name).and_then(Place::known).cloned();
        let wild = self.faults && self.wildness.is_wild;
        let (ok, takes) = match kind {
            "ready" => {
                let ready = process.is_some_and(|it| it.ready_from <= now && !it.hangs);
                (ready, self.rng.span(MS(5)))
            }
            "health" => {
                let well = process.is_some_and(|process| !process.hangs);
                let well = well && !(wild && self.rng.permille(150));
                (well, self.rng.span(MS(20)))
            }
            _ => {
                let ok = !(wild && self.rng.permille(60));
                let hangs = wild && self.rng.permille(40);
                let most = if hangs { MS(120_000) } else { MS(40) };
                (ok, self.rng.span(most))
            }
        };
        let limit = match spawn.timeout_ms {
            0 => takes,
            limit => takes.min(MS(limit)),
        };
        self.push_for_runtime(
            now.after(limit),
            Item::CommandEnds(key, ok && takes <= limit),
        );
        receiver
    }
}

impl SimulatedMachine for Machine {
    fn now(&self) -> MonoTime {
        self.world().now()
    }
    fn wall_clock(&self) -> Timestamp {
        let world = self.world();
        let passed = i64::try_from(world.now().0 / 1_000_000).unwrap_or(0);
        let begin = i64::try_from(WALL_BEGIN).unwrap_or(0);
        Timestamp(u64::try_from(begin + passed + world.wall_offset_ms).unwrap_or(0))
    }
    fn sleep_time(&self) -> Duration {
        self.world().slept
    }
    fn spawn(&self, spawn: SpawnRequest) {
        self.world().spawn(&spawn);
        self.changed.notify_one();
    }
    fn stop(&self, instance: &Instance, generation: u64, within: Duration) {
        self.world().stop(instance, generation, within);
        self.changed.notify_one();
    }
    fn kill(&self, instance: &Instance, generation: u64) {
        self.world().kill(instance, generation);
        self.changed.notify_one();
    }
    fn drain_notify(&self, instance: &Instance, generation: u64) {
        let mut world = self.world();
        if world.lose_drains > 0 {
            world.lose_drains -= 1;
            return;
        }
        world.tell(instance, generation, ProcessEventKind::NotifyDrained);
        self.changed.notify_one();
    }
    fn save_record(&self, instance: &Instance, record: String) {
        self.world().records.insert(instance.to_string(), record);
    }
    fn forget(&self, instance: &Instance) {
        self.world().forget(instance);
        self.changed.notify_one();
    }
    fn command(&self, spawn: SpawnRequest) -> CommandEnd {
        let end = self.world().command(&spawn);
        self.changed.notify_one();
        Box::pin(async move { end.await.unwrap_or((false, "it was ended".to_owned())) })
    }
    fn stopping(&self, within: Duration) {
        let mut world = self.world();
        let by = world.now().after(within);
        world.stop_by = Some(world.stop_by.map_or(by, |before| before.min(by)));
    }
    fn stop_time_left(&self) -> Option<Duration> {
        let world = self.world();
        world.stop_by.map(|by| by.since(world.now()))
    }
    fn live_process(&self, instance: &Instance) -> Option<(u64, u32)> {
        let world = self.world();
        let process = world.places.get(&instance.to_string())?.known()?;
        Some((process.generation, process.pid))
    }
    fn last_exit(&self, instance: &Instance) -> Option<(u64, Exited)> {
        self.world()
            .places
            .get(&instance.to_string())?
            .last_exit
            .clone()
    }
    fn saved_record(&self, instance: &Instance) -> Option<String> {
        self.world().records.get(&instance.to_string()).cloned()
    }
}

//! What a runtime may ask of the engine, and the news of spawns that come back.
//! Owns the fence: one living process per instance, generations only grow.
//! Never waits for what it starts.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{BIRTH_WITHIN, Engine, about};
use crate::instance::{Instance, Phase, Run, Wishes};
use crate::kernel::Groups;
use crate::logs::Logs;
use crate::mail::News;
use crate::notify::{Said, targets};
use crate::places::{Places, hash};
use crate::prepare::Failure;
use crate::process;
use crate::shelf::Shelf;
use crate::sockets::{await_knocks, ignore_knocks};
use crate::spawner::{Ground, Job, Spawner, Started, probe_birth};
use crate::walk::sweep_marked;
use crate::wire::{Ask, MAX_RECORD_BYTES, Setup, Spawn, Step, Tell};

/// How long the loop waits in all for processes that a run names in the moment of their exec.
const EXEC_PATIENCE: Duration = Duration::from_millis(100);

impl Engine {
    pub(crate) fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Configure(setup) => self.configure(setup),
            Ask::Spawn(spawn) => self.spawn(spawn),
            Ask::Signal {
                instance,
                generation,
                signal,
                cont,
            } => {
                if let Some(id) = self.current(&instance, generation) {
                    self.signal(id, signal, cont);
                }
            }
            Ask::Kill {
                instance,
                generation,
            } => {
                if let Some(id) = self.current(&instance, generation) {
                    self.kill_tree(id);
                }
            }
            Ask::Hear {
                instance,
                generation,
            } => {
                if let Some(id) = self.current(&instance, generation) {
                    self.read_last_notify(id);
                }
                self.tell(&Tell::Heard {
                    instance,
                    generation,
                });
            }
            Ask::Record { instance, record } => {
                if record.len() <= MAX_RECORD_BYTES {
                    let id = self.id(&instance);
                    if let Some(instance) = self.instances.get_mut(&id) {
                        instance.record = Some(record);
                        instance.forgotten = false;
                    }
                }
            }
            Ask::Forget { instance } => self.forget(&instance),
            Ask::Listen { instance, sockets } => self.listen_for(&instance, &sockets),
            Ask::Tap {
                instance,
                on,
                again,
            } => self.tap(&instance, on, again),
            Ask::Settle { instance, number } => match &self.ground {
                Some(ground) => ground.logs.settle(&instance, number),
                None => self.tell(&Tell::Settled { number }),
            },
            Ask::Logs { max_bytes, keep } => {
                if let Some(setup) = &mut self.setup {
                    (setup.log_max_bytes, setup.log_keep) = (max_bytes, keep);
                }
                if let Some(ground) = &self.ground {
                    ground.logs.set_limits(max_bytes, keep);
                }
            }
            Ask::Ready => self.runtime_ready(),
            Ask::Beat => {} // that it was read is what counts
            Ask::Stopping { within_ms } => self.stopping(Duration::from_millis(within_ms)),
            Ask::Leave { code } => self.end = self.end.or(Some(code)),
        }
    }

    fn configure(&mut self, setup: Setup) {
        if self.places.is_some() {
            return;
        }
        let made = Places::take(&setup).and_then(|places| {
            let listeners = places.listeners();
            let threads = self.start_threads(&setup, &places);
            let made = threads.and(listeners).map(|listeners| (places, listeners));
            made.map_err(|problem| problem.to_string())
        });
        match made {
            Ok((places, listeners)) => {
                self.places = Some(places);
                self.setup = Some(setup);
                self.show("starting");
                self.tell_with(
                    &Tell::Configured {
                        fds: listeners.len() as u32,
                    },
                    listeners,
                );
            }
            Err(why) => {
                let message = format!("cannot start {}: {why}", setup.name);
                self.tell(&Tell::Refused { message, exit: 1 });
                self.refused(1);
            }
        }
    }

    fn start_threads(&mut self, setup: &Setup, places: &Places) -> std::io::Result<()> {
        let hash = hash(&setup.state_dir);
        let alone = self.alone.is_some();
        let site = self.site.as_ref();
        let groups = site.and_then(|site| Groups::make(site, &setup.name, &hash, alone));
        if groups.is_none() {
            sweep_marked(&hash); // of an earlier holder
        }
        let shelf = Shelf::start(setup.log_dir.clone().into(), Arc::clone(&self.mail))?;
        let logs = Logs::start(shelf, Arc::clone(&self.mail))?;
        logs.set_limits(setup.log_max_bytes, setup.log_keep);
        let mut ground = Ground {
            inherited: Arc::clone(&self.inherited),
            groups,
            notify_folder: places.notify_folder(),
            hash,
            nofile: self.nofile,
            dev_null: OwnedFd::from(
                std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open("/dev/null")?,
            ),
            logs,
            mail: Arc::clone(&self.mail),
            pins: !alone,
            plain_fork: self.options.plain_fork,
        };
        if let Some(mut groups) = ground.groups.take() {
            groups.probe(|group| probe_birth(&ground, group));
            ground.groups = Some(groups);
        }
        let ground = Arc::new(ground);
        self.spawner = Some(Spawner::start(Arc::clone(&ground))?);
        self.ground = Some(ground);
        Ok(())
    }

    /// The number of an instance, which is made known if it was not.
    pub(crate) fn id(&mut self, name: &str) -> u32 {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        self.last_id += 1;
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name), self.last_id);
        self.instances.insert(self.last_id, Instance::new(name));
        self.last_id
    }

    fn current(&self, name: &str, generation: u64) -> Option<u32> {
        let id = *self.names.get(name)?;
        self.instances
            .get(&id)
            .filter(|one| one.generation == generation)
            .map(|_| id)
    }

    fn spawn(&mut self, spawn: Box<Spawn>) {
        let id = self.id(&spawn.instance);
        let (Some(spawner), Some(instance)) = (&self.spawner, self.instances.get_mut(&id)) else {
            let failure = Failure::new(Step::Fence, libc::EAGAIN, "start before the setup is done");
            return self.spawn_failed(&spawn.instance, spawn.generation, failure);
        };
        let idle = matches!(instance.phase, Phase::Idle);
        if !idle || spawn.generation <= instance.generation {
            let errno = if idle { libc::ESTALE } else { libc::EBUSY };
            let what = match idle {
                true => format!("start generation {} again", spawn.generation),
                false => format!(
                    "start {} while generation {} lives",
                    spawn.instance, instance.generation
                ),
            };
            return self.spawn_failed(
                &spawn.instance,
                spawn.generation,
                Failure::new(Step::Fence, errno, &what),
            );
        }
        ignore_knocks(&self.poll, instance);
        if let Err(failure) = instance.sockets.settle(&spawn.sockets) {
            await_knocks(&self.poll, id, instance);
            return self.spawn_failed(&spawn.instance, spawn.generation, failure);
        }
        instance.generation = spawn.generation;
        let kill_after = Duration::from_millis(spawn.kill_after_ms);
        let end_by = (!kill_after.is_zero()).then(|| Instant::now() + kill_after + BIRTH_WITHIN);
        let alarm = end_by.map(|at| (at, id, spawn.generation));
        self.alarms.extend(alarm);
        instance.phase = Phase::Starting(Wishes {
            end_by,
            ..Wishes::default()
        });
        instance.last_exit = None;
        instance.said = Said::default();
        instance.forgotten = false;
        if let Some(socket) = &instance.notify {
            while crate::notify::receive(socket).is_some() {} // of a run that is over
        }
        self.in_flight += 1;
        spawner.queue(Job {
            id,
            name: Arc::clone(&instance.name),
            spawn,
            group: instance.group.clone(),
            has_notify: instance.notify.is_some(),
            handed: instance
                .sockets
                .given()
                .chain(instance.store.given())
                .collect(),
            tapped: instance.tapped,
        });
    }

    fn spawn_failed(&mut self, instance: &str, generation: u64, failure: Failure) {
        let Failure {
            step,
            errno,
            message,
        } = failure;
        let instance = instance.to_owned();
        self.tell(&Tell::SpawnFailed {
            instance,
            generation,
            step,
            errno,
            message,
        });
    }

    pub(crate) fn read_mail(&mut self) {
        for news in self.mail.take() {
            match news {
                News::Spawn {
                    id,
                    generation,
                    outcome,
                } => {
                    self.in_flight -= 1;
                    match outcome {
                        Ok(started) => self.started(id, *started),
                        Err(failure) => self.not_started(id, generation, failure),
                    }
                    self.reap_again |= std::mem::take(&mut self.reap_later);
                }
                News::Collected {
                    id,
                    generation,
                    output,
                } => self.collected(id, generation, output),
                News::Swept(ids) => {
                    self.sweeping = false;
                    for id in ids {
                        self.swept(id);
                    }
                }
                News::Output {
                    id,
                    generation,
                    text,
                    dropped_bytes,
                } => {
                    self.tell_output(id, generation, text, dropped_bytes);
                }
                News::Settled { number } => self.tell(&Tell::Settled { number }),
                News::OutputDropped {
                    name,
                    total_bytes,
                    errno,
                } => {
                    self.tell(&Tell::OutputDropped {
                        instance: name,
                        total_bytes,
                        errno,
                    });
                }
            }
        }
    }

    fn tap(&mut self, instance: &str, on: bool, again: bool) {
        let id = self.id(instance);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.tapped = on;
        }
        if let Some(ground) = &self.ground {
            ground.logs.tap(id, on, again);
        }
    }

    fn tell_output(&mut self, id: u32, generation: u64, text: String, lost: u64) {
        let behind = self.is_behind();
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.tap_lost += lost;
        if behind {
            instance.tap_lost += text.len() as u64;
            return;
        }
        let dropped_bytes = std::mem::take(&mut instance.tap_lost);
        let instance = instance.name.to_string();
        self.tell(&Tell::Output {
            instance,
            generation,
            text,
            dropped_bytes,
        });
    }

    fn not_started(&mut self, id: u32, generation: u64, failure: Failure) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.phase = Phase::Idle;
        await_knocks(&self.poll, id, instance);
        let name = Arc::clone(&instance.name);
        let forgotten = instance.forgotten;
        self.spawn_failed(&name, generation, failure);
        if forgotten {
            self.forget(&name);
        }
    }

    fn started(&mut self, id: u32, started: Started) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let Phase::Starting(wishes) = std::mem::replace(&mut instance.phase, Phase::Idle) else {
            return;
        };
        let same = |(old, new): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(old, new);
        if !instance
            .group
            .as_ref()
            .zip(started.group.as_ref())
            .is_some_and(same)
        {
            instance.oom_kills = 0; // a new group counts from the start
        }
        instance.group = started.group;
        let fresh = started.notify;
        if let Some(ready) = &started.ready {
            let about = about::READY | u64::from(id);
            let _ = self.poll.add(ready, about); // without it there is no readiness to tell
        }
        if let Some(socket) = &fresh {
            let _ = self.poll.add(socket, about::NOTIFY | u64::from(id));
        }
        if fresh.is_some() {
            instance.notify = fresh;
        }
        if let Some(pinned) = &started.pinned {
            let _ = self.poll.add(pinned, about::PROCESS | u64::from(id));
        }
        instance.phase = Phase::Running(Box::new(Run {
            first: (started.pid, started.start_time),
            pid: started.pid,
            start_time: started.start_time,
            uid: started.uid,
            pinned: started.pinned,
            ready: started.ready,
            stream: started.stream,
            mark: started.mark,
            overdue: wishes.overdue,
            ignored: 0,
            patience: EXEC_PATIENCE.into(),
        }));
        let (generation, tapped) = (instance.generation, instance.tapped);
        let name = instance.name.to_string();
        self.by_pid.insert(started.pid, id);
        if let Some(at) = wishes.end_by {
            self.alarms.remove(&(at, id, generation));
        }
        if started.kill_after_ms > 0 {
            let at = Instant::now() + Duration::from_millis(started.kill_after_ms);
            self.alarms.insert((at, id, generation));
        }
        if tapped && let Some(ground) = &self.ground {
            ground.logs.tap(id, true, false);
        }
        let (pid, start_time) = (started.pid.unsigned_abs(), started.start_time);
        self.tell(&Tell::Spawned {
            instance: name,
            generation,
            pid,
            start_time,
        });
        if let Some((signal, cont)) = wishes.signal {
            self.signal(id, signal, cont);
        }
        if wishes.kill {
            self.kill_tree(id);
        }
    }

    fn signal(&mut self, id: u32, signal: i32, cont: bool) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        match &mut instance.phase {
            Phase::Starting(wishes) => wishes.signal = Some((signal, cont)),
            Phase::Running(run) => {
                send(run, signal);
                if cont {
                    send(run, libc::SIGCONT);
                }
            }
            Phase::Idle | Phase::Ending(_) => {}
        }
    }

    /// Kills the main process and all that descends from it.
    pub(crate) fn kill_tree(&mut self, id: u32) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        match &mut instance.phase {
            Phase::Starting(wishes) => {
                wishes.kill = true;
                let generation = instance.generation;
                if self.spawner.as_ref().is_some_and(|one| one.end(id)) {
                    self.in_flight -= 1;
                    let what = "start a process that is to end already";
                    let failure = Failure::new(Step::Fork, libc::ECANCELED, what);
                    self.not_started(id, generation, failure);
                }
            }
            Phase::Running(run) => match &instance.group {
                Some(group) => {
                    group.kill();
                    send(run, libc::SIGKILL); // in case it moved out
                }
                None => self.to_sweep.extend(targets(id, run)),
            },
            Phase::Idle | Phase::Ending(_) => {}
        }
    }

    pub(crate) fn forget(&mut self, name: &str) {
        let Some(id) = self.names.get(name).copied() else {
            return;
        };
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.forgotten = true;
        if !matches!(instance.phase, Phase::Idle) {
            return self.kill_tree(id); // the rest when it has ended
        }
        self.names.remove(name);
        let mut gone = self.instances.remove(&id);
        let had_group = gone.as_ref().is_some_and(|one| one.group.is_some());
        if let Some(gone) = &mut gone {
            ignore_knocks(&self.poll, gone);
            gone.store.clear(&self.poll);
        }
        if let Some(ground) = &self.ground {
            if let Some(groups) = ground.groups.as_ref().filter(|_| had_group) {
                groups.forget(name);
            }
            let _ = std::fs::remove_file(ground.notify_folder.join(format!("{name}.sock")));
            ground.logs.forget(name);
        }
    }
}

/// To the main process, which nobody has reaped: its number cannot mean anyone else.
pub(crate) fn send(run: &Run, signal: i32) {
    match &run.pinned {
        Some(pinned) => {
            pinned.signal(signal);
        }
        None => process::kill(run.pid, signal),
    }
}

//! What a runtime may ask of the engine, and the news of spawns that come back.
//! Owns the fence: one living process per instance, generations only grow.
//! Never waits for what it starts.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_process::{Instance as InstanceName, ProcessEventKind, SpawnRequest, StartStep};

use crate::activation::{unwatch_activation, watch_activation};
use crate::directories::SystemDirs;
use crate::engine::{Engine, SPAWN_TIMEOUT, poll_key};
use crate::engine_queue::EngineEvent;
use crate::instance::{DeferredRequests, Instance, InstancePhase, RunningProcess};
use crate::kernel::CgroupTree;
use crate::log_writer::LogWriter;
use crate::mark::MarkSecret;
use crate::messages::{HolderMessage, HolderRequest, HolderSetup, MAX_RECORD_BYTES};
use crate::notify::NotifyState;
use crate::output::OutputDrain;
use crate::prepare::SpawnError;
use crate::process::{self, monotonic};
use crate::spawner::{SpawnContext, SpawnJob, SpawnedProcess, Spawner, probe_cgroup_spawn};
use crate::sweep::{sweep_marked, trees_of};

impl Engine {
    pub(crate) fn handle_request(&mut self, ask: HolderRequest) {
        match ask {
            HolderRequest::Configure(setup) => self.configure(setup),
            HolderRequest::Spawn(spawn) => self.spawn(spawn),
            HolderRequest::Signal {
                instance,
                generation,
                signal,
                cont,
            } => {
                if let Some(id) = self.current(&instance, generation) {
                    self.signal(id, signal.0, cont);
                }
            }
            HolderRequest::Kill {
                instance,
                generation,
            } => {
                if let Some(id) = self.current(&instance, generation) {
                    self.kill_tree(id);
                }
            }
            HolderRequest::DrainNotify {
                instance,
                generation,
            } => {
                let id = self.current(&instance, generation);
                if !id.is_some_and(|id| self.drain_notify(id, 0)) {
                    self.report(instance, generation, ProcessEventKind::NotifyDrained);
                }
            }
            HolderRequest::SaveRecord { instance, record } => {
                if record.len() <= MAX_RECORD_BYTES {
                    let id = self.id(&instance);
                    if let Some(instance) = self.instances.get_mut(&id) {
                        instance.record = Some(record);
                        instance.forgotten = false;
                    }
                }
            }
            HolderRequest::Forget { instance } => self.forget(&instance),
            HolderRequest::Listen { instance, sockets } => self.bind_for(&instance, &sockets),
            HolderRequest::Tap {
                instance,
                on,
                replay: again,
            } => self.tap(&instance, on, again),
            HolderRequest::FlushOutput { instance, number } => match &self.ground {
                Some(ground) => ground.logs.notify_when_written(&instance, number),
                None => self.send(&HolderMessage::OutputFlushed { number }),
            },
            HolderRequest::Logs { max_bytes, keep } => {
                if let Some(setup) = &mut self.setup {
                    (setup.log_max_bytes, setup.log_keep) = (max_bytes, keep);
                }
                if let Some(ground) = &self.ground {
                    ground.logs.set_limits(max_bytes, keep);
                }
            }
            HolderRequest::Ready => self.supervisor.runtime_ready(monotonic()),
            HolderRequest::Pong | HolderRequest::Other => {} // that it was read is what counts
            HolderRequest::Stopping { within_ms } => {
                let timeout = Duration::from_millis(within_ms);
                self.supervisor.stop_started(monotonic(), timeout);
            }
            HolderRequest::Exit { code } => self.supervisor.exit(code),
        }
    }

    fn configure(&mut self, setup: HolderSetup) {
        if self.places.is_some() {
            return;
        }
        let made = SystemDirs::claim(&setup, Arc::clone(&self.mail)).and_then(|places| {
            let listeners = places.listeners();
            let threads = self.start_threads(&setup, &places);
            let made = threads.and(listeners).map(|listeners| (places, listeners));
            made.map_err(|problem| problem.to_string())
        });
        match made {
            Ok((places, listeners)) => {
                self.supervisor.setup_accepted(
                    Duration::from_millis(setup.heartbeat_timeout_ms),
                    Duration::from_millis(setup.stop_timeout_ms),
                );
                self.places = Some(places);
                self.setup = Some(setup);
                self.send_message_with(
                    &HolderMessage::Configured {
                        fds: listeners.len() as u32,
                    },
                    listeners,
                );
            }
            Err(why) => {
                let message = format!("cannot start {}: {why}", setup.name);
                self.send(&HolderMessage::Refused { message, exit: 1 });
                self.supervisor.setup_refused(monotonic(), 1);
            }
        }
    }

    fn start_threads(&mut self, setup: &HolderSetup, places: &SystemDirs) -> std::io::Result<()> {
        let marks = MarkSecret::open(Path::new(&setup.state_dir))?;
        let alone = self.runtime.is_some();
        let site = self.site.as_ref();
        let groups =
            site.and_then(|site| CgroupTree::make(site, &setup.name, marks.public_name(), alone));
        if groups.is_none() {
            sweep_marked(&marks.prefix()); // of an earlier holder
        }
        let shelf = LogWriter::start(setup.log_dir.clone().into(), Arc::clone(&self.mail))?;
        let logs = OutputDrain::start(shelf, Arc::clone(&self.mail))?;
        logs.set_limits(setup.log_max_bytes, setup.log_keep);
        let mut ground = SpawnContext {
            inherited: Arc::clone(&self.inherited),
            groups,
            notify_folder: places.notify_folder(),
            marks,
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
            groups.probe(|group| probe_cgroup_spawn(&ground, group));
            ground.groups = Some(groups);
        }
        let ground = Arc::new(ground);
        self.spawner = Some(Spawner::start(Arc::clone(&ground))?);
        self.ground = Some(ground);
        Ok(())
    }

    /// The number of an instance, which is made known if it was not.
    pub(crate) fn id(&mut self, name: &InstanceName) -> u32 {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        self.last_id += 1;
        self.names.insert(name.clone(), self.last_id);
        self.instances
            .insert(self.last_id, Instance::new(name.clone()));
        self.last_id
    }

    fn current(&self, name: &str, generation: u64) -> Option<u32> {
        let id = *self.names.get(name)?;
        self.instances
            .get(&id)
            .filter(|one| one.generation == generation)
            .map(|_| id)
    }

    fn spawn(&mut self, spawn: Box<SpawnRequest>) {
        let id = self.id(&spawn.instance);
        let receiver = if spawn.notify {
            self.start_notify_receiver()
        } else {
            Ok(())
        };
        if let Err(problem) = receiver {
            let errno = problem.raw_os_error().unwrap_or(libc::EAGAIN);
            let failure = SpawnError::new(StartStep::Pipe, errno, "receive what it reports");
            return self.spawn_failed(&spawn.instance, spawn.generation, failure);
        }
        let (Some(spawner), Some(instance)) = (&self.spawner, self.instances.get_mut(&id)) else {
            let failure = SpawnError::new(
                StartStep::Fence,
                libc::EAGAIN,
                "start before the setup is done",
            );
            return self.spawn_failed(&spawn.instance, spawn.generation, failure);
        };
        let idle = matches!(instance.phase, InstancePhase::Idle);
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
                SpawnError::new(StartStep::Fence, errno, &what),
            );
        }
        unwatch_activation(&self.poll, instance);
        if let Err(failure) = instance.sockets.bind_exactly(&spawn.sockets) {
            watch_activation(&self.poll, id, instance);
            return self.spawn_failed(&spawn.instance, spawn.generation, failure);
        }
        instance.generation = spawn.generation;
        instance.tag = self.tags.draw();
        let kill_after = Duration::from_millis(spawn.timeout_ms);
        let end_by = (!kill_after.is_zero()).then(|| Instant::now() + kill_after + SPAWN_TIMEOUT);
        let alarm = end_by.map(|at| (at, id, spawn.generation));
        self.run_deadlines.extend(alarm);
        instance.phase = InstancePhase::Starting(DeferredRequests {
            end_by,
            ..DeferredRequests::default()
        });
        instance.last_exit = None;
        instance.notify_state = NotifyState::default();
        instance.forgotten = false;
        self.in_flight += 1;
        spawner.queue(SpawnJob {
            id,
            name: instance.name.clone(),
            spawn,
            tag: instance.tag,
            group: instance.group.clone(),
            handed: instance
                .sockets
                .given()
                .chain(instance.store.for_next_run())
                .collect(),
            tapped: instance.tapped,
        });
    }

    fn spawn_failed(&mut self, instance: &InstanceName, generation: u64, error: SpawnError) {
        let SpawnError { failure, message } = error;
        let what = ProcessEventKind::SpawnFailed { failure, message };
        self.report(instance.clone(), generation, what);
    }

    pub(crate) fn handle_queue(&mut self) {
        for news in self.mail.take() {
            match news {
                EngineEvent::Spawn {
                    id,
                    generation,
                    outcome,
                } => {
                    self.in_flight -= 1;
                    match outcome {
                        Ok(started) => self.started(id, *started),
                        Err(failure) => self.not_started(id, generation, failure),
                    }
                    self.reap_again |= std::mem::take(&mut self.reap_retry);
                }
                EngineEvent::Collected {
                    id,
                    generation,
                    output,
                } => self.on_output_collected(id, generation, output),
                EngineEvent::Notify(message) => self.on_notify(*message),
                EngineEvent::NotifyRejected {
                    id,
                    generation,
                    message,
                } => self.report_rejected(id, generation, Some(message)),
                EngineEvent::NotifyDrained {
                    id,
                    generation,
                    pid,
                } => self.on_notify_drained(id, generation, pid),
                EngineEvent::Swept(ids) => self.finish_sweep(&ids),
                EngineEvent::Output {
                    id,
                    generation,
                    text,
                    dropped_bytes,
                } => {
                    self.send_output(id, generation, text, dropped_bytes);
                }
                EngineEvent::OutputFlushed { number } => {
                    self.send(&HolderMessage::OutputFlushed { number })
                }
                EngineEvent::OutputDropped { name, what } => self.report(name, 0, what),
                EngineEvent::Directories(restored) => self.on_directories(restored),
            }
        }
    }

    fn tap(&mut self, instance: &InstanceName, on: bool, again: bool) {
        let id = self.id(instance);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.tapped = on;
        }
        if let Some(ground) = &self.ground {
            ground.logs.tap(id, on, again);
        }
    }

    fn send_output(&mut self, id: u32, generation: u64, text: String, lost: u64) {
        let behind = self.is_backpressured();
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.tap_dropped += lost;
        if behind {
            instance.tap_dropped += text.len() as u64;
            return;
        }
        let dropped_bytes = std::mem::take(&mut instance.tap_dropped);
        let instance = instance.name.clone();
        let what = ProcessEventKind::Output {
            text,
            dropped_bytes,
        };
        self.report(instance, generation, what);
    }

    fn not_started(&mut self, id: u32, generation: u64, failure: SpawnError) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.phase = InstancePhase::Idle;
        watch_activation(&self.poll, id, instance);
        let name = instance.name.clone();
        let forgotten = instance.forgotten;
        self.spawn_failed(&name, generation, failure);
        if forgotten {
            self.forget(&name);
        }
    }

    fn started(&mut self, id: u32, started: SpawnedProcess) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let InstancePhase::Starting(wishes) =
            std::mem::replace(&mut instance.phase, InstancePhase::Idle)
        else {
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
            let about = poll_key::READY | u64::from(id);
            let _ = self.poll.add(ready, about); // without it there is no readiness to tell
        }
        if let Some(pinned) = &started.pinned {
            let _ = self.poll.add(pinned, poll_key::PROCESS | u64::from(id));
        }
        instance.phase = InstancePhase::Running(Box::new(RunningProcess {
            first: (started.pid, started.start_time),
            pid: started.pid,
            start_time: started.start_time,
            uid: started.uid,
            pinned: started.pinned,
            ready: started.ready,
            stream: started.stream,
            mark: started.mark,
            timed_out: wishes.timed_out,
            ignored: 0,
            notifies: false,
            drained: None,
        }));
        let (generation, tapped) = (instance.generation, instance.tapped);
        let name = instance.name.clone();
        self.by_pid.insert(started.pid, id);
        if let Some(socket) = fresh {
            self.open_notify(id, socket);
        }
        if let Some(at) = wishes.end_by {
            self.run_deadlines.remove(&(at, id, generation));
        }
        if started.kill_after_ms > 0 {
            let at = Instant::now() + Duration::from_millis(started.kill_after_ms);
            self.run_deadlines.insert((at, id, generation));
        }
        if tapped && let Some(ground) = &self.ground {
            ground.logs.tap(id, true, false);
        }
        let (pid, start_time) = (started.pid.unsigned_abs(), started.start_time);
        let what = ProcessEventKind::Spawned { pid, start_time };
        self.report(name, generation, what);
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
            InstancePhase::Starting(wishes) => wishes.signal = Some((signal, cont)),
            InstancePhase::Running(run) => {
                send(run, signal);
                if cont {
                    send(run, libc::SIGCONT);
                }
            }
            InstancePhase::Idle | InstancePhase::Ending(_) => {}
        }
    }

    /// Kills the main process and all that descends from it.
    pub(crate) fn kill_tree(&mut self, id: u32) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        match &mut instance.phase {
            InstancePhase::Starting(wishes) => {
                wishes.kill = true;
                let generation = instance.generation;
                if self.spawner.as_ref().is_some_and(|one| one.abort(id)) {
                    self.in_flight -= 1;
                    let what = "start a process that is to end already";
                    let failure = SpawnError::new(StartStep::Fork, libc::ECANCELED, what);
                    self.not_started(id, generation, failure);
                }
            }
            InstancePhase::Running(run) => match &instance.group {
                Some(group) => {
                    group.kill();
                    send(run, libc::SIGKILL); // in case it moved out
                }
                None => self.to_sweep.extend(trees_of(id, run)),
            },
            InstancePhase::Idle | InstancePhase::Ending(_) => {}
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
        if !matches!(instance.phase, InstancePhase::Idle) {
            return self.kill_tree(id); // the rest when it has ended
        }
        self.names.remove(name);
        let mut gone = self.instances.remove(&id);
        let had_group = gone.as_ref().is_some_and(|one| one.group.is_some());
        if let Some(gone) = &mut gone {
            unwatch_activation(&self.poll, gone);
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
pub(crate) fn send(run: &RunningProcess, signal: i32) {
    match &run.pinned {
        Some(pinned) => {
            pinned.signal(signal);
        }
        None => process::kill(run.pid, signal),
    }
}

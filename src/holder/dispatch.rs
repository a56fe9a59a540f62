//! Requests of the runtime, results of spawns, and what the roster orders: signals and kills.
//! Owns the fence: one living process per instance, generations only grow.
//! Never waits for what it starts.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mainstay_process::{Instance, ProcessEventKind, RunLimits, SpawnRequest, StartStep};

use crate::clock::monotonic;
use crate::directories::SystemDirs;
use crate::engine::Engine;
use crate::engine_queue::EngineEvent;
use crate::instance::{InstanceResources, RunningProcess, trees_of};
use crate::machines::{FenceError, RosterEffect};
use crate::messages::{
    BoundSocket, FREEZE_MAX_MS, FreezeRequest, HolderMessage, HolderRequest, HolderSetup,
    LimitRequest, LiveSetup,
};
use crate::poll_key;
use crate::process;
use crate::spawn::spawn_error::SpawnError;
use crate::spawn::spawn_job::SpawnJob;
use crate::succession::BASE;
use crate::workers::reports::{SpawnedProcess, TapOutput};
use crate::workers::setup::{self, SetupOptions, SystemReady};

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
                within_ms: None,
            } => self
                .roster
                .signal_requested(&instance, generation, signal.0, cont),
            HolderRequest::Signal {
                instance,
                generation,
                signal,
                within_ms: Some(within_ms),
                ..
            } => {
                let (now, within) = (monotonic(), Duration::from_millis(within_ms));
                let roster = &mut self.roster;
                roster.stop_requested(now, &instance, generation, signal.0, within);
            }
            HolderRequest::Kill {
                instance,
                generation,
            } => self.roster.kill_requested(&instance, generation),
            HolderRequest::DrainNotify {
                instance,
                generation,
            } => self.drain_requested(instance, generation),
            HolderRequest::Freeze(request) => self.freeze(&request),
            HolderRequest::Limit(request) => self.limit(&request),
            HolderRequest::SaveRecord { instance, record } => {
                self.roster.record_saved(&instance, record);
            }
            HolderRequest::Forget { instance } => self.roster.forget_requested(&instance),
            HolderRequest::Listen {
                instance,
                sockets,
                passed,
                activates,
            } => {
                let fds = self.channel.take_fds(passed.len());
                self.keep_sockets(&instance, sockets, (&passed, fds), activates);
            }
            HolderRequest::Tap {
                instance,
                on,
                replay: again,
            } => self.tap(&instance, on, again),
            HolderRequest::FlushOutput { instance, number } => match &self.context {
                Some(context) => context.logs.notify_when_written(&instance, number),
                None => self.send(&HolderMessage::OutputFlushed { number }),
            },
            HolderRequest::Reconfigure(live) => self.reconfigure(live),
            HolderRequest::Reexec { number } => self.reexec_requested(number),
            HolderRequest::Mirror { number } => self.mirror_requested(number),
            HolderRequest::Ready => self.supervisor.runtime_ready(monotonic()),
            HolderRequest::Pong | HolderRequest::Other => {} // that it was read is what counts
            HolderRequest::Stopping { within_ms } => self
                .supervisor
                .stop_started(monotonic(), Duration::from_millis(within_ms)),
            HolderRequest::NotifyServiceManager { text } => self.notify_service_manager(text),
            HolderRequest::Upgrade { program, note } => self.upgrade(&program, note),
            HolderRequest::Exit { code } => self.supervisor.exit(code),
        }
        self.perform_effects();
    }

    fn drain_requested(&mut self, instance: Instance, generation: u64) {
        let id = self.roster.current(&instance, generation);
        if !id.is_some_and(|id| self.drain_notify(id, 0)) {
            self.report(instance, generation, ProcessEventKind::NotifyDrained);
        }
    }

    fn notify_service_manager(&self, text: String) {
        if let Some(manager) = &self.service_manager {
            manager.notify(text);
        }
    }

    fn reconfigure(&mut self, live: LiveSetup) {
        if let (Some(context), Some(dirs)) = (&self.context, &self.dirs) {
            context.logs.set_limits(live.log_max_bytes, live.log_keep);
            dirs.keeper.set_control_mode(live.control_mode);
            self.supervisor.stop_timeout = Duration::from_millis(live.stop_timeout_ms);
        }
    }

    fn configure(&mut self, setup: HolderSetup) {
        if self.dirs.is_some() || self.setup_in_flight.is_some() {
            return; // a runtime that ended has asked for it
        }
        let options = SetupOptions {
            site: self.site.clone(),
            nofile: self.nofile,
            plain_fork: self.options.plain_fork,
            standalone: self.runtime.is_some(),
        };
        match setup::start(setup, options, Arc::clone(&self.queue)) {
            Ok(receiver) => self.setup_in_flight = Some(receiver),
            Err(problem) => self.refuse_setup(format!("cannot start a thread: {problem}")),
        }
    }

    fn on_setup(&mut self) {
        let done = self.setup_in_flight.take();
        match done.and_then(|receiver| receiver.recv().ok()) {
            Some(Ok(ready)) => {
                self.supervisor.setup_accepted(
                    Duration::from_millis(ready.setup.heartbeat_timeout_ms),
                    Duration::from_millis(ready.setup.live.stop_timeout_ms),
                );
                let listeners = ready.dirs.listeners().unwrap_or_default();
                self.take_over(ready);
                let fds = listeners.len() as u32;
                self.send_message_with(&HolderMessage::Configured { fds }, listeners);
            }
            Some(Err(message)) => self.refuse_setup(message),
            None => {}
        }
    }

    pub(crate) fn take_over(&mut self, ready: SystemReady) {
        self.setup = Some(ready.setup);
        self.dirs = Some(ready.dirs);
        self.context = Some(ready.context);
        self.spawner = Some(ready.spawner);
    }

    fn refuse_setup(&mut self, message: String) {
        self.send(&HolderMessage::Refused { message, exit: 1 });
        self.supervisor.setup_refused(monotonic(), 1);
    }

    /// The number of an instance, which is created if it is unknown.
    pub(crate) fn id(&mut self, name: &Instance) -> u32 {
        let id = self.roster.intern(name);
        let new = || InstanceResources::new(name.clone());
        self.instances.entry(id).or_insert_with(new);
        id
    }

    fn spawn(&mut self, spawn: Box<SpawnRequest>) {
        let id = self.id(&spawn.instance);
        if let Err(SpawnError { failure, message }) = self.may_spawn(&spawn) {
            let what = ProcessEventKind::SpawnFailed { failure, message };
            return self.report(spawn.instance, spawn.generation, what);
        }
        self.mirror_before_start(id);
        let (Some(spawner), Some(instance)) = (&self.spawner, self.instances.get_mut(&id)) else {
            return;
        };
        instance.sockets.unwatch(&self.poll);
        self.leases.thaw(id); // the last run has ended
        if std::mem::take(&mut instance.limited)
            && let Some(group) = &instance.group
        {
            group.limit(&RunLimits::default());
        }
        let sockets = match instance.sockets.given(&spawn.sockets) {
            Ok(sockets) => sockets,
            Err(failure) => return self.spawn_failed(id, failure),
        };
        instance.tag = self.tags.draw();
        spawner.queue(SpawnJob {
            id,
            name: instance.name.clone(),
            spawn,
            tag: instance.tag,
            group: instance.group.clone(),
            sockets,
            receiver: self.notify_receiver.clone(),
            tapped: instance.tapped,
        });
    }

    /// Whether the spawn may be queued: then it is in flight.
    fn may_spawn(&mut self, spawn: &SpawnRequest) -> Result<(), SpawnError> {
        if self.spawner.is_none() {
            let what = "start before the setup is done";
            return Err(SpawnError::new(StartStep::Fence, libc::EAGAIN, what));
        }
        if spawn.notify {
            self.start_notify_receiver().map_err(|problem| {
                let errno = problem.raw_os_error().unwrap_or(libc::EAGAIN);
                SpawnError::new(StartStep::Pipe, errno, "receive what it reports")
            })?;
        }
        let SpawnRequest {
            instance,
            generation,
            ..
        } = spawn;
        let timeout = Duration::from_millis(spawn.timeout_ms);
        let passed = self
            .roster
            .spawn_requested(monotonic(), instance, *generation, timeout);
        let (errno, what) = match passed {
            Ok(_) => return Ok(()),
            Err(FenceError::Running(running)) => {
                let what = format!("start {instance} while generation {running} lives");
                (libc::EBUSY, what)
            }
            Err(FenceError::Stale) => {
                (libc::ESTALE, format!("start generation {generation} again"))
            }
        };
        Err(SpawnError::new(StartStep::Fence, errno, &what))
    }

    fn spawn_failed(&mut self, id: u32, error: SpawnError) {
        self.roster.spawn_failed(id, error.failure, error.message);
    }

    pub(crate) fn handle_queue(&mut self) {
        for event in self.queue.take() {
            self.handle_event(event);
        }
    }

    pub(crate) fn handle_event(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Spawn { id, outcome } => {
                match outcome {
                    Ok(started) => self.started(id, *started),
                    Err(failure) => self.spawn_failed(id, failure),
                }
                self.reap_again |= std::mem::take(&mut self.reap_retry);
            }
            EngineEvent::Collected {
                id,
                generation,
                output,
            } => self.roster.output_collected(id, generation, output),
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
            EngineEvent::Swept(runs) => self.finish_sweep(&runs),
            EngineEvent::TreesLooked(found) => self.on_trees_looked(found),
            EngineEvent::Output(output) => self.send_output(output),
            EngineEvent::OutputFlushed { number } => {
                self.send(&HolderMessage::OutputFlushed { number })
            }
            EngineEvent::OutputDropped { name, what } => self.report(name, 0, what),
            EngineEvent::SetupDone => self.on_setup(),
            #[cfg(target_os = "linux")]
            EngineEvent::ReexecChecked { problem } => self.on_reexec_checked(problem),
            EngineEvent::RuntimeStarted => self.runtime_started(),
            EngineEvent::Directories(restored) => self.on_directories(restored),
        }
        self.perform_effects();
    }

    fn tap(&mut self, instance: &Instance, on: bool, again: bool) {
        let id = self.id(instance);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.tapped = on;
        }
        if let Some(context) = &self.context {
            context.logs.tap(id, on, again);
        }
    }

    fn send_output(&mut self, output: TapOutput) {
        let behind = self.channel.is_backpressured();
        let Some(instance) = self.instances.get_mut(&output.id) else {
            return;
        };
        instance.tap_dropped += output.dropped_bytes;
        if behind {
            instance.tap_dropped += output.text.len() as u64;
            return;
        }
        let dropped_bytes = std::mem::take(&mut instance.tap_dropped);
        let instance = instance.name.clone();
        let what = ProcessEventKind::Output {
            text: output.text,
            stream: output.stream,
            dropped_bytes,
        };
        self.report(instance, output.generation, what);
    }

    fn started(&mut self, id: u32, started: SpawnedProcess) {
        let process = (started.pid.unsigned_abs(), started.start_time);
        let timeout = Duration::from_millis(started.kill_after_ms);
        let is_expected = self
            .roster
            .process_started(monotonic(), id, process, timeout);
        let generation = self
            .roster
            .name_and_generation(id)
            .map(|(_, generation)| generation);
        let expected = generation.filter(|_| is_expected);
        let Some((generation, instance)) = expected.zip(self.instances.get_mut(&id)) else {
            return process::kill(started.pid, libc::SIGKILL); // a child that is not reaped yet
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
        if let Some(ready) = &started.ready {
            let about = poll_key::READY | u64::from(id);
            let _ = self.poll.add(ready, about); // without it there is no readiness to tell
        }
        if let Some(pinned) = &started.pinned {
            let _ = self.poll.add(pinned, poll_key::PROCESS | u64::from(id));
        }
        instance.run = Some(Box::new(RunningProcess {
            generation,
            first: (started.pid, started.start_time),
            pid: started.pid,
            start_time: started.start_time,
            pinned: started.pinned,
            ready: started.ready,
            ready_bytes: 0,
            stdin: started.stdin,
            stream: started.stream,
            mark: started.mark,
            ignored: 0,
            stopping: false,
            notifies: false,
            drained: None,
            main_exit: None,
            inherited: false,
        }));
        let tapped = instance.tapped;
        if started.notifies {
            self.open_notify(id);
        }
        if tapped && let Some(context) = &self.context {
            context.logs.tap(id, true, false);
        }
    }

    /// Performs what the roster returns.
    pub(crate) fn perform_effects(&mut self) {
        while let Some(effect) = self.roster.next_effect() {
            match effect {
                RosterEffect::SendTakeover(instances) => self.send_takeover(instances),
                RosterEffect::Send(message) => {
                    self.mirror_before(&message);
                    self.send(&message);
                }
                RosterEffect::AbortSpawn(id) => {
                    if self.spawner.as_ref().is_some_and(|one| one.abort(id)) {
                        let what = "start a process that is to end already";
                        let failure = SpawnError::new(StartStep::Fork, libc::ECANCELED, what);
                        self.spawn_failed(id, failure);
                    }
                }
                RosterEffect::Signal { id, signal, cont } => self.signal(id, signal, cont),
                RosterEffect::KillTree(id) => self.kill_tree(id),
                RosterEffect::WatchActivation(id) => {
                    if let Some(instance) = self.instances.get(&id) {
                        instance.sockets.watch(&self.poll, id);
                    }
                }
                RosterEffect::Remove { id, name } => self.remove(id, &name),
            }
        }
    }

    /// Stops a run for a moment, unless it is being stopped for good.
    fn freeze(&mut self, request: &FreezeRequest) {
        let id = self.roster.current(&request.instance, request.generation);
        let Some((id, instance)) = id.and_then(|id| Some((id, self.instances.get(&id)?))) else {
            return;
        };
        let may_stop = instance.run.as_ref().is_some_and(|run| !run.stopping);
        if request.ms == 0 || !may_stop {
            return self.leases.thaw(id);
        }
        let until = monotonic() + Duration::from_millis(request.ms.min(FREEZE_MAX_MS));
        let group = instance.group.as_ref();
        self.leases.freeze(id, until, group, &request.processes);
    }

    fn limit(&mut self, request: &LimitRequest) {
        let id = self.roster.current(&request.instance, request.generation);
        let instance = id.and_then(|id| self.instances.get_mut(&id));
        if let Some(instance) = instance.filter(|one| one.run.is_some())
            && let Some(group) = &instance.group
        {
            group.limit(&request.limits);
            instance.limited = true;
        }
    }

    fn signal(&mut self, id: u32, signal: i32, cont: bool) {
        if cont {
            self.leases.thaw(id);
            let run = self.instances.get_mut(&id).and_then(|one| one.run.as_mut());
            run.into_iter().for_each(|run| run.stopping = true);
        }
        let instance = self.instances.get(&id);
        if let Some(run) = instance.and_then(|one| one.run.as_ref()) {
            run.signal(signal);
            if cont {
                run.signal(libc::SIGCONT);
            }
        }
    }

    /// Kills the main process and all that descends from it.
    fn kill_tree(&mut self, id: u32) {
        if self.finish_tree_stop(id) {
            return;
        }
        let instance = self.instances.get(&id);
        let Some((instance, run)) = instance.and_then(|one| Some((one, one.run.as_ref()?))) else {
            return;
        };
        match &instance.group {
            Some(group) => {
                group.kill();
                run.signal(libc::SIGKILL); // in case it moved out
            }
            None => self.to_sweep.extend(trees_of(id, run)),
        }
    }

    fn remove(&mut self, id: u32, name: &str) {
        self.changed(id);
        let Some(gone) = self.instances.remove(&id) else {
            return;
        };
        self.leases.thaw(id);
        gone.sockets.unwatch(&self.poll);
        if let Some(dirs) = &self.dirs {
            dirs.remove_sockets(gone.sockets.bound());
        }
        if let Some(receiver) = &self.notify_receiver {
            receiver.forget(id);
        }
        if let Some(context) = &self.context {
            if let Some(groups) = context.groups.as_ref().filter(|_| gone.group.is_some()) {
                groups.forget(name);
            }
            context.logs.forget(name);
        }
    }

    /// Keeps the sockets that the runtime has bound for an instance, and drops its others.
    fn keep_sockets(
        &mut self,
        name: &Instance,
        sockets: Vec<BoundSocket>,
        (passed, fds): (&[u32], Vec<OwnedFd>),
        activates: bool,
    ) {
        let id = self.id(name);
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.sockets.unwatch(&self.poll);
        let dropped = instance.sockets.keep(sockets, passed, fds);
        instance.sockets.wants_activation |= activates;
        if self.roster.is_idle(id) {
            instance.sockets.watch(&self.poll, id);
        }
        if let Some(dirs) = &self.dirs {
            dirs.remove_sockets(dropped);
        }
    }

    /// Somebody connected; the rest of them wait for the run that this brings about.
    pub(crate) fn on_activation(&mut self, id: u32, at: usize) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.sockets.unwatch(&self.poll);
        let socket = instance.sockets.name(at).unwrap_or_default().to_owned();
        self.report_current(id, ProcessEventKind::SocketActivated { socket });
    }

    /// Directories had been removed and are there again: the runtime gets the new listeners.
    pub(crate) fn on_directories(&mut self, restored: Result<Vec<OwnedFd>, String>) {
        self.changed(BASE);
        let problem = match restored {
            Ok(listeners) => {
                if let Some(dirs) = &mut self.dirs {
                    dirs.replace_listeners(listeners);
                }
                if let Some(context) = &self.context {
                    context.logs.reopen();
                }
                if let Some(receiver) = &self.notify_receiver {
                    receiver.restore();
                }
                None
            }
            Err(problem) => Some(problem),
        };
        let listeners = self.dirs.as_ref().filter(|_| problem.is_none());
        let listeners = listeners.map(SystemDirs::listeners).transpose();
        let listeners = listeners.ok().flatten().unwrap_or_default();
        let fds = listeners.len() as u32;
        self.send_message_with(&HolderMessage::Directories { fds, problem }, listeners);
    }
}

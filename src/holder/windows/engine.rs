//! The loop of the holder: one queue of events, applied in one place.
//! Owns instances, the connection to the runtime and deadlines.
//! Never blocks on a disk, a module or the runtime; starts one process after the other.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_process::{Instance, ProcessEvent, ProcessEventKind, Signal, StdStream};

use super::create_process::EnvBlock;
use super::directories::SystemDirs;
use super::engine_queue::{EngineEvent, EngineQueue};
use super::frame_writer::FrameWriter;
use super::handles::{JobObject, modules_job_name, monotonic, monotonic_nanos};
use super::runtime_process::{RuntimeProcess, service_report};
use super::threads::{lock, thread};
use crate::codec::{CHUNK_BYTES, Decoder};
use crate::machines::{Roster, RosterEffect, RuntimeSupervisor, nanoseconds};
use crate::messages::{
    HolderMessage, HolderRequest, HolderSetup, InstanceInfo, LimitRequest, TakeoverState, VERSION,
};
use crate::workers::log_writer::LogWriter;
use crate::workers::tap_replay::TapReplay;

/// How trees are killed here.
pub(crate) const TREE_METHOD: &str = "job";
/// Frames that may wait for a runtime that does not read; from half of it on output is dropped.
const OUTBOX_BYTES: usize = 8 * 1024 * 1024;

/// Of a run that is not being stopped.
pub(crate) const NO_STOP: u64 = u64::MAX;

/// What an instance has of the system.
#[derive(Debug, Default)]
pub(crate) struct InstanceResources {
    /// The job of its run.
    pub(crate) job: Option<Arc<JobObject>>,
    /// Where what that run writes is kept, until its end is written there.
    pub(crate) log: Option<Arc<LogWriter>>,
    /// The holder killed that run.
    pub(crate) killed: bool,
    /// When that run is killed in a stop, in nanoseconds; [`NO_STOP`]: none was requested.
    pub(crate) stop_by: Arc<AtomicU64>,
    pub(crate) tapped: Arc<AtomicBool>,
    /// What its newest run wrote into the tap.
    pub(crate) kept: Arc<Mutex<TapReplay>>,
    /// Tapped bytes that were dropped because the runtime did not read.
    pub(crate) tap_lost: u64,
}

/// The connection to a runtime.
#[derive(Debug)]
pub(crate) struct RuntimeConnection {
    out: FrameWriter,
}

/// Everything the holder knows.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) mail: Arc<EngineQueue>,
    pub(crate) event: Receiver<EngineEvent>,
    pub(crate) inherited: EnvBlock,
    /// Of all that is started here.
    pub(crate) modules: JobObject,
    pub(crate) setup: Option<HolderSetup>,
    pub(crate) places: Option<SystemDirs>,
    pub(crate) shelf: Option<Arc<LogWriter>>,
    pub(crate) instances: HashMap<Instance, InstanceResources>,
    pub(crate) roster: Roster,
    pub(crate) wire: Option<RuntimeConnection>,
    /// Which runtime the wire leads to, counted from the first.
    pub(crate) runtime: u32,
    pub(crate) up_since: u64,
    pub(crate) supervisor: RuntimeSupervisor,
    /// None: embedded.
    pub(crate) runtime_process: Option<RuntimeProcess>,
}

impl Engine {
    pub(crate) fn new(
        supervisor: RuntimeSupervisor,
        mail: Arc<EngineQueue>,
        event: Receiver<EngineEvent>,
    ) -> io::Result<Engine> {
        Ok(Engine {
            mail,
            event,
            inherited: EnvBlock::inherited(),
            modules: JobObject::new(Some(&modules_job_name(std::process::id())))?,
            setup: None,
            places: None,
            shelf: None,
            instances: HashMap::new(),
            roster: Roster::default(),
            wire: None,
            runtime: 0,
            up_since: monotonic_nanos(),
            supervisor,
            runtime_process: None,
        })
    }

    /// A fresh wire; returns the runtime's end of it.
    pub(crate) fn connect(&mut self) -> io::Result<(PipeReader, PipeWriter)> {
        let (hears, out) = io::pipe()?;
        let (from, speaks) = io::pipe()?;
        let out = FrameWriter::start(out)?;
        self.runtime += 1;
        let (mail, runtime) = (Arc::clone(&self.mail), self.runtime);
        thread("wire-read", move || read_requests(from, &mail, runtime))?;
        self.wire = Some(RuntimeConnection { out });
        Ok((hears, speaks))
    }

    /// Runs until the end; the exit code.
    pub(crate) fn run(mut self) -> u8 {
        loop {
            self.supervise();
            if let Some(code) = self.supervisor.exit_code() {
                return self.shut_down(code);
            }
            let event = match self.timeout() {
                Some(wait) => self.event.recv_timeout(wait),
                None => self.event.recv().map_err(RecvTimeoutError::from),
            };
            if let Ok(event) = event {
                self.take_in(event);
            }
            self.roster.deadline_passed(monotonic());
            self.perform_effects();
        }
    }

    pub(crate) fn take_in(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Ask { runtime, ask } if runtime == self.runtime => {
                self.supervisor.request_received(monotonic());
                self.handle_request(ask);
            }
            EngineEvent::WireClosed { runtime } if runtime == self.runtime => self.drop_channel(),
            EngineEvent::RuntimeEnded { runtime, code } if runtime == self.runtime => {
                self.runtime_ended(code);
            }
            EngineEvent::Ask { .. }
            | EngineEvent::WireClosed { .. }
            | EngineEvent::RuntimeEnded { .. } => {}
            EngineEvent::Exited {
                name,
                generation,
                code,
                output,
            } => self.exited(&name, generation, code, output),
            EngineEvent::Output {
                name,
                generation,
                text,
                stream,
                dropped_bytes,
            } => self.send_output(&name, generation, (text, stream), dropped_bytes),
            EngineEvent::OutputDropped { name, what } => self.report(&name, 0, what),
            EngineEvent::OutputFlushed { number } => {
                self.send(&HolderMessage::OutputFlushed { number })
            }
            EngineEvent::StopAsked => self
                .supervisor
                .stop_requested(monotonic(), Signal::TERMINATE),
        }
        self.perform_effects();
    }

    fn refuse_reexec(&mut self, number: u64) {
        let problem = "cannot execute another holder: this system has no way to do it";
        let problem = Some(problem.to_owned());
        self.send(&HolderMessage::Reexecuted { number, problem });
    }

    fn handle_request(&mut self, ask: HolderRequest) {
        match ask {
            HolderRequest::Configure(setup) => self.configure(setup),
            HolderRequest::Spawn(spawn) => self.spawn(&spawn),
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
                if self.roster.current(&instance, generation).is_some() {
                    let stop_by = &self.instance(&instance).stop_by;
                    stop_by.fetch_min(nanoseconds(now + within), Ordering::Relaxed);
                }
                self.roster
                    .stop_requested(now, &instance, generation, signal.0, within);
            }
            HolderRequest::Kill {
                instance,
                generation,
            } => self.roster.kill_requested(&instance, generation),
            HolderRequest::Freeze(_) => {} // a job has a CPU rate instead
            HolderRequest::Limit(request) => self.limit(&request),
            HolderRequest::SaveRecord { instance, record } => {
                self.roster.record_saved(&instance, record);
            }
            HolderRequest::Forget { instance } => self.roster.forget_requested(&instance),
            HolderRequest::Tap {
                instance,
                on,
                replay: again,
            } => self.tap(&instance, on, again),
            HolderRequest::FlushOutput { instance, number } => match &self.shelf {
                Some(shelf) => shelf.notify_when_written(&instance, number),
                None => self.send(&HolderMessage::OutputFlushed { number }),
            },
            HolderRequest::DrainNotify {
                instance,
                generation,
            } => self.report(&instance, generation, ProcessEventKind::NotifyDrained),
            // The configuration refuses sockets, and so does a spawn.
            HolderRequest::Listen { .. } => {}
            // Who may connect is in the security descriptor of the pipe, for all users.
            HolderRequest::Reconfigure(live) => {
                self.supervisor.stop_timeout = Duration::from_millis(live.stop_timeout_ms);
                if let Some(shelf) = &self.shelf {
                    shelf.set_limits(live.log_max_bytes, live.log_keep);
                }
            }
            HolderRequest::Reexec { number } => self.refuse_reexec(number),
            HolderRequest::Ready => self.supervisor.runtime_ready(monotonic()),
            // That it was read is what counts.
            HolderRequest::Pong | HolderRequest::Mirror { .. } | HolderRequest::Other => {}
            HolderRequest::Stopping { within_ms } => {
                let timeout = Duration::from_millis(within_ms);
                self.supervisor.stop_started(monotonic(), timeout);
            }
            HolderRequest::NotifyServiceManager { text } => service_report(&text),
            HolderRequest::Upgrade { program, note } => self.upgrade(program, note),
            HolderRequest::Exit { code } => self.supervisor.exit(code),
        }
    }

    fn limit(&self, request: &LimitRequest) {
        let current = self.roster.current(&request.instance, request.generation);
        let instance = self.instances.get(&request.instance);
        let instance = instance.filter(|_| current.is_some());
        if let Some(job) = instance.and_then(|one| one.job.as_ref()) {
            job.limit(&request.limits);
        }
    }

    fn configure(&mut self, setup: HolderSetup) {
        if self.places.is_some() {
            return;
        }
        let made = SystemDirs::claim(&setup).and_then(|places| {
            let shelf = LogWriter::start(setup.log_dir.clone().into(), Arc::clone(&self.mail));
            let shelf = shelf.map_err(|problem| problem.to_string())?;
            shelf.set_limits(setup.live.log_max_bytes, setup.live.log_keep);
            Ok((places, shelf))
        });
        match made {
            Ok((places, shelf)) => {
                self.places = Some(places);
                self.shelf = Some(shelf);
                self.supervisor.setup_accepted(
                    Duration::from_millis(setup.heartbeat_timeout_ms),
                    Duration::from_millis(setup.live.stop_timeout_ms),
                );
                self.setup = Some(setup);
                self.send(&HolderMessage::Configured { fds: 0 });
            }
            Err(why) => {
                let message = format!("cannot start {}: {why}", setup.name);
                self.send(&HolderMessage::Refused { message, exit: 1 });
                self.supervisor.setup_refused(monotonic(), 1);
            }
        }
    }

    /// The instance of this name, which is made known if it was not.
    pub(crate) fn instance(&mut self, name: &Instance) -> &mut InstanceResources {
        self.instances.entry(name.clone()).or_default()
    }

    /// Tells the runtime, if one listens; what must not be lost is in the instances.
    pub(crate) fn send(&mut self, tell: &HolderMessage) {
        let Some(wire) = &self.wire else {
            return;
        };
        if wire.out.waiting() > OUTBOX_BYTES || wire.out.push(tell).is_err() {
            self.drop_channel();
        }
    }

    /// Reports what happened to an instance.
    pub(crate) fn report(&mut self, name: &Instance, generation: u64, what: ProcessEventKind) {
        self.send(&HolderMessage::Process(ProcessEvent {
            instance: name.clone(),
            generation,
            what,
        }));
    }

    fn tap(&mut self, name: &Instance, on: bool, again: bool) {
        let instance = self.instance(name);
        instance.tapped.store(on, Ordering::Relaxed);
        let text = lock(&instance.kept).text();
        let id = self.roster.intern(name);
        if let Some((name, generation)) = self.roster.name_and_generation(id)
            && on
            && again
            && !text.is_empty()
        {
            self.send_output(&name, generation, (text, StdStream::Both), 0);
        }
    }

    fn send_output(
        &mut self,
        name: &Instance,
        generation: u64,
        (text, stream): (String, StdStream),
        lost: u64,
    ) {
        let waiting = self.wire.as_ref().map_or(0, |wire| wire.out.waiting());
        let Some(instance) = self.instances.get_mut(name) else {
            return;
        };
        instance.tap_lost += lost;
        if waiting > OUTBOX_BYTES / 2 {
            instance.tap_lost += text.len() as u64;
            return;
        }
        let dropped_bytes = std::mem::take(&mut instance.tap_lost);
        let what = ProcessEventKind::Output {
            text,
            stream,
            dropped_bytes,
        };
        self.report(name, generation, what);
    }

    /// Performs what the roster returns.
    pub(crate) fn perform_effects(&mut self) {
        while let Some(effect) = self.roster.next_effect() {
            match effect {
                RosterEffect::SendTakeover(instances) => self.send_takeover(instances),
                RosterEffect::Send(message) => self.send(&message),
                RosterEffect::Signal { id, .. } => self.request_stop(id),
                RosterEffect::KillTree(id) => self.kill(id),
                RosterEffect::Remove { name, .. } => {
                    self.instances.remove(&name);
                    if let Some(shelf) = &self.shelf {
                        shelf.forget(&name);
                    }
                }
                // A spawn is over when it returns; the configuration refuses sockets.
                RosterEffect::AbortSpawn(_) | RosterEffect::WatchActivation(_) => {}
            }
        }
    }

    fn send_takeover(&mut self, instances: Vec<InstanceInfo>) {
        let world = TakeoverState {
            version: VERSION,
            setup: self.setup.clone(),
            holder_pid: std::process::id(),
            restarts: self.supervisor.restarts(),
            runtime_down_since: nanoseconds(self.supervisor.down_since()),
            ended: self.supervisor.last_exit_text().map(str::to_owned),
            up_since: self.up_since,
            instances,
            tree: TREE_METHOD.to_owned(),
            stopping: self.supervisor.is_stopping(),
            upgrade: self.supervisor.last_upgrade(),
            drops_commands: true,
            ..TakeoverState::default()
        };
        self.send(&HolderMessage::Takeover(Box::new(world)));
        self.supervisor.takeover_sent(monotonic());
    }

    fn timeout(&self) -> Option<Duration> {
        let machines = [self.roster.next_deadline(), self.supervisor.next_deadline()];
        let next = machines.into_iter().flatten().min()?;
        Some(next.saturating_sub(monotonic()))
    }
}

/// Reads what the runtime asks, to the end of its wire.
fn read_requests(mut from: PipeReader, mail: &EngineQueue, runtime: u32) {
    let mut decoder = Decoder::default();
    let mut bytes = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        decoder.push(&bytes[..count]);
        loop {
            match decoder.next::<HolderRequest>() {
                Ok(Some(ask)) => {
                    if !mail.send(EngineEvent::Ask { runtime, ask }) {
                        return;
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    mail.send(EngineEvent::WireClosed { runtime });
                    return;
                }
            }
        }
    }
    mail.send(EngineEvent::WireClosed { runtime });
}

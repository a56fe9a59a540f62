//! The loop of the holder: one queue of news, one place where everything is taken in.
//! Owns instances, the connection to the runtime and deadlines.
//! Never blocks on a disk, a module or the runtime; starts one process after the other.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, PipeReader, PipeWriter, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mainstay_process::{Exited, Instance as InstanceName, ProcessEvent, ProcessEventKind, Signal};

use super::create_process::EnvBlock;
use super::directories::SystemDirs;
use super::engine_queue::{EngineEvent, EngineQueue, lock};
use super::frame_writer::FrameWriter;
use super::handles::{JobObject, modules_job_name, monotonic, monotonic_nanos};
use super::runtime_process::RuntimeProcess;
use super::threads::thread;
use crate::codec::{CHUNK_BYTES, Decoder};
use crate::log_writer::LogWriter;
use crate::machines::{RuntimeSupervisor, millis};
use crate::messages::{
    HolderMessage, HolderRequest, HolderSetup, InstanceInfo, MAX_RECORD_BYTES, TakeoverState,
    VERSION,
};
use crate::tap_replay::TapReplay;

/// How trees are killed here.
pub(crate) const TREE_METHOD: &str = "job";
/// Frames that may wait for a runtime that does not read; from half of it on output is dropped.
const OUTBOX_BYTES: usize = 8 * 1024 * 1024;

/// A living run.
#[derive(Debug)]
pub(crate) struct RunningProcess {
    pub(crate) pid: u32,
    pub(crate) start_time: u64,
    pub(crate) job: Arc<JobObject>,
    pub(crate) timed_out: bool,
    /// We ended it.
    pub(crate) killed: bool,
}

/// One instance as the holder knows it.
#[derive(Debug, Default)]
pub(crate) struct Instance {
    pub(crate) generation: u64,
    pub(crate) run: Option<RunningProcess>,
    pub(crate) record: Option<String>,
    /// How the last run ended, until the next one starts: a runtime may be lost with the news.
    pub(crate) last_exit: Option<Exited>,
    pub(crate) tapped: Arc<AtomicBool>,
    /// What its newest run wrote into the tap.
    pub(crate) kept: Arc<Mutex<TapReplay>>,
    /// Tapped bytes that were dropped because the runtime did not read.
    pub(crate) tap_lost: u64,
    pub(crate) forgotten: bool,
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
    pub(crate) news: Receiver<EngineEvent>,
    pub(crate) inherited: EnvBlock,
    /// Of all that is started here.
    pub(crate) modules: JobObject,
    pub(crate) setup: Option<HolderSetup>,
    pub(crate) places: Option<SystemDirs>,
    pub(crate) shelf: Option<Arc<LogWriter>>,
    pub(crate) instances: HashMap<InstanceName, Instance>,
    /// When runs overstay: deadline, instance, generation.
    pub(crate) alarms: BTreeSet<(Instant, InstanceName, u64)>,
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
        news: Receiver<EngineEvent>,
    ) -> io::Result<Engine> {
        Ok(Engine {
            mail,
            news,
            inherited: EnvBlock::inherited(),
            modules: JobObject::new(Some(&modules_job_name(std::process::id())))?,
            setup: None,
            places: None,
            shelf: None,
            instances: HashMap::new(),
            alarms: BTreeSet::new(),
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
            let news = match self.timeout() {
                Some(wait) => self.news.recv_timeout(wait),
                None => self.news.recv().map_err(RecvTimeoutError::from),
            };
            if let Ok(news) = news {
                self.take_in(news);
            }
            self.on_time(Instant::now());
        }
    }

    pub(crate) fn take_in(&mut self, news: EngineEvent) {
        match news {
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
                dropped_bytes,
            } => self.send_output(&name, generation, text, dropped_bytes),
            EngineEvent::OutputDropped { name, what } => self.report(&name, 0, what),
            EngineEvent::OutputFlushed { number } => {
                self.send(&HolderMessage::OutputFlushed { number })
            }
            // CTRL_BREAK and its like have no number of their own in a frame.
            EngineEvent::StopAsked => {
                let signal = Signal::TERMINATE;
                self.supervisor.stop_requested(monotonic(), signal);
            }
        }
    }

    fn handle_request(&mut self, ask: HolderRequest) {
        match ask {
            HolderRequest::Configure(setup) => self.configure(setup),
            HolderRequest::Spawn(spawn) => self.spawn(&spawn),
            HolderRequest::Signal {
                instance,
                generation,
                ..
            } => self.request_stop(&instance, generation),
            HolderRequest::Kill {
                instance,
                generation,
            } => self.kill(&instance, generation),
            HolderRequest::SaveRecord { instance, record } => {
                if record.len() <= MAX_RECORD_BYTES {
                    let instance = self.instance(&instance);
                    instance.record = Some(record);
                    instance.forgotten = false;
                }
            }
            HolderRequest::Forget { instance } => self.forget(&instance),
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
            HolderRequest::Logs { max_bytes, keep } => {
                if let Some(setup) = &mut self.setup {
                    (setup.log_max_bytes, setup.log_keep) = (max_bytes, keep);
                }
                if let Some(shelf) = &self.shelf {
                    shelf.set_limits(max_bytes, keep);
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
        let made = SystemDirs::claim(&setup).and_then(|places| {
            let shelf = LogWriter::start(setup.log_dir.clone().into(), Arc::clone(&self.mail));
            let shelf = shelf.map_err(|problem| problem.to_string())?;
            shelf.set_limits(setup.log_max_bytes, setup.log_keep);
            Ok((places, shelf))
        });
        match made {
            Ok((places, shelf)) => {
                self.places = Some(places);
                self.shelf = Some(shelf);
                self.supervisor.setup_accepted(
                    Duration::from_millis(setup.heartbeat_timeout_ms),
                    Duration::from_millis(setup.stop_timeout_ms),
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
    pub(crate) fn instance(&mut self, name: &InstanceName) -> &mut Instance {
        self.instances.entry(name.clone()).or_default()
    }

    /// Reports what happened to an instance.
    pub(crate) fn report(&mut self, name: &InstanceName, generation: u64, what: ProcessEventKind) {
        self.send(&HolderMessage::Process(ProcessEvent {
            instance: name.clone(),
            generation,
            what,
        }));
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

    fn tap(&mut self, name: &InstanceName, on: bool, again: bool) {
        let instance = self.instance(name);
        instance.tapped.store(on, Ordering::Relaxed);
        let (run, text) = (instance.generation, lock(&instance.kept).text());
        if on && again && !text.is_empty() {
            self.send_output(name, run, text, 0);
        }
    }

    fn send_output(&mut self, name: &InstanceName, generation: u64, text: String, lost: u64) {
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
            dropped_bytes,
        };
        self.report(name, generation, what);
    }

    /// First of all to every runtime; then how every run that is over ended: a runtime may have
    /// been lost with that news.
    pub(crate) fn send_takeover(&mut self) {
        let known = self.instances.iter().filter(|(_, one)| !one.forgotten);
        let known = known.map(|(name, instance)| InstanceInfo {
            instance: name.clone(),
            generation: instance.generation,
            pid: instance.run.as_ref().map(|run| run.pid),
            start_time: instance.run.as_ref().map_or(0, |run| run.start_time),
            record: instance.record.clone(),
            exit: instance.last_exit.as_ref().map(|exited| exited.exit),
        });
        let world = TakeoverState {
            version: VERSION,
            setup: self.setup.clone(),
            holder_pid: std::process::id(),
            restarts: self.supervisor.restarts(),
            runtime_down_ms: millis(self.supervisor.down_time(monotonic())),
            ended: self.supervisor.last_exit_text().map(str::to_owned),
            up_since: self.up_since,
            instances: known.collect(),
            fds: 0,
            tree: TREE_METHOD.to_owned(),
            stopping: self.supervisor.is_stopping(),
        };
        self.send(&HolderMessage::Takeover(world));
        let known = self.instances.iter().filter(|(_, one)| !one.forgotten);
        let exits = known.filter_map(|(name, one)| {
            let exited = one.last_exit.clone()?;
            Some((name.clone(), one.generation, exited))
        });
        let exits: Vec<(InstanceName, u64, Exited)> = exits.collect();
        for (name, generation, exited) in exits {
            self.report(&name, generation, ProcessEventKind::Exited(exited));
        }
        self.supervisor.takeover_sent(monotonic());
    }

    fn timeout(&self) -> Option<Duration> {
        let alarm = self.alarms.first().map(|(at, ..)| *at);
        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        let supervisor = self.supervisor.next_deadline();
        let supervisor = supervisor.map(|at| at.saturating_sub(monotonic()));
        alarm.map(left).into_iter().chain(supervisor).min()
    }

    fn on_time(&mut self, now: Instant) {
        while self.alarms.first().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, name, generation)) = self.alarms.pop_first() {
                self.kill_timed_out(&name, generation);
            }
        }
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

//! Processes through the holder: sends requests, receives events.
//! Owns the runtime's end of the wire, the table of what lives, and commands on their way.
//! Never decides; when the holder is gone it signals by verified identity: a stop still ends.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mainstay_holder::messages::{
    HolderMessage, HolderRequest, InstanceInfo, LimitRequest, LiveSetup, TakeoverState,
};
use mainstay_policy::MonoTime;
use mainstay_process::{ActivationSocket, Exited, Instance, RunLimits, Signal, SpawnRequest};
use mainstay_protocol::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

use super::forensics;
#[cfg(unix)]
use super::governor::Governor;
use super::handshake::HolderHandshake;
use super::sampler::Sampler;
use super::transport::{Outbox, PassedFd};
use super::{
    CommandResult, Enforcement, FreezeReason, LiveProcess, Os, OsEvent, RunExit, RunHold, Sample,
    SampleRequest, UpgradeRequest, machine,
};

mod apply;
mod channel;
#[cfg(unix)]
mod freezer;
mod hold;
mod holder_lost;
mod leave;
#[cfg(target_os = "linux")]
mod main_process;
#[cfg(target_os = "linux")]
mod notify_mirror;
mod reexec;
#[cfg(unix)]
mod sockets;
#[cfg(unix)]
mod starts;
#[cfg(target_os = "linux")]
mod succession;
#[cfg(not(target_os = "linux"))]
#[path = "holder_client/no_succession.rs"]
mod succession;
mod upgrade;

use channel::{read_messages, write_requests};

/// Facts that may wait for the router; a holder that tells faster than we listen waits in its
/// own bounded buffer.
const FACTS_IN_FLIGHT: usize = 1024;
/// Asks that may wait for the wire, in bytes; more means that the holder does not read any more.
const ASKS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Asks that wait for the writer's turn, in bytes, before they are sent at once: of many in a row,
/// the holder performs the first while the last are made.
#[cfg(unix)]
const ASKS_BYTES_EARLY: usize = 4 * 1024;

/// How long a disk may take to what is read from it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What is known of one instance.
#[derive(Default)]
struct InstanceState {
    /// A run that was asked for, while the answer is out.
    spawning: Option<u64>,
    alive: Option<LiveProcess>,
    last_exit: Option<RunExit>,
    record: Option<String>,
}

/// A command whose end is not known yet.
struct PendingCommand {
    result: oneshot::Sender<CommandResult>,
    /// Made again if its start is lost with the holder.
    request: SpawnRequest,
}

/// What is to be sent to the holder.
struct Outgoing {
    outbox: Outbox,
    /// Earlier frames are being sent.
    writes: bool,
    /// Requests of which the holder has not said that it performed them.
    unperformed: succession::Unperformed,
    /// Holders that were connected, for the task that writes.
    connection: u32,
    #[cfg(unix)]
    socket: std::os::fd::OwnedFd,
}

#[cfg(unix)]
impl Outgoing {
    fn send_early(&mut self) {
        if self.outbox.waiting_bytes() >= ASKS_BYTES_EARLY && !self.writes {
            // What does not go now the writer waits for; it finds errors too.
            let _ = self.outbox.flush(&self.socket);
        }
    }
}

/// [`Os`] through the holder.
pub(crate) struct HolderClient {
    out: Mutex<Outgoing>,
    out_ready: Notify,
    /// Signalled when everything asked so far is on the wire.
    sent: Notify,
    slots: Mutex<HashMap<Instance, InstanceState>>,
    commands: Mutex<HashMap<Instance, PendingCommand>>,
    flushes: Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>,
    capture_slots: forensics::CaptureSlots,
    /// Starts whose outcome is not known yet.
    #[cfg(unix)]
    starts: Mutex<HashMap<Instance, starts::Start>>,
    #[cfg(unix)]
    lookups: Arc<tokio::sync::Semaphore>,
    #[cfg(unix)]
    sockets: sockets::SocketTable,
    program: reexec::HolderProgram,
    successor: succession::Successor,
    /// The holder drops a command by itself once it has ended.
    drops_commands: bool,
    myself: Weak<HolderClient>,
    sampler: Sampler,
    enforcement: Enforcement,
    #[cfg(unix)]
    governor: Governor,
    next_command: AtomicU64,
    gone: AtomicBool,
    /// When the holder ends everything, once a stop has begun.
    stop_by: AtomicU64,
    upgrade: upgrade::PendingUpgrade,
    facts: mpsc::Sender<OsEvent>,
    handle: Handle,
}

impl From<&InstanceInfo> for InstanceState {
    fn from(info: &InstanceInfo) -> InstanceState {
        let generation = info.generation;
        InstanceState {
            spawning: None,
            alive: info.pid.map(|pid| LiveProcess {
                generation,
                pid,
                start_time: info.start_time,
            }),
            // The rest of it is reported after the takeover.
            last_exit: info.exit.map(|exit| RunExit {
                generation,
                exited: Exited {
                    pid: 0,
                    exit,
                    timed_out: false,
                    output: String::new(),
                    at: machine::monotonic().0,
                },
            }),
            record: info.record.clone(),
        }
    }
}

impl HolderClient {
    /// Starts the two tasks of the channel. Events arrive at the receiver in the order they
    /// happened.
    ///
    /// # Errors
    /// When the socket cannot be registered.
    pub(crate) fn start(
        wire: HolderHandshake,
        known: &TakeoverState,
    ) -> io::Result<(Arc<HolderClient>, mpsc::Receiver<OsEvent>)> {
        let (hearing, speaking) = wire.end.split()?;
        #[cfg(unix)]
        let socket = speaking.socket()?;
        let (facts, receiver) = mpsc::channel(FACTS_IN_FLIGHT);
        let (commands, modules): (Vec<_>, Vec<_>) = known
            .instances
            .iter()
            .partition(|info| info.instance.command().is_some());
        let slots = modules.into_iter();
        let slots = slots.map(|info| (info.instance.clone(), InstanceState::from(info)));
        let slots = slots.collect();
        let held = Arc::new_cyclic(|myself| HolderClient {
            out: Mutex::new(Outgoing {
                outbox: Outbox::default(),
                writes: false,
                unperformed: succession::Unperformed::default(),
                connection: 0,
                #[cfg(unix)]
                socket,
            }),
            out_ready: Notify::new(),
            sent: Notify::new(),
            slots: Mutex::new(slots),
            commands: Mutex::new(HashMap::new()),
            capture_slots: forensics::CaptureSlots::default(),
            flushes: Arc::default(),
            #[cfg(unix)]
            starts: Mutex::default(),
            #[cfg(unix)]
            lookups: Arc::new(tokio::sync::Semaphore::new(starts::LOOKUPS_MAX)),
            #[cfg(unix)]
            sockets: sockets::table(known),
            program: reexec::HolderProgram::of(known),
            successor: succession::Successor::of(known),
            drops_commands: known.drops_commands,
            myself: Weak::clone(myself),
            sampler: Sampler::default(),
            enforcement: Enforcement::of(known),
            #[cfg(unix)]
            governor: Governor::default(),
            next_command: AtomicU64::new(machine::monotonic().0),
            gone: AtomicBool::new(false),
            stop_by: AtomicU64::new(MonoTime::NEVER.0),
            upgrade: upgrade::PendingUpgrade::default(),
            facts,
            handle: Handle::current(),
        });
        // The runtime that waited for these commands is gone.
        for command in commands {
            let instance = command.instance.clone();
            held.send_request(&HolderRequest::Forget { instance });
        }
        held.request_mirror();
        held.follow_main_process();
        tokio::spawn(write_requests(Arc::clone(&held), speaking, 0));
        tokio::spawn(read_messages(Arc::clone(&held), hearing, wire.decoder));
        Ok((held, receiver))
    }

    /// How often the service manager learnt of another main process so far: it may have missed
    /// what it was told before.
    pub(crate) fn main_processes(&self) -> u32 {
        self.successor.passed_on()
    }

    /// Whether the holder is gone, and no other goes on.
    pub(crate) fn has_no_holder(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Sends assignments of sd_notify(3) to the service manager that started the holder, if there
    /// is one.
    pub(crate) fn notify_service_manager(&self, text: String) {
        self.send_request(&HolderRequest::NotifyServiceManager { text });
    }

    fn living(&self, instance: &Instance) -> Option<LiveProcess> {
        lock(&self.slots).get(instance)?.alive
    }

    /// Where events go: those of `embedded` take the same way.
    pub(super) fn facts(&self) -> mpsc::Sender<OsEvent> {
        self.facts.clone()
    }

    fn send_request(&self, ask: &HolderRequest) {
        self.send_request_with(ask, Vec::new());
    }

    /// False: the request was dropped.
    fn send_request_with(&self, ask: &HolderRequest, fds: Vec<PassedFd>) -> bool {
        if self.gone.load(Ordering::Relaxed) {
            self.act_without_holder(ask);
            return true;
        }
        let mut out = lock(&self.out);
        if out.outbox.waiting_bytes() > ASKS_BYTES_MAX {
            tracing::error!("cannot ask the holder any more: it does not read its wire");
            return false;
        }
        out.unperformed.push(ask, &fds);
        let pushed = out.outbox.push(ask, fds);
        #[cfg(unix)]
        out.send_early();
        drop(out);
        if let Err(error) = &pushed {
            tracing::error!(%error, "cannot ask the holder");
        }
        self.out_ready.notify_one();
        pushed.is_ok()
    }

    /// From an actor, which does not wait.
    fn send_event(&self, fact: OsEvent) {
        let facts = self.facts.clone();
        self.handle.spawn(async move {
            let _router_ended = facts.send(fact).await;
        });
    }

    /// Applies what a message changes and returns the event that the router receives.
    fn apply(&self, message: HolderMessage) -> Option<OsEvent> {
        match message {
            HolderMessage::Process(event) => {
                #[cfg(unix)]
                let event = self.explain_later(event)?;
                self.apply_event(event).map(OsEvent::Process)
            }
            HolderMessage::OutputFlushed { number } => self.finish_flush(number),
            HolderMessage::Directories { problem, .. } => {
                #[cfg(unix)]
                self.restore_sockets();
                self.name_main_process();
                Some(OsEvent::DirectoriesRestored { problem })
            }
            HolderMessage::StopRequested { time_left_ms, .. } => Some(OsEvent::StopRequested {
                left: time_left_ms.map(Duration::from_millis),
            }),
            HolderMessage::ReloadRequested => Some(OsEvent::ReloadRequested),
            HolderMessage::Ping => Some(OsEvent::PingReceived),
            HolderMessage::UpgradeAnswered { problem } => self.upgrade_answered(problem),
            HolderMessage::Reexecuted { number, problem } => {
                self.request_mirror(); // the next program knows nothing of the last one
                self.program.answered(number, problem)
            }
            HolderMessage::Performed { requests } => {
                lock(&self.out).unperformed.performed(requests);
                None
            }
            HolderMessage::Mirrored(_)
            | HolderMessage::Takeover(_)
            | HolderMessage::Configured { .. }
            | HolderMessage::Refused { .. }
            | HolderMessage::Other => None,
        }
    }
}

/// A poisoned lock means that a thread died inside a push or a lookup: the data is still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Os for HolderClient {
    fn now(&self) -> MonoTime {
        machine::monotonic()
    }

    fn wall_clock(&self) -> Timestamp {
        super::wall_clock()
    }

    fn spawn(&self, spawn: SpawnRequest) {
        if spawn.instance.command().is_none() {
            let mut slots = lock(&self.slots);
            let slot = slots.entry(spawn.instance.clone()).or_default();
            slot.spawning = Some(spawn.generation);
        }
        #[cfg(unix)]
        self.request_spawn(spawn);
        #[cfg(windows)]
        self.send_request(&HolderRequest::Spawn(Box::new(spawn)));
    }

    fn stop(&self, instance: &Instance, generation: u64, signal: Signal, within: Duration) {
        #[cfg(unix)]
        if self.cancel_start(instance, generation) {
            return;
        }
        let instance = instance.clone();
        self.send_request(&HolderRequest::Signal {
            instance,
            generation,
            signal,
            cont: true,
            within_ms: Some(u64::try_from(within.as_millis()).unwrap_or(u64::MAX)),
        });
    }

    fn kill(&self, instance: &Instance, generation: u64) {
        #[cfg(unix)]
        if self.cancel_start(instance, generation) {
            return;
        }
        self.send_request(&HolderRequest::Kill {
            instance: instance.clone(),
            generation,
        });
    }

    fn capture(
        &self,
        request: forensics::CaptureRequest,
    ) -> Pin<Box<dyn Future<Output = Option<forensics::Bundle>> + Send>> {
        let slots = self.capture_slots.clone();
        Box::pin(async move { forensics::capture(&slots, request).await })
    }

    fn signal(&self, instance: &Instance, generation: u64, signal: Signal) {
        let instance = instance.clone();
        self.send_request(&HolderRequest::Signal {
            instance,
            generation,
            signal,
            cont: false,
            within_ms: None,
        });
    }

    fn sample(
        &self,
        request: SampleRequest,
    ) -> Pin<Box<dyn Future<Output = Option<Sample>> + Send>> {
        let slots = lock(&self.slots);
        let live = request.modules.iter();
        let live = live.filter_map(|one| Some((one.clone(), slots.get(one)?.alive?)));
        let live = live.collect();
        drop(slots);
        let result = self.sampler.sample(request, live);
        Box::pin(async move { result.await.ok() })
    }

    fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    fn limit(&self, instance: &Instance, generation: u64, limits: RunLimits) {
        self.send_request(&HolderRequest::Limit(LimitRequest {
            instance: instance.clone(),
            generation,
            limits,
        }));
        #[cfg(unix)]
        self.governor
            .limit(|| self.freezer(), (instance, generation), limits);
    }

    #[cfg(unix)]
    fn freeze(&self, instance: &Instance, generation: u64, span: Duration, reason: FreezeReason) {
        let run = (instance, generation);
        self.governor.freeze(|| self.freezer(), run, span, reason);
    }

    fn held_since(&self, instance: &Instance, since: MonoTime) -> Option<RunHold> {
        self.hold_since(instance, since)
    }

    fn sleep_time(&self) -> Duration {
        machine::sleep_time()
    }

    /// Nothing is stopped there.
    #[cfg(windows)]
    fn freeze(&self, _: &Instance, _: u64, _: Duration, _: FreezeReason) {}

    fn drain_notify(&self, instance: &Instance, generation: u64) {
        let instance = instance.clone();
        self.send_request(&HolderRequest::DrainNotify {
            instance,
            generation,
        });
    }

    fn save_record(&self, instance: &Instance, record: String) {
        let instance = instance.clone();
        let before = {
            let mut slots = lock(&self.slots);
            let slot = slots.entry(instance.clone()).or_default();
            slot.record.replace(record.clone())
        };
        if before.as_deref() != Some(&record) {
            self.send_request(&HolderRequest::SaveRecord { instance, record });
        }
    }

    fn tap(&self, instance: &Instance, on: bool, replay: bool) {
        let instance = instance.clone();
        self.send_request(&HolderRequest::Tap {
            instance,
            on,
            replay,
        });
    }

    fn flush_output(&self, instance: &Instance) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let number = self.next_command.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let settles = Arc::clone(&self.flushes);
        lock(&settles).insert(number, sender);
        let instance = instance.clone();
        self.send_request(&HolderRequest::FlushOutput { instance, number });
        Box::pin(async move {
            let _or_not = tokio::time::timeout(FLUSH_TIMEOUT, receiver).await;
            lock(&settles).remove(&number);
        })
    }

    fn listen(
        &self,
        instance: &Instance,
        sockets: Vec<ActivationSocket>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        #[cfg(unix)]
        if let Some(client) = self.myself.upgrade() {
            let listening = client.listen_or_report(instance.clone(), sockets);
            let listening = self.handle.spawn(listening);
            return Box::pin(async move {
                let _the_client_ended = listening.await;
            });
        }
        #[cfg(windows)]
        let _refused_by_the_configuration = (instance, sockets);
        Box::pin(std::future::ready(()))
    }

    fn forget(&self, instance: &Instance) {
        #[cfg(unix)]
        self.forget_sockets(instance);
        let instance = instance.clone();
        self.send_request(&HolderRequest::Forget { instance });
    }

    fn command(
        &self,
        mut spawn: SpawnRequest,
    ) -> Pin<Box<dyn Future<Output = CommandResult> + Send>> {
        if spawn.generation == 0 {
            spawn.generation = self.next_command.fetch_add(1, Ordering::Relaxed);
        }
        spawn.instance = spawn.instance.with_command(spawn.generation);
        let (result, receiver) = oneshot::channel();
        let request = spawn.clone();
        let pending = PendingCommand { result, request };
        lock(&self.commands).insert(spawn.instance.clone(), pending);
        self.spawn(spawn);
        Box::pin(async move {
            receiver.await.unwrap_or_else(|_| {
                let text = "cannot tell how it ended: the holder is gone";
                CommandResult::failed(text.to_owned())
            })
        })
    }

    fn ready(&self) {
        self.report_ready();
    }

    fn pong(&self) {
        self.send_request(&HolderRequest::Pong);
    }

    fn reconfigure(&self, live: LiveSetup) {
        self.send_request(&HolderRequest::Reconfigure(live));
    }

    fn stopping(&self, within: Duration) {
        let by = self.now().after(within);
        self.stop_by.fetch_min(by.0, Ordering::Relaxed);
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.send_request(&HolderRequest::Stopping { within_ms });
    }

    fn stop_time_left(&self) -> Option<Duration> {
        let by = MonoTime(self.stop_by.load(Ordering::Relaxed));
        (by != MonoTime::NEVER).then(|| by.since(self.now()))
    }

    fn upgrade(
        &self,
        upgrade: UpgradeRequest,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        self.request_upgrade(upgrade)
    }

    fn exit_holder(&self, code: u8) {
        self.send_request(&HolderRequest::Exit { code });
    }

    fn live_process(&self, instance: &Instance) -> Option<LiveProcess> {
        self.living(instance)
    }

    fn last_exit(&self, instance: &Instance) -> Option<RunExit> {
        lock(&self.slots).get(instance)?.last_exit.clone()
    }

    fn saved_record(&self, instance: &Instance) -> Option<String> {
        lock(&self.slots).get(instance)?.record.clone()
    }
}

impl std::fmt::Debug for HolderClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

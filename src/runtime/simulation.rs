//! The runtime over a simulated machine: what a simulator outside of this crate needs.
//! Owns the translation between the trait `Os` and [`SimulatedMachine`]. Never decides, and is no
//! part of a shipped binary (feature `simulation`).

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::lifecycle::{ModuleInfo, Operation};
use mainstay_policy::plan::Plan;
use mainstay_policy::{ModuleId, ModuleSpec, MonoTime, Status};
use mainstay_process::{
    ActivationSocket, Exited, Instance, ProcessEvent, RunLimits, Signal, SpawnRequest,
};
use mainstay_protocol::Timestamp;
use mainstay_protocol::method::EventsParams;
use tokio::sync::{mpsc, oneshot};

use super::first_plan::commit_first;
use super::{InstanceInfo, PreparedRuntime, RunningRuntime, TakeoverState, restore};
use crate::actors::config::{ConfigMsg, ReloadOutcome, ReloadRefusal, ReloadReply, ReloadRequest};
use crate::actors::holder_setup;
use crate::actors::lifecycle::LifecycleMsg;
use crate::config::ConfigSources;
use crate::os::transport::ListenerHandle;
use crate::os::{
    CommandResult, Enforcement, FreezeReason, HolderSetup, LiveProcess, LiveSetup, Os, OsEvent,
    RunExit, RunHold, Sample, SampleRequest, TreeUsage, UpgradeRequest,
};

/// Events of the machine that may wait for the runtime.
const EVENTS_WAITING: usize = 4096;
/// Time for the journal to write what it has.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a command of a module comes to: whether it was well, and in words.
pub type CommandEnd = Pin<Box<dyn Future<Output = (bool, String)> + Send>>;

/// The machine of a simulation. No method blocks; what follows is told by
/// [`SimulatedRuntime::tell`].
pub trait SimulatedMachine: Send + Sync + 'static {
    /// The monotonic clock.
    fn now(&self) -> MonoTime;
    /// The wall clock.
    fn wall_clock(&self) -> Timestamp;
    /// How long the machine has slept.
    fn sleep_time(&self) -> Duration;
    /// Starts a process.
    fn spawn(&self, spawn: SpawnRequest);
    /// Sends the stop signal; what has not ended within the time is killed.
    fn stop(&self, instance: &Instance, generation: u64, within: Duration);
    /// Kills.
    fn kill(&self, instance: &Instance, generation: u64);
    /// Drains the notify socket.
    fn drain_notify(&self, instance: &Instance, generation: u64);
    /// Keeps a record for the next runtime.
    fn save_record(&self, instance: &Instance, record: String);
    /// Drops what is kept of an instance.
    fn forget(&self, instance: &Instance);
    /// Runs a command to its end.
    fn command(&self, spawn: SpawnRequest) -> CommandEnd;
    /// A stop of everything began.
    fn stopping(&self, within: Duration);
    /// What is left of its time.
    fn stop_time_left(&self) -> Option<Duration>;
    /// The living process of an instance: its generation and pid.
    fn live_process(&self, instance: &Instance) -> Option<(u64, u32)>;
    /// How the last run of an instance ended: its generation, and how.
    fn last_exit(&self, instance: &Instance) -> Option<(u64, Exited)>;
    /// The record that is kept.
    fn saved_record(&self, instance: &Instance) -> Option<String>;
}

/// What the holder hands to a runtime that returns.
#[derive(Debug, Clone, Default)]
pub struct Takeover {
    /// Every instance that lives or left a record.
    pub instances: Vec<Instance>,
    /// When the last runtime ended: nanoseconds on the monotonic clock; 0: there was none.
    pub down_since: u64,
}

/// A runtime at work.
pub struct SimulatedRuntime {
    running: RunningRuntime,
    events: mpsc::Sender<OsEvent>,
}

/// A reload that was requested.
#[derive(Debug)]
pub struct Reload {
    reply: oneshot::Receiver<Result<ReloadReply, ReloadRefusal>>,
    outcome: oneshot::Receiver<ReloadOutcome>,
}

impl Reload {
    /// What it has not got: a reply, or an outcome.
    pub fn misses(&mut self) -> &'static str {
        match self.reply.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => "reply",
            _ => "outcome",
        }
    }

    /// What came of it so far, in words; None: nothing yet.
    pub fn poll(&mut self) -> Option<String> {
        match self.reply.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Ok(Ok(ReloadReply::Applied(_))) | Err(oneshot::error::TryRecvError::Closed) => {}
            Ok(other) => return Some(format!("{other:?}")),
        }
        match self.outcome.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => None,
            Ok(outcome) => Some(format!("{outcome:?}")),
            Err(oneshot::error::TryRecvError::Closed) => Some("an actor died".to_owned()),
        }
    }
}

impl SimulatedRuntime {
    /// Starts a runtime on the configuration of a folder; on what an earlier one left, if there is
    /// a takeover.
    ///
    /// # Errors
    /// Why it cannot start.
    pub async fn start(
        folder: &Path,
        machine: Arc<dyn SimulatedMachine>,
        takeover: Option<Takeover>,
    ) -> Result<SimulatedRuntime, String> {
        let sources = ConfigSources::folder(folder);
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (configuration, plans, world) = match takeover {
            None => {
                let read = crate::config::load(&sources).map_err(|error| text(&error))?;
                let plans = commit_first(&read).map_err(|error| text(&error))?;
                (read, plans, TakeoverState::default())
            }
            Some(takeover) => {
                let state_dir = folder.join("state");
                let restored = restore(&state_dir, &Ok(sources.clone()));
                let (read, plans) = restored.map_err(|error| text(&error))?;
                let world = takeover_state(&*machine, &takeover, holder_setup::setup(&read));
                (read, plans, world)
            }
        };
        let os: Arc<dyn Os> = Arc::new(MachineOs {
            machine,
            enforcement: Enforcement::new("walk", None),
        });
        let prepared = PreparedRuntime {
            commit: None,
            world,
            configuration,
            plans,
            sources,
            problem: None,
            listeners: [listener(folder, "control")?, listener(folder, "module")?],
        };
        let (events, receiver) = mpsc::channel(EVENTS_WAITING);
        let built = prepared.build(os, None).map_err(|error| text(&error))?;
        let running = built.start(receiver).await.map_err(|error| text(&error))?;
        Ok(SimulatedRuntime { running, events })
    }

    /// Something happened to a process; false: too much waits for the runtime.
    #[must_use]
    pub fn tell(&self, event: ProcessEvent) -> bool {
        self.events.try_send(OsEvent::Process(event)).is_ok()
    }

    /// Requests the stop of everything.
    #[must_use]
    pub fn stop(&self) -> bool {
        let stop = OsEvent::StopRequested { left: None };
        self.events.try_send(stop).is_ok()
    }

    /// The holder is gone.
    #[must_use]
    pub fn lose_holder(&self) -> bool {
        self.events.try_send(OsEvent::HolderGone).is_ok()
    }

    /// Requests something of a module; completes when it is published. None: there is no such
    /// module.
    #[must_use]
    pub fn request(&self, module: &str, operation: Operation) -> Option<oneshot::Receiver<()>> {
        let ctx = &self.running.ctx;
        let (published, receiver) = oneshot::channel();
        ctx.actor_refs.lifecycle.cast(LifecycleMsg::Requested {
            module: ctx.find(module)?,
            operation,
            requester: "simulator".to_owned(),
            published,
        });
        Some(receiver)
    }

    /// Requests a reload of the files.
    #[must_use]
    pub fn reload(&self) -> Reload {
        let (reply, reply_receiver) = oneshot::channel();
        let (outcome, outcome_receiver) = oneshot::channel();
        let request = ReloadRequest {
            requester: Some("simulator".to_owned()),
            reply: Some(reply),
            outcome: Some(outcome),
            ..ReloadRequest::default()
        };
        let config = &self.running.ctx.actor_refs.config;
        config.cast(ConfigMsg::Reload(request));
        Reload {
            reply: reply_receiver,
            outcome: outcome_receiver,
        }
    }

    /// Kills an actor, as its panic would; returns which.
    pub fn kill_actor(&self, nth: usize) -> Option<String> {
        let ctx = &self.running.ctx;
        ctx.actor_refs.kill(ctx.planned().slots(), nth)
    }

    /// Whether a plan of this runtime has, or had, a module of this name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        let ctx = &self.running.ctx;
        let module = ctx.find_instance(name);
        module.is_some_and(|module| ctx.planned().get(module).is_some())
    }

    /// The actors that do not run.
    #[must_use]
    pub fn dead_actors(&self) -> Vec<String> {
        let ctx = &self.running.ctx;
        ctx.actor_refs.dead(ctx.planned().slots())
    }

    /// The exit code, when everything is stopped; None: the runtime gave up.
    pub async fn ended(&mut self) -> Option<u8> {
        self.running.wait().await.map(|result| result.code)
    }

    /// The newest plan.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.running.ctx.plan()
    }

    /// The number of the committed plan.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.running.ctx.committed.load().number
    }

    /// What a module follows at the moment.
    #[must_use]
    pub fn spec(&self, module: ModuleId) -> Arc<ModuleSpec> {
        self.running.ctx.spec(module)
    }

    /// The module that a name means, also one that is being removed.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ModuleId> {
        self.running.ctx.find_instance(name)
    }

    /// What is published of a module.
    #[must_use]
    pub fn view(&self, module: ModuleId) -> ModuleInfo {
        let snapshot = self.running.ctx.snapshots.module(module);
        snapshot.lifecycle.info.clone()
    }

    /// The status of the system, as it is published.
    #[must_use]
    pub fn status(&self) -> Status {
        self.running.ctx.snapshots.system().summary.status
    }

    /// What led to the state of a module, as `mainstay why` says it, oldest first; blocks.
    #[must_use]
    pub fn why(&self, module: ModuleId) -> Vec<String> {
        let ctx = &self.running.ctx;
        let journal = ctx.recorder.journal();
        let _written = journal.flush(JOURNAL_TIMEOUT);
        let story = crate::journal::story(journal, &ctx.name(module), false);
        story.chain.into_iter().map(|link| link.text).collect()
    }

    /// The newest events of the system as a whole, oldest first; blocks.
    #[must_use]
    pub fn system_events(&self, limit: usize) -> Vec<String> {
        let journal = self.running.ctx.recorder.journal();
        let _written = journal.flush(JOURNAL_TIMEOUT);
        let all = journal.read(&EventsParams::default()).unwrap_or_default();
        let system = all.iter().filter(|event| event.module.is_none());
        let told = system.map(|event| format!("{} {}", event.kind, event.payload));
        let told: Vec<String> = told.collect();
        told[told.len().saturating_sub(limit)..].to_vec()
    }

    /// What is wrong with the journal; blocks until it has written what it has.
    #[must_use]
    pub fn journal_problem(&self) -> Option<String> {
        let journal = self.running.ctx.recorder.journal();
        match journal.flush(JOURNAL_TIMEOUT) {
            true => journal.problem(),
            false => Some("it does not write".to_owned()),
        }
    }
}

fn listener(folder: &Path, name: &str) -> Result<ListenerHandle, String> {
    let path = folder.join(name);
    let _there_was_none = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path);
    let listener = listener.map_err(|error| format!("cannot bind {}: {error}", path.display()))?;
    Ok(ListenerHandle::of(listener))
}

fn takeover_state(
    machine: &dyn SimulatedMachine,
    takeover: &Takeover,
    setup: HolderSetup,
) -> TakeoverState {
    let instances = takeover.instances.iter().map(|instance| {
        let alive = machine.live_process(instance);
        let exit = machine.last_exit(instance);
        let generation = alive.map(|(generation, _)| generation);
        InstanceInfo {
            instance: instance.clone(),
            generation: generation
                .or(exit.as_ref().map(|(generation, _)| *generation))
                .unwrap_or(0),
            pid: alive.map(|(_, pid)| pid),
            start_time: 1,
            record: machine.saved_record(instance),
            exit: exit.map(|(_, exited)| exited.exit),
            earlier: Vec::new(),
        }
    });
    TakeoverState {
        setup: Some(setup),
        instances: instances.collect(),
        runtime_down_since: takeover.down_since,
        restarts: 1,
        ..TakeoverState::default()
    }
}

/// The machine as the actors see it.
struct MachineOs {
    machine: Arc<dyn SimulatedMachine>,
    enforcement: Enforcement,
}

impl Os for MachineOs {
    fn now(&self) -> MonoTime {
        self.machine.now()
    }
    fn wall_clock(&self) -> Timestamp {
        self.machine.wall_clock()
    }
    fn spawn(&self, spawn: SpawnRequest) {
        self.machine.spawn(spawn);
    }
    fn stop(&self, instance: &Instance, generation: u64, _: Signal, within: Duration) {
        self.machine.stop(instance, generation, within);
    }
    fn kill(&self, instance: &Instance, generation: u64) {
        self.machine.kill(instance, generation);
    }
    fn sample(
        &self,
        request: SampleRequest,
    ) -> Pin<Box<dyn Future<Output = Option<Sample>> + Send>> {
        let used = |instance: Instance| {
            let (generation, _) = self.machine.live_process(&instance)?;
            Some((instance, (generation, TreeUsage::default())))
        };
        let modules: HashMap<_, _> = request.modules.into_iter().filter_map(used).collect();
        let sample = Sample {
            at: self.machine.now(),
            modules,
            ..Sample::default()
        };
        Box::pin(std::future::ready(Some(sample)))
    }
    fn capture(
        &self,
        _: crate::os::forensics::CaptureRequest,
    ) -> Pin<Box<dyn Future<Output = Option<crate::os::forensics::Bundle>> + Send>> {
        Box::pin(std::future::ready(None))
    }
    fn signal(&self, _: &Instance, _: u64, _: Signal) {}
    fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }
    fn limit(&self, _: &Instance, _: u64, _: RunLimits) {}
    fn freeze(&self, _: &Instance, _: u64, _: Duration, _: FreezeReason) {}
    fn held_since(&self, _: &Instance, _: MonoTime) -> Option<RunHold> {
        None
    }
    fn sleep_time(&self) -> Duration {
        self.machine.sleep_time()
    }
    fn drain_notify(&self, instance: &Instance, generation: u64) {
        self.machine.drain_notify(instance, generation);
    }
    fn save_record(&self, instance: &Instance, record: String) {
        self.machine.save_record(instance, record);
    }
    fn tap(&self, _: &Instance, _: bool, _: bool) {}
    fn flush_output(&self, _: &Instance) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
    fn listen(
        &self,
        _: &Instance,
        _: Vec<ActivationSocket>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
    fn forget(&self, instance: &Instance) {
        self.machine.forget(instance);
    }
    fn command(&self, spawn: SpawnRequest) -> Pin<Box<dyn Future<Output = CommandResult> + Send>> {
        let end = self.machine.command(spawn);
        Box::pin(async move {
            let (ok, text) = end.await;
            let output = String::new();
            CommandResult { ok, text, output }
        })
    }
    fn ready(&self) {}
    fn pong(&self) {}
    fn reconfigure(&self, _: LiveSetup) {}
    fn stopping(&self, within: Duration) {
        self.machine.stopping(within);
    }
    fn stop_time_left(&self) -> Option<Duration> {
        self.machine.stop_time_left()
    }
    fn upgrade(
        &self,
        _: UpgradeRequest,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        Box::pin(std::future::ready(Err("there is no holder".to_owned())))
    }
    fn exit_holder(&self, _: u8) {}
    fn live_process(&self, instance: &Instance) -> Option<LiveProcess> {
        let (generation, pid) = self.machine.live_process(instance)?;
        Some(LiveProcess {
            generation,
            pid,
            start_time: 1,
        })
    }
    fn last_exit(&self, instance: &Instance) -> Option<RunExit> {
        let (generation, exited) = self.machine.last_exit(instance)?;
        Some(RunExit { generation, exited })
    }
    fn saved_record(&self, instance: &Instance) -> Option<String> {
        self.machine.saved_record(instance)
    }
}

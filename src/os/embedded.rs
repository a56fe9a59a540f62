//! An application's own tasks beside processes: `Os` of an embedded runtime.
//! Owns the tasks' threads and their fence; processes go through [`HolderClient`].
//! Never lets a task share a thread with the actors: one that does not yield would stop them too.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_policy::MonoTime;
use mainstay_process::{
    ActivationSocket, Exit, Exited, Instance, ProcessEvent, ProcessEventKind, RunLimits, Signal,
    SpawnRequest, StartFailure, StartStep,
};
use mainstay_protocol::Timestamp;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use super::forensics;
use super::holder_client::{HolderClient, lock};
use super::{
    CommandResult, Enforcement, FreezeReason, LiveProcess, LiveSetup, Os, OsEvent, RunExit,
    RunHold, Sample, SampleRequest, UpgradeRequest,
};

#[cfg(all(test, unix))]
mod tests;

/// How an aborted task is reported.
const KILLED: Exit = Exit::Signal {
    signal: Signal::KILL,
    core: false,
};
/// What a panic ends a program with.
const PANICKED: i32 = 101;
/// How long an aborted task may take to its next await before it counts as stuck.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a task makes of itself: nothing, or why it failed.
pub(crate) type TaskFn =
    Arc<dyn Fn(TaskRun) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// One run of a task, as the task sees it.
pub(crate) struct TaskRun {
    /// The module.
    pub(crate) instance: Instance,
    /// The number of the run.
    pub(crate) generation: u64,
    /// Set when it is to stop.
    pub(crate) cancelled: CancellationToken,
    /// Its own table of the configuration.
    pub(crate) settings: Arc<Map<String, Value>>,
    facts: mpsc::Sender<OsEvent>,
    handle: Handle,
}

impl TaskRun {
    /// Says something as sd_notify would.
    pub(crate) fn notify(&self, text: &str) {
        let fact = OsEvent::Process(ProcessEvent {
            instance: self.instance.clone(),
            generation: self.generation,
            what: ProcessEventKind::Notify {
                pid: 0,
                text: text.to_owned(),
            },
        });
        if let Err(TrySendError::Full(fact)) = self.facts.try_send(fact) {
            let facts = self.facts.clone();
            // The task continues; this waits for the router in its place.
            self.handle.spawn(async move {
                let _router_ended = facts.send(fact).await;
            });
        }
    }
}

/// A run that has not ended.
struct RunningTask {
    generation: u64,
    cancelled: CancellationToken,
    aborted: CancellationToken,
    aborted_at: Option<MonoTime>,
    /// It was reported as stuck; its end is not awaited any more.
    stuck: bool,
}

#[derive(Default)]
struct TaskSlot {
    run: Option<RunningTask>,
    last_generation: u64,
    last_exit: Option<RunExit>,
}

/// A task and its current run.
struct EmbeddedTask {
    instance: Instance,
    work: TaskFn,
    settings: Arc<Map<String, Value>>,
    slot: Mutex<TaskSlot>,
}

/// [`Os`] inside of an application.
pub(crate) struct EmbeddedOs {
    holder_client: Arc<HolderClient>,
    handle: Handle,
    facts: mpsc::Sender<OsEvent>,
    tasks: HashMap<Instance, Arc<EmbeddedTask>>,
}

impl EmbeddedOs {
    /// Tasks by name with their settings, beside the processes of `holder_client`. Belongs to a
    /// tokio runtime.
    pub(crate) fn new(
        holder_client: Arc<HolderClient>,
        tasks: impl IntoIterator<Item = (String, TaskFn, Map<String, Value>)>,
    ) -> EmbeddedOs {
        let task = |(name, work, settings): (String, TaskFn, Map<String, Value>)| {
            let task = EmbeddedTask {
                instance: Instance::new(&name, 1),
                work,
                settings: Arc::new(settings),
                slot: Mutex::default(),
            };
            (task.instance.clone(), Arc::new(task))
        };
        EmbeddedOs {
            facts: holder_client.facts(),
            holder_client,
            handle: Handle::current(),
            tasks: tasks.into_iter().map(task).collect(),
        }
    }

    /// Ends all tasks as far as that is possible, without telling anyone.
    pub(crate) fn abort_all(&self) {
        for task in self.tasks.values() {
            if let Some(run) = &lock(&task.slot).run {
                run.cancelled.cancel();
                run.aborted.cancel();
            }
        }
    }

    fn start(&self, task: &Arc<EmbeddedTask>, generation: u64) {
        let mut slot = lock(&task.slot);
        if let Some(refusal) = check_fence(task, &slot, generation) {
            return self.report(task, generation, refusal);
        }
        let run = RunningTask {
            generation,
            cancelled: CancellationToken::new(),
            aborted: CancellationToken::new(),
            aborted_at: None,
            stuck: false,
        };
        let errand = TaskRun {
            instance: task.instance.clone(),
            generation,
            cancelled: run.cancelled.clone(),
            settings: Arc::clone(&task.settings),
            facts: self.facts.clone(),
            handle: self.handle.clone(),
        };
        let aborted = run.aborted.clone();
        let (own, handle) = (Arc::clone(task), self.handle.clone());
        let thread = std::thread::Builder::new()
            .name(task.instance.to_string())
            .spawn(move || run_task(&own, &handle, errand, &aborted));
        match thread {
            Ok(_runs_detached) => {
                slot.last_generation = generation;
                slot.run = Some(run);
            }
            Err(error) => {
                let failure = StartFailure {
                    step: StartStep::Fork,
                    errno: error.raw_os_error().unwrap_or(0),
                };
                let message = format!("cannot start a thread for {}: {error}", task.instance);
                let failed = ProcessEventKind::SpawnFailed { failure, message };
                self.report(task, generation, failed);
            }
        }
    }

    /// Aborts it at its next await. Asked again when that did not help: it is stuck.
    fn end(&self, task: &EmbeddedTask, generation: u64) {
        let mut slot = lock(&task.slot);
        let now = self.now();
        let Some(run) = slot.run.as_mut().filter(|run| run.generation == generation) else {
            return;
        };
        let aborted_at = *run.aborted_at.get_or_insert(now);
        run.cancelled.cancel();
        run.aborted.cancel();
        if run.stuck || now.since(aborted_at) < ABORT_TIMEOUT {
            return;
        }
        run.stuck = true;
        let text = "it never yields: it was aborted and still lasts, so it is not started again";
        let exited = exited(Exit::Stuck, text.to_owned(), now);
        slot.last_exit = Some(RunExit {
            generation,
            exited: exited.clone(),
        });
        self.report(task, generation, ProcessEventKind::Exited(exited));
    }

    /// Reports from an actor, which does not wait.
    fn report(&self, task: &EmbeddedTask, generation: u64, what: ProcessEventKind) {
        let fact = task.event(generation, what);
        let facts = self.facts.clone();
        self.handle.spawn(async move {
            let _router_ended = facts.send(fact).await;
        });
    }
}

impl EmbeddedTask {
    fn event(&self, generation: u64, what: ProcessEventKind) -> OsEvent {
        OsEvent::Process(ProcessEvent {
            instance: self.instance.clone(),
            generation,
            what,
        })
    }
}

/// What a task of this process is reported as: it has no process of its own.
const SPAWNED: ProcessEventKind = ProcessEventKind::Spawned {
    pid: 0,
    start_time: 0,
};

/// The fence: one run at a time, and only newer ones.
fn check_fence(task: &EmbeddedTask, slot: &TaskSlot, generation: u64) -> Option<ProcessEventKind> {
    let (why, errno) = match &slot.run {
        // A second request for a run that is alive: the first one was carried out.
        Some(run) if run.generation == generation && !run.stuck => return Some(SPAWNED),
        None if generation > slot.last_generation => return None,
        Some(run) => {
            let why = format!("run {} has not ended: it never yields", run.generation);
            (why, crate::os_text::BUSY)
        }
        None => (format!("run {generation} is over"), crate::os_text::STALE),
    };
    Some(ProcessEventKind::SpawnFailed {
        failure: StartFailure {
            step: StartStep::Fence,
            errno,
        },
        message: format!("cannot start {}: {why}", task.instance),
    })
}

/// The life of a task's thread: the task, polled with the application's tokio runtime.
fn run_task(task: &EmbeddedTask, handle: &Handle, errand: TaskRun, aborted: &CancellationToken) {
    let (generation, facts) = (errand.generation, errand.facts.clone());
    let spawned = task.event(generation, SPAWNED);
    let work = Arc::clone(&task.work);
    let whole = AssertUnwindSafe(|| {
        handle.block_on(async {
            let _router_ended = errand.facts.send(spawned).await;
            let work = work(errand);
            tokio::select! {
                biased;
                () = aborted.cancelled() => None,
                result = work => Some(result),
            }
        })
    });
    // A panic of the task leaves its own data damaged; the slot is not part of that.
    let (exit, text) = match catch_unwind(whole) {
        Ok(Some(Ok(()))) => (Exit::Code(0), "it came to its end".to_owned()),
        Ok(Some(Err(text))) => (Exit::Code(1), format!("failed: {text}")),
        Ok(None) => (KILLED, "aborted: it did not end in time".to_owned()),
        Err(panic) => {
            let text = format!("panicked: {}", panic_text(&*panic));
            (Exit::Code(PANICKED), text)
        }
    };
    let exited = exited(exit, text, super::machine::monotonic());
    let mut slot = lock(&task.slot);
    let stuck = slot.run.take().is_some_and(|run| run.stuck);
    if stuck {
        tracing::info!(module = &*task.instance, "a task that was stuck has ended");
        return; // its end was reported when it was reported as stuck
    }
    slot.last_exit = Some(RunExit {
        generation,
        exited: exited.clone(),
    });
    drop(slot);
    let exited = task.event(generation, ProcessEventKind::Exited(exited));
    let _router_ended = handle.block_on(facts.send(exited));
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "with a value that is no text".to_owned())
}

fn exited(exit: Exit, output: String, at: MonoTime) -> Exited {
    Exited {
        pid: 0,
        exit,
        timed_out: false,
        output,
        at: at.0,
    }
}

impl Os for EmbeddedOs {
    fn now(&self) -> MonoTime {
        self.holder_client.now()
    }

    fn wall_clock(&self) -> Timestamp {
        self.holder_client.wall_clock()
    }

    fn spawn(&self, spawn: SpawnRequest) {
        match self.tasks.get(&spawn.instance) {
            Some(task) => self.start(task, spawn.generation),
            None => self.holder_client.spawn(spawn),
        }
    }

    fn stop(&self, instance: &Instance, generation: u64, signal: Signal, within: Duration) {
        let Some(task) = self.tasks.get(instance) else {
            return self
                .holder_client
                .stop(instance, generation, signal, within);
        };
        let slot = lock(&task.slot);
        if let Some(run) = slot.run.as_ref().filter(|run| run.generation == generation) {
            run.cancelled.cancel();
        }
    }

    fn kill(&self, instance: &Instance, generation: u64) {
        match self.tasks.get(instance) {
            Some(task) => self.end(task, generation),
            None => self.holder_client.kill(instance, generation),
        }
    }

    fn capture(
        &self,
        request: forensics::CaptureRequest,
    ) -> Pin<Box<dyn Future<Output = Option<forensics::Bundle>> + Send>> {
        self.holder_client.capture(request)
    }

    fn signal(&self, instance: &Instance, generation: u64, signal: Signal) {
        // A task has no signals.
        if !self.tasks.contains_key(instance) {
            self.holder_client.signal(instance, generation, signal);
        }
    }

    fn sample(
        &self,
        request: SampleRequest,
    ) -> Pin<Box<dyn Future<Output = Option<Sample>> + Send>> {
        self.holder_client.sample(request)
    }

    fn enforcement(&self) -> &Enforcement {
        self.holder_client.enforcement()
    }

    fn limit(&self, instance: &Instance, generation: u64, limits: RunLimits) {
        // A task shares the process of its application.
        if !self.tasks.contains_key(instance) {
            self.holder_client.limit(instance, generation, limits);
        }
    }

    fn freeze(&self, instance: &Instance, generation: u64, span: Duration, reason: FreezeReason) {
        if !self.tasks.contains_key(instance) {
            self.holder_client
                .freeze(instance, generation, span, reason);
        }
    }

    fn held_since(&self, instance: &Instance, since: MonoTime) -> Option<RunHold> {
        self.holder_client.held_since(instance, since)
    }

    fn sleep_time(&self) -> Duration {
        self.holder_client.sleep_time()
    }

    fn drain_notify(&self, instance: &Instance, generation: u64) {
        if let Some(task) = self.tasks.get(instance) {
            // What a task reports is never in flight.
            return self.report(task, generation, ProcessEventKind::NotifyDrained);
        }
        self.holder_client.drain_notify(instance, generation);
    }

    fn save_record(&self, instance: &Instance, record: String) {
        self.holder_client.save_record(instance, record);
    }

    fn tap(&self, instance: &Instance, on: bool, replay: bool) {
        if !self.tasks.contains_key(instance) {
            self.holder_client.tap(instance, on, replay);
        }
    }

    fn flush_output(&self, instance: &Instance) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.holder_client.flush_output(instance)
    }

    fn listen(
        &self,
        instance: &Instance,
        sockets: Vec<ActivationSocket>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.holder_client.listen(instance, sockets)
    }

    fn forget(&self, instance: &Instance) {
        self.holder_client.forget(instance);
    }

    fn command(&self, spawn: SpawnRequest) -> Pin<Box<dyn Future<Output = CommandResult> + Send>> {
        self.holder_client.command(spawn)
    }

    fn ready(&self) {
        self.holder_client.ready();
    }

    fn pong(&self) {
        self.holder_client.pong();
    }

    fn reconfigure(&self, live: LiveSetup) {
        self.holder_client.reconfigure(live);
    }

    fn stopping(&self, within: Duration) {
        self.holder_client.stopping(within);
    }

    fn stop_time_left(&self) -> Option<Duration> {
        self.holder_client.stop_time_left()
    }

    fn upgrade(
        &self,
        upgrade: UpgradeRequest,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        self.holder_client.upgrade(upgrade)
    }

    fn exit_holder(&self, code: u8) {
        self.holder_client.exit_holder(code);
    }

    fn live_process(&self, instance: &Instance) -> Option<LiveProcess> {
        let Some(task) = self.tasks.get(instance) else {
            return self.holder_client.live_process(instance);
        };
        let slot = lock(&task.slot);
        let run = slot.run.as_ref().filter(|run| !run.stuck)?;
        Some(LiveProcess {
            generation: run.generation,
            pid: 0,
            start_time: 0,
        })
    }

    fn last_exit(&self, instance: &Instance) -> Option<RunExit> {
        match self.tasks.get(instance) {
            Some(task) => lock(&task.slot).last_exit.clone(),
            None => self.holder_client.last_exit(instance),
        }
    }

    fn saved_record(&self, instance: &Instance) -> Option<String> {
        self.holder_client.saved_record(instance)
    }
}

//! An application's own tasks beside processes: `Os` of an embedded runtime.
//! Owns the tasks' threads and their fence; processes go through the holder's engine (`held`).
//! Never lets a task share a thread with the actors: one that does not yield would stop them too.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_holder::messages::{ActivationSocket, Exited, SpawnRequest, SpawnStep};
use mainstay_policy::MonoTime;
use mainstay_protocol::Timestamp;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use super::holder_client::{HolderClient, lock};
use super::{CommandResult, LiveProcess, Os, OsEvent};

#[cfg(all(test, unix))]
mod tests;

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
    pub(crate) module: Arc<str>,
    /// The run.
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
        let fact = OsEvent::Notify {
            instance: self.module.to_string(),
            generation: self.generation,
            pid: 0,
            text: text.to_owned(),
        };
        if let Err(TrySendError::Full(fact)) = self.facts.try_send(fact) {
            let facts = self.facts.clone();
            // The task goes on; it waits for the router in its place.
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
    /// It was told that it lasts; nobody waits for its end any more.
    stuck: bool,
}

#[derive(Default)]
struct TaskSlot {
    run: Option<RunningTask>,
    last_generation: u64,
    last_exit: Option<Exited>,
}

struct EmbeddedTask {
    name: Arc<str>,
    work: TaskFn,
    settings: Arc<Map<String, Value>>,
    slot: Mutex<TaskSlot>,
}

/// [`Os`] inside of an application.
pub(crate) struct EmbeddedOs {
    held: Arc<HolderClient>,
    handle: Handle,
    facts: mpsc::Sender<OsEvent>,
    tasks: HashMap<String, Arc<EmbeddedTask>>,
}

impl EmbeddedOs {
    /// Tasks by name with their settings, beside what `held` runs. Belongs to a tokio runtime.
    pub(crate) fn new(
        held: Arc<HolderClient>,
        tasks: impl IntoIterator<Item = (String, TaskFn, Map<String, Value>)>,
    ) -> EmbeddedOs {
        let task = |(name, work, settings): (String, TaskFn, Map<String, Value>)| {
            let task = EmbeddedTask {
                name: Arc::from(name.as_str()),
                work,
                settings: Arc::new(settings),
                slot: Mutex::default(),
            };
            (name, Arc::new(task))
        };
        EmbeddedOs {
            facts: held.facts(),
            held,
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
            return self.send_event(refusal);
        }
        let run = RunningTask {
            generation,
            cancelled: CancellationToken::new(),
            aborted: CancellationToken::new(),
            aborted_at: None,
            stuck: false,
        };
        let errand = TaskRun {
            module: Arc::clone(&task.name),
            generation,
            cancelled: run.cancelled.clone(),
            settings: Arc::clone(&task.settings),
            facts: self.facts.clone(),
            handle: self.handle.clone(),
        };
        let aborted = run.aborted.clone();
        let (own, handle) = (Arc::clone(task), self.handle.clone());
        let thread = std::thread::Builder::new()
            .name(task.name.to_string())
            .spawn(move || run_task(&own, &handle, errand, &aborted));
        match thread {
            Ok(_runs_detached) => {
                slot.last_generation = generation;
                slot.run = Some(run);
            }
            Err(error) => self.send_event(OsEvent::SpawnFailed {
                instance: task.name.to_string(),
                generation,
                step: SpawnStep::Fork,
                errno: error.raw_os_error().unwrap_or(0),
                message: format!("cannot start a thread for {}: {error}", task.name),
            }),
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
        slot.last_exit = Some(exited(task, generation, (None, None), text.to_owned(), now));
        self.send_event(OsEvent::Stuck {
            instance: task.name.to_string(),
            generation,
        });
    }

    /// From an actor, which does not wait.
    fn send_event(&self, fact: OsEvent) {
        let facts = self.facts.clone();
        self.handle.spawn(async move {
            let _router_ended = facts.send(fact).await;
        });
    }
}

/// The fence: one run at a time, and only newer ones.
fn check_fence(task: &EmbeddedTask, slot: &TaskSlot, generation: u64) -> Option<OsEvent> {
    let instance = task.name.to_string();
    match &slot.run {
        // A second order for a run that lives: the first one was obeyed.
        Some(run) if run.generation == generation && !run.stuck => Some(OsEvent::Spawned {
            instance,
            generation,
            pid: 0,
        }),
        None if generation > slot.last_generation => None,
        living => {
            let why = match living {
                Some(run) => format!("run {} has not ended: it never yields", run.generation),
                None => format!("run {generation} is over"),
            };
            Some(OsEvent::SpawnFailed {
                message: format!("cannot start {instance}: {why}"),
                instance,
                generation,
                step: SpawnStep::Fence,
                errno: if living.is_some() {
                    crate::words::BUSY
                } else {
                    crate::words::STALE
                },
            })
        }
    }
}

/// The life of a task's thread: the task, polled with the application's tokio runtime.
fn run_task(task: &EmbeddedTask, handle: &Handle, errand: TaskRun, aborted: &CancellationToken) {
    let (generation, facts) = (errand.generation, errand.facts.clone());
    let spawned = OsEvent::Spawned {
        instance: task.name.to_string(),
        generation,
        pid: 0,
    };
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
    // What a task leaves behind when it panics is its own; the slot is ours and whole.
    let (how, text) = match catch_unwind(whole) {
        Ok(Some(Ok(()))) => ((Some(0), None), "it came to its end".to_owned()),
        Ok(Some(Err(text))) => ((Some(1), None), format!("failed: {text}")),
        Ok(None) => (
            (None, Some(crate::words::SIGKILL)),
            "aborted: it did not end in time".to_owned(),
        ),
        Err(panic) => (
            (Some(PANICKED), None),
            format!("panicked: {}", panic_text(&*panic)),
        ),
    };
    let now = super::machine::monotonic();
    let exited = exited(task, generation, how, text, now);
    let mut slot = lock(&task.slot);
    let stuck = slot.run.take().is_some_and(|run| run.stuck);
    if stuck {
        tracing::info!(module = &*task.name, "a task that was stuck has ended");
        return; // that it is over was told when it was given up
    }
    slot.last_exit = Some(exited.clone());
    drop(slot);
    let _router_ended = handle.block_on(facts.send(OsEvent::Exited(exited)));
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "with a value that is no text".to_owned())
}

fn exited(
    task: &EmbeddedTask,
    generation: u64,
    (code, signal): (Option<i32>, Option<i32>),
    output: String,
    at: MonoTime,
) -> Exited {
    Exited {
        instance: task.name.to_string(),
        generation,
        pid: 0,
        code,
        signal,
        core: false,
        oom: false,
        overdue: false,
        output,
        at: at.0,
    }
}

impl Os for EmbeddedOs {
    fn now(&self) -> MonoTime {
        self.held.now()
    }

    fn wall_clock(&self) -> Timestamp {
        self.held.wall_clock()
    }

    fn spawn(&self, spawn: SpawnRequest) {
        match self.tasks.get(&spawn.instance) {
            Some(task) => self.start(task, spawn.generation),
            None => self.held.spawn(spawn),
        }
    }

    fn signal(&self, instance: &str, generation: u64, signal: i32, cont: bool) {
        let Some(task) = self.tasks.get(instance) else {
            return self.held.signal(instance, generation, signal, cont);
        };
        let slot = lock(&task.slot);
        if let Some(run) = slot.run.as_ref().filter(|run| run.generation == generation) {
            run.cancelled.cancel();
        }
    }

    fn kill(&self, instance: &str, generation: u64) {
        match self.tasks.get(instance) {
            Some(task) => self.end(task, generation),
            None => self.held.kill(instance, generation),
        }
    }

    fn drain_notify(&self, instance: &str, generation: u64) {
        if self.tasks.contains_key(instance) {
            // A task says what it says at once.
            let instance = instance.to_owned();
            return self.send_event(OsEvent::NotifyDrained {
                instance,
                generation,
            });
        }
        self.held.drain_notify(instance, generation);
    }

    fn save_record(&self, instance: &str, record: String) {
        self.held.save_record(instance, record);
    }

    fn tap(&self, instance: &str, on: bool, again: bool) {
        if !self.tasks.contains_key(instance) {
            self.held.tap(instance, on, again);
        }
    }

    fn flush_output(&self, instance: &str) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.held.flush_output(instance)
    }

    fn listen(&self, instance: &str, sockets: Vec<ActivationSocket>) {
        self.held.listen(instance, sockets);
    }

    fn command(&self, spawn: SpawnRequest) -> Pin<Box<dyn Future<Output = CommandResult> + Send>> {
        self.held.command(spawn)
    }

    fn ready(&self) {
        self.held.ready();
    }

    fn pong(&self) {
        self.held.pong();
    }

    fn exit_holder(&self, code: u8) {
        self.held.exit_holder(code);
    }

    fn live_process(&self, instance: &str) -> Option<LiveProcess> {
        let Some(task) = self.tasks.get(instance) else {
            return self.held.live_process(instance);
        };
        let slot = lock(&task.slot);
        let run = slot.run.as_ref().filter(|run| !run.stuck)?;
        Some(LiveProcess {
            generation: run.generation,
            pid: 0,
            start_time: 0,
        })
    }

    fn last_exit(&self, instance: &str) -> Option<Exited> {
        match self.tasks.get(instance) {
            Some(task) => lock(&task.slot).last_exit.clone(),
            None => self.held.last_exit(instance),
        }
    }

    fn saved_record(&self, instance: &str) -> Option<String> {
        self.held.saved_record(instance)
    }
}

//! The tree of actors over a fake machine: what is killed comes back and touches no process.
//! Owns the fake: processes that start at once, end when told, and are counted.
//! Never waits for real time where the clock can be paused.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_policy::MonoTime;
use mainstay_process::{
    ActivationSocket, Exit, Exited, Instance, ProcessEvent, ProcessEventKind, RunLimits, Signal,
    SpawnRequest,
};
use mainstay_protocol::{EventKind, ModuleState, SystemStatus, Timestamp};
use ractor::{Actor, ActorCell};
use tokio::sync::{mpsc, oneshot, watch};

use super::root::{self, RootActor};
use super::{RuntimeContext, convert};
use crate::config::{ConfigSources, load};
use crate::os::transport::ListenerHandle;
use crate::os::{
    CommandResult, Enforcement, FreezeReason, LiveProcess, LiveSetup, MachineSample, Os, OsEvent,
    RunExit, RunHold, Sample, SampleRequest, TreeUsage, UpgradeRequest,
};

mod health;
mod ladder;
mod live_keys;
mod reload;
mod replan;
mod times;
mod wall_clock;

/// What becomes of the commands of modules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum CommandOutcome {
    #[default]
    Succeeds,
    Fails,
    /// It never exits, also not when it is killed.
    Hangs,
}

/// A machine where everything works at once.
struct FakeOs {
    begun: tokio::time::Instant,
    facts: mpsc::Sender<OsEvent>,
    alive: Mutex<HashMap<Instance, LiveProcess>>,
    ended: Mutex<HashMap<Instance, RunExit>>,
    records: Mutex<HashMap<Instance, String>>,
    /// What each uses, as the next sample says.
    uses: Mutex<HashMap<Instance, TreeUsage>>,
    enforcement: Enforcement,
    /// Runs that cannot answer.
    holds: Mutex<HashMap<Instance, RunHold>>,
    /// How long the machine has slept.
    slept: Mutex<Duration>,
    /// By how much the wall clock was set back.
    set_back: Mutex<Duration>,
    /// What becomes of commands.
    outcome: Mutex<CommandOutcome>,
    /// How busy the machine is, as the next sample says.
    machine: Mutex<MachineSample>,
    /// Every spawn, signal, kill and command, in order.
    deeds: Mutex<Vec<String>>,
    /// How many samples were requested.
    samples: AtomicU32,
    /// When the holder ends everything.
    stop_by: Mutex<Option<MonoTime>>,
}

impl FakeOs {
    fn new(controllers: &[&str]) -> (Arc<FakeOs>, mpsc::Receiver<OsEvent>) {
        let (facts, receiver) = mpsc::channel(1024);
        let os = FakeOs {
            begun: tokio::time::Instant::now(),
            facts,
            alive: Mutex::default(),
            ended: Mutex::default(),
            records: Mutex::default(),
            uses: Mutex::default(),
            enforcement: match controllers.is_empty() {
                true => Enforcement::new("walk", None),
                false => {
                    let controllers = controllers.iter().map(|name| (*name).to_owned());
                    Enforcement::new("cgroup2", Some(&controllers.collect::<Vec<_>>()))
                }
            },
            holds: Mutex::default(),
            slept: Mutex::default(),
            set_back: Mutex::default(),
            outcome: Mutex::default(),
            machine: Mutex::new(MachineSample {
                cores: 2,
                memory_total: 1 << 30,
                ..MachineSample::default()
            }),
            deeds: Mutex::default(),
            samples: AtomicU32::default(),
            stop_by: Mutex::default(),
        };
        (Arc::new(os), receiver)
    }

    fn deeds(&self) -> Vec<String> {
        self.deeds.lock().expect("whole").clone()
    }

    fn report(&self, instance: &Instance, generation: u64, what: ProcessEventKind) {
        let event = OsEvent::Process(ProcessEvent {
            instance: instance.clone(),
            generation,
            what,
        });
        self.facts.try_send(event).expect("somebody listens");
    }

    /// A process ends, as if by itself.
    fn end(&self, instance: &Instance, signal: Signal) {
        let Some(alive) = self.alive.lock().expect("whole").remove(instance) else {
            return;
        };
        let generation = alive.generation;
        let exited = Exited {
            pid: alive.pid,
            exit: Exit::Signal {
                signal,
                core: false,
            },
            timed_out: false,
            output: String::new(),
            at: self.now().0,
        };
        let last = RunExit {
            generation,
            exited: exited.clone(),
        };
        self.ended
            .lock()
            .expect("whole")
            .insert(instance.clone(), last);
        self.report(instance, generation, ProcessEventKind::Exited(exited));
    }
}

impl Os for FakeOs {
    fn now(&self) -> MonoTime {
        MonoTime(u64::try_from(self.begun.elapsed().as_nanos()).expect("a short test") + 1)
    }
    fn wall_clock(&self) -> Timestamp {
        let set_back = self.set_back.lock().expect("whole").as_millis();
        let set_back = u64::try_from(set_back).expect("a short time");
        Timestamp(1_800_000_000_000 + self.now().0 / 1_000_000 - set_back)
    }
    fn spawn(&self, spawn: SpawnRequest) {
        let mut deeds = self.deeds.lock().expect("whole");
        deeds.push(format!("spawn {} {}", spawn.instance, spawn.generation));
        let pid = 1000 + u32::try_from(deeds.len()).expect("few");
        let (generation, start_time) = (spawn.generation, 1);
        let alive = LiveProcess {
            generation,
            pid,
            start_time,
        };
        self.alive
            .lock()
            .expect("whole")
            .insert(spawn.instance.clone(), alive);
        let spawned = ProcessEventKind::Spawned { pid, start_time };
        self.report(&spawn.instance, generation, spawned);
    }
    fn stop(&self, instance: &Instance, _: u64, signal: Signal, _: Duration) {
        self.deeds
            .lock()
            .expect("whole")
            .push(format!("signal {instance} {}", signal.0));
        if !instance.starts_with("deaf") {
            self.end(instance, signal);
        }
    }
    fn capture(
        &self,
        _: crate::os::forensics::CaptureRequest,
    ) -> Pin<Box<dyn Future<Output = Option<crate::os::forensics::Bundle>> + Send>> {
        Box::pin(std::future::ready(None))
    }

    fn signal(&self, instance: &Instance, _: u64, signal: Signal) {
        let deed = format!("tell {instance} {}", signal.0);
        self.deeds.lock().expect("whole").push(deed);
    }
    fn sample(
        &self,
        request: SampleRequest,
    ) -> Pin<Box<dyn Future<Output = Option<Sample>> + Send>> {
        self.samples.fetch_add(1, Ordering::Relaxed);
        let (alive, uses) = (
            self.alive.lock().expect("whole"),
            self.uses.lock().expect("whole"),
        );
        let modules = request.modules.into_iter().filter_map(|instance| {
            let live = alive.get(&instance)?;
            let usage = uses.get(&instance).copied().unwrap_or_default();
            Some((instance, (live.generation, usage)))
        });
        let sample = Sample {
            at: self.now(),
            modules: modules.collect(),
            machine: *self.machine.lock().expect("whole"),
            ..Sample::default()
        };
        Box::pin(std::future::ready(Some(sample)))
    }
    fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }
    fn limit(&self, instance: &Instance, _: u64, limits: RunLimits) {
        let deed = format!("limit {instance} {limits:?}");
        self.deeds.lock().expect("whole").push(deed);
    }
    fn freeze(&self, instance: &Instance, _: u64, span: Duration, _: FreezeReason) {
        let deed = format!("freeze {instance} {span:?}");
        self.deeds.lock().expect("whole").push(deed);
    }
    fn held_since(&self, instance: &Instance, _: MonoTime) -> Option<RunHold> {
        self.holds.lock().expect("whole").get(instance).copied()
    }
    fn sleep_time(&self) -> Duration {
        *self.slept.lock().expect("whole")
    }
    fn kill(&self, instance: &Instance, _: u64) {
        self.deeds
            .lock()
            .expect("whole")
            .push(format!("kill {instance}"));
        self.end(instance, Signal::KILL);
    }
    fn save_record(&self, instance: &Instance, record: String) {
        assert!(record.len() <= crate::os::MAX_RECORD_BYTES, "{record}");
        self.records
            .lock()
            .expect("whole")
            .insert(instance.clone(), record);
    }
    fn drain_notify(&self, instance: &Instance, generation: u64) {
        self.report(instance, generation, ProcessEventKind::NotifyDrained);
    }
    fn tap(&self, _: &Instance, _: bool, _: bool) {}
    fn flush_output(&self, _: &Instance) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
    fn listen(
        &self,
        instance: &Instance,
        _: Vec<ActivationSocket>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let deed = format!("listen {instance}");
        self.deeds.lock().expect("whole").push(deed);
        Box::pin(std::future::ready(()))
    }
    fn forget(&self, instance: &Instance) {
        let deed = format!("forget {instance}");
        self.deeds.lock().expect("whole").push(deed);
    }
    fn command(&self, spawn: SpawnRequest) -> Pin<Box<dyn Future<Output = CommandResult> + Send>> {
        let deed = format!("command {}", spawn.instance);
        self.deeds.lock().expect("whole").push(deed);
        let outcome = *self.outcome.lock().expect("whole");
        Box::pin(async move {
            if outcome == CommandOutcome::Hangs {
                std::future::pending::<()>().await;
            }
            let ok = outcome == CommandOutcome::Succeeds;
            let text = if ok { "" } else { "exit code 1: broken" };
            CommandResult {
                ok,
                text: text.to_owned(),
                output: "first\nbroken\n".to_owned(),
            }
        })
    }
    fn ready(&self) {}
    fn pong(&self) {}
    fn reconfigure(&self, live: LiveSetup) {
        let deed = format!("reconfigure {live:?}");
        self.deeds.lock().expect("whole").push(deed);
    }
    fn stopping(&self, within: Duration) {
        let by = self.now().after(within);
        let mut stop_by = self.stop_by.lock().expect("whole");
        *stop_by = Some(stop_by.map_or(by, |before| before.min(by)));
    }
    fn stop_time_left(&self) -> Option<Duration> {
        let by = *self.stop_by.lock().expect("whole");
        by.map(|by| by.since(self.now()))
    }
    fn upgrade(
        &self,
        _: UpgradeRequest,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        Box::pin(std::future::ready(Err("there is no holder".to_owned())))
    }
    fn exit_holder(&self, _: u8) {}
    fn live_process(&self, instance: &Instance) -> Option<LiveProcess> {
        self.alive.lock().expect("whole").get(instance).copied()
    }
    fn last_exit(&self, instance: &Instance) -> Option<RunExit> {
        self.ended.lock().expect("whole").get(instance).cloned()
    }
    fn saved_record(&self, instance: &Instance) -> Option<String> {
        self.records.lock().expect("whole").get(instance).cloned()
    }
}

/// A running tree over the fake machine.
pub(crate) struct Rig {
    pub(crate) ctx: Arc<RuntimeContext>,
    os: Arc<FakeOs>,
    end: oneshot::Receiver<root::ShutdownResult>,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn start(modules: &str) -> Rig {
        Rig::start_with(&[], modules).await
    }

    /// On a machine whose control groups have these controllers.
    async fn start_with(controllers: &[&str], modules: &str) -> Rig {
        let dir = tempfile::tempdir().expect("a folder");
        let text = format!(
            "[mainstay]\nreload = \"manual\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n{modules}",
            dir.path().display()
        );
        std::fs::create_dir(dir.path().join("state")).expect("a folder");
        std::fs::create_dir(dir.path().join("run")).expect("a folder");
        std::fs::write(dir.path().join("mainstay.toml"), text).expect("a file");
        let sources = ConfigSources::folder(dir.path());
        let configuration = load(&sources).expect("a good configuration");
        let plans = crate::runtime::commit_first(&configuration).expect("a state directory");
        let (os, mut told) = FakeOs::new(controllers);
        let machine: Arc<dyn Os> = Arc::clone(&os) as Arc<dyn Os>;
        let ctx = crate::runtime::build(
            machine,
            &crate::os::handshake::TakeoverState::default(),
            (configuration, plans),
            sources,
            None,
        )
        .expect("a ctx");
        let listen = |name: &str| {
            let path = dir.path().join(name);
            let listener = std::os::unix::net::UnixListener::bind(path).expect("a socket");
            ListenerHandle::of(listener)
        };
        let listeners = Arc::new([listen("control"), listen("module")]);
        let (ended, end) = oneshot::channel();
        let (started, _) = watch::channel(None);
        let arguments = root::RootArgs {
            ctx: Arc::clone(&ctx),
            listeners,
            accept: crate::ipc::accept_loop(),
            saved_records: None,
            started,
            ended,
        };
        Actor::spawn(None, RootActor, arguments)
            .await
            .expect("a root");
        let (facts, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(fact) = told.recv().await {
                facts.send(fact).await.expect("the router listens");
            }
        });
        tokio::spawn(root::route(Arc::clone(&ctx), receiver));
        let rig = Rig {
            ctx,
            os,
            end,
            _dir: dir,
        };
        rig.until("the start to be over", |rig| {
            rig.status() == SystemStatus::Healthy
        })
        .await;
        rig
    }

    fn status(&self) -> SystemStatus {
        convert::status(self.ctx.snapshots.system().summary.status)
    }

    fn state(&self, name: &str) -> ModuleState {
        let id = self.ctx.find(name).expect("known");
        convert::state(self.ctx.snapshots.module(id).lifecycle.info.state)
    }

    /// Waits for a condition; time is paused, so a minute passes at once when nothing happens.
    async fn until(&self, what: &str, is: impl Fn(&Rig) -> bool) {
        for _ in 0..60_000 {
            if is(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("waited in vain for {what}; {:?}", self.os.deeds());
    }

    /// Every actor but root, by name.
    fn actors(&self) -> Vec<(String, ActorCell)> {
        let board = &self.ctx.actor_refs;
        let mut actors: Vec<(String, Option<ActorCell>)> = vec![
            (
                "registry".into(),
                board.registry.current().map(|a| a.get_cell()),
            ),
            (
                "lifecycle".into(),
                board.lifecycle.current().map(|a| a.get_cell()),
            ),
            (
                "recovery".into(),
                board.recovery.current().map(|a| a.get_cell()),
            ),
            (
                "health".into(),
                board.health.current().map(|a| a.get_cell()),
            ),
            (
                "resources".into(),
                board.resources.current().map(|a| a.get_cell()),
            ),
            (
                "config".into(),
                board.config.current().map(|a| a.get_cell()),
            ),
            (
                "gateway".into(),
                board.gateway.current().map(|a| a.get_cell()),
            ),
        ];
        for id in self.ctx.plan().ids() {
            let cell = board.module(id).current().map(|actor| actor.get_cell());
            actors.push((format!("module {}", &self.ctx.name(id)), cell));
        }
        actors
            .into_iter()
            .map(|(name, cell)| (name, cell.expect("it was started")))
            .collect()
    }
}

pub(crate) const TWO: &str =
    "[module.a]\ncommand = [\"a\"]\n[module.b]\ncommand = [\"b\"]\nrequires = [\"a\"]\n";

#[tokio::test(start_paused = true)]
async fn each_actor_in_turn_is_killed_and_comes_back_and_no_process_is_touched() {
    let rig = Rig::start(TWO).await;
    let count = rig.actors().len();
    for index in 0..count {
        // Deaths within a minute have a budget: a minute between them.
        tokio::time::sleep(Duration::from_secs(61)).await;
        let before = rig.os.deeds();
        let (name, cell) = rig.actors().swap_remove(index);
        cell.kill();
        rig.until(&format!("a new {name}"), |rig| {
            rig.actors()[index].1.get_id() != cell.get_id()
        })
        .await;
        let events = |rig: &Rig| {
            let journal = rig.ctx.recorder.journal();
            assert!(
                journal.flush(Duration::from_secs(5)),
                "the journal is written"
            );
            journal
                .read(&mainstay_protocol::method::EventsParams::default())
                .expect("readable")
        };
        let told = events(&rig)
            .into_iter()
            .rev()
            .find(|e| e.kind == EventKind::ActorRestarted);
        assert_eq!(
            told.expect("the death is told").payload["actor"],
            name.as_str()
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(
            rig.os.deeds(),
            before,
            "the death of {name} touched a process"
        );
        for module in ["a", "b"] {
            assert_eq!(
                rig.state(module),
                ModuleState::Running,
                "{module} after the death of {name}"
            );
        }
        assert_eq!(
            rig.status(),
            SystemStatus::Healthy,
            "after the death of {name}"
        );
        // And the tree is in control: a module that dies now comes back, once.
        rig.os.end(&Instance::new("b", 1), Signal(libc::SIGSEGV));
        rig.until(&format!("b to be back after the death of {name}"), |rig| {
            rig.state("b") == ModuleState::Running && rig.os.deeds().len() == before.len() + 1
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_ordered_stop_ends_with_its_exit_code() {
    let mut rig = Rig::start(TWO).await;
    rig.os
        .facts
        .try_send(OsEvent::StopRequested { left: None })
        .expect("the router listens");
    let code = tokio::time::timeout(Duration::from_secs(60), &mut rig.end).await;
    assert_eq!(code.expect("it ends").expect("it says how").code, 0);
    let stops = rig.os.deeds().split_off(2);
    assert_eq!(stops, ["signal b 15", "signal a 15"], "dependents first");
}

#[tokio::test(start_paused = true)]
async fn too_many_deaths_end_the_runtime_so_that_a_new_one_begins() {
    let rig = Rig::start(TWO).await;
    let root = rig.ctx.actor_refs.root.current().expect("root");
    for _ in 0..11 {
        let Some(actor) = rig.ctx.actor_refs.config.current() else {
            break;
        };
        let old = actor.get_id();
        actor.kill();
        rig.until("a new one or the end", |rig| {
            let current = rig.ctx.actor_refs.config.current();
            current.is_none_or(|actor| actor.get_id() != old)
                || root.get_status() == ractor::ActorStatus::Stopped
        })
        .await;
    }
    rig.until("the end of root", |_| {
        root.get_status() == ractor::ActorStatus::Stopped
    })
    .await;
}

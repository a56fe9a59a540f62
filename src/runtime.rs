//! The runtime: from a configuration and the wire to a running tree of actors, and its end.
//! Owns the order of start and end: `prepare`, `build`, `start`, `wait`, `close`.
//! Never decides about modules, nor where it runs: `run` is a process of its own, `embed` is not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use mainstay_holder::messages::{InstanceInfo, TakeoverState};
use mainstay_policy::plan::Plan;
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_process::Instance;
use mainstay_protocol::EventKind;
use mainstay_protocol::enums::CliExitCode;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle};

use crate::actors::auth_token::TokenSigner;
use crate::actors::event_recorder::{EventBuilder, EventRecorder};
use crate::actors::features;
use crate::actors::holder_setup;
use crate::actors::log_followers::LogFollowers;
use crate::actors::recorded_exits::{self, KnownExits};
use crate::actors::root;
use crate::actors::snapshots::SnapshotStore;
pub(crate) use crate::actors::upgrade::ProgramVersions;
use crate::actors::{
    ActorRefs, CommittedPlan, FeatureFiles, Planned, RuntimeContext, SlotStore, launching, record,
    secret_files, settings_files,
};
pub(crate) use crate::actors::{CONSOLE_TARGET, ConsoleMessage, ConsoleSink};
use crate::bus::Bus;
use crate::config::{ConfigSources, Configuration, NotEnforced, Problems, check_enforcement};
use crate::ipc;
use crate::journal::{Journal, JournalSettings, WatermarkKeeper};
use crate::os::Enforcement;
use crate::os::handshake::{HandshakeError, HolderHandshake};
use crate::os::holder_client::HolderClient;
use crate::os::machine;
use crate::os::transport::{HolderEndpoint, ListenerHandle};
use crate::os::{Os, OsEvent};
use crate::plan_store::{PlanStore, StoredPlan};

pub(crate) mod first_plan;
mod service_report;

#[cfg(test)]
pub(crate) use first_plan::commit_first;
use first_plan::{FirstCommit, FirstConfig, FirstPlans, restore, stored};

#[cfg(all(unix, feature = "simulation"))]
pub mod simulation;

/// Under which name the holder keeps a record of the journal; no module has a dot in its name.
const JOURNAL_RECORD: &str = "mainstay.journal";
/// How long the journal may take to write what is left.
const JOURNAL_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long root may take to end when everything is over.
const ROOT_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the runtime could not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeStartError {
    /// The configuration has problems.
    #[error("{0}")]
    Configuration(Problems),
    /// The holder could not be talked to, or refused.
    #[error(transparent)]
    Wire(#[from] HandshakeError),
    /// A file of the state directory.
    #[error("cannot use {}: {source}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the system reports.
        #[source]
        source: io::Error,
    },
    /// The rest of the machine.
    #[error("cannot start the runtime: {0}")]
    Os(String),
}

impl RuntimeStartError {
    /// The exit code that tells it.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            RuntimeStartError::Configuration(_) => CliExitCode::Configuration as u8,
            RuntimeStartError::Wire(HandshakeError::Refused(_, exit)) => *exit,
            RuntimeStartError::Wire(_)
            | RuntimeStartError::State { .. }
            | RuntimeStartError::Os(_) => CliExitCode::Failed as u8,
        }
    }
}

/// Runs to the end, in this process, with the runtime's end of the wire; returns the exit code.
/// `begun` hears what starts as soon as that is known, and why that is not what the files say.
///
/// # Errors
/// When it cannot begin; nothing was started then.
pub(crate) fn run(
    end: HolderEndpoint,
    sources: Result<ConfigSources, Problems>,
    announce: Option<ConsoleSink>,
    begun: impl FnOnce(&crate::config::Configuration, Option<&str>),
) -> Result<u8, RuntimeStartError> {
    let mut wire = HolderHandshake::new(end);
    let ground = prepare(&mut wire, sources)?;
    begun(&ground.configuration, ground.problem.as_deref());
    // One thread: every decision is taken in turn anyway, and nothing here blocks.
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RuntimeStartError::Os(error.to_string()))?;
    // A task: whatever wakes what is blocked on itself wakes the thread too, which is awake.
    let code = tokio.block_on(async { tokio::spawn(supervise(wire, ground, announce)).await });
    let code = code.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    // Whatever still reads a socket or a file must not hold up the end.
    tokio.shutdown_background();
    code
}

#[expect(
    clippy::disallowed_methods,
    reason = "actors that gave up are not to be waited for"
)]
async fn supervise(
    wire: HolderHandshake,
    ground: PreparedRuntime,
    announce: Option<ConsoleSink>,
) -> Result<u8, RuntimeStartError> {
    let (holder_client, facts) = connect_holder(wire, &ground)?;
    let untried = ground.commit.as_ref().and_then(FirstCommit::untried);
    let os: Arc<dyn Os> = Arc::clone(&holder_client) as Arc<dyn Os>;
    let mut running = ground.build(os, announce)?.start(facts).await?;
    let ctx = Arc::clone(&running.ctx);
    let end = tokio::select! {
        end = running.wait() => end,
        () = holder_client.upgrade_accepted() => {
            running.make_way(&holder_client).await;
            return Ok(0);
        }
        never = service_report::follow(&ctx, &holder_client) => match never {},
    };
    match end {
        Some(end) => {
            let start = running.started.borrow().clone();
            if let (Some(Err(why)), Some((store, number))) = (start, untried) {
                let note = move || store.start_failed(number, &why);
                let noted = tokio::task::spawn_blocking(note).await;
                let noted = noted.map_err(std::io::Error::other).and_then(|done| done);
                if let Err(error) = noted {
                    tracing::error!("cannot note that plan {number} did not start: {error}");
                }
            }
            running.close(&holder_client, end.code).await;
            // A service manager may have taken this process for the main one then.
            Ok(match holder_client.has_no_holder() {
                true => end.code.max(CliExitCode::Failed as u8),
                false => end.code,
            })
        }
        // Root gave up: modules go on, the holder starts a new runtime.
        None => std::process::exit(70),
    }
}

/// What is known before anything runs: configuration, directories, listeners.
pub(crate) struct PreparedRuntime {
    /// The plan of a new start, which is to be kept before anything starts.
    commit: Option<FirstCommit>,
    world: TakeoverState,
    /// What was configured.
    pub(crate) configuration: Configuration,
    /// Why the last committed plan starts and not the files.
    problem: Option<String>,
    plans: FirstPlans,
    sources: ConfigSources,
    listeners: [ListenerHandle; 2],
}

/// Agrees with the holder on what is to run and where; blocks for its answers.
///
/// # Errors
/// The configuration, the holder's refusal, or files that cannot be written.
pub(crate) fn prepare(
    wire: &mut HolderHandshake,
    sources: Result<ConfigSources, Problems>,
) -> Result<PreparedRuntime, RuntimeStartError> {
    let (world, listeners) = wire.receive_takeover()?;
    let (first, plans) = match (&world.setup, &sources) {
        (None, Ok(sources)) => {
            let first = first_plan::read(sources).map_err(RuntimeStartError::Configuration)?;
            (first, FirstPlans::default())
        }
        (None, Err(_)) => {
            return Err(RuntimeStartError::Configuration(
                sources.err().unwrap_or_default(),
            ));
        }
        (Some(setup), _) => {
            let (running, plans) = restore(Path::new(&setup.state_dir), &sources)?;
            (FirstConfig::from(running), plans)
        }
    };
    let configuration = first.configuration;
    let (listeners, plans, commit) = match listeners {
        Some(listeners) => (listeners, plans, None),
        None => {
            let enforcement = Enforcement::of(&world);
            check_enforcement(&configuration, |key| {
                let (cause, remedy) = enforcement.missing(key)?;
                Some(NotEnforced { cause, remedy })
            })
            .map_err(RuntimeStartError::Configuration)?;
            let listeners = wire.configure(holder_setup::setup(&configuration))?;
            let (plans, commit) = FirstCommit::choose(&configuration)?;
            (listeners, plans, Some(commit))
        }
    };
    Ok(PreparedRuntime {
        commit,
        world,
        problem: first.problem,
        configuration,
        plans,
        sources: sources.unwrap_or_default(),
        listeners,
    })
}

/// The wire as the actors use it.
///
/// # Errors
/// When its socket cannot be watched.
pub(crate) fn connect_holder(
    wire: HolderHandshake,
    ground: &PreparedRuntime,
) -> Result<(Arc<HolderClient>, mpsc::Receiver<OsEvent>), RuntimeStartError> {
    HolderClient::start(wire, &ground.world)
        .map_err(|error| RuntimeStartError::Os(error.to_string()))
}

impl PreparedRuntime {
    /// Builds the context of the actors.
    ///
    /// # Errors
    /// As `build`.
    pub(crate) fn build(
        self,
        os: Arc<dyn Os>,
        announce: Option<ConsoleSink>,
    ) -> Result<BuiltRuntime, RuntimeStartError> {
        let (world, listeners) = (self.world, self.listeners);
        let commit = self.commit;
        let committed = commit.map(|plan| tokio::task::spawn_blocking(|| plan.commit()));
        let configured = (self.configuration, self.plans);
        let ctx = build(os, &world, configured, self.sources, announce)?;
        if let Some(text) = self.problem {
            let rejected = EventBuilder::of(EventKind::ConfigRejected);
            ctx.recorder
                .record(rejected.payload(json!({ "text": text })));
            ctx.snapshots.begin_with_problem(text);
        }
        Ok(BuiltRuntime {
            committed,
            ctx,
            world,
            listeners,
        })
    }
}

/// A runtime context without actors.
pub(crate) struct BuiltRuntime {
    /// Brings whether the plan of a new start is kept.
    committed: Option<JoinHandle<Result<(), RuntimeStartError>>>,
    pub(crate) ctx: Arc<RuntimeContext>,
    world: TakeoverState,
    listeners: [ListenerHandle; 2],
}

/// The actors at work.
pub(crate) struct RunningRuntime {
    /// What readers and wishes go through.
    pub(crate) ctx: Arc<RuntimeContext>,
    /// How the first start went, once it is over.
    pub(crate) started: watch::Receiver<Option<Result<(), String>>>,
    end: oneshot::Receiver<root::ShutdownResult>,
    root: JoinHandle<()>,
    routes: JoinHandle<()>,
}

impl BuiltRuntime {
    /// Starts the actors, and with them what is to run.
    ///
    /// # Errors
    /// When the first of them cannot start.
    pub(crate) async fn start(
        self,
        facts: mpsc::Receiver<OsEvent>,
    ) -> Result<RunningRuntime, RuntimeStartError> {
        let BuiltRuntime {
            committed,
            ctx,
            world,
            listeners,
        } = self;
        if let Some(committed) = committed {
            let panicked = |error: JoinError| RuntimeStartError::Os(error.to_string());
            committed.await.map_err(panicked)??;
        }
        let returned = world.setup.is_some();
        record_start(&ctx, &world, returned);
        recorded_exits::find(&ctx, known_exits(&ctx, &world.instances)).await;
        if !returned {
            // Of modules that are no more.
            let _there_were_none = fs::remove_dir_all(settings_files::folder(&ctx.configuration()));
        }
        let known = world
            .instances
            .iter()
            .map(|known| known.instance.to_string());
        if let Err(error) = ctx.open_secrets(&ctx.configuration()) {
            // The modules that use it do not start, and say so.
            tracing::error!("{error}");
        }
        secret_files::keep_only(&ctx.configuration(), &known.collect::<Vec<String>>());
        settings_files::write_all(&ctx.configuration());
        features::write_all(&ctx);
        if returned {
            // It may have ended before the holder knew of a plan.
            ctx.os.reconfigure(holder_setup::live(&ctx.configuration()));
        }
        let known = returned.then(|| {
            let instances = world.instances.iter();
            instances
                .map(|known| (known.instance.to_string(), known.record.clone()))
                .collect()
        });
        let (started_writer, started) = watch::channel(None);
        let (ended, end) = oneshot::channel();
        let arguments = root::RootArgs {
            ctx: Arc::clone(&ctx),
            listeners: Arc::new(listeners),
            accept: ipc::accept_loop(),
            saved_records: known,
            started: started_writer,
            ended,
        };
        launching::bind_lazy_sockets(&ctx, !returned).await;
        let root = root::start(arguments)
            .await
            .map_err(|error| RuntimeStartError::Os(error.to_string()))?;
        let restored = Arc::clone(&ctx);
        let events = root::route(Arc::clone(&ctx), facts);
        let routes = tokio::spawn(async move {
            tokio::select! {
                () = events => {}
                () = keep_files(restored) => {}
            }
        });
        Ok(RunningRuntime {
            ctx,
            started,
            end,
            root,
            routes,
        })
    }
}

impl RunningRuntime {
    /// Waits until everything is stopped; None when root gave up before that.
    pub(crate) async fn wait(&mut self) -> Option<root::ShutdownResult> {
        (&mut self.end).await.ok()
    }

    /// Ends this runtime for an upgrade: writes what is left, and leaves everything else to the
    /// next runtime.
    async fn make_way(self, holder_client: &HolderClient) {
        self.routes.abort();
        self.close_journal().await;
        holder_client.sent_before_end().await;
    }

    async fn close_journal(&self) {
        let journal = self.ctx.recorder.journal().clone();
        let _written =
            tokio::task::spawn_blocking(move || journal.close(JOURNAL_FLUSH_TIMEOUT)).await;
    }

    /// Writes what is left, lets the holder go and ends the actors.
    pub(crate) async fn close(self, holder_client: &HolderClient, code: u8) {
        self.close_journal().await;
        let _there_were_none =
            fs::remove_dir_all(settings_files::folder(&self.ctx.configuration()));
        let _there_were_none = fs::remove_dir_all(secret_files::folder(&self.ctx.configuration()));
        holder_client.exit_holder_and_wait(code).await;
        self.routes.abort();
        root::stop_actors(&self.ctx);
        let _ended = tokio::time::timeout(ROOT_STOP_TIMEOUT, self.root).await;
    }
}

fn plan_of(number: u64, configuration: &Configuration) -> Result<Plan, RuntimeStartError> {
    let specs = configuration.modules.iter().map(|(spec, _)| spec);
    Plan::new(number, configuration.system_spec.clone(), specs.cloned())
        .map_err(|error| RuntimeStartError::Os(format!("the plan cannot run: {error:?}")))
}

/// Puts everything together that the actors share.
///
/// # Errors
/// A plan that cannot run, or files of the state directory.
pub(crate) fn build(
    os: Arc<dyn Os>,
    world: &TakeoverState,
    (configuration, plans): (Configuration, FirstPlans),
    sources: ConfigSources,
    announce: Option<ConsoleSink>,
) -> Result<Arc<RuntimeContext>, RuntimeStartError> {
    let state_dir = configuration.system.state_dir.clone();
    let number = plans.number;
    let plan = Arc::new(plan_of(number, &configuration)?);
    let configuration = Arc::new(configuration);
    let (planned, committed) = match plans.committed {
        // What is watched may have to go back: the modules that it removed have a definition.
        Some(committed) => {
            let before = Arc::new(plan_of(committed.number, &committed.configuration)?);
            let before = Planned::new(Arc::clone(&committed.configuration), before);
            (before.next(configuration, plan), committed)
        }
        None => {
            let committed = CommittedPlan {
                number,
                configuration: Arc::clone(&configuration),
                held: plans.held,
            };
            (Planned::new(configuration, plan), committed)
        }
    };
    let names = planned.names();
    let bus = Bus::default();
    for (slot, name) in (0_u32..).zip(&names) {
        bus.register(ModuleId(slot), Arc::clone(name));
    }
    let settings = journal_settings(&os);
    let journal = Journal::open(&state_dir, settings)
        .map_err(|error| RuntimeStartError::Os(error.to_string()))?;
    let tokens = TokenSigner::open(&state_dir).map_err(|source| RuntimeStartError::State {
        path: state_dir.join("key"),
        source,
    })?;
    let slots = planned.slots();
    Ok(Arc::new(RuntimeContext {
        definitions: SlotStore::new(slots, |id| planned.define(id)),
        planned: ArcSwap::from_pointee(planned),
        committed: ArcSwap::from_pointee(committed),
        sources,
        snapshots: Arc::new(SnapshotStore::new(slots, os.wall_clock())),
        recorder: EventRecorder::new(journal, Arc::clone(&os), names),
        actor_refs: ActorRefs::new(slots),
        degraded: SlotStore::new(slots, |_| AtomicBool::default()),
        feature_files: FeatureFiles::default(),
        bus: Arc::new(bus),
        log_followers: LogFollowers::default(),
        tokens,
        up_since: MonoTime(world.up_since),
        holder: world.holder_pid.into(),
        announce,
        directories_restored: tokio::sync::Notify::new(),
        upgrade: world.upgrade.clone().into(),
        recorded_exits: std::sync::OnceLock::new(),
        signalled_reloads: watch::Sender::default(),
        secrets: ArcSwap::default(),
        os,
    }))
}

/// The holder keeps how far the journal reaches: the state directory may be deleted.
fn journal_settings(os: &Arc<dyn Os>) -> JournalSettings {
    let keeper = Arc::clone(os);
    let journal = Instance::new(JOURNAL_RECORD, 1);
    let kept = os.saved_record(&journal);
    let keep = move |text| keeper.save_record(&journal, text);
    JournalSettings {
        kept,
        keeper: Some(WatermarkKeeper::new(keep)),
        ..JournalSettings::new(machine::boot_id(), os.wall_clock(), os.now().0)
    }
}

fn known_exits(ctx: &RuntimeContext, instances: &[InstanceInfo]) -> Vec<KnownExits> {
    let known = instances.iter().filter_map(|known| {
        let is_known = known.exit.is_some() || !known.earlier.is_empty();
        is_known.then_some(KnownExits {
            module: ctx.find_instance(&known.instance)?,
            ended: known.exit.map(|_| known.generation),
            earlier: known.earlier.clone(),
        })
    });
    known.collect()
}

fn record_start(ctx: &RuntimeContext, world: &TakeoverState, returned: bool) {
    let entry = if returned {
        let adopted = world
            .instances
            .iter()
            .filter(|known| known.pid.is_some())
            .count();
        let ended = |known: &&InstanceInfo| {
            known.pid.is_none() && known.record.as_deref().is_some_and(record::was_live)
        };
        let exits = world.instances.iter().filter(ended).count();
        // This runtime needed time to start: it is in control from here on.
        let down_since = MonoTime(world.runtime_down_since);
        let away_ms = match world.runtime_down_since {
            0 => 0,
            _ => ctx.os.now().since(down_since).as_millis(),
        };
        EventBuilder::of(EventKind::RuntimeReturned).payload(json!({
            "adopted": adopted, "exits": exits, "away_ms": away_ms,
            "reason": world.ended,
        }))
    } else {
        EventBuilder::of(EventKind::RuntimeStarted).payload(json!({
            "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(),
            "plan": ctx.plan().number(),
        }))
    };
    ctx.recorder.record(entry);
}

/// Restores the files of directories that were removed, whenever the holder created them again.
async fn keep_files(ctx: Arc<RuntimeContext>) {
    loop {
        ctx.directories_restored.notified().await;
        let ctx = Arc::clone(&ctx);
        let _restored = tokio::task::spawn_blocking(move || restore_files(&ctx)).await;
    }
}

/// Writes again what a removed directory had in it; blocks.
fn restore_files(ctx: &RuntimeContext) {
    let configuration = ctx.configuration();
    let state_dir = &configuration.system.state_dir;
    let key = ctx.tokens.save(state_dir);
    let committed = ctx.committed.load();
    let stored = StoredPlan {
        held: committed.held.clone(),
        ..stored(
            committed.number,
            ctx.os.wall_clock(),
            &committed.configuration,
            "mainstay",
        )
    };
    let plan = PlanStore::new(state_dir).commit_now(&stored);
    let problems = [
        key.err().map(|error| error.to_string()),
        plan.err().map(|error| error.to_string()),
    ];
    for problem in problems.into_iter().flatten() {
        tracing::error!("cannot restore {}: {problem}", state_dir.display());
    }
    settings_files::write_all(&configuration);
    features::write_all(ctx);
    ctx.restore_secrets();
}

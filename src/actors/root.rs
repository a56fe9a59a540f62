//! The root: starts and supervises the other actors.
//! Owns the role of each actor and the budget of actor deaths; each death is a bug in mainstay.
//! Never touches a module's process: no process notices when root dies.
//! In flight at most: 1 outcome from lifecycle, 1 Ping, 1 Replan.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::run::RunEvent;
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::EventKind;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::config::{ConfigActor, ConfigMsg};
use super::event_recorder::EventBuilder;
use super::gateway::{AcceptLoop, GatewayActor, GatewayArgs};
use super::health::HealthActor;
use super::lifecycle::replan::Replan;
use super::lifecycle::{AdoptedModule, LifecycleActor, LifecycleMsg};
use super::module::{self, ModuleActor};
use super::recovery_trials::RecoveryActor;
use super::registry::RegistryActor;
use super::resources::ResourcesActor;
use super::source_files::SourceFilesActor;
use super::{CONSOLE_TARGET, ConsoleMessage, RuntimeContext};
use crate::os::transport::ListenerHandle;

mod rebuild;
mod route;

use route::prewarm;
pub(crate) use route::route;

/// More actor deaths than this within `DEATHS_WINDOW` end the runtime; the holder starts a new one.
const DEATHS_MAX: usize = 10;
const DEATHS_WINDOW: Duration = Duration::from_secs(60);
/// Messages of root.
#[derive(Debug)]
pub(crate) enum RootMsg {
    /// Start the others, then the modules.
    Start,
    /// The initial startup has ended.
    StartupCompleted,
    /// It failed, or a group shut everything down later, and why; what runs is being stopped.
    StartupFailed {
        /// Why, as text.
        text: String,
    },
    /// Stop everything in order.
    StopRequested {
        /// Instead of the configured budget.
        budget: Option<Duration>,
        /// The requester.
        requester: &'static str,
    },
    /// Everything is down.
    AllStopped {
        /// How many had to be killed.
        forced: u32,
    },
    /// Bring every module to another plan.
    Replan(Box<Replan>),
    /// The holder checks that the runtime responds.
    Ping,
}

/// The role of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ActorRole {
    Registry,
    Lifecycle,
    Recovery,
    Health,
    Resources,
    Config,
    SourceFiles,
    Gateway,
    Module(ModuleId),
}

/// What root starts from.
pub(crate) struct RootArgs {
    pub(crate) ctx: Arc<RuntimeContext>,
    /// Where clients and where modules come in.
    pub(crate) listeners: Arc<[ListenerHandle; 2]>,
    /// What serves their connections.
    pub(crate) accept: AcceptLoop,
    /// The records of the holder, in a returning runtime; None in the first one.
    pub(crate) saved_records: Option<HashMap<String, Option<String>>>,
    /// The result of the initial startup, once it has ended.
    pub(crate) started: watch::Sender<Option<Result<(), String>>>,
    /// How the runtime ends.
    pub(crate) ended: oneshot::Sender<ShutdownResult>,
}

/// The end of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShutdownResult {
    /// The exit code.
    pub(crate) code: u8,
    /// Modules that had to be killed.
    pub(crate) forced: u32,
}

/// The state.
pub(crate) struct RootActorState {
    ctx: Arc<RuntimeContext>,
    listeners: Arc<[ListenerHandle; 2]>,
    accept: AcceptLoop,
    saved_records: Option<HashMap<String, Option<String>>>,
    started: watch::Sender<Option<Result<(), String>>>,
    ended: Option<oneshot::Sender<ShutdownResult>>,
    roles: HashMap<ActorId, ActorRole>,
    deaths: VecDeque<MonoTime>,
    failed: Option<String>,
}

/// The actor.
pub(crate) struct RootActor;

impl Actor for RootActor {
    type Msg = RootMsg;
    type State = RootActorState;
    type Arguments = RootArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<RootMsg>,
        RootArgs {
            ctx,
            listeners,
            accept,
            saved_records,
            started,
            ended,
        }: RootArgs,
    ) -> Result<RootActorState, ActorProcessingErr> {
        ctx.actor_refs.root.set(myself.clone());
        myself.cast(RootMsg::Start)?;
        Ok(RootActorState {
            ctx,
            listeners,
            accept,
            saved_records,
            started,
            ended: Some(ended),
            roles: HashMap::new(),
            deaths: VecDeque::new(),
            failed: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMsg>,
        msg: RootMsg,
        state: &mut RootActorState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            RootMsg::Start => state.start_actors(&myself).await?,
            RootMsg::StartupCompleted => {
                state.ctx.actor_refs.config.cast(ConfigMsg::Watch);
                state.started(Ok(()));
                prewarm(Arc::clone(&state.ctx));
            }
            RootMsg::StartupFailed { text } => {
                state.failed = Some(text.clone());
                state.started(Err(text));
            }
            RootMsg::StopRequested { budget, requester } => {
                let requester = requester.to_owned();
                let msg = LifecycleMsg::StopAll { budget, requester };
                state.ctx.actor_refs.lifecycle.cast(msg);
                // The kernel takes long to close a watch of files: it begins now.
                state.ctx.announce(ConsoleMessage::Stopping);
                state.ctx.actor_refs.config.cast(ConfigMsg::Unwatch);
            }
            RootMsg::Replan(replan) => state.replan(&myself, replan).await?,
            RootMsg::AllStopped { forced } => state.all_stopped(forced),
            RootMsg::Ping => state.ctx.os.pong(),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMsg>,
        event: SupervisionEvent,
        state: &mut RootActorState,
    ) -> Result<(), ActorProcessingErr> {
        // The dead actor's state rides in the event: it is dropped with it, at once.
        let (id, error) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell.get_id(), error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell.get_id(), reason.unwrap_or_default())
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
        };
        match state.roles.remove(&id) {
            Some(role) => state.start_again(&myself, role, &error).await,
            None => Ok(()),
        }
    }
}

impl RootActorState {
    /// Starts the actors of modules that are new in a plan, then lets lifecycle bring it about.
    async fn replan(
        &mut self,
        myself: &ActorRef<RootMsg>,
        mut replan: Box<Replan>,
    ) -> Result<(), ActorProcessingErr> {
        self.ctx.make_room(&replan.planned);
        let ids: Vec<ModuleId> = replan.planned.plan.ids().collect();
        for id in ids {
            if !self.ctx.actor_refs.module(id).is_set() {
                let found = self.takeover(id);
                self.start_module(myself, id, found).await?;
                replan.found.extend(self.found_run(id, found));
            }
        }
        let found: Vec<ModuleId> = replan.found.iter().map(|(id, ..)| *id).collect();
        let msg = LifecycleMsg::Replan(replan);
        self.ctx.actor_refs.lifecycle.cast(msg);
        found.into_iter().for_each(|id| self.tell_missed_exit(id));
        Ok(())
    }

    async fn start_actors(&mut self, myself: &ActorRef<RootMsg>) -> Result<(), ActorProcessingErr> {
        for role in [
            ActorRole::Registry,
            ActorRole::Recovery,
            ActorRole::Health,
            ActorRole::Resources,
            ActorRole::Config,
            ActorRole::SourceFiles,
            ActorRole::Lifecycle,
        ] {
            self.start(myself, role).await?;
        }
        let ids: Vec<ModuleId> = self.ctx.plan().ids().collect();
        for id in &ids {
            self.start(myself, ActorRole::Module(*id)).await?;
        }
        match self.saved_records.take() {
            None => {
                self.ctx.actor_refs.lifecycle.cast(LifecycleMsg::Boot);
            }
            Some(mut records) => {
                // Those that a plan which is watched has removed, too: it may have to go back.
                let planned = self.ctx.planned();
                let slots = (0_u32..).map(ModuleId).take(planned.slots());
                let modules = slots.map(|id| {
                    let record = records.remove(&*self.ctx.instance(id)).flatten();
                    let module = self.adopted_module(id, record);
                    let ended = module.ended.filter(|_| planned.plan.has(id));
                    AdoptedModule { ended, ..module }
                });
                let msg = LifecycleMsg::Adopt(modules.collect());
                self.ctx.actor_refs.lifecycle.cast(msg);
                ids.into_iter().for_each(|id| self.tell_missed_exit(id));
                self.end_unknown(records.into_keys());
                self.ctx.actor_refs.config.cast(ConfigMsg::Returned);
                super::event_recorder::restore_last_exits(Arc::clone(&self.ctx));
            }
        }
        self.start(myself, ActorRole::Gateway).await?;
        self.ctx.os.ready();
        super::upgrade::on_ready(&self.ctx);
        Ok(())
    }

    /// Starts one actor, linked to root, and sets its reference.
    async fn start(
        &mut self,
        myself: &ActorRef<RootMsg>,
        role: ActorRole,
    ) -> Result<(), ActorProcessingErr> {
        let (ctx, actor_refs) = (Arc::clone(&self.ctx), &self.ctx.actor_refs);
        let cell = myself.get_cell();
        let id = match role {
            ActorRole::Registry => {
                let snapshots = Arc::clone(&ctx.snapshots);
                let (actor, _) = Actor::spawn_linked(None, RegistryActor, snapshots, cell).await?;
                actor_refs.registry.set(actor.clone());
                actor.get_id()
            }
            ActorRole::Lifecycle => {
                let (actor, _) = Actor::spawn_linked(None, LifecycleActor, ctx, cell).await?;
                actor_refs.lifecycle.set(actor.clone());
                actor.get_id()
            }
            ActorRole::Recovery => {
                let (actor, _) = Actor::spawn_linked(None, RecoveryActor, ctx, cell).await?;
                actor_refs.recovery.set(actor.clone());
                actor.get_id()
            }
            ActorRole::Health => {
                let (actor, _) = Actor::spawn_linked(None, HealthActor, ctx, cell).await?;
                actor_refs.health.set(actor.clone());
                actor.get_id()
            }
            ActorRole::Resources => {
                let (actor, _) = Actor::spawn_linked(None, ResourcesActor, ctx, cell).await?;
                actor_refs.resources.set(actor.clone());
                actor.get_id()
            }
            ActorRole::Config => {
                let (actor, _) = Actor::spawn_linked(None, ConfigActor, ctx, cell).await?;
                actor_refs.config.set(actor.clone());
                actor.get_id()
            }
            ActorRole::SourceFiles => {
                let (actor, _) = Actor::spawn_linked(None, SourceFilesActor, ctx, cell).await?;
                actor_refs.source_files.set(actor.clone());
                actor.get_id()
            }
            ActorRole::Gateway => {
                let arguments = GatewayArgs {
                    ctx,
                    listeners: Arc::clone(&self.listeners),
                    accept: Arc::clone(&self.accept),
                };
                let (actor, _) = Actor::spawn_linked(None, GatewayActor, arguments, cell).await?;
                actor_refs.gateway.set(actor.clone());
                actor.get_id()
            }
            ActorRole::Module(id) => {
                return self.start_module(myself, id, self.takeover(id)).await;
            }
        };
        self.roles.insert(id, role);
        Ok(())
    }

    async fn start_module(
        &mut self,
        myself: &ActorRef<RootMsg>,
        id: ModuleId,
        adopt: Option<RunEvent>,
    ) -> Result<(), ActorProcessingErr> {
        let ctx = Arc::clone(&self.ctx);
        let arguments = module::ModuleArgs { ctx, id, adopt };
        let cell = myself.get_cell();
        let (actor, _) = Actor::spawn_linked(None, ModuleActor, arguments, cell).await?;
        self.ctx.actor_refs.module(id).set(actor.clone());
        self.roles.insert(actor.get_id(), ActorRole::Module(id));
        Ok(())
    }

    async fn start_again(
        &mut self,
        myself: &ActorRef<RootMsg>,
        role: ActorRole,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let now = self.ctx.os.now();
        self.deaths.push_back(now);
        while self
            .deaths
            .front()
            .is_some_and(|at| now.since(*at) > DEATHS_WINDOW)
        {
            self.deaths.pop_front();
        }
        if self.deaths.len() > DEATHS_MAX {
            tracing::error!("too many of mainstay's own parts died: starting the runtime again");
            return Err("too many actor deaths".into());
        }
        let name = match role {
            ActorRole::Module(id) => format!("module {}", &self.ctx.name(id)),
            other => format!("{other:?}").to_lowercase(),
        };
        tracing::error!(actor = name, error, "an actor died and is started again");
        let event = EventBuilder::of(EventKind::ActorRestarted)
            .payload(json!({ "actor": name, "error": error }));
        self.ctx.recorder.record(event);
        self.start(myself, role).await?;
        self.rebuild(role);
        Ok(())
    }

    fn started(&self, how: Result<(), String>) {
        self.started.send_modify(|started| {
            started.get_or_insert(how);
        });
    }

    fn all_stopped(&mut self, forced: u32) {
        let text = match forced {
            0 => "everything is stopped".to_owned(),
            1 => "everything is stopped; 1 module had to be killed".to_owned(),
            n => format!("everything is stopped; {n} modules had to be killed"),
        };
        self.ctx.announce(ConsoleMessage::System(&text));
        // Last, for readers of errors alone.
        if let Some(failed) = &self.failed {
            tracing::error!(target: CONSOLE_TARGET, "{failed}");
        }
        if let Some(ended) = self.ended.take() {
            let code = u8::from(self.failed.is_some());
            let _nobody_waits = ended.send(ShutdownResult { code, forced });
        }
    }
}

/// Starts root, which starts the others; the task ends with it.
///
/// # Errors
/// When root itself cannot start.
pub(crate) async fn start(arguments: RootArgs) -> Result<JoinHandle<()>, SpawnErr> {
    let (_root, task) = Actor::spawn(None, RootActor, arguments).await?;
    Ok(task)
}

/// Stops root and all actors, when everything has ended and the process keeps running.
pub(crate) fn stop_actors(ctx: &RuntimeContext) {
    ctx.actor_refs.root.stop();
}

//! The root: starts and supervises the other actors.
//! Owns who is who and the budget of actor deaths; an actor that dies is a bug of ours.
//! Never touches a module's process: that is why its death disturbs none.
//! In flight at most: 1 outcome from lifecycle, 1 Beat.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::EventKind;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::chronicle::Entry;
use super::config::{Config, ConfigMsg};
use super::gateway::{AcceptLoop, GatewayActor, GatewayArgs};
use super::health::HealthActor;
use super::lifecycle::{LifecycleActor, LifecycleMsg};
use super::module::{self, ModuleActor};
use super::recovery::Recovery;
use super::registry::Registry;
use super::resources::Resources;
use super::{ANNOUNCED, Announcement, House};
use crate::os::transport::ListenerHandle;

mod rebuild;
mod route;

use route::prewarm;
pub(crate) use route::route;

/// More actor deaths than this within `DEATHS_WINDOW` end the runtime; the holder starts a new one.
const DEATHS_MAX: usize = 10;
const DEATHS_WINDOW: Duration = Duration::from_secs(60);
/// What root is told.
#[derive(Debug)]
pub(crate) enum RootMsg {
    /// Start the others, then the modules.
    Begin,
    /// The first start is over.
    StartupCompleted,
    /// It failed, and why; what runs is being stopped.
    StartupFailed {
        /// In words.
        text: String,
    },
    /// Stop everything in order.
    StopAsked {
        /// Instead of the configured budget.
        budget: Option<Duration>,
        /// Who asked.
        actor: &'static str,
    },
    /// Everything is down.
    AllStopped {
        /// How many had to be killed.
        forced: u32,
    },
    /// The holder wants to know whether we live.
    Beat,
}

/// Who an actor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Registry,
    Lifecycle,
    Recovery,
    Health,
    Resources,
    Config,
    Gateway,
    Module(ModuleId),
}

/// What root starts from.
pub(crate) struct Arguments {
    pub(crate) house: Arc<House>,
    /// Where clients and where modules come in.
    pub(crate) entrances: Arc<[ListenerHandle; 2]>,
    /// What serves their connections.
    pub(crate) accept: AcceptLoop,
    /// What the holder knows, when we return; None on the first start.
    pub(crate) known: Option<HashMap<String, Option<String>>>,
    /// How the first start went, once it is over.
    pub(crate) started: watch::Sender<Option<Result<(), String>>>,
    /// How the runtime ends.
    pub(crate) ended: oneshot::Sender<End>,
}

/// The end of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// The exit code that tells it.
    pub(crate) code: u8,
    /// Modules that had to be killed.
    pub(crate) forced: u32,
}

/// The state.
pub(crate) struct Owned {
    house: Arc<House>,
    entrances: Arc<[ListenerHandle; 2]>,
    accept: AcceptLoop,
    known: Option<HashMap<String, Option<String>>>,
    started: watch::Sender<Option<Result<(), String>>>,
    ended: Option<oneshot::Sender<End>>,
    roles: HashMap<ActorId, Role>,
    deaths: VecDeque<MonoTime>,
    failed: Option<String>,
}

/// The actor.
pub(crate) struct Root;

impl Actor for Root {
    type Msg = RootMsg;
    type State = Owned;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<RootMsg>,
        Arguments {
            house,
            entrances,
            accept,
            known,
            started,
            ended,
        }: Arguments,
    ) -> Result<Owned, ActorProcessingErr> {
        house.switchboard.root.connect(me.clone());
        me.cast(RootMsg::Begin)?;
        Ok(Owned {
            house,
            entrances,
            accept,
            known,
            started,
            ended: Some(ended),
            roles: HashMap::new(),
            deaths: VecDeque::new(),
            failed: None,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<RootMsg>,
        msg: RootMsg,
        own: &mut Owned,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            RootMsg::Begin => own.begin(&me).await?,
            RootMsg::StartupCompleted => {
                own.started(Ok(()));
                prewarm(Arc::clone(&own.house));
            }
            RootMsg::StartupFailed { text } => {
                own.failed = Some(text.clone());
                own.started(Err(text));
            }
            RootMsg::StopAsked { budget, actor } => {
                let actor = actor.to_owned();
                let msg = LifecycleMsg::StopAll { budget, actor };
                own.house.switchboard.lifecycle.cast(msg);
            }
            RootMsg::AllStopped { forced } => own.all_stopped(forced),
            RootMsg::Beat => own.house.os.pong(),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<RootMsg>,
        event: SupervisionEvent,
        own: &mut Owned,
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
        match own.roles.remove(&id) {
            Some(role) => own.start_again(&me, role, &error).await,
            None => Ok(()),
        }
    }
}

impl Owned {
    async fn begin(&mut self, me: &ActorRef<RootMsg>) -> Result<(), ActorProcessingErr> {
        for role in [
            Role::Registry,
            Role::Recovery,
            Role::Health,
            Role::Resources,
            Role::Config,
            Role::Lifecycle,
        ] {
            self.start(me, role).await?;
        }
        let ids: Vec<ModuleId> = self.house.plan().ids().collect();
        for id in &ids {
            self.start(me, Role::Module(*id)).await?;
        }
        match self.known.take() {
            None => {
                self.house.switchboard.lifecycle.cast(LifecycleMsg::Boot);
            }
            Some(mut records) => {
                let modules = ids.into_iter().map(|id| {
                    let record = records.remove(&*self.house.name(id)).flatten();
                    self.before(id, record)
                });
                let msg = LifecycleMsg::Adopt(modules.collect());
                self.house.switchboard.lifecycle.cast(msg);
                self.house.switchboard.config.cast(ConfigMsg::Compare);
                super::chronicle::recall(Arc::clone(&self.house));
            }
        }
        self.start(me, Role::Gateway).await?;
        self.house.os.ready();
        Ok(())
    }

    /// Starts one actor, linked to us, and connects its line.
    async fn start(
        &mut self,
        me: &ActorRef<RootMsg>,
        role: Role,
    ) -> Result<(), ActorProcessingErr> {
        let (house, board) = (Arc::clone(&self.house), &self.house.switchboard);
        let cell = me.get_cell();
        let id = match role {
            Role::Registry => {
                let picture = Arc::clone(&house.picture);
                let (actor, _) = Actor::spawn_linked(None, Registry, picture, cell).await?;
                board.registry.connect(actor.clone());
                actor.get_id()
            }
            Role::Lifecycle => {
                let (actor, _) = Actor::spawn_linked(None, LifecycleActor, house, cell).await?;
                board.lifecycle.connect(actor.clone());
                actor.get_id()
            }
            Role::Recovery => {
                let (actor, _) = Actor::spawn_linked(None, Recovery, house, cell).await?;
                board.recovery.connect(actor.clone());
                actor.get_id()
            }
            Role::Health => {
                let (actor, _) = Actor::spawn_linked(None, HealthActor, house, cell).await?;
                board.health.connect(actor.clone());
                actor.get_id()
            }
            Role::Resources => {
                let (actor, _) = Actor::spawn_linked(None, Resources, house, cell).await?;
                board.resources.connect(actor.clone());
                actor.get_id()
            }
            Role::Config => {
                let (actor, _) = Actor::spawn_linked(None, Config, house, cell).await?;
                board.config.connect(actor.clone());
                actor.get_id()
            }
            Role::Gateway => {
                let arguments = GatewayArgs {
                    ctx: house,
                    listeners: Arc::clone(&self.entrances),
                    accept: Arc::clone(&self.accept),
                };
                let (actor, _) = Actor::spawn_linked(None, GatewayActor, arguments, cell).await?;
                board.gateway.connect(actor.clone());
                actor.get_id()
            }
            Role::Module(id) => {
                let adopt = self.takeover(id);
                let arguments = module::Arguments { house, id, adopt };
                let (actor, _) = Actor::spawn_linked(None, ModuleActor, arguments, cell).await?;
                board.module(id).connect(actor.clone());
                actor.get_id()
            }
        };
        self.roles.insert(id, role);
        Ok(())
    }

    async fn start_again(
        &mut self,
        me: &ActorRef<RootMsg>,
        role: Role,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let now = self.house.os.now();
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
            Role::Module(id) => format!("module {}", &self.house.name(id)),
            other => format!("{other:?}").to_lowercase(),
        };
        tracing::error!(actor = name, error, "an actor died and is started again");
        let entry =
            Entry::of(EventKind::ActorRestarted).payload(json!({ "actor": name, "error": error }));
        self.house.chronicle.tell(entry);
        self.start(me, role).await?;
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
        self.house.announce(Announcement::System(&text));
        // Last of all, for those who read errors alone.
        if let Some(failed) = &self.failed {
            tracing::error!(target: ANNOUNCED, "{failed}");
        }
        if let Some(ended) = self.ended.take() {
            let code = u8::from(self.failed.is_some());
            let _nobody_waits = ended.send(End { code, forced });
        }
    }
}

/// Starts root, which starts the others; the task ends with it.
///
/// # Errors
/// When root itself cannot start.
pub(crate) async fn start(arguments: Arguments) -> Result<JoinHandle<()>, SpawnErr> {
    let (_root, task) = Actor::spawn(None, Root, arguments).await?;
    Ok(task)
}

/// Ends root and all that it started, when everything is over but the process goes on.
pub(crate) fn leave(house: &House) {
    house.switchboard.root.end();
}

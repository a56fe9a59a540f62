//! The registry: the one writer of the picture.
//! Owns nothing but the order of publications; answers a command only after publishing it.
//! Never decides.
//! In flight at most: 1 batch from lifecycle, 1 of each other actor, 1 word a module.

use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_protocol::view::{LastExit, MachineUsage, OwnUsage, Usage};
use mainstay_protocol::{Cause, Health, State, Timestamp, Wanted};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::picture::{Picture, SystemStanding};

/// What the lifecycle knows of one module.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) module: ModuleId,
    pub(crate) state: State,
    pub(crate) wanted: Wanted,
    pub(crate) since: Timestamp,
    pub(crate) cause: Option<Cause>,
    pub(crate) generation: u64,
    pub(crate) pid: Option<u32>,
    pub(crate) restarts: u64,
    pub(crate) attempts: u32,
    pub(crate) waiting_on: Vec<ModuleId>,
    pub(crate) next_attempt_at: Option<Timestamp>,
}

/// What the registry is told.
#[derive(Debug)]
pub(crate) enum RegistryMsg {
    /// From lifecycle: what changed, and who waits for having it published.
    Stands(
        Vec<Standing>,
        Option<SystemStanding>,
        Option<oneshot::Sender<()>>,
    ),
    /// A module said something about itself; an empty text takes it back.
    Said(ModuleId, Arc<str>),
    /// A run began: what the last one said is over.
    Began(ModuleId),
    /// Its health changed.
    Health(ModuleId, Health, Vec<String>),
    /// A run ended.
    Ended(ModuleId, LastExit),
    /// How runs ended that an earlier runtime saw.
    Recalled(Vec<(ModuleId, LastExit)>),
    /// Output was lost, in all, and why it is being lost now.
    Dropped(ModuleId, u64, Option<String>),
    /// Directories that were removed cannot be created again, or are there.
    DirectoryProblem(Option<String>),
    /// What everything uses.
    Used(Vec<(ModuleId, Usage)>, MachineUsage, OwnUsage),
    /// The files on disk are (not) in force.
    ConfigProblem(Option<String>),
}

/// The actor.
pub(crate) struct Registry;

impl Actor for Registry {
    type Msg = RegistryMsg;
    type State = Arc<Picture>;
    type Arguments = Arc<Picture>;

    async fn pre_start(
        &self,
        _: ActorRef<RegistryMsg>,
        picture: Arc<Picture>,
    ) -> Result<Arc<Picture>, ActorProcessingErr> {
        Ok(picture)
    }

    async fn handle(
        &self,
        _: ActorRef<RegistryMsg>,
        msg: RegistryMsg,
        picture: &mut Arc<Picture>,
    ) -> Result<(), ActorProcessingErr> {
        let answer = write(picture, msg);
        picture.publish();
        if let Some(answer) = answer {
            let _asker_left = answer.send(());
        }
        Ok(())
    }
}

fn write(picture: &Picture, msg: RegistryMsg) -> Option<oneshot::Sender<()>> {
    match msg {
        RegistryMsg::Stands(modules, system, answer) => {
            for standing in modules {
                stand(picture, standing);
            }
            if let Some(standing) = system {
                picture.edit_system(|cell| cell.standing = standing);
            }
            return answer;
        }
        RegistryMsg::Said(module, text) => {
            let text = (!text.is_empty()).then_some(text);
            picture.edit(module, |cell| cell.status_text = text);
        }
        RegistryMsg::Began(module) => picture.edit(module, |cell| {
            cell.status_text = None;
            cell.health = Health::Unknown;
            cell.issues.clear();
            cell.usage = None;
        }),
        RegistryMsg::Health(module, health, issues) => picture.edit(module, |cell| {
            (cell.health, cell.issues) = (health, issues);
        }),
        RegistryMsg::Ended(module, exit) => picture.edit(module, |cell| {
            cell.last_exit = Some(exit);
            cell.pid = None;
            cell.usage = None;
        }),
        RegistryMsg::Recalled(exits) => {
            for (module, exit) in exits {
                // What this runtime saw itself is newer.
                picture.edit(module, |cell| {
                    cell.last_exit.get_or_insert(exit);
                });
            }
        }
        RegistryMsg::Dropped(module, bytes, reason) => picture.edit(module, |cell| {
            (cell.output_dropped_bytes, cell.output_lost) = (bytes, reason);
        }),
        RegistryMsg::DirectoryProblem(problem) => {
            picture.edit_system(|cell| cell.directory_problem = problem);
        }
        RegistryMsg::Used(modules, machine, own) => {
            for (module, usage) in modules {
                picture.edit(module, |cell| cell.usage = cell.pid.map(|_| usage));
            }
            picture.edit_system(|cell| (cell.machine, cell.own) = (machine, own));
        }
        RegistryMsg::ConfigProblem(problem) => {
            picture.edit_system(|cell| cell.config_problem = problem);
        }
    }
    None
}

fn stand(picture: &Picture, standing: Standing) {
    picture.edit(standing.module, |cell| {
        cell.state = standing.state;
        cell.wanted = standing.wanted;
        cell.since = standing.since;
        cell.cause = standing.cause;
        cell.generation = standing.generation;
        cell.pid = standing.pid;
        cell.restarts = standing.restarts;
        cell.attempts = standing.attempts;
        cell.waiting_on = standing.waiting_on;
        cell.next_attempt_at = standing.next_attempt_at;
        if standing.state != State::Running {
            cell.health = Health::Unknown;
            cell.issues.clear();
        }
    });
}

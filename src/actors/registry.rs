//! The registry: the only writer of the snapshots that readers get.
//! Owns nothing but the order of publications; confirms a change only after publishing it.
//! Never decides.
//! In flight at most: 1 batch from lifecycle, 1 of each other actor, 1 status text a module.

use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::SystemInfo;
use mainstay_policy::reload::Watching;
use mainstay_policy::states::State;
use mainstay_protocol::view::{LastExit, MachineUsage, SelfUsage, Usage};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::snapshots::{HealthInfo, LifecycleInfo, SnapshotStore, ThrottleInfo};

/// Messages of the registry.
#[derive(Debug)]
pub(crate) enum RegistryMsg {
    /// From lifecycle: what changed, and the channel of a requester that waits for its publication.
    Lifecycle(
        Vec<(ModuleId, LifecycleInfo)>,
        Option<SystemInfo>,
        Option<oneshot::Sender<()>>,
    ),
    /// A module reported a status text; an empty one removes it.
    StatusText(ModuleId, Arc<str>),
    /// A run began: the status text of the last one is removed.
    RunStarted(ModuleId),
    /// What its last readiness check found instead; None: it was ready.
    NotReady(ModuleId, Option<String>),
    /// Its health changed.
    Health(ModuleId, Arc<HealthInfo>),
    /// Its main process is stopped by this signal, or by none any more.
    Suspended(ModuleId, Option<String>),
    /// A run ended.
    RunEnded(ModuleId, LastExit),
    /// How runs ended that an earlier runtime saw.
    ExitsRestored(Vec<(ModuleId, LastExit)>),
    /// Output was lost, in all, and why it is being lost now.
    OutputDropped(ModuleId, u64, Option<String>),
    /// Directories that were removed cannot be created again, or are there.
    DirectoryProblem(Option<String>),
    /// What everything uses.
    Usage(Vec<(ModuleId, Usage)>, MachineUsage, SelfUsage),
    /// The rung of its throttle ladder changed; None: it is not throttled.
    Throttle(ModuleId, Option<ThrottleInfo>),
    /// A plan is watched and not committed, or none is any more.
    PlanWatch(Option<Watching>),
    /// The files on disk are (not) in force.
    ConfigProblem(Option<String>),
}

/// The actor.
pub(crate) struct RegistryActor;

impl Actor for RegistryActor {
    type Msg = RegistryMsg;
    type State = Arc<SnapshotStore>;
    type Arguments = Arc<SnapshotStore>;

    async fn pre_start(
        &self,
        _: ActorRef<RegistryMsg>,
        snapshots: Arc<SnapshotStore>,
    ) -> Result<Arc<SnapshotStore>, ActorProcessingErr> {
        Ok(snapshots)
    }

    async fn handle(
        &self,
        _: ActorRef<RegistryMsg>,
        msg: RegistryMsg,
        snapshots: &mut Arc<SnapshotStore>,
    ) -> Result<(), ActorProcessingErr> {
        let answer = write(snapshots, msg);
        snapshots.publish();
        if let Some(answer) = answer {
            let _asker_left = answer.send(());
        }
        Ok(())
    }
}

fn write(snapshots: &SnapshotStore, msg: RegistryMsg) -> Option<oneshot::Sender<()>> {
    match msg {
        RegistryMsg::Lifecycle(modules, system, answer) => {
            for (module, info) in modules {
                apply_lifecycle(snapshots, module, info);
            }
            if let Some(summary) = system {
                snapshots.edit_system(|cell| cell.summary = summary);
            }
            return answer;
        }
        RegistryMsg::StatusText(module, text) => {
            let text = (!text.is_empty()).then_some(text);
            snapshots.edit(module, |cell| cell.status_text = text);
        }
        RegistryMsg::RunStarted(module) => snapshots.edit(module, |cell| {
            (cell.status_text, cell.not_ready) = (None, None);
            cell.health = Arc::default();
            (cell.usage, cell.suspended_by, cell.throttle) = (None, None, None);
        }),
        RegistryMsg::Suspended(module, signal) => snapshots.edit(module, |cell| {
            cell.suspended_by = signal;
        }),
        RegistryMsg::NotReady(module, found) => {
            snapshots.edit(module, |cell| cell.not_ready = found);
        }
        RegistryMsg::Health(module, info) => {
            snapshots.edit(module, |cell| cell.health = info);
        }
        RegistryMsg::RunEnded(module, exit) => snapshots.edit(module, |cell| {
            cell.last_exit = Some(exit);
            cell.lifecycle.info.pid = None;
            (cell.usage, cell.suspended_by, cell.throttle) = (None, None, None);
        }),
        RegistryMsg::ExitsRestored(exits) => {
            for (module, exit) in exits {
                // What this runtime saw itself is newer.
                snapshots.edit(module, |cell| {
                    cell.last_exit.get_or_insert(exit);
                });
            }
        }
        RegistryMsg::OutputDropped(module, bytes, reason) => snapshots.edit(module, |cell| {
            (cell.output_dropped_bytes, cell.output_lost) = (bytes, reason);
        }),
        RegistryMsg::DirectoryProblem(problem) => {
            snapshots.edit_system(|cell| cell.directory_problem = problem);
        }
        RegistryMsg::Usage(modules, machine, self_usage) => {
            for (module, usage) in modules {
                snapshots.edit(module, |cell| {
                    cell.usage = cell.lifecycle.info.pid.map(|_| usage)
                });
            }
            snapshots.edit_system(|cell| (cell.machine, cell.self_usage) = (machine, self_usage));
        }
        RegistryMsg::Throttle(module, info) => {
            snapshots.edit(module, |cell| cell.throttle = info);
        }
        RegistryMsg::PlanWatch(watching) => {
            snapshots.edit_system(|cell| cell.watching = watching);
        }
        RegistryMsg::ConfigProblem(problem) => {
            snapshots.edit_system(|cell| cell.config_problem = problem);
        }
    }
    None
}

fn apply_lifecycle(snapshots: &SnapshotStore, module: ModuleId, info: LifecycleInfo) {
    snapshots.edit(module, |cell| {
        if info.info.state != State::Running {
            cell.health = Arc::default();
        }
        cell.lifecycle = info;
    });
}

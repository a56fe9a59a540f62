//! What a new actor starts from: the process that lives, the record, the picture, the others.
//! Owns the rules of who knows what. Never starts an actor and never touches a process.

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::AdoptedProcess;
use mainstay_policy::run::RunEvent;
use mainstay_process::{ProcessEvent, ProcessEventKind};
use mainstay_protocol::{State, SystemStatus};

use super::super::health::HealthMsg;
use super::super::lifecycle::{Before, CONTINUED_STOP, LifecycleMsg, budget_within};
use super::super::module::ModuleMsg;
use super::super::record;
use super::{Owned, Role};

impl Owned {
    pub(super) fn alive(&self, id: ModuleId) -> Option<AdoptedProcess> {
        let alive = self.house.os.live_process(&self.house.instance(id))?;
        Some(AdoptedProcess {
            generation: alive.generation,
            pid: alive.pid,
        })
    }

    /// What the lifecycle starts from, of one module.
    pub(super) fn before(&self, module: ModuleId, record: Option<String>) -> Before {
        let ended = self.house.os.last_exit(&self.house.instance(module));
        Before {
            module,
            record,
            alive: self.alive(module),
            ended: ended.map(|last| (last.generation, last.exited.exit)),
        }
    }

    /// What a module actor starts from: the process that lives, or the run that was ordered.
    pub(super) fn takeover(&self, id: ModuleId) -> Option<RunEvent> {
        let now = self.house.picture.module(id);
        let adopted = |generation, pid| {
            // On the first takeover the picture is empty: the record says where the run stood.
            let record = self.house.os.saved_record(&self.house.instance(id));
            let record = record.and_then(|record| record::decode(&record));
            let record = record.filter(|record| record.generation == generation);
            RunEvent::Adopted {
                generation,
                pid,
                ready: now.state == State::Running || record.is_some_and(|record| record.ready),
                ready_by: record.and_then(|record| record.ready_deadline),
            }
        };
        if let Some(AdoptedProcess { generation, pid }) = self.alive(id) {
            return Some(adopted(generation, pid));
        }
        let generation = now.generation;
        let ended = self.house.os.last_exit(&self.house.instance(id));
        match now.state {
            // It ended while nobody listened; the exit is told again behind this.
            State::Starting | State::Running | State::Stopping
                if ended
                    .as_ref()
                    .is_some_and(|exit| exit.generation == generation) =>
            {
                Some(adopted(generation, ended.map_or(0, |last| last.exited.pid)))
            }
            // The order may have been lost with the old actor; the fence makes a second one safe.
            State::Starting => Some(RunEvent::StartRequested { generation }),
            _ => None,
        }
    }

    /// Gives a new actor back what the old one knew, from those who know it too.
    pub(super) fn rebuild(&self, role: Role) {
        let (house, board) = (&self.house, &self.house.switchboard);
        match role {
            Role::Registry => {
                board.lifecycle.cast(LifecycleMsg::Republish);
            }
            Role::Lifecycle => {
                // How a run ended is told by its module, when that is done with it.
                let plan = house.plan();
                let modules = plan.ids().map(|id| Before {
                    ended: None,
                    ..self.before(id, house.os.saved_record(&house.instance(id)))
                });
                board.lifecycle.cast(LifecycleMsg::Adopt(modules.collect()));
                for id in plan.ids() {
                    board.module(id).cast(ModuleMsg::Resync);
                }
                if house.picture.system().standing.status == SystemStatus::Stopping {
                    let actor = CONTINUED_STOP.to_owned();
                    let budget = house.os.stop_time_left().map(budget_within);
                    board
                        .lifecycle
                        .cast(LifecycleMsg::StopAll { budget, actor });
                }
            }
            Role::Health => {
                for id in house.plan().ids() {
                    let now = house.picture.module(id);
                    if now.state == State::Running {
                        let (module, generation, running) = (id, now.generation, true);
                        board.health.cast(HealthMsg::Moved {
                            module,
                            generation,
                            running,
                            found: true,
                        });
                    }
                }
            }
            Role::Module(id) => {
                let now = house.picture.module(id);
                let generation = now.generation;
                if now.state == State::Stopping {
                    let grace = house.spec(id).shutdown_timeout;
                    let limit = grace;
                    let halt = RunEvent::StopRequested {
                        generation,
                        grace,
                        limit,
                    };
                    board.module(id).cast(ModuleMsg::Event(halt));
                }
                let ended = house.os.last_exit(&house.instance(id));
                if let Some(last) = ended.filter(|last| last.generation == generation) {
                    board.module(id).cast(ModuleMsg::Process(ProcessEvent {
                        instance: house.instance(id),
                        generation,
                        what: ProcessEventKind::Exited(last.exited),
                    }));
                }
            }
            Role::Recovery | Role::Resources | Role::Config | Role::Gateway => {}
        }
    }
}

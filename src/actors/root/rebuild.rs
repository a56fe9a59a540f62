//! What a new actor starts from: the live process, the record, the snapshots, the other actors.
//! Owns which source has which part of that. Never starts an actor and never touches a process.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::AdoptedProcess;
use mainstay_policy::run::RunEvent;
use mainstay_policy::states::{State, Status};
use mainstay_process::{Instance, ProcessEvent, ProcessEventKind, Signal};

use super::super::config::ConfigMsg;
use super::super::health::HealthMsg;
use super::super::lifecycle::{AdoptedModule, CONTINUED_STOP, LifecycleMsg, stop_budget_left};
use super::super::module::ModuleMsg;
use super::super::{Planned, record};
use super::{ActorRole, RootActorState};
use crate::os::RunExit;

impl RootActorState {
    pub(super) fn alive(&self, id: ModuleId) -> Option<AdoptedProcess> {
        let alive = self.ctx.os.live_process(&self.ctx.instance(id))?;
        Some(AdoptedProcess {
            generation: alive.generation,
            pid: alive.pid,
        })
    }

    /// What the lifecycle starts from, of one module.
    pub(super) fn adopted_module(&self, module: ModuleId, record: Option<String>) -> AdoptedModule {
        let ended = self.ctx.os.last_exit(&self.ctx.instance(module));
        // One that is to be cleaned up after is out until that is done.
        let to_clean_up = || self.run_to_clean_up(module).map(adopted_exit);
        AdoptedModule {
            module,
            record,
            alive: self.alive(module).or_else(to_clean_up),
            ended: ended.map(|last| (last.generation, last.exited.exit)),
        }
    }

    /// What is left of the time of a stop that is in force, and the most that can be left.
    fn stop_time_left(&self, id: ModuleId, generation: u64) -> (Duration, Duration) {
        let record = self.ctx.os.saved_record(&self.ctx.instance(id));
        let record = record.and_then(|record| record::decode(&record));
        let record = record.filter(|record| record.generation == generation);
        let full = self.ctx.spec(id).shutdown_timeout;
        let deadlines = record.and_then(|record| record.stop_deadlines);
        let now = self.ctx.os.now();
        deadlines.map_or((full, full), |(by, limit)| {
            (by.since(now), limit.since(now))
        })
    }

    /// What a module actor starts from: the process that lives, or the run that was ordered.
    pub(super) fn takeover(&self, id: ModuleId) -> Option<RunEvent> {
        let now = self.ctx.snapshots.module(id);
        let adopted = |generation, pid| {
            // On the first takeover the snapshots are empty: the record says where the run was.
            let record = self.ctx.os.saved_record(&self.ctx.instance(id));
            let record = record.and_then(|record| record::decode(&record));
            let record = record.filter(|record| record.generation == generation);
            RunEvent::Adopted {
                generation,
                pid,
                ready: now.lifecycle.info.state == State::Running
                    || record.is_some_and(|record| record.ready),
                ready_deadline: record.and_then(|record| record.ready_deadline),
            }
        };
        if let Some(AdoptedProcess { generation, pid }) = self.alive(id) {
            return Some(adopted(generation, pid));
        }
        let generation = now.lifecycle.info.generation;
        let ended = self.ctx.os.last_exit(&self.ctx.instance(id));
        match now.lifecycle.info.state {
            // It ended while its actor did not run; the exit is reported again after this.
            State::Starting | State::Running | State::Stopping
                if ended
                    .as_ref()
                    .is_some_and(|exit| exit.generation == generation) =>
            {
                Some(adopted(generation, ended.map_or(0, |last| last.exited.pid)))
            }
            // The order may have been lost with the old actor; the fence makes a second one safe.
            // One that is to stop had no process yet: it ends as soon as that is ordered again.
            State::Starting | State::Stopping => Some(RunEvent::StartRequested { generation }),
            // The first actors of a runtime that returns.
            State::NotStarted if self.saved_records.is_some() => {
                let ended = adopted_exit(self.run_to_clean_up(id)?);
                Some(adopted(ended.generation, ended.pid))
            }
            _ => None,
        }
    }

    /// A run that was out when the runtime before died, and ended: what follows its end was not
    /// done, or not all of it.
    fn run_to_clean_up(&self, id: ModuleId) -> Option<RunExit> {
        let instance = self.ctx.instance(id);
        let ended = self.ctx.os.last_exit(&instance)?;
        let record = record::decode(&self.ctx.os.saved_record(&instance)?)?;
        let was_out = record.state.is_live() && record.generation == ended.generation;
        (was_out && self.ctx.spec(id).has_after_stop).then_some(ended)
    }

    /// Tells an actor that adopted a run of its end, if that came before: after the lifecycle was
    /// sent that the run is out, which hears of the end from the actor.
    pub(super) fn tell_missed_exit(&self, id: ModuleId) {
        let Some(last) = self.ctx.os.last_exit(&self.ctx.instance(id)) else {
            return;
        };
        let (generation, exit) = (last.generation, last.exited.exit);
        let exited = RunEvent::Exited { generation, exit };
        self.ctx
            .actor_refs
            .module(id)
            .cast(ModuleMsg::Event(exited));
    }

    /// The last run of a module that is new to this runtime, which its actor was given as `adopted`
    /// if it lived.
    pub(super) fn found_run(
        &self,
        id: ModuleId,
        adopted: Option<RunEvent>,
    ) -> Option<(ModuleId, u64, Option<u32>)> {
        let ended = self.ctx.os.last_exit(&self.ctx.instance(id));
        let Some(RunEvent::Adopted {
            generation, pid, ..
        }) = adopted
        else {
            return ended.map(|last| (id, last.generation, None));
        };
        Some((id, generation, Some(pid)))
    }

    fn tell_exit(&self, id: ModuleId, last: RunExit) {
        let exited = ModuleMsg::Process(ProcessEvent {
            instance: self.ctx.instance(id),
            generation: last.generation,
            what: ProcessEventKind::Exited(last.exited),
        });
        self.ctx.actor_refs.module(id).cast(exited);
    }

    /// Restarts a run that follows a former plan: a new lifecycle does not know of that.
    fn restart_outdated(&self, planned: &Planned, id: ModuleId) {
        let (ctx, is_out) = (&self.ctx, self.alive(id).is_some());
        if is_out && planned.plan.has(id) && !Arc::ptr_eq(&ctx.spec(id), &planned.module(id).spec) {
            let lifecycle = &ctx.actor_refs.lifecycle;
            lifecycle.cast(LifecycleMsg::RestartOutdated(id));
        }
    }

    /// Gives a new lifecycle every module, also those that the newest plan has removed.
    fn rebuild_lifecycle(&self) {
        let (ctx, actor_refs) = (&self.ctx, &self.ctx.actor_refs);
        // How a run ended is reported by its module, when that is done with it. Until then
        // a run that was ordered is taken for one that lasts: it may have no process yet,
        // or none any more.
        let planned = ctx.planned();
        let slots = (0_u32..).map(ModuleId).take(planned.slots());
        let modules = slots.clone().map(|id| {
            let record = ctx.os.saved_record(&ctx.instance(id));
            let module = self.adopted_module(id, record);
            AdoptedModule {
                ended: None,
                alive: module
                    .alive
                    .or_else(|| ordered_run(module.record.as_deref())),
                ..module
            }
        });
        actor_refs
            .lifecycle
            .cast(LifecycleMsg::Adopt(modules.collect()));
        for id in slots {
            actor_refs.module(id).cast(ModuleMsg::Resync);
            self.restart_outdated(&planned, id);
        }
        actor_refs.config.cast(ConfigMsg::Resume);
        if ctx.snapshots.system().summary.status == Status::Stopping {
            let requester = CONTINUED_STOP.to_owned();
            let budget = ctx.os.stop_time_left().map(stop_budget_left);
            actor_refs
                .lifecycle
                .cast(LifecycleMsg::StopAll { budget, requester });
        }
    }

    /// Ends what no plan has: modules that came and went with plans that were never committed.
    pub(super) fn end_unknown(&self, names: impl Iterator<Item = String>) {
        // The runtime keeps records of its own, whose names have a dot.
        for name in names.filter(|name| !name.contains('.')) {
            let instance = Instance::new(&name, 1);
            if instance.command().is_some() {
                continue;
            }
            match self.ctx.os.live_process(&instance) {
                None => self.ctx.os.forget(&instance),
                Some(run) => {
                    tracing::warn!("{name} runs and is in no plan: it is stopped");
                    let within = self.ctx.plan().system().shutdown_timeout;
                    let signal = Signal::TERMINATE;
                    self.ctx.os.stop(&instance, run.generation, signal, within);
                }
            }
        }
    }

    /// Restores the state of a new actor from the other actors and the snapshots.
    pub(super) fn rebuild(&self, role: ActorRole) {
        let (ctx, actor_refs) = (&self.ctx, &self.ctx.actor_refs);
        match role {
            ActorRole::Registry => {
                actor_refs.lifecycle.cast(LifecycleMsg::Republish);
            }
            ActorRole::Lifecycle => self.rebuild_lifecycle(),
            ActorRole::Health => {
                for id in ctx.plan().ids() {
                    let now = ctx.snapshots.module(id);
                    if now.lifecycle.info.state == State::Running {
                        let (module, generation, running) =
                            (id, now.lifecycle.info.generation, true);
                        actor_refs.health.cast(HealthMsg::ReadinessChanged {
                            module,
                            generation,
                            running,
                            found: true,
                        });
                    }
                }
            }
            ActorRole::Module(id) => {
                let now = ctx.snapshots.module(id);
                let generation = now.lifecycle.info.generation;
                let ended = ctx.os.last_exit(&ctx.instance(id));
                // One that is out no more was told before: what is published follows that.
                let state = now.lifecycle.info.state;
                let ended = ended.filter(|last| last.generation == generation && state.is_live());
                // A run that ended by itself is judged by its exit alone.
                let is_judged = now.lifecycle.info.ends_by_itself && ended.is_some();
                if state == State::Stopping && !is_judged {
                    let (grace, limit) = self.stop_time_left(id, generation);
                    let stop = RunEvent::StopRequested {
                        generation,
                        grace,
                        limit,
                    };
                    actor_refs.module(id).cast(ModuleMsg::Event(stop));
                }
                if let Some(last) = ended {
                    self.tell_exit(id, last);
                }
                // What is published may be older than what was ordered.
                actor_refs.lifecycle.cast(LifecycleMsg::RepeatOrder(id));
            }
            ActorRole::Config => {
                actor_refs.config.cast(ConfigMsg::Resume);
            }
            ActorRole::Recovery
            | ActorRole::Resources
            | ActorRole::SourceFiles
            | ActorRole::Gateway => {}
        }
    }
}

fn adopted_exit(ended: RunExit) -> AdoptedProcess {
    AdoptedProcess {
        generation: ended.generation,
        pid: ended.exited.pid,
    }
}

/// The run that a record says is out, with or without a process.
fn ordered_run(record: Option<&str>) -> Option<AdoptedProcess> {
    let record = record.and_then(record::decode)?;
    let generation = record.generation;
    let is_out = record.state.is_live();
    is_out.then_some(AdoptedProcess { generation, pid: 0 })
}

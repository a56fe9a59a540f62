//! The lifecycle: the one linear view of events and requests.
//! Owns policy::Lifecycle and one timer; performs what it decided through the module actors.
//! Never decides.
//! In flight at most: 2 reports and 1 health change a module, 1 request a connection, 1 TimerFired.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::MonoTime;
use mainstay_policy::lifecycle::{
    ChangeClass, Lifecycle, LifecycleEffect, LifecycleEvent, Operation, PreviewStep, ReplanError,
    SystemInfo,
};
use mainstay_policy::plan::Plan;
use mainstay_policy::run::{self, RunReport};
use mainstay_policy::states::{self, Desired, State};
use mainstay_protocol::method::ChangeStep;
use mainstay_protocol::{SystemStatus, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::config::ConfigMsg;
use super::module::ModuleMsg;
use super::recovery_trials::RecoveryMsg;
use super::root::RootMsg;
use super::timer::DeadlineTimer;
use super::{RuntimeContext, feature_files};

mod adopt;
mod emit;
pub(crate) mod emit_recovery;
mod outlook;
mod preview;
mod publish;
pub(crate) mod replan;
pub(crate) mod requests;
mod waiting;

pub(crate) use adopt::AdoptedModule;
pub(crate) use outlook::{LifecycleQuery, Outlook};
pub(super) use requests::CONTINUED_STOP;
pub(crate) use requests::FilesChanged;
use requests::OpenRequests;

/// What the holder adds to the time of a stop before it ends everything itself.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// The budget of a stop after which the holder ends everything in so much time.
pub(super) fn stop_budget_left(left: Duration) -> Duration {
    left.saturating_sub(STOP_MARGIN)
}

/// Messages of the lifecycle actor.
#[derive(Debug)]
pub(crate) enum LifecycleMsg {
    /// Begin the initial startup.
    Boot,
    /// Adopt what an earlier runtime left running.
    Adopt(Vec<AdoptedModule>),
    /// From a module actor.
    RunReported {
        /// Which one.
        module: ModuleId,
        /// What the run reports.
        report: RunReport,
        /// Why it could not start, in full.
        detail: Option<String>,
    },
    /// From the health actor.
    Health {
        /// The module.
        module: ModuleId,
        /// Of which run.
        generation: u64,
        /// How it is.
        health: states::Health,
        /// Whether its readiness probes pass.
        passes: bool,
        /// The result of the liveness probe that failed after its threshold.
        liveness_issue: Option<String>,
    },
    /// From the resources actor: a run exceeds a limit, and its ladder has ended.
    LimitExceeded {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
        /// Stop it permanently instead of restarting it.
        stop: bool,
        /// Which limit, and what is used.
        text: String,
    },
    /// A new actor of this module runs: what was ordered of the one before may be lost.
    RepeatOrder(ModuleId),
    /// From the resources actor: a run was not used for the `idle_stop` of its module.
    Idle {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
    },
    /// From a person or a program.
    Requested {
        /// For whom.
        module: ModuleId,
        /// What is requested.
        operation: Operation,
        /// The requester.
        requester: String,
        /// Sent when the snapshots show it.
        published: oneshot::Sender<()>,
    },
    /// No run of a module is to start until then; None: it is released.
    Held {
        /// The module.
        module: ModuleId,
        /// Until when at the latest.
        until: Option<MonoTime>,
        /// The requester.
        requester: String,
        /// Sent when the snapshots show it.
        published: oneshot::Sender<()>,
    },
    /// Files that a module is made of changed (`watch`): restart it, unless it is to be down.
    FilesChanged(requests::FilesChanged),
    /// What would an operation take along?
    Preview {
        /// For whom.
        module: ModuleId,
        /// What is requested.
        operation: Operation,
        /// The steps, in order.
        answer: oneshot::Sender<Vec<ChangeStep>>,
    },
    /// A question that changes nothing.
    Query(LifecycleQuery),
    /// From the procedure before a restart.
    ProcedureEnded {
        /// The module.
        module: ModuleId,
        /// Its number.
        ticket: u32,
        /// Whether it could be done.
        ok: bool,
    },
    /// What would a plan take along?
    PreviewPlan {
        /// The plan.
        plan: Arc<Plan>,
        /// As in [`replan::Replan`].
        changes: Vec<(ModuleId, ChangeClass)>,
        /// The steps, in order.
        answer: oneshot::Sender<Result<Vec<PreviewStep>, ReplanError>>,
    },
    /// Stop everything in order.
    StopAll {
        /// Instead of the configured budget.
        budget: Option<Duration>,
        /// The requester.
        requester: String,
    },
    /// Bring every module to another plan.
    Replan(Box<replan::Replan>),
    /// A run of the former plan is still out, of which a new lifecycle does not know.
    RestartOutdated(ModuleId),
    /// The newest plan is committed: nothing is watched, and what was removed is forgotten.
    Commit,
    /// The newest plan is watched: report every module to config.
    ReportWatched,
    /// The registry is new: publish everything again.
    Republish,
    /// The alarm.
    TimerFired,
}

/// The state.
pub(crate) struct LifecycleActorState {
    ctx: Arc<RuntimeContext>,
    policy: Lifecycle,
    alarm: DeadlineTimer,
    /// Modules whose state may have changed since the last publication.
    dirty: BTreeSet<ModuleId>,
    /// What policy does not keep of each module, by slot.
    modules: Vec<ModuleNotes>,
    status: SystemStatus,
    /// What was published last of the system.
    published_summary: Option<SystemInfo>,
    /// The requester of the stop of everything that is being handled.
    stop_requested_by: Option<String>,
    /// The requester of the operation that each module follows at the moment.
    requesters: HashMap<ModuleId, String>,
    /// The requests that have no result yet.
    requests: OpenRequests,
    /// What the config actor is sent about a plan that is not committed.
    watch: replan::PlanWatch,
}

/// What is published about one module beside what policy knows of it.
#[derive(Debug, Clone)]
struct ModuleNotes {
    /// Why it could not start, in full.
    detail: Option<String>,
    /// The state it is in, and since when.
    since: (State, Timestamp),
    /// Why it failed or stopped last, until it is started on request.
    reason: Option<String>,
    /// Why its current or last run was started.
    started_because: Option<Arc<str>>,
    /// What its liveness probe found when it failed permanently.
    liveness_issue: Option<String>,
    /// Which limit it exceeded when its throttle ladder ended.
    exceeded: Option<String>,
    /// The requester of its hold.
    held_by: Option<String>,
}

impl ModuleNotes {
    fn new(at: Timestamp) -> ModuleNotes {
        ModuleNotes {
            detail: None,
            since: (State::NotStarted, at),
            reason: None,
            started_because: None,
            liveness_issue: None,
            exceeded: None,
            held_by: None,
        }
    }
}

/// The actor.
pub(crate) struct LifecycleActor;

impl Actor for LifecycleActor {
    type Msg = LifecycleMsg;
    type State = LifecycleActorState;
    type Arguments = Arc<RuntimeContext>;

    async fn pre_start(
        &self,
        _: ActorRef<LifecycleMsg>,
        ctx: Arc<RuntimeContext>,
    ) -> Result<LifecycleActorState, ActorProcessingErr> {
        let seed = ctx.os.now().0;
        let count = ctx.planned().slots();
        Ok(LifecycleActorState {
            policy: Lifecycle::new(ctx.plan(), seed),
            alarm: DeadlineTimer::default(),
            dirty: BTreeSet::new(),
            modules: vec![ModuleNotes::new(ctx.os.wall_clock()); count],
            status: SystemStatus::Starting,
            published_summary: None,
            stop_requested_by: None,
            requesters: HashMap::new(),
            requests: OpenRequests::default(),
            watch: replan::PlanWatch::default(),
            ctx,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<LifecycleMsg>,
        msg: LifecycleMsg,
        state: &mut LifecycleActorState,
    ) -> Result<(), ActorProcessingErr> {
        let published = state.apply(msg);
        state.perform_effects();
        state.report_states();
        state.finish_requests();
        state.publish(published);
        state.stop_requested_by = None;
        let (now, deadline) = (state.ctx.os.now(), state.policy.deadline());
        state
            .alarm
            .set(now, deadline, &myself, || LifecycleMsg::TimerFired);
        Ok(())
    }
}

impl LifecycleActorState {
    /// Applies an event or a request; returns the channel of a requester that waits until it is
    /// published.
    fn apply(&mut self, msg: LifecycleMsg) -> Option<oneshot::Sender<()>> {
        match msg {
            LifecycleMsg::Boot => self.note(LifecycleEvent::Boot),
            LifecycleMsg::Adopt(modules) => self.adopt(modules),
            LifecycleMsg::RunReported {
                module,
                report,
                detail,
            } => self.apply_run_report(module, report, detail),
            LifecycleMsg::Health {
                module,
                generation,
                health,
                passes,
                liveness_issue,
            } => self.apply_health(module, generation, (health, passes), liveness_issue),
            LifecycleMsg::LimitExceeded {
                module,
                generation,
                stop,
                text,
            } => self.apply_limit(module, generation, stop, text),
            LifecycleMsg::RepeatOrder(module) => self.repeat_order(module),
            LifecycleMsg::Idle { module, generation } => self.apply_idle(module, generation),
            LifecycleMsg::Requested {
                module,
                operation,
                requester,
                published,
            } => {
                self.apply_operation(module, operation, requester);
                return Some(published);
            }
            LifecycleMsg::Held {
                module,
                until,
                requester,
                published,
            } => {
                self.apply_hold(module, until, requester);
                return Some(published);
            }
            LifecycleMsg::FilesChanged(change) => self.apply_files_changed(&change),
            LifecycleMsg::Preview {
                module,
                operation,
                answer,
            } => {
                let _asker_left = answer.send(self.preview(module, operation));
            }
            LifecycleMsg::Query(query) => self.answer(query),
            LifecycleMsg::ProcedureEnded { module, ticket, ok } => {
                self.procedure_ended(module, ticket, ok);
            }
            LifecycleMsg::PreviewPlan {
                plan,
                changes,
                answer,
            } => {
                let _asker_left = answer.send(self.policy.preview_plan(plan, &changes));
            }
            LifecycleMsg::StopAll { budget, requester } => self.stop_all(budget, requester),
            LifecycleMsg::Replan(replan) => self.replan(*replan),
            LifecycleMsg::RestartOutdated(module) => self.restart_outdated(module),
            LifecycleMsg::Commit => self.commit(),
            LifecycleMsg::ReportWatched => self.report_watched(),
            LifecycleMsg::Republish => self.republish(),
            LifecycleMsg::TimerFired => self.note(LifecycleEvent::TimerFired),
        }
        None
    }

    fn apply_run_report(&mut self, module: ModuleId, report: RunReport, detail: Option<String>) {
        self.dirty.insert(module);
        if let run::RunReportKind::Ended(_) = report.what {
            self.modules[module.index()].detail = detail;
            let generation = report.generation;
            let msg = RecoveryMsg::Ended { module, generation };
            self.ctx.actor_refs.recovery.cast(msg);
            // An earlier run was ended by an actor that began anew: it could not take the next.
            if generation < self.policy.view(module).generation {
                self.repeat_order(module);
            }
        }
        self.note(LifecycleEvent::Reported { module, report });
    }

    fn apply_idle(&mut self, module: ModuleId, generation: u64) {
        self.note(LifecycleEvent::Idle { module, generation });
    }

    fn repeat_order(&mut self, module: ModuleId) {
        self.policy.repeat_order(self.ctx.os.now(), module);
    }

    fn stop_all(&mut self, budget: Option<Duration>, requester: String) {
        self.record_system_stop(&requester);
        self.stop_requested_by = Some(requester);
        let within = budget.unwrap_or(self.ctx.plan().system().shutdown_timeout);
        self.ctx.os.stopping(within + STOP_MARGIN);
        self.note(LifecycleEvent::StopAll { budget });
    }

    fn apply_operation(&mut self, module: ModuleId, operation: Operation, requester: String) {
        self.dirty.insert(module);
        // A call or a connection administers nothing.
        if operation != Operation::Wake {
            self.record_request(module, operation, &requester);
        }
        self.requesters.insert(module, requester);
        self.note(LifecycleEvent::Requested { module, operation });
    }

    fn apply_health(
        &mut self,
        module: ModuleId,
        generation: u64,
        (health, passes): (states::Health, bool),
        ill: Option<String>,
    ) {
        self.dirty.insert(module);
        let msg = RecoveryMsg::Health {
            module,
            generation,
            healthy: health == states::Health::Healthy,
        };
        self.ctx.actor_refs.recovery.cast(msg);
        let restart = ill.is_some();
        self.modules[module.index()].liveness_issue =
            ill.or(self.modules[module.index()].liveness_issue.take());
        self.note(LifecycleEvent::Health {
            module,
            generation,
            health,
            passes,
            restart,
        });
        self.report_state(module);
    }

    fn apply_limit(&mut self, module: ModuleId, generation: u64, stop: bool, text: String) {
        self.dirty.insert(module);
        self.modules[module.index()].exceeded = Some(text);
        self.note(LifecycleEvent::LimitExceeded {
            module,
            generation,
            stop,
        });
    }

    fn procedure_ended(&mut self, module: ModuleId, ticket: u32, ok: bool) {
        self.dirty.insert(module);
        self.note(LifecycleEvent::ProcedureEnded { module, ticket, ok });
    }

    /// A run of the former plan that a new lifecycle found is to follow the newest.
    fn restart_outdated(&mut self, module: ModuleId) {
        if self.policy.view(module).desired == Desired::Up {
            let operation = Operation::Restart;
            self.note(LifecycleEvent::Requested { module, operation });
        }
    }

    fn note(&mut self, event: LifecycleEvent) {
        self.policy.apply(self.ctx.os.now(), event);
    }

    fn perform_effects(&mut self) {
        while let Some(effect) = self.policy.next_effect(self.ctx.os.now()) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: LifecycleEffect) {
        let ctx = Arc::clone(&self.ctx);
        let order = |module, event| {
            ctx.actor_refs.module(module).cast(ModuleMsg::Event(event));
        };
        match effect {
            LifecycleEffect::Run { module, generation } => {
                self.follow_plan(module);
                self.remember_start(module);
                let degraded = self.policy.view(module).degraded;
                feature_files::set_degraded(&ctx, module, degraded);
                order(module, run::RunEvent::StartRequested { generation });
            }
            LifecycleEffect::Stop {
                module,
                generation,
                grace,
                limit,
            } => {
                self.report_hang(module, generation);
                let halt = run::RunEvent::StopRequested {
                    generation,
                    grace,
                    limit,
                };
                order(module, halt);
            }
            LifecycleEffect::NotifyDependent {
                module,
                about,
                news,
            } => self.notify_dependent(module, about, news),
            LifecycleEffect::StateChanged {
                module,
                from,
                to,
                cause,
                by,
            } => {
                self.follow_plan_after_run(module);
                self.emit_state_change(module, from, to, cause, by);
            }
            LifecycleEffect::RecoveryDecided {
                module,
                failure,
                attempt,
                decision,
            } => self.emit_verdict(module, failure, attempt, &decision),
            LifecycleEffect::Prepare(order) => {
                ctx.actor_refs.recovery.cast(RecoveryMsg::Perform(order));
            }
            LifecycleEffect::DegradedChanged {
                module,
                generation,
                degraded,
            } => self.emit_degraded(module, generation, degraded),
            LifecycleEffect::CascadeStopped { failed, branch } => {
                self.emit_cascade(&failed, &branch);
            }
            LifecycleEffect::Removed { module } => self.removed(module),
            LifecycleEffect::PlanInForce { plan } => {
                ctx.actor_refs.config.cast(ConfigMsg::InForce(plan));
            }
            LifecycleEffect::StartupCompleted => self.startup_completed(),
            LifecycleEffect::StartupFailed { reason } => self.startup_failed(reason),
            LifecycleEffect::AllStopped { forced } => {
                self.system_stopped(forced);
                ctx.actor_refs.root.cast(RootMsg::AllStopped { forced });
            }
        }
    }
}

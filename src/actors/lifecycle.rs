//! The lifecycle: the one linear view of facts and wishes.
//! Owns policy::Lifecycle and one alarm; performs what it decided through the module actors.
//! Never decides.
//! In flight at most: 2 reports a module, 1 health change a module, 1 wish a connection, 1 Woke.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::{
    AdoptedProcess, Lifecycle, LifecycleEffect, LifecycleEvent, Operation,
};
use mainstay_policy::run::{self, RunReport};
use mainstay_policy::states::{self, State};
use mainstay_protocol::method::{ChangeAction, ChangeStep};
use mainstay_protocol::{SystemStatus, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::House;
use super::alarm::Alarm;
use super::module::ModuleMsg;
use super::module_memory::ModuleMemory;
use super::picture::SystemStanding;
use super::record;
use super::recovery::RecoveryMsg;
use super::root::RootMsg;

mod publish;
mod requests;
mod tell;

pub(super) use requests::CONTINUED_STOP;
use requests::{OpenRequest, OpenRequests};

/// What the holder adds to the time of a stop before it ends everything itself.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// The budget of a stop after which the holder ends everything in so much time.
pub(super) fn budget_within(left: Duration) -> Duration {
    left.saturating_sub(STOP_MARGIN)
}

/// What the lifecycle is told.
#[derive(Debug)]
pub(crate) enum LifecycleMsg {
    /// Begin the first start.
    Boot,
    /// Go on with what lived before.
    Adopt(Vec<Before>),
    /// From a module actor.
    Reported {
        /// Which one.
        module: ModuleId,
        /// What.
        report: RunReport,
        /// Why it could not start, in full.
        detail: Option<String>,
    },
    /// From the health actor.
    Health {
        /// Whose.
        module: ModuleId,
        /// Of which run.
        generation: u64,
        /// How it is.
        health: states::Health,
        /// What a liveness probe found that failed for good.
        ill: Option<String>,
    },
    /// From a person or a program.
    Wished {
        /// For whom.
        module: ModuleId,
        /// What.
        wish: Operation,
        /// Who asked.
        actor: String,
        /// Answered when the picture shows it.
        published: oneshot::Sender<()>,
    },
    /// What would a wish take along?
    Preview {
        /// For whom.
        module: ModuleId,
        /// What.
        wish: Operation,
        /// The steps, in order.
        answer: oneshot::Sender<Vec<ChangeStep>>,
    },
    /// Stop everything in order.
    StopAll {
        /// Instead of the configured budget.
        budget: Option<Duration>,
        /// Who asked.
        actor: String,
    },
    /// The registry is new: publish everything again.
    Republish,
    /// The alarm.
    Woke,
}

/// What is known of one module from before.
#[derive(Debug)]
pub(crate) struct Before {
    /// Which one.
    pub(crate) module: ModuleId,
    /// What was recorded.
    pub(crate) record: Option<String>,
    /// Its process, if it lives.
    pub(crate) alive: Option<AdoptedProcess>,
    /// Which run ended and how, while nobody listened.
    pub(crate) ended: Option<(u64, run::Exit)>,
}

/// The state.
pub(crate) struct Owned {
    house: Arc<House>,
    policy: Lifecycle,
    alarm: Alarm,
    /// Modules whose standing may have changed since the last publication.
    touched: BTreeSet<ModuleId>,
    /// Why each module could not start, in full.
    details: Vec<Option<String>>,
    /// When each module entered its state, and what it was.
    since: Vec<(State, Timestamp)>,
    status: SystemStatus,
    /// What was published last of the system.
    stands: Option<SystemStanding>,
    /// Who asked for the stop of everything that is being handled right now.
    asking: Option<String>,
    /// Which request each module follows at the moment: who made it.
    asked: HashMap<ModuleId, String>,
    /// The requests that have no result yet.
    requests: OpenRequests,
    /// Why each module failed or stopped last, until it is started on request.
    reasons: Vec<Option<String>>,
    /// What the liveness probe of each module found when it failed for good.
    ill: Vec<Option<String>>,
}

/// The actor.
pub(crate) struct LifecycleActor;

impl Actor for LifecycleActor {
    type Msg = LifecycleMsg;
    type State = Owned;
    type Arguments = Arc<House>;

    async fn pre_start(
        &self,
        _: ActorRef<LifecycleMsg>,
        house: Arc<House>,
    ) -> Result<Owned, ActorProcessingErr> {
        let seed = house.os.now().0;
        let count = house.planned().slots();
        Ok(Owned {
            policy: Lifecycle::new(house.plan(), seed),
            alarm: Alarm::default(),
            touched: BTreeSet::new(),
            details: vec![None; count],
            since: vec![(State::NotStarted, house.os.wall_clock()); count],
            status: SystemStatus::Starting,
            stands: None,
            asking: None,
            asked: HashMap::new(),
            requests: OpenRequests::default(),
            reasons: vec![None; count],
            ill: vec![None; count],
            house,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<LifecycleMsg>,
        msg: LifecycleMsg,
        own: &mut Owned,
    ) -> Result<(), ActorProcessingErr> {
        let published = own.take(msg);
        own.settle();
        own.finish_requests();
        own.publish(published);
        own.asking = None;
        let (now, deadline) = (own.house.os.now(), own.policy.deadline());
        own.alarm.set(now, deadline, &me, || LifecycleMsg::Woke);
        Ok(())
    }
}

impl Owned {
    /// Notes a fact or a wish; returns who wants to know that it is published.
    fn take(&mut self, msg: LifecycleMsg) -> Option<oneshot::Sender<()>> {
        match msg {
            LifecycleMsg::Boot => self.note(LifecycleEvent::Boot),
            LifecycleMsg::Adopt(modules) => self.adopt(modules),
            LifecycleMsg::Reported {
                module,
                report,
                detail,
            } => {
                self.touched.insert(module);
                if let run::RunReportKind::Ended(_) = report.what {
                    self.details[module.index()] = detail;
                    let generation = report.generation;
                    let msg = RecoveryMsg::Ended { module, generation };
                    self.house.switchboard.recovery.cast(msg);
                }
                self.note(LifecycleEvent::Reported { module, report });
            }
            LifecycleMsg::Health {
                module,
                generation,
                health,
                ill,
            } => {
                self.touched.insert(module);
                let msg = RecoveryMsg::Health {
                    module,
                    generation,
                    healthy: health == states::Health::Healthy,
                };
                self.house.switchboard.recovery.cast(msg);
                let restart = ill.is_some();
                self.ill[module.index()] = ill.or(self.ill[module.index()].take());
                self.note(LifecycleEvent::Health {
                    module,
                    generation,
                    health,
                    restart,
                });
            }
            LifecycleMsg::Wished {
                module,
                wish,
                actor,
                published,
            } => {
                self.wished(module, wish, actor);
                return Some(published);
            }
            LifecycleMsg::Preview {
                module,
                wish,
                answer,
            } => {
                let _asker_left = answer.send(self.preview(module, wish));
            }
            LifecycleMsg::StopAll { budget, actor } => {
                self.record_system_stop(&actor);
                self.asking = Some(actor);
                let within = budget.unwrap_or(self.house.plan().system().shutdown_timeout);
                self.house.os.stopping(within + STOP_MARGIN);
                self.note(LifecycleEvent::StopAll { budget });
            }
            LifecycleMsg::Republish => {
                self.stands = None;
                self.touched.extend(self.house.plan().ids());
            }
            LifecycleMsg::Woke => self.note(LifecycleEvent::TimerFired),
        }
        None
    }

    fn wished(&mut self, module: ModuleId, wish: Operation, actor: String) {
        self.touched.insert(module);
        // A call or a connection administers nothing.
        if wish != Operation::Wake {
            self.record_request(module, wish, &actor);
        }
        self.asked.insert(module, actor);
        self.note(LifecycleEvent::Requested { module, wish });
    }

    fn note(&mut self, event: LifecycleEvent) {
        self.policy.apply(self.house.os.now(), event);
    }

    fn adopt(&mut self, modules: Vec<Before>) {
        let now = self.house.os.now();
        let mut ends = Vec::new();
        for before in modules {
            let Before {
                module,
                record,
                alive,
                ended,
            } = before;
            if let Some(text) = record.as_deref() {
                self.remember(module, &ModuleMemory::decode(text));
            }
            let record = record.as_deref().and_then(record::decode);
            if let Some(record) = &record {
                self.since[module.index()].0 = record.state;
            }
            // Without a record there is nothing to go on from: it is as in a fresh plan.
            let record = record.unwrap_or_else(|| self.policy.record(module));
            self.policy.apply(
                now,
                LifecycleEvent::Adopted {
                    module,
                    record,
                    alive,
                },
            );
            self.touched.insert(module);
            if let Some((generation, exit)) = ended.filter(|_| alive.is_none()) {
                let what = run::RunReportKind::Ended(run::RunEnd::Exited(exit));
                let report = RunReport { generation, what };
                ends.push(LifecycleEvent::Reported { module, report });
            }
        }
        // Behind all of them: who falls with whom depends on what the others do.
        for end in ends {
            self.policy.apply(now, end);
        }
        self.policy.apply(now, LifecycleEvent::Resume);
    }

    /// Takes over what a record says beside policy's part of it.
    fn remember(&mut self, module: ModuleId, memory: &ModuleMemory) {
        if let Some(since) = memory.since {
            self.since[module.index()].1 = since;
        }
        self.house.chronicle.restore_newest(module, memory.last_seq);
        self.reasons[module.index()].clone_from(&memory.reason);
        let Some(requester) = &memory.requester else {
            return;
        };
        self.asked.insert(module, requester.clone());
        if let Some((seq, operation, generation)) = memory.request {
            let open = OpenRequest::adopted(seq, operation, requester.clone(), generation);
            self.requests.modules.insert(module, open);
        }
    }

    fn settle(&mut self) {
        while let Some(effect) = self.policy.next_effect(self.house.os.now()) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: LifecycleEffect) {
        let house = Arc::clone(&self.house);
        let order = |module, event| {
            house
                .switchboard
                .module(module)
                .cast(ModuleMsg::Event(event));
        };
        match effect {
            LifecycleEffect::Run { module, generation } => {
                order(module, run::RunEvent::StartRequested { generation });
            }
            LifecycleEffect::Stop {
                module,
                generation,
                grace,
                limit,
            } => {
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
            } => self.tell(module, about, news),
            LifecycleEffect::StateChanged {
                module,
                from,
                to,
                cause,
                by,
            } => self.moved(module, from, to, cause, by),
            LifecycleEffect::RecoveryDecided {
                module,
                failure,
                attempt,
                verdict,
            } => {
                self.judged(module, failure, attempt, verdict);
            }
            LifecycleEffect::StartupCompleted => self.startup_completed(),
            LifecycleEffect::StartupFailed { reason } => self.startup_failed(reason),
            LifecycleEffect::AllStopped { forced } => {
                self.system_stopped(forced);
                house.switchboard.root.cast(RootMsg::AllStopped { forced });
            }
        }
    }

    fn preview(&self, module: ModuleId, wish: Operation) -> Vec<ChangeStep> {
        use mainstay_policy::lifecycle::PreviewAction;
        let step = |step: mainstay_policy::lifecycle::PreviewStep| ChangeStep {
            module: self.house.name(step.module).to_string(),
            action: match step.action {
                PreviewAction::Start => ChangeAction::Start,
                PreviewAction::Stop => ChangeAction::Stop,
                PreviewAction::Restart => ChangeAction::Restart,
                PreviewAction::Notify => ChangeAction::Tell,
            },
            reason: if step.because == step.module {
                "asked for".to_owned()
            } else {
                format!("because of {}", &self.house.name(step.because))
            },
        };
        self.policy
            .preview(module, wish)
            .into_iter()
            .map(step)
            .collect()
    }
}

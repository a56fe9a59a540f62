//! The lifecycle: the one linear view of facts and wishes.
//! Owns policy::Lifecycle and one alarm; performs what it decided through the module actors.
//! Never decides.
//! In flight at most: 2 reports a module, 1 health change a module, 1 wish a connection, 1 Woke.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::lifecycle::{Alive, Effect, Event, Lifecycle, News, StartupFailure, Wish};
use mainstay_policy::module::{self, Ending, Report};
use mainstay_policy::recovery::{Failure, Verdict};
use mainstay_policy::states::{self, State};
use mainstay_policy::{ModuleId, Time};
use mainstay_protocol::method::{ChangeAction, ChangeStep};
use mainstay_protocol::{EventKind, SystemStatus, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;
use tokio::sync::oneshot;

use super::alarm::Alarm;
use super::chronicle::{Because, Entry};
use super::health::HealthMsg;
use super::module::ModuleMsg;
use super::recovery::RecoveryMsg;
use super::registry::{RegistryMsg, Standing, SystemStanding};
use super::root::RootMsg;
use super::{Announcement, House, record, words};
use crate::words::span;

/// What the holder adds to the time of a stop before it ends everything itself.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// What the lifecycle is told.
#[derive(Debug)]
pub(crate) enum LifecycleMsg {
    /// Begin the first start.
    Boot,
    /// Go on with what lived before: the record of each module, and its process if it lives.
    Adopt(Vec<(ModuleId, Option<String>, Option<Alive>)>),
    /// From a module actor.
    Reported {
        /// Which one.
        module: ModuleId,
        /// What.
        report: Report,
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
        /// Whether a liveness probe failed for good.
        restart: bool,
    },
    /// From a person or a program.
    Wished {
        /// For whom.
        module: ModuleId,
        /// What.
        wish: Wish,
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
        wish: Wish,
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

/// The state.
pub(crate) struct Owned {
    house: Arc<House>,
    policy: Lifecycle,
    alarm: Alarm,
    /// Modules whose standing may have changed since the last publication.
    touched: BTreeSet<ModuleId>,
    /// The newest record sent of each module.
    records: Vec<String>,
    /// Why each module could not start, in full.
    details: Vec<Option<String>>,
    /// When each module entered its state, and what it was.
    since: Vec<(State, Timestamp)>,
    status: SystemStatus,
    /// Who asked for what is being handled right now.
    asking: Option<String>,
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
        let count = house.plan.len();
        Ok(Owned {
            policy: Lifecycle::new(Arc::clone(&house.plan), seed),
            alarm: Alarm::default(),
            touched: BTreeSet::new(),
            records: vec![String::new(); count],
            details: vec![None; count],
            since: vec![(State::NotStarted, house.os.wall()); count],
            status: SystemStatus::Starting,
            asking: None,
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
            LifecycleMsg::Boot => self.note(Event::Boot),
            LifecycleMsg::Adopt(modules) => self.adopt(modules),
            LifecycleMsg::Reported {
                module,
                report,
                detail,
            } => {
                self.touched.insert(module);
                if let module::Reported::Ended(_) = report.what {
                    self.details[module.index()] = detail;
                    let generation = report.generation;
                    let msg = RecoveryMsg::Ended { module, generation };
                    self.house.switchboard.recovery.cast(msg);
                }
                self.note(Event::Reported { module, report });
            }
            LifecycleMsg::Health {
                module,
                generation,
                health,
                restart,
            } => {
                self.touched.insert(module);
                self.note(Event::Health {
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
                self.touched.insert(module);
                self.asking = Some(actor);
                self.note(Event::Wished { module, wish });
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
                self.asking = Some(actor);
                let within = budget.unwrap_or(self.house.plan.system().shutdown_timeout);
                self.house.os.stopping(within + STOP_MARGIN);
                self.note(Event::StopAll { budget });
            }
            LifecycleMsg::Republish => self.touched.extend(self.house.plan.ids()),
            LifecycleMsg::Woke => self.note(Event::Woke),
        }
        None
    }

    fn note(&mut self, event: Event) {
        self.policy.note(self.house.os.now(), event);
    }

    fn adopt(&mut self, modules: Vec<(ModuleId, Option<String>, Option<Alive>)>) {
        let now = self.house.os.now();
        for (module, record, alive) in modules {
            if let Some(since) = record.as_deref().and_then(record::since) {
                self.since[module.index()].1 = since;
            }
            let record = record.as_deref().and_then(record::decode);
            // Without a record there is nothing to go on from: it is as in a fresh plan.
            let record = record.unwrap_or_else(|| self.policy.record(module));
            self.policy.note(
                now,
                Event::Adopted {
                    module,
                    record,
                    alive,
                },
            );
            self.touched.insert(module);
        }
        self.policy.note(now, Event::Resume);
    }

    fn settle(&mut self) {
        while let Some(effect) = self.policy.settle(self.house.os.now()) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        let house = Arc::clone(&self.house);
        let order = |module, event| {
            house
                .switchboard
                .module(module)
                .cast(ModuleMsg::Event(event));
        };
        match effect {
            Effect::Run { module, generation } => {
                order(module, module::Event::RunAsked { generation });
            }
            Effect::Halt {
                module,
                generation,
                grace,
                limit,
            } => {
                let halt = module::Event::HaltAsked {
                    generation,
                    grace,
                    limit,
                };
                order(module, halt);
            }
            Effect::Tell {
                module,
                about,
                news,
            } => self.tell(module, about, news),
            Effect::Moved {
                module,
                from,
                to,
                cause,
                by,
            } => self.moved(module, from, to, cause, by),
            Effect::Judged {
                module,
                failure,
                attempt,
                verdict,
            } => {
                self.judged(module, failure, attempt, verdict);
            }
            Effect::StartupCompleted => {
                let took = span(house.os.now().since(house.up_since));
                house.announce(Announcement::System(&format!(
                    "everything is up after {took}"
                )));
                house.switchboard.root.cast(RootMsg::StartupCompleted);
            }
            Effect::StartupFailed { reason } => self.startup_failed(reason),
            Effect::AllStopped { forced } => {
                house.switchboard.root.cast(RootMsg::AllStopped { forced });
            }
        }
    }

    fn moved(
        &mut self,
        module: ModuleId,
        from: State,
        to: State,
        cause: states::Cause,
        by: Option<ModuleId>,
    ) {
        let view = self.policy.view(module);
        // What was found as it was has been so for longer than this runtime knows it.
        let (found, kept) = (
            cause == states::Cause::Adopted,
            self.since[module.index()].1,
        );
        let since = if found { kept } else { self.house.os.wall() };
        self.since[module.index()] = (to, since);
        self.touched.insert(module);
        let dependents = self
            .house
            .plan
            .dependents(module)
            .iter()
            .map(|edge| edge.from);
        self.touched
            .extend(dependents.filter(|by| self.since[by.index()].0 == State::Waiting));
        let text = self.sentence(module, to);
        let waiting_on: Vec<&str> = view
            .waiting_on
            .iter()
            .map(|on| self.house.name(*on))
            .collect();
        let mut entry = Entry::of(EventKind::ModuleStateChanged)
            .module(module, view.generation)
            .cause(words::cause(cause))
            .payload(json!({
                "from": words::state(from), "to": words::state(to), "text": text,
                "by": by.map(|by| self.house.name(by)),
                "waiting_on": waiting_on,
            }));
        if let Some(by) = by {
            entry = entry.because(Because::Module(by));
        }
        if let (Some(actor), states::Cause::Requested) = (&self.asking, cause) {
            entry = entry.actor(actor.clone());
        }
        self.house.chronicle.tell(entry);
        let name = self.house.name(module);
        let announcement = Announcement::Moved {
            module: name,
            state: words::state(to),
            text: &text,
        };
        self.house.announce(announcement);
        self.house.bus.publish_own(
            self.house.os.wall(),
            "mainstay.module.state_changed",
            &json!({ "module": name, "from": words::state(from), "to": words::state(to) }),
        );
        let running = to == State::Running;
        if running || from == State::Running {
            let generation = view.generation;
            let msg = HealthMsg::Moved {
                module,
                generation,
                running,
            };
            self.house.switchboard.health.cast(msg);
            if running {
                let msg = RecoveryMsg::Running { module, generation };
                self.house.switchboard.recovery.cast(msg);
            }
        }
    }

    /// What a person reads behind the new state.
    fn sentence(&self, module: ModuleId, to: State) -> String {
        let view = self.policy.view(module);
        match to {
            State::Waiting => {
                let names: Vec<&str> = view
                    .waiting_on
                    .iter()
                    .map(|id| self.house.name(*id))
                    .collect();
                if names.is_empty() {
                    String::new()
                } else {
                    format!("for {}", names.join(", "))
                }
            }
            State::Running => view
                .pid
                .filter(|pid| *pid != 0)
                .map_or_else(String::new, |pid| format!("pid {pid}")),
            State::Backoff => {
                let wait = view
                    .retry_at
                    .map_or(Duration::ZERO, |at| at.since(self.house.os.now()));
                let why = self.ending(module);
                format!("{why}; next start in {}", span(wait))
            }
            State::Failed | State::Stopped => self.ending(module),
            State::NotStarted | State::Starting | State::Stopping => String::new(),
        }
    }

    /// How its last run ended, in words: a start that failed with all that is known of it, a task
    /// in its own words where it had some.
    fn ending(&self, module: ModuleId) -> String {
        match self.policy.view(module).last_ending {
            Some(Ending::NotStarted(failure)) => self.details[module.index()]
                .clone()
                .unwrap_or_else(|| words::ending_text(Ending::NotStarted(failure))),
            Some(ending @ Ending::Exited(_)) => self
                .own_words(module)
                .unwrap_or_else(|| words::ending_text(ending)),
            ending => ending.map_or_else(String::new, words::ending_text),
        }
    }

    fn own_words(&self, module: ModuleId) -> Option<String> {
        let exited = self.house.os.last_exit(self.house.name(module))?;
        let current = exited.generation == self.policy.view(module).generation;
        words::own_words(&exited).filter(|_| current)
    }

    fn judged(&mut self, module: ModuleId, failure: Failure, attempt: u32, verdict: Verdict) {
        let view = self.policy.view(module);
        self.touched.insert(module);
        let why = self.ending(module);
        let msg = RecoveryMsg::Judged {
            module,
            generation: view.generation,
            failure,
            why,
            attempt,
            verdict,
        };
        self.house.switchboard.recovery.cast(msg);
    }

    /// A dependent that goes on hears about what it depends on.
    fn tell(&mut self, module: ModuleId, about: ModuleId, news: News) {
        let (kind, word) = match news {
            News::Restarting => (EventKind::ModuleDegraded, "restarting"),
            News::Failed => (EventKind::ModuleDegraded, "failed"),
            News::Back => (EventKind::ModuleRestored, "back"),
        };
        let about_name = self.house.name(about);
        let entry = Entry::of(kind)
            .module(module, self.policy.view(module).generation)
            .cause(mainstay_protocol::Cause::Dependency)
            .because(Because::Module(about))
            .payload(
                json!({ "text": format!("told that {about_name} is {word}"), "by": about_name }),
            );
        self.house.chronicle.tell(entry);
        let at = self.house.os.wall();
        self.house.bus.tell_dependency(at, module, about_name, word);
    }

    fn startup_failed(&mut self, reason: StartupFailure) {
        let text = match reason {
            StartupFailure::CriticalModuleFailed { module } => {
                let why = self.ending(module);
                let name = self.house.name(module);
                format!(
                    "cannot start: CriticalModuleFailed: {name} failed: {why}; \
                     see `mainstay logs {name}`"
                )
            }
            StartupFailure::TimedOut { missing } => format!(
                "cannot start: not ready within mainstay.startup_timeout: {}",
                self.names(&missing)
            ),
        };
        // Said before the stop that follows from it.
        self.house.announce(Announcement::System(&text));
        self.house
            .switchboard
            .root
            .cast(RootMsg::StartupFailed { text });
    }

    fn preview(&self, module: ModuleId, wish: Wish) -> Vec<ChangeStep> {
        use mainstay_policy::lifecycle::Action;
        let step = |step: mainstay_policy::lifecycle::Step| ChangeStep {
            module: self.house.name(step.module).to_owned(),
            action: match step.action {
                Action::Start => ChangeAction::Start,
                Action::Stop => ChangeAction::Stop,
                Action::Restart => ChangeAction::Restart,
                Action::Tell => ChangeAction::Tell,
            },
            reason: if step.because == step.module {
                "asked for".to_owned()
            } else {
                format!("because of {}", self.house.name(step.because))
            },
        };
        self.policy
            .preview(module, wish)
            .into_iter()
            .map(step)
            .collect()
    }

    fn publish(&mut self, published: Option<oneshot::Sender<()>>) {
        if self.touched.is_empty() && published.is_none() {
            return;
        }
        let now = self.house.os.now();
        let touched = std::mem::take(&mut self.touched);
        let mut standings = Vec::with_capacity(touched.len());
        for module in touched {
            standings.push(self.standing(module));
            let record = record::encode(&self.policy.record(module), self.since[module.index()].1);
            if record != self.records[module.index()] {
                self.house
                    .os
                    .record(self.house.name(module), record.clone());
                self.records[module.index()] = record;
            }
        }
        let system = self.system(now);
        let msg = RegistryMsg::Stands(standings, Some(system), published);
        self.house.switchboard.registry.cast(msg);
    }

    fn standing(&self, module: ModuleId) -> Standing {
        let view = self.policy.view(module);
        Standing {
            module,
            state: words::state(view.state),
            wanted: words::wanted(view.wanted),
            since: self.since[module.index()].1,
            cause: (view.state != State::NotStarted).then(|| words::cause(view.cause)),
            generation: view.generation,
            pid: view.pid.filter(|pid| *pid != 0),
            restarts: u64::from(view.restarts),
            attempts: view.attempts,
            waiting_on: view.waiting_on,
            next_attempt_at: view.retry_at.map(|at| self.house.on_the_wall(at)),
        }
    }

    fn names(&self, modules: &[ModuleId]) -> String {
        modules
            .iter()
            .map(|id| self.house.name(*id))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The system's standing; a change of status is an event.
    fn system(&mut self, _now: Time) -> SystemStanding {
        let system = self.policy.system();
        let reason = if !system.failing.is_empty() {
            Some(format!("failed: {}", self.names(&system.failing)))
        } else if !system.degraded.is_empty() {
            Some(format!("not well: {}", self.names(&system.degraded)))
        } else {
            None
        };
        let status = match system.status {
            states::Status::Starting => SystemStatus::Starting,
            states::Status::Healthy => SystemStatus::Healthy,
            states::Status::Degraded => SystemStatus::Degraded,
            states::Status::Critical => SystemStatus::Critical,
            states::Status::Stopping => SystemStatus::Stopping,
        };
        if status != self.status {
            let mut entry = Entry::of(EventKind::SystemStatusChanged)
                .payload(json!({ "from": self.status, "to": status, "reason": reason }));
            if let (Some(actor), SystemStatus::Stopping) = (&self.asking, status) {
                entry = entry.actor(actor.clone());
            }
            self.house.chronicle.tell(entry);
            self.status = status;
        }
        SystemStanding {
            status,
            reason,
            failing: system.failing,
        }
    }
}

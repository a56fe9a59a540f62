//! The configuration in force, and what the files say now.
//! Owns the transaction of a reload: `policy::Reload` decides, this reads, applies and keeps.
//! Never applies two plans at a time: the next one waits until the one before is in force.
//! In flight at most: 1 reading of the files, 1 write of a plan, 1 Replan; 16 requests wait.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::ReplanError;
use mainstay_policy::reload::{Offer, Reload, ReloadEvent, Watching};
use mainstay_protocol::config_change::SettingsAnswer;
use mainstay_protocol::{EventKind, RequestError};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;
use tokio::sync::oneshot;

use super::RuntimeContext;
use super::event_recorder::EventBuilder;
use super::registry::RegistryMsg;
use super::timer::DeadlineTimer;
use crate::plan_store::PlanStore;

pub(crate) mod apply;
pub(crate) mod candidate;
mod delivery;
pub(crate) mod edit;
mod watch;

use candidate::Candidate;
pub(crate) use delivery::Told;
use edit::ConfigEdit;
use watch::{FileWatch, look_again};

/// Requests that wait for the one before.
const REQUESTS_MAX: usize = 16;

/// Messages of the config actor.
#[derive(Debug)]
pub(crate) enum ConfigMsg {
    /// Apply what the files say.
    Reload(ReloadRequest),
    /// The files were read.
    Read(Box<ReloadRequest>, Result<Box<Candidate>, String>),
    /// What modules say to their new settings.
    Answered(
        Box<ReloadRequest>,
        Box<Candidate>,
        Vec<(ModuleId, Result<SettingsAnswer, RequestError>)>,
    ),
    /// News of a module that was told of the settings of the plan with this number.
    Told(ModuleId, u64, Told),
    /// The plan to apply was kept, or why not.
    Staged(Box<ReloadRequest>, Box<Candidate>, Result<(), String>),
    /// A plan that was kept is not applied: nothing of it is left. The request is tried again.
    Undone(Option<Box<ReloadRequest>>),
    /// The settings of the plan of a rollback are written.
    SettingsRestored(Box<Candidate>),
    /// The lifecycle accepted or refused the plan.
    Replanned(
        Box<ReloadRequest>,
        apply::Replanned,
        Result<(), ReplanError>,
    ),
    /// Work beside the actor ended without a result.
    Lost(String),
    /// News of a module while a plan is watched, with how its run ended.
    Module(ModuleId, ReloadEvent, String),
    /// Every run that a plan replaced has ended.
    InForce(u64),
    /// The files of the state directory follow what was decided, or why not.
    Kept(apply::Kept, io::Result<()>),
    /// From now on a saved file is looked at.
    Watch,
    /// No saved file is looked at any more: all stops.
    Unwatch,
    /// A file was saved.
    Saved,
    /// The runtime returned: a plan that was not committed is watched again, or rolled back.
    Returned,
    /// This actor is new, or the lifecycle is: what was not finished is taken up again.
    Resume,
    /// The timer.
    TimerFired,
}

/// A request to apply what the files say.
#[derive(Debug, Default)]
pub(crate) struct ReloadRequest {
    /// The requester; None: a file was saved.
    pub(crate) requester: Option<String>,
    /// The files had a problem a moment ago: perhaps one was being written.
    pub(crate) is_second_look: bool,
    /// Apply nothing: show in `status` that the files differ from the plan.
    pub(crate) compare_only: bool,
    /// Only if this is the plan in force.
    pub(crate) expected_plan: Option<u64>,
    /// What to change; None: what the files say.
    pub(crate) edit: Option<ConfigEdit>,
    /// What came of the request.
    pub(crate) reply: Option<oneshot::Sender<Result<ReloadReply, ReloadRefusal>>>,
    /// What became of the plan.
    pub(crate) outcome: Option<oneshot::Sender<ReloadOutcome>>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReloadReply {
    /// The files say what this plan does.
    Unchanged(u64),
    /// The plan of this number is being applied.
    Applied(u64),
    /// The same, and it is committed as soon as it is in force: no module is watched for it.
    Committing(u64),
}

/// Why nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReloadRefusal {
    /// The files have problems.
    Invalid(String),
    /// Another plan is in force than the requester saw.
    OtherPlan(u64),
    /// It cannot be applied now.
    Refused(String),
}

/// What became of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReloadOutcome {
    /// It was watched and committed.
    Committed,
    /// It was rolled back, and why.
    RolledBack(String),
    /// A newer plan followed.
    Superseded,
}

/// The state.
pub(crate) struct ConfigActorState {
    ctx: Arc<RuntimeContext>,
    store: PlanStore,
    reload: Reload,
    /// The newest number that was given to a plan.
    newest: u64,
    /// Readings, writes and plans on their way to the lifecycle.
    in_flight: u32,
    /// A rollback that waits for those.
    rollback: Option<(u64, String)>,
    /// The plan that is being left, and why.
    rolled_back: Option<(u64, String)>,
    /// The lifecycle did not accept that rollback.
    is_rollback_refused: bool,
    /// Modules that failed to follow: a rollback restarts them.
    cannot_follow: BTreeSet<ModuleId>,
    requests: VecDeque<ReloadRequest>,
    /// The requesters that wait for the plan that is watched.
    outcome: Vec<oneshot::Sender<ReloadOutcome>>,
    problem: Option<String>,
    /// The files are not applied until they change: what they come to, and what is said of that.
    held: Option<(String, String)>,
    /// A commit could not be written: that is the problem.
    is_commit_failing: bool,
    /// Whether an event recorded it, so that another records its end.
    is_problem_told: bool,
    timer: DeadlineTimer,
    /// What readers see of the watch; a new actor corrects what the one before left.
    published_watch: Option<Watching>,
    watch: Option<FileWatch>,
}

/// The actor.
pub(crate) struct ConfigActor;

impl Actor for ConfigActor {
    type Msg = ConfigMsg;
    type State = ConfigActorState;
    type Arguments = Arc<RuntimeContext>;

    async fn pre_start(
        &self,
        _: ActorRef<ConfigMsg>,
        ctx: Arc<RuntimeContext>,
    ) -> Result<ConfigActorState, ActorProcessingErr> {
        let committed = ctx.committed.load();
        let content = committed.configuration.fingerprint.clone();
        let mut reload = Reload::new(committed.number, content);
        let held = committed.held.clone();
        held.iter().for_each(|held| reload.quarantine(held.clone()));
        let shown = ctx.snapshots.system().config_problem.clone();
        let text = shown.clone().unwrap_or_else(|| held_text(committed.number));
        Ok(ConfigActorState {
            store: PlanStore::new(&ctx.configuration().system.state_dir),
            reload,
            held: held.map(|held| (held, text)),
            is_commit_failing: false,
            newest: ctx.plan().number(),
            in_flight: 0,
            rollback: None,
            rolled_back: None,
            is_rollback_refused: false,
            cannot_follow: BTreeSet::new(),
            requests: VecDeque::new(),
            outcome: Vec::new(),
            is_problem_told: shown.is_some(),
            problem: shown,
            timer: DeadlineTimer::default(),
            published_watch: ctx.snapshots.system().watching.clone(),
            watch: None,
            ctx,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ConfigMsg>,
        msg: ConfigMsg,
        state: &mut ConfigActorState,
    ) -> Result<(), ActorProcessingErr> {
        state.apply(&myself, msg);
        state.begin_next(&myself);
        state.publish_watch();
        let now = state.ctx.os.now();
        let deadline = state.reload.deadline().filter(|_| state.in_flight == 0);
        state
            .timer
            .set(now, deadline, &myself, || ConfigMsg::TimerFired);
        Ok(())
    }
}

impl ConfigActorState {
    fn apply(&mut self, myself: &ActorRef<ConfigMsg>, msg: ConfigMsg) {
        match msg {
            ConfigMsg::Reload(request) => self.queue(request),
            ConfigMsg::Read(request, read) => self.on_read(myself, request, read),
            ConfigMsg::Staged(request, candidate, kept) => {
                self.on_staged(myself, request, *candidate, kept);
            }
            ConfigMsg::Answered(request, candidate, answers) => {
                self.on_answered(myself, request, candidate, answers);
            }
            ConfigMsg::Told(module, plan, told) => self.on_told(myself, module, plan, told),
            ConfigMsg::Undone(request) => {
                self.in_flight -= 1;
                if let Some(request) = request {
                    self.requests.push_front(*request);
                }
            }
            ConfigMsg::SettingsRestored(candidate) => self.apply_rollback(myself, *candidate),
            ConfigMsg::Replanned(request, plan, result) => {
                self.on_replanned(myself, *request, plan, result);
            }
            ConfigMsg::Lost(error) => self.on_lost(&error),
            ConfigMsg::Module(module, event, text) => {
                let now = self.ctx.os.now();
                if let Some(effect) = self.reload.apply(now, module, event) {
                    self.perform(myself, effect, text);
                }
            }
            ConfigMsg::InForce(plan) => self.on_in_force(myself, plan),
            ConfigMsg::Kept(kept, result) => self.on_kept(myself, kept, result),
            ConfigMsg::Watch => self.begin_watch(myself),
            ConfigMsg::Unwatch => self.watch = None,
            ConfigMsg::Saved => self.queue(self.saved()),
            ConfigMsg::Returned => self.on_returned(myself),
            ConfigMsg::Resume => {
                self.resume();
                self.begin_watch(myself);
            }
            ConfigMsg::TimerFired => {}
        }
    }

    /// Lets readers see which plan is watched, and until when.
    fn publish_watch(&mut self) {
        let plan = self.ctx.plan();
        let mut watching = self.reload.watching();
        // Of one that the plan removed only the end of its run is awaited.
        let modules = watching.iter_mut().flat_map(|it| [&mut it.modules]);
        modules.for_each(|modules| modules.retain(|id| plan.has(*id)));
        watching.take_if(|it| it.modules.is_empty());
        if watching != self.published_watch {
            self.published_watch.clone_from(&watching);
            let msg = RegistryMsg::PlanWatch(watching);
            self.ctx.actor_refs.registry.cast(msg);
        }
    }

    /// Queues a request. Requests without a requester are merged into one.
    fn queue(&mut self, request: ReloadRequest) {
        let is_anonymous = |one: &ReloadRequest| one.requester.is_none() && one.reply.is_none();
        if is_anonymous(&request) && self.requests.iter().any(is_anonymous) {
            return;
        }
        if self.requests.len() >= REQUESTS_MAX {
            let text = "cannot reload: too many requests wait; try again";
            return request.refuse(ReloadRefusal::Refused(text.to_owned()));
        }
        self.requests.push_back(request);
    }

    /// Begins what is next, when nothing is in flight: a rollback, a commit, a request.
    fn begin_next(&mut self, myself: &ActorRef<ConfigMsg>) {
        if self.in_flight > 0 {
            return;
        }
        if let Some((plan, why)) = self.rollback.take() {
            self.roll_back(myself, plan, &why);
        } else if let Some(effect) = self.reload.next_effect(self.ctx.os.now()) {
            self.perform(myself, effect, String::new());
        } else if let Some(request) = self.requests.pop_front() {
            self.read(myself, Box::new(request));
        }
    }

    /// Works away from the actors; `lost` is what is told of work that panics.
    fn work(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        work: impl FnOnce() -> ConfigMsg + Send + 'static,
        lost: impl FnOnce(String) -> ConfigMsg + Send + 'static,
    ) {
        self.in_flight += 1;
        let myself = myself.clone();
        tokio::spawn(async move {
            let done = tokio::task::spawn_blocking(work).await;
            let done = done.unwrap_or_else(|error| lost(error.to_string()));
            let _actor_ended = myself.cast(done);
        });
    }

    fn on_lost(&mut self, error: &str) {
        self.in_flight -= 1;
        let text = format!(
            "cannot apply the configuration: a part of mainstay failed ({error}); run `mainstay \
             reload` to try again"
        );
        self.set_problem(Some(text));
    }

    /// Reads the files, or makes what is requested.
    fn read(&mut self, myself: &ActorRef<ConfigMsg>, request: Box<ReloadRequest>) {
        let (ctx, number) = (Arc::clone(&self.ctx), self.newest + 1);
        let watch = self.watch.as_ref().map(FileWatch::folders);
        let is_holding = self.held.is_some();
        let work = move || {
            let read = match &request.edit {
                Some(edit) => {
                    Candidate::of_edit(&ctx, number, edit, request.requester(), is_holding)
                }
                None => Candidate::read(&ctx, &ctx.sources, number, watch.as_deref()),
            };
            ConfigMsg::Read(request, read.map(Box::new))
        };
        self.work(myself, work, ConfigMsg::Lost);
    }

    fn on_read(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        mut request: Box<ReloadRequest>,
        read: Result<Box<Candidate>, String>,
    ) {
        self.in_flight -= 1;
        let candidate = match read {
            Ok(candidate) => candidate,
            Err(_) if request.is_first_look() => return look_again(myself, request),
            // Nothing is wrong with the files.
            Err(text) if request.edit.is_some() => {
                return request.refuse(ReloadRefusal::Invalid(text));
            }
            Err(text) => {
                self.set_problem(Some(rejected_text(self.in_force(), &text)));
                return request.refuse(ReloadRefusal::Invalid(text));
            }
        };
        // Whatever put a plan in force, its number is taken.
        self.newest = self.newest.max(candidate.base.plan.number());
        if self.is_overtaken(&candidate) {
            return self.requests.push_front(*request);
        }
        if request
            .expected_plan
            .is_some_and(|plan| plan != self.in_force())
        {
            return request.refuse(ReloadRefusal::OtherPlan(self.in_force()));
        }
        if request.is_of_a_file() && !candidate.configuration.empty_files().is_empty() {
            if request.is_first_look() {
                return look_again(myself, request);
            }
            let files = candidate.configuration.empty_files().join(", ");
            let text = format!(
                "cannot apply the configuration: {files} is empty; if that is meant, run \
                 `mainstay reload`"
            );
            return self.set_problem(Some(text));
        }
        let content = &candidate.configuration.fingerprint;
        match self.reload.offer(content, request.requester.is_some()) {
            Offer::Unchanged => {
                if request.edit.is_none() {
                    self.held = None;
                    self.set_problem(None);
                }
                let plan = self.in_force();
                if self.reload.watched() != Some(plan) {
                    return request.answer(ReloadReply::Unchanged(plan));
                }
                // It is not committed: who waits wants to know what becomes of it.
                self.outcome.extend(request.outcome.take());
                request.answer(ReloadReply::Applied(plan));
            }
            Offer::Quarantined => {
                if let Some((_, held)) = &self.held {
                    self.show_problem(Some(held.clone()));
                }
                let text = "cannot apply the configuration: this content was rolled back and has \
                            not changed since; change it, or run `mainstay reload` to try it again";
                request.refuse(ReloadRefusal::Refused(text.to_owned()));
            }
            Offer::Apply if request.compare_only => {
                let changes = candidate.summary().join("; ");
                let text = format!(
                    "the configuration files changed since plan {} was applied: {changes}; \
                     `mainstay plan` shows it, `mainstay reload` applies it",
                    self.in_force()
                );
                self.show_problem(Some(text));
            }
            Offer::Apply => self.ask(myself, request, candidate),
        }
    }

    /// The number of the plan in force: a newer one may have been refused.
    fn in_force(&self) -> u64 {
        self.ctx.plan().number()
    }

    /// Whether what a candidate was compared with is not what is in force, or will not be.
    fn is_overtaken(&self, candidate: &Candidate) -> bool {
        self.rollback.is_some() || candidate.base.plan.number() != self.in_force()
    }

    /// The problem that `status` shows until the files are good again.
    fn set_problem(&mut self, problem: Option<String>) {
        if problem == self.problem {
            return;
        }
        let event = match &problem {
            Some(text) => {
                let rejected = EventBuilder::of(EventKind::ConfigRejected);
                Some(rejected.payload(json!({ "text": text })))
            }
            None => {
                let cleared = EventBuilder::of(EventKind::ConfigProblemCleared);
                self.is_problem_told.then_some(cleared)
            }
        };
        event.map(|event| self.ctx.recorder.record(event));
        self.is_problem_told = problem.is_some();
        self.show_problem(problem);
    }

    fn show_problem(&mut self, problem: Option<String>) {
        let msg = RegistryMsg::ConfigProblem(problem.clone());
        self.ctx.actor_refs.registry.cast(msg);
        self.problem = problem;
    }
}

/// What is said of files that are not applied until they change.
fn held_text(plan: u64) -> String {
    format!(
        "the files differ from plan {plan}, which is in force, and are not applied until they \
         change; `mainstay plan` shows it, `mainstay reload` applies them"
    )
}

/// What is said of files with problems.
pub(crate) fn rejected_text(plan: u64, problems: &str) -> String {
    format!("the files have problems, plan {plan} is in force: {problems}")
}

impl ReloadRequest {
    /// A request of a person or a program.
    pub(crate) fn by(requester: &str) -> ReloadRequest {
        ReloadRequest {
            requester: Some(requester.to_owned()),
            ..ReloadRequest::default()
        }
    }

    /// Whether it has no requester: a file was saved.
    fn is_of_a_file(&self) -> bool {
        self.requester.is_none()
    }

    /// Who asked for it, or what led to it.
    pub(crate) fn requester(&self) -> &str {
        self.requester.as_deref().unwrap_or("a saved file")
    }

    fn is_first_look(&self) -> bool {
        self.is_of_a_file() && !self.is_second_look
    }

    fn answer(self, reply: ReloadReply) {
        if let Some(to) = self.reply {
            let _requester_left = to.send(Ok(reply));
        }
    }

    fn refuse(self, refusal: ReloadRefusal) {
        if let Some(to) = self.reply {
            let _requester_left = to.send(Err(refusal));
        }
    }
}

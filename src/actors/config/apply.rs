//! The steps of a reload: stage, apply, watch, then commit or roll back.
//! Owns their order: a plan is kept before it is applied, and the pointer to it moves last.
//! Never decides when a watch ends: `policy::Reload` does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::ReplanError;
use mainstay_policy::reload::ReloadEffect;
use mainstay_policy::states::Status;
use mainstay_protocol::EventKind;
use ractor::ActorRef;
use serde_json::json;
use tokio::sync::oneshot;

use super::candidate::{Candidate, again};
use super::delivery::can_follow;
use super::{
    ConfigActorState, ConfigMsg, ReloadOutcome, ReloadRefusal, ReloadReply, ReloadRequest,
    held_text,
};
use crate::actors::event_recorder::EventBuilder;
use crate::actors::lifecycle::LifecycleMsg;
use crate::actors::lifecycle::replan::Replan;
use crate::actors::root::RootMsg;
use crate::actors::{CommittedPlan, settings_files};
use crate::config::{Configuration, LaunchSpec};
use crate::plan_store::{PlanStore, StoredPlan};

/// How long until a commit that could not be written is tried again.
const COMMIT_RETRY: Duration = Duration::from_secs(5);

/// How long until a rollback that the lifecycle did not accept is tried again: it is a new actor
/// then, or the system stops.
const ROLLBACK_RETRY: Duration = Duration::from_secs(1);

/// What was written to the state directory.
#[derive(Debug)]
pub(crate) enum Kept {
    /// The plan of this number is the committed one.
    Commit(u64),
    /// The plan before is, under a new number.
    Rollback(u64),
}

/// A plan in flight to the lifecycle.
#[derive(Debug)]
pub(crate) struct Replanned {
    plan: u64,
    before: Arc<Configuration>,
    after: Arc<Configuration>,
    /// Whose settings change while they run, and whether they have accepted that.
    notified: Vec<(ModuleId, bool)>,
    /// What the files come to, when that is not to be applied until they change.
    held: Option<String>,
    /// The plan before it that is watched still, if it is refused.
    watched: Option<u64>,
    is_rollback: bool,
}

/// Keeps a plan, and writes what belongs to it; on failure nothing is left of it, and the plan
/// `before` it is the staged one again.
fn keep(
    store: &PlanStore,
    plan: &StoredPlan,
    before: Option<&StoredPlan>,
    candidate: &Candidate,
) -> Result<(), String> {
    store.stage(plan).map_err(|error| {
        format!(
            "cannot apply the configuration: its plan cannot be kept in {}: {error}; make room \
             there, then try again",
            candidate.configuration.system.state_dir.display()
        )
    })?;
    if let Some(file) = &candidate.edit.file
        && let Err(error) = file.write()
    {
        let text = format!(
            "cannot write {}: {error}; nothing was changed",
            file.path.display()
        );
        drop_staged(store, before, &text);
        return Err(text);
    }
    let before = &candidate.base.configuration;
    settings_files::write_changed(before, &candidate.configuration);
    Ok(())
}

/// Takes back what was kept and written for a plan that is not applied; `watched`: the plan that is
/// in force and not committed.
fn undo(
    store: &PlanStore,
    (plan, in_force): (&Configuration, &Configuration),
    watched: Option<u64>,
    outcome: &str,
) {
    settings_files::write_changed(plan, in_force);
    let before = watched.and_then(|number| store.plan(number).ok());
    // Those of the plan in force stay.
    let kept = before.as_ref().map_or(0, |plan| plan.file_edits.len());
    revert_files(store, kept);
    drop_staged(store, before.as_ref(), outcome);
}

/// Drops the staged plan; the one `before` it is staged again.
fn drop_staged(store: &PlanStore, before: Option<&StoredPlan>, outcome: &str) {
    let dropped = store.discard(outcome);
    let dropped = dropped.and_then(|()| before.map_or(Ok(()), |plan| store.stage(plan)));
    if let Err(error) = dropped {
        tracing::error!("cannot discard a plan that is not applied: {error}");
    }
}

/// Restores the texts of the files that were written for the staged plan, but for the first ones.
fn revert_files(store: &PlanStore, but_first: usize) {
    let edits = store.staged().map(|plan| plan.file_edits);
    for edit in edits.unwrap_or_default().iter().skip(but_first).rev() {
        if let Err(error) = edit.revert() {
            let path = edit.path.display();
            tracing::warn!("cannot put back the former text of {path}: {error}");
        }
    }
}

/// What is recorded of a plan once it is accepted.
fn applied_events(request: &ReloadRequest, candidate: &Candidate) -> Vec<EventBuilder> {
    let number = candidate.plan.number();
    let text = candidate.history().join("; ");
    let payload = json!({ "plan": number, "text": text });
    let applied = EventBuilder::of(EventKind::ConfigApplied).payload(payload);
    let changed = candidate.edit_payload(request);
    let changed = changed.map(|payload| EventBuilder::of(EventKind::ConfigSet).payload(payload));
    let events = changed.into_iter().chain([applied]);
    events
        .map(|event| match &request.requester {
            Some(requester) => event.administrative(requester.clone()),
            None => event,
        })
        .collect()
}

impl ConfigActorState {
    /// Keeps the plan before anything is touched.
    pub(super) fn stage(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        request: Box<ReloadRequest>,
        candidate: Box<Candidate>,
    ) {
        let (store, at) = (self.store.clone(), self.ctx.os.wall_clock());
        let watched = self.watched();
        let work = move || {
            let mut plan = StoredPlan {
                number: candidate.plan.number(),
                at,
                requester: request.requester().to_owned(),
                changes: candidate.history(),
                outcome: String::new(),
                watched: None,
                held: candidate.edit.held.clone(),
                file_edits: Vec::new(),
                config: candidate.configuration.effective(),
            };
            let before = watched.and_then(|number| store.plan(number).ok());
            let edits = before.iter().flat_map(|plan| plan.file_edits.clone());
            plan.file_edits = edits.chain(candidate.edit.file.clone()).collect();
            let kept = keep(&store, &plan, before.as_ref(), &candidate);
            ConfigMsg::Staged(request, candidate, kept)
        };
        self.work(myself, work, ConfigMsg::Lost);
    }

    pub(super) fn on_staged(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        request: Box<ReloadRequest>,
        candidate: Candidate,
        kept: Result<(), String>,
    ) {
        self.in_flight -= 1;
        if let Err(text) = kept {
            self.abort(&candidate.prepared);
            if request.edit.is_none() {
                self.set_problem(Some(text.clone()));
            }
            return request.refuse(ReloadRefusal::Refused(text));
        }
        if self.is_overtaken(&candidate) {
            self.abort(&candidate.prepared);
            let (store, ctx) = (self.store.clone(), Arc::clone(&self.ctx));
            let watched = self.watched();
            let work = move || {
                let plans = (&*candidate.configuration, &*ctx.configuration());
                undo(&store, plans, watched, "overtaken");
                ConfigMsg::Undone(Some(request))
            };
            return self.work(myself, work, ConfigMsg::Lost);
        }
        let number = candidate.plan.number();
        let content = candidate.configuration.fingerprint.clone();
        let period = candidate.configuration.system.reload_watch;
        let touched = candidate.touched(&self.ctx);
        let watched = self.watched();
        let now = self.ctx.os.now();
        self.reload.applied(now, (number, content), period, touched);
        let events = applied_events(&request, &candidate);
        self.replan(myself, request, candidate, watched, events);
    }

    /// The plan in force, if it is not committed and not being left.
    fn watched(&self) -> Option<u64> {
        self.reload
            .watched()
            .or(self.rollback.as_ref().map(|(plan, _)| *plan))
    }

    /// Files that say something else than this plan are not applied until they change.
    fn hold(&mut self, request: &ReloadRequest, number: u64, held: Option<String>) {
        if request.edit.is_none() {
            self.held = None;
            self.set_problem(None);
        } else if let Some(held) = held {
            self.reload.quarantine(held.clone());
            let text = held_text(number);
            self.show_problem(Some(text.clone()));
            self.held = Some((held, text));
        } else if self.held.take().is_some() {
            self.set_problem(None);
        }
    }

    fn replan(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        request: Box<ReloadRequest>,
        candidate: Candidate,
        watched: Option<u64>,
        events: Vec<EventBuilder>,
    ) {
        self.in_flight += 1;
        let (result, done) = oneshot::channel();
        let myself = myself.clone();
        let notified = candidate.notified();
        let notified = notified.map(|(id, _)| (id, candidate.prepared.contains(&id)));
        let replanned = Replanned {
            notified: notified.collect(),
            plan: candidate.plan.number(),
            held: candidate.edit.held.clone(),
            watched,
            is_rollback: candidate.is_rollback(),
            before: Arc::clone(&candidate.base.configuration),
            after: Arc::clone(&candidate.configuration),
        };
        self.newest = replanned.plan;
        let replan = Replan {
            changes: candidate.run_changes(),
            found: Vec::new(),
            planned: candidate.base.next(candidate.configuration, candidate.plan),
            events,
            result,
        };
        self.ctx
            .actor_refs
            .root
            .cast(RootMsg::Replan(Box::new(replan)));
        tokio::spawn(async move {
            let done = done.await.unwrap_or(Err(ReplanError::NotRunning));
            let _actor_ended = myself.cast(ConfigMsg::Replanned(request, replanned, done));
        });
    }

    pub(super) fn on_replanned(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        request: ReloadRequest,
        replanned: Replanned,
        result: Result<(), ReplanError>,
    ) {
        self.in_flight -= 1;
        let Replanned {
            plan,
            before,
            after,
            notified,
            held,
            watched,
            is_rollback,
        } = replanned;
        match result {
            Ok(()) => {
                self.reload.accepted();
                if !is_rollback {
                    self.rolled_back = None;
                    self.finish_watch(&ReloadOutcome::Superseded);
                    self.hold(&request, plan, held);
                }
                self.tell(&notified);
                self.outcome.extend(request.outcome);
                if let Some(to) = request.reply {
                    let watching = self.reload.watching();
                    let is_watched = watching.is_some_and(|it| !it.modules.is_empty());
                    let reply = match is_watched {
                        true => ReloadReply::Applied(plan),
                        false => ReloadReply::Committing(plan),
                    };
                    let _requester_left = to.send(Ok(reply));
                }
            }
            Err(error) if is_rollback => {
                tracing::error!("cannot roll back as plan {plan}: {}", refusal(error));
                self.is_rollback_refused = true;
                let myself = myself.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(ROLLBACK_RETRY).await;
                    let _actor_ended = myself.cast(ConfigMsg::Resume);
                });
            }
            Err(error) => {
                self.reload.refused();
                let prepared = notified.iter().filter(|(_, prepared)| *prepared);
                let prepared: Vec<ModuleId> = prepared.map(|(module, _)| *module).collect();
                self.abort(&prepared);
                let text = format!("cannot apply plan {plan}: {}", refusal(error));
                if request.edit.is_none() {
                    self.set_problem(Some(text.clone()));
                }
                let store = self.store.clone();
                let work = move || {
                    undo(&store, (&*after, &*before), watched, &text);
                    request.refuse(ReloadRefusal::Refused(text));
                    ConfigMsg::Undone(None)
                };
                self.work(myself, work, ConfigMsg::Lost);
            }
        }
    }

    pub(super) fn perform(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        effect: ReloadEffect,
        text: String,
    ) {
        match effect {
            ReloadEffect::Commit { plan } => self.commit(myself, plan),
            ReloadEffect::RollBack { plan, module } => {
                let name = self.ctx.name(module);
                let why = match text.is_empty() {
                    true => format!("{name} failed"),
                    false => format!("{name} failed: {text}"),
                };
                self.rollback = Some((plan, why));
            }
        }
    }

    /// Goes back to the committed plan, under a new number.
    pub(super) fn roll_back(&mut self, myself: &ActorRef<ConfigMsg>, plan: u64, why: &str) {
        let committed = self.ctx.committed.load_full();
        let base = self.ctx.planned();
        let number = self.newest + 1;
        let failed = std::mem::take(&mut self.cannot_follow);
        let ctx = Arc::clone(&self.ctx);
        let follows = |module: ModuleId, launch: &LaunchSpec| {
            !failed.contains(&module) && can_follow(&ctx, module, launch)
        };
        let former = &committed.configuration;
        let candidate = match Candidate::rollback(base, former, number, follows) {
            Ok(candidate) => candidate,
            Err(error) => return tracing::error!("cannot roll back plan {plan}: {error}"),
        };
        let text = format!(
            "plan {plan} was rolled back: {why}; the plan before is in force again as plan \
             {number}, and what failed is not applied again until it changes"
        );
        self.show_problem(Some(text.clone()));
        self.is_problem_told = true;
        self.reload.rolled_back(number);
        self.held = self.reload.quarantined().cloned().map(|it| (it, text));
        self.rolled_back = Some((plan, why.to_owned()));
        self.ctx.committed.store(Arc::new(CommittedPlan {
            number,
            configuration: Arc::clone(&candidate.configuration),
            held: self.reload.quarantined().cloned(),
        }));
        let work = move || {
            let base = &candidate.base.configuration;
            settings_files::write_changed(base, &candidate.configuration);
            ConfigMsg::SettingsRestored(Box::new(candidate))
        };
        self.work(myself, work, ConfigMsg::Lost);
    }

    pub(super) fn apply_rollback(&mut self, myself: &ActorRef<ConfigMsg>, candidate: Candidate) {
        self.in_flight -= 1;
        let number = candidate.plan.number();
        let (plan, why) = self.rolled_back.clone().unwrap_or_default();
        let event = EventBuilder::of(EventKind::ConfigRolledBack)
            .payload(json!({ "plan": number, "from": plan, "text": why }));
        let changes = candidate.summary();
        self.replan(myself, Box::default(), candidate, None, vec![event]);
        self.keep_rollback(myself, (number, changes), format!("rolled back: {why}"));
    }

    fn keep_rollback(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        (number, changes): (u64, Vec<String>),
        outcome: String,
    ) {
        let (store, held) = (self.store.clone(), self.reload.quarantined().cloned());
        let at = self.ctx.os.wall_clock();
        let work = move || {
            // The number first: numbers of plans only grow, whenever the runtime ends.
            let committed = store.committed().and_then(|mut plan| {
                plan.changes = again(plan.number, changes);
                (plan.number, plan.at, plan.held) = (number, at, held);
                "rollback".clone_into(&mut plan.requester);
                store.commit_now(&plan)
            });
            revert_files(&store, 0);
            let kept = committed.and_then(|()| store.discard(&outcome));
            ConfigMsg::Kept(Kept::Rollback(number), kept)
        };
        let lost = move |error| {
            let error = io::Error::other(error);
            ConfigMsg::Kept(Kept::Rollback(number), Err(error))
        };
        self.work(myself, work, lost);
    }

    /// Moves the pointer to the plan that was watched.
    fn commit(&mut self, myself: &ActorRef<ConfigMsg>, plan: u64) {
        let store = self.store.clone();
        let work = move || ConfigMsg::Kept(Kept::Commit(plan), store.commit(plan));
        let lost = move |error| ConfigMsg::Kept(Kept::Commit(plan), Err(io::Error::other(error)));
        self.work(myself, work, lost);
    }

    pub(super) fn on_kept(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        kept: Kept,
        result: io::Result<()>,
    ) {
        match (kept, result) {
            (Kept::Commit(plan), Ok(())) => {
                self.in_flight -= 1;
                if std::mem::take(&mut self.is_commit_failing) {
                    self.set_problem(None);
                }
                self.ctx.committed.store(Arc::new(CommittedPlan {
                    number: plan,
                    configuration: self.ctx.configuration(),
                    held: self.held.as_ref().map(|(held, _)| held.clone()),
                }));
                let event =
                    EventBuilder::of(EventKind::ConfigCommitted).payload(json!({ "plan": plan }));
                self.ctx.recorder.record(event);
                self.ctx.actor_refs.lifecycle.cast(LifecycleMsg::Commit);
                self.finish_watch(&ReloadOutcome::Committed);
            }
            (Kept::Rollback(_), Ok(())) => self.in_flight -= 1,
            (Kept::Commit(plan), Err(error)) => {
                let text = format!(
                    "cannot commit plan {plan}: {error}; it is in force, and the commit is tried \
                     again every 5 s"
                );
                self.set_problem(Some(text));
                self.is_commit_failing = true;
                let (store, myself) = (self.store.clone(), myself.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(COMMIT_RETRY).await;
                    let again = tokio::task::spawn_blocking(move || store.commit(plan)).await;
                    let again = again.unwrap_or_else(|error| Err(io::Error::other(error)));
                    let _actor_ended = myself.cast(ConfigMsg::Kept(Kept::Commit(plan), again));
                });
            }
            (Kept::Rollback(number), Err(error)) => {
                self.in_flight -= 1;
                tracing::error!("cannot keep plan {number} of a rollback: {error}");
            }
        }
    }

    /// The runs that a plan replaced have ended; of a rollback nothing is watched.
    pub(super) fn on_in_force(&mut self, myself: &ActorRef<ConfigMsg>, plan: u64) {
        self.reload.in_force(plan);
        if let Some(watching) = self.reload.watching().filter(|it| it.plan == plan) {
            let (store, ctx) = (self.store.clone(), &self.ctx);
            let modules = watching.modules.iter().map(|id| ctx.name(*id).to_string());
            let modules: Vec<String> = modules.collect();
            let work = move || {
                if let Err(error) = store.watch(plan, modules) {
                    tracing::warn!("cannot keep that plan {plan} is watched: {error}");
                }
                ConfigMsg::Undone(None)
            };
            self.work(myself, work, ConfigMsg::Lost);
        }
        if self.reload.watched().is_none() && plan == self.reload.committed() {
            self.ctx.actor_refs.lifecycle.cast(LifecycleMsg::Commit);
            if let Some((_, why)) = self.rolled_back.take() {
                self.finish_watch(&ReloadOutcome::RolledBack(why));
            }
        }
    }

    fn finish_watch(&mut self, outcome: &ReloadOutcome) {
        for waiting in self.outcome.drain(..) {
            let _requester_left = waiting.send(outcome.clone());
        }
    }

    /// A plan that the runtime before watched is watched again: that it died is not the fault of
    /// the plan. One that it had not applied as a whole is rolled back.
    pub(super) fn on_returned(&mut self, myself: &ActorRef<ConfigMsg>) {
        if self.kept_watch().is_some() {
            self.resume();
        } else if self.is_uncommitted() {
            let why = "the runtime ended while the plan was being applied";
            self.rollback = Some((self.newest, why.to_owned()));
            let content = &self.ctx.configuration().fingerprint;
            self.reload.quarantine(content.clone());
        }
        self.begin_watch(myself);
    }

    /// Takes up again what this actor, or the one before it, waits for: the lifecycle may be new.
    pub(super) fn resume(&mut self) {
        if std::mem::take(&mut self.is_rollback_refused) && !self.is_stopping() {
            self.rollback = self.rolled_back.take();
            return;
        }
        let is_awaited = self.reload.watched().is_some() || self.rolled_back.is_some();
        if is_awaited || self.watch_again() {
            let lifecycle = &self.ctx.actor_refs.lifecycle;
            lifecycle.cast(LifecycleMsg::ReportWatched);
        }
    }

    /// Watches a plan that the actor before this one watched; whether there is one.
    fn watch_again(&mut self) -> bool {
        if !self.is_uncommitted() {
            return false;
        }
        let committed = self.ctx.committed.load_full();
        let planned = self.ctx.planned();
        let number = planned.plan.number();
        let committed = &committed.configuration;
        let Ok(back) = Candidate::rollback(planned, committed, number, |_, _| true) else {
            return false;
        };
        let touched: Vec<ModuleId> = match self.kept_watch() {
            Some(names) => names
                .iter()
                .filter_map(|name| self.ctx.find(name))
                .collect(),
            None => back.differences.iter().map(|(id, _)| *id).collect(),
        };
        let configuration = self.ctx.configuration();
        let content = configuration.fingerprint.clone();
        let period = configuration.system.reload_watch;
        let now = self.ctx.os.now();
        self.reload.applied(now, (number, content), period, touched);
        true
    }

    /// The modules that are watched, by the staged plan's file, if that is in force as a whole.
    fn kept_watch(&self) -> Option<Vec<String>> {
        let staged = self.store.staged().ok()?;
        staged.watched.filter(|_| staged.number == self.in_force())
    }

    fn is_stopping(&self) -> bool {
        self.ctx.snapshots.system().summary.status == Status::Stopping
    }

    fn is_uncommitted(&self) -> bool {
        let committed = self.ctx.committed.load();
        committed.configuration.fingerprint != self.ctx.configuration().fingerprint
    }
}

pub(crate) fn refusal(error: ReplanError) -> &'static str {
    match error {
        ReplanError::NotRunning => "the system is starting or stopping; try again",
        ReplanError::Superseded { .. } => "a newer plan is in force",
        ReplanError::BuiltinChanged { .. } => {
            "a module became a part of mainstay, or ceased to be one; run `mainstay down` and \
             `mainstay up`"
        }
    }
}

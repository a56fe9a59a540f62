//! The steps of a reload: stage, apply, watch, then commit or roll back.
//! Owns their order: a plan is kept before it is applied, and the pointer to it moves last.
//! Never decides when a watch ends: `policy::Reload` does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::ReplanError;
use mainstay_policy::reload::ReloadEffect;
use mainstay_protocol::EventKind;
use ractor::ActorRef;
use serde_json::json;
use tokio::sync::oneshot;

use super::candidate::Candidate;
use super::{
    ConfigActorState, ConfigMsg, ReloadOutcome, ReloadRefusal, ReloadReply, ReloadRequest,
};
use crate::actors::event_recorder::EventBuilder;
use crate::actors::lifecycle::LifecycleMsg;
use crate::actors::lifecycle::replan::Replan;
use crate::actors::root::RootMsg;
use crate::actors::{CommittedPlan, settings_files};
use crate::plan_store::StoredPlan;

/// How long until a commit that could not be written is tried again.
const COMMIT_RETRY: Duration = Duration::from_secs(5);

/// What was written to the state directory.
#[derive(Debug)]
pub(crate) enum Kept {
    /// The plan of this number is the committed one.
    Commit(u64),
    /// The plan before is, under a new number.
    Rollback(u64),
}

impl ConfigActorState {
    /// Keeps the plan before anything is touched.
    pub(super) fn stage(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        request: Box<ReloadRequest>,
        candidate: Box<Candidate>,
    ) {
        self.in_flight += 1;
        let (ctx, store, myself) = (Arc::clone(&self.ctx), self.store.clone(), myself.clone());
        let (number, at) = (candidate.plan.number(), ctx.os.wall_clock());
        let requester = request.requester.clone();
        tokio::task::spawn_blocking(move || {
            let plan = StoredPlan {
                number,
                at,
                requester: requester.unwrap_or_else(|| "a saved file".to_owned()),
                changes: candidate.summary(),
                outcome: String::new(),
                config: candidate.configuration.effective(),
            };
            let kept = store.stage(&plan);
            if kept.is_ok() {
                settings_files::write_changed(
                    &candidate.base.configuration,
                    &candidate.configuration,
                );
            }
            let _actor_ended = myself.cast(ConfigMsg::Staged(request, candidate, kept));
        });
    }

    pub(super) fn on_staged(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        request: Box<ReloadRequest>,
        candidate: Candidate,
        kept: io::Result<()>,
    ) {
        self.in_flight -= 1;
        if let Err(error) = kept {
            let state_dir = self.ctx.configuration().system.state_dir.clone();
            let text = format!(
                "cannot apply the configuration: its plan cannot be kept in {}: {error}; make room \
                 there, then run `mainstay reload`",
                state_dir.display()
            );
            self.set_problem(Some(text.clone()));
            return request.refuse(ReloadRefusal::Refused(text));
        }
        if self.is_overtaken(&candidate) {
            return self.requests.push_front(*request);
        }
        let number = candidate.plan.number();
        let content = candidate.configuration.fingerprint.clone();
        let period = candidate.configuration.system.reload_watch;
        let touched = candidate.touched(&self.ctx);
        self.finish_watch(&ReloadOutcome::Superseded);
        let now = self.ctx.os.now();
        self.reload.applied(now, (number, content), period, touched);
        self.record_applied(&request, &candidate);
        self.set_problem(None);
        self.replan(myself, request, candidate);
    }

    fn record_applied(&self, request: &ReloadRequest, candidate: &Candidate) {
        let text = candidate.summary().join("; ");
        let number = candidate.plan.number();
        let payload = json!({ "plan": number, "text": text });
        let event = EventBuilder::of(EventKind::ConfigApplied).payload(payload);
        self.ctx.recorder.record(match &request.requester {
            Some(requester) => event.administrative(requester.clone()),
            None => event,
        });
    }

    fn replan(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        request: Box<ReloadRequest>,
        candidate: Candidate,
    ) {
        self.in_flight += 1;
        let (result, done) = oneshot::channel();
        let (plan, myself) = (candidate.plan.number(), myself.clone());
        self.newest = plan;
        let replan = Replan {
            changes: candidate.run_changes(),
            planned: candidate.base.next(candidate.configuration, candidate.plan),
            result,
        };
        self.ctx
            .actor_refs
            .root
            .cast(RootMsg::Replan(Box::new(replan)));
        tokio::spawn(async move {
            let done = done.await.unwrap_or(Err(ReplanError::NotRunning));
            let _actor_ended = myself.cast(ConfigMsg::Replanned(request, plan, done));
        });
    }

    pub(super) fn on_replanned(
        &mut self,
        request: ReloadRequest,
        plan: u64,
        result: Result<(), ReplanError>,
    ) {
        self.in_flight -= 1;
        match result {
            Ok(()) => {
                self.outcome.extend(request.outcome);
                if let Some(to) = request.reply {
                    let _requester_left = to.send(Ok(ReloadReply::Applied(plan)));
                }
            }
            Err(error) => {
                self.reload.abandon();
                let text = format!("cannot apply plan {plan}: {}", refusal(error));
                let store = self.store.clone();
                let outcome = text.clone();
                tokio::task::spawn_blocking(move || store.discard(&outcome));
                self.set_problem(Some(text.clone()));
                request.refuse(ReloadRefusal::Refused(text));
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
        let candidate = match Candidate::rollback(base, &committed.configuration, number) {
            Ok(candidate) => candidate,
            Err(error) => return tracing::error!("cannot roll back plan {plan}: {error}"),
        };
        let text = format!(
            "plan {plan} was rolled back: {why}; the plan before is in force again as plan \
             {number}, and the files are not applied until they change"
        );
        let event = EventBuilder::of(EventKind::ConfigRolledBack)
            .payload(json!({ "plan": number, "from": plan, "text": why }));
        self.ctx.recorder.record(event);
        self.show_problem(Some(text));
        self.is_problem_told = true;
        self.reload.rolled_back(number);
        self.rolled_back = Some(why.to_owned());
        self.ctx.committed.store(Arc::new(CommittedPlan {
            number,
            configuration: Arc::clone(&candidate.configuration),
        }));
        settings_files::write_changed(&candidate.base.configuration, &candidate.configuration);
        self.replan(myself, Box::default(), candidate);
        let outcome = format!("rolled back: {why}");
        self.keep_rollback(myself, number, outcome);
    }

    fn keep_rollback(&mut self, myself: &ActorRef<ConfigMsg>, number: u64, outcome: String) {
        self.in_flight += 1;
        let (store, myself) = (self.store.clone(), myself.clone());
        tokio::task::spawn_blocking(move || {
            // The number first: numbers of plans only grow, whenever the runtime ends.
            let committed = store.committed().and_then(|mut plan| {
                plan.number = number;
                "rollback".clone_into(&mut plan.requester);
                store.commit_now(&plan)
            });
            let kept = committed.and_then(|()| store.discard(&outcome));
            let _actor_ended = myself.cast(ConfigMsg::Kept(Kept::Rollback(number), kept));
        });
    }

    /// Moves the pointer to the plan that was watched.
    fn commit(&mut self, myself: &ActorRef<ConfigMsg>, plan: u64) {
        self.in_flight += 1;
        let (store, myself) = (self.store.clone(), myself.clone());
        tokio::task::spawn_blocking(move || {
            let result = store.commit(plan);
            let _actor_ended = myself.cast(ConfigMsg::Kept(Kept::Commit(plan), result));
        });
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
                self.set_problem(None);
                self.ctx.committed.store(Arc::new(CommittedPlan {
                    number: plan,
                    configuration: self.ctx.configuration(),
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
    pub(super) fn on_in_force(&mut self, plan: u64) {
        self.reload.in_force(plan);
        if self.reload.watched().is_none() && plan == self.reload.committed() {
            self.ctx.actor_refs.lifecycle.cast(LifecycleMsg::Commit);
            if let Some(why) = self.rolled_back.take() {
                self.finish_watch(&ReloadOutcome::RolledBack(why));
            }
        }
    }

    fn finish_watch(&mut self, outcome: &ReloadOutcome) {
        for waiting in self.outcome.drain(..) {
            let _requester_left = waiting.send(outcome.clone());
        }
    }

    /// A plan that the runtime before had not committed is rolled back.
    pub(super) fn on_returned(&mut self, myself: &ActorRef<ConfigMsg>) {
        if self.is_uncommitted() {
            let why = "the runtime ended while the plan was watched";
            self.rollback = Some((self.newest, why.to_owned()));
            let content = &self.ctx.configuration().fingerprint;
            self.reload.quarantine(content.clone());
        }
        self.begin_watch(myself);
    }

    /// Watches a plan again that the actor before this one watched.
    pub(super) fn resume(&mut self) {
        if !self.is_uncommitted() {
            return;
        }
        let committed = self.ctx.committed.load_full();
        let planned = self.ctx.planned();
        let number = planned.plan.number();
        let Ok(back) = Candidate::rollback(planned, &committed.configuration, number) else {
            return;
        };
        if self.reload.watched().is_some() {
            // The lifecycle alone died: it reports again what is watched.
            let lifecycle = &self.ctx.actor_refs.lifecycle;
            lifecycle.cast(LifecycleMsg::ReportWatched);
            return;
        }
        let touched: Vec<ModuleId> = back.differences.iter().map(|(id, _)| *id).collect();
        let configuration = self.ctx.configuration();
        let content = configuration.fingerprint.clone();
        let period = configuration.system.reload_watch;
        let now = self.ctx.os.now();
        self.reload.applied(now, (number, content), period, touched);
        self.ctx
            .actor_refs
            .lifecycle
            .cast(LifecycleMsg::ReportWatched);
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

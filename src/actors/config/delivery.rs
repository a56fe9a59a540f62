//! New settings of modules that go on running: asked before anything changes, told after it.
//! Owns which modules can be told, and what their answers make of a candidate.
//! Never restarts a module: it changes the class of its difference, and the lifecycle restarts it.

use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_policy::states::State;
use mainstay_protocol::config_change::{SettingsAnswer, SettingsParams, SettingsVerdict};
use mainstay_protocol::method::name;
use mainstay_protocol::{ErrorCode, RequestError};
use ractor::ActorRef;
use serde_json::json;
use tokio::task::JoinSet;

use super::candidate::Candidate;
use super::{ConfigActorState, ConfigMsg, ReloadRefusal, ReloadRequest};
use crate::actors::RuntimeContext;
use crate::actors::module::ModuleMsg;
use crate::actors::module::delivery::ANSWER_TIMEOUT;
use crate::config::LaunchSpec;

/// What a module says to new settings.
type Answer = Result<SettingsAnswer, RequestError>;

/// News of a module that was told.
#[derive(Debug)]
pub(crate) enum Told {
    /// It began to follow.
    Begun,
    /// It has followed.
    Followed,
    /// It cannot, and why.
    Failed(String),
}

/// Whether a change of its settings needs no restart: it can be told, or begins with them.
pub(crate) fn can_follow(ctx: &RuntimeContext, module: ModuleId, launch: &LaunchSpec) -> bool {
    match ctx.snapshots.module(module).lifecycle.info.state {
        State::Running => launch.reload.is_some() || ctx.bus.is_connected(module),
        // It may have read the former ones.
        State::Starting | State::Stopping => false,
        _ => true,
    }
}

impl ConfigActorState {
    /// Asks the modules that are told over their connection, then goes on to keep the plan.
    pub(super) fn ask(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        request: Box<ReloadRequest>,
        candidate: Box<Candidate>,
    ) {
        let asked = candidate.notified().filter(|(module, launch)| {
            let state = self.ctx.snapshots.module(*module).lifecycle.info.state;
            launch.reload.is_none() && state == State::Running
        });
        let mut calls: JoinSet<(ModuleId, Answer)> = JoinSet::new();
        for (module, launch) in asked {
            let settings = launch.settings.clone().into();
            let (ctx, params) = (Arc::clone(&self.ctx), json!(SettingsParams { settings }));
            calls.spawn(async move {
                let call = ctx
                    .bus
                    .request(module, name::CONFIG_PREPARE, params, ANSWER_TIMEOUT);
                (module, call.await.and_then(read))
            });
        }
        if calls.is_empty() {
            return self.stage(myself, request, candidate);
        }
        self.in_flight += 1;
        let myself = myself.clone();
        tokio::spawn(async move {
            let answers = calls.join_all().await;
            let _actor_ended = myself.cast(ConfigMsg::Answered(request, candidate, answers));
        });
    }

    pub(super) fn on_answered(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        request: Box<ReloadRequest>,
        mut candidate: Box<Candidate>,
        answers: Vec<(ModuleId, Answer)>,
    ) {
        self.in_flight -= 1;
        let mut refusal = None;
        for (module, answer) in answers {
            let restart = |error: &RequestError| {
                let code = error.data.code;
                matches!(code, ErrorCode::Unavailable | ErrorCode::UnknownMethod)
            };
            let reason = match answer {
                Ok(answer) => match answer.verdict {
                    SettingsVerdict::Accepted => {
                        candidate.prepared.push(module);
                        continue;
                    }
                    SettingsVerdict::Refused => answer.reason.unwrap_or_default(),
                    _ => {
                        candidate.restart(module);
                        continue;
                    }
                },
                Err(error) if restart(&error) => {
                    candidate.restart(module);
                    continue;
                }
                Err(error) => error.message,
            };
            refusal = Some((module, reason));
        }
        if self.is_overtaken(&candidate) {
            self.abort(&candidate.prepared);
            return self.requests.push_front(*request);
        }
        let Some((module, reason)) = refusal else {
            return self.stage(myself, request, candidate);
        };
        self.abort(&candidate.prepared);
        let name = self.ctx.name(module);
        let text = format!("cannot apply the configuration: {name} refused its settings: {reason}");
        if request.edit.is_none() {
            // Asked again only when the files change, or on request.
            let content = candidate.configuration.fingerprint.clone();
            self.reload.quarantine(content.clone());
            self.set_problem(Some(text.clone()));
            self.held = Some((content, text.clone()));
        }
        request.refuse(ReloadRefusal::Invalid(text));
    }

    /// What was prepared is not applied.
    pub(super) fn abort(&self, prepared: &[ModuleId]) {
        for module in prepared.iter().copied() {
            let ctx = Arc::clone(&self.ctx);
            tokio::spawn(async move {
                let call = ctx
                    .bus
                    .request(module, name::CONFIG_ABORT, json!({}), ANSWER_TIMEOUT);
                if let Err(error) = call.await {
                    tracing::warn!(module = &*ctx.name(module), "{}", error.message);
                }
            });
        }
    }

    /// Tells the modules whose runs go on under the plan that was accepted.
    pub(super) fn tell(&mut self, notified: &[(ModuleId, bool)]) {
        for (module, prepared) in notified.iter().copied() {
            self.reload.told(module);
            let msg = ModuleMsg::Deliver { prepared };
            self.ctx.actor_refs.module(module).cast(msg);
        }
    }

    pub(super) fn on_told(
        &mut self,
        myself: &ActorRef<ConfigMsg>,
        module: ModuleId,
        plan: u64,
        told: Told,
    ) {
        let now = self.ctx.os.now();
        let (ok, text) = match told {
            Told::Begun => return self.reload.told(module),
            Told::Followed => (true, String::new()),
            Told::Failed(text) => (false, text),
        };
        // An answer to another plan decides nothing about this one.
        let is_watched = self.reload.watched() == Some(plan);
        let effect = is_watched.then(|| self.reload.confirmed(now, module, ok));
        match effect.flatten() {
            Some(effect) => {
                self.cannot_follow.insert(module);
                self.perform(myself, effect, text);
            }
            None if !ok => {
                let name = &*self.ctx.name(module);
                tracing::error!(module = name, "it could not follow its settings: {text}");
            }
            None => {}
        }
    }
}

fn read(answer: serde_json::Value) -> Answer {
    serde_json::from_value(answer).map_err(|error| {
        let text = format!("its answer cannot be read: {error}");
        RequestError::new(ErrorCode::ModuleError, text)
    })
}

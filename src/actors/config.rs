//! The configuration in force, and what the files say now.
//! Owns the comparison of the two. Never applies a change while things run (not built yet).
//! In flight at most: 1 reading of the files.

use std::sync::Arc;

use mainstay_protocol::EventKind;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::json;

use super::RuntimeContext;
use super::event_recorder::EventBuilder;
use super::registry::RegistryMsg;

/// What config is told.
#[derive(Debug)]
pub(crate) enum ConfigMsg {
    /// Someone asked for a reload (SIGHUP), or the runtime returned: compare with the files.
    Compare,
    /// The files were read: why they are not in force, if so.
    Compared(Option<String>),
}

/// The state.
pub(crate) struct ConfigActorState {
    ctx: Arc<RuntimeContext>,
    problem: Option<String>,
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
        Ok(ConfigActorState { ctx, problem: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<ConfigMsg>,
        msg: ConfigMsg,
        state: &mut ConfigActorState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ConfigMsg::Compare => {
                let ctx = Arc::clone(&state.ctx);
                tokio::task::spawn_blocking(move || {
                    let _actor_ended = myself.cast(ConfigMsg::Compared(compare(&ctx)));
                });
            }
            ConfigMsg::Compared(problem) => state.compared(problem),
        }
        Ok(())
    }
}

impl ConfigActorState {
    fn compared(&mut self, problem: Option<String>) {
        if problem == self.problem {
            return;
        }
        let entry = match &problem {
            Some(text) => {
                EventBuilder::of(EventKind::ConfigRejected).payload(json!({ "text": text }))
            }
            None => EventBuilder::of(EventKind::ConfigProblemCleared),
        };
        self.ctx.recorder.record(entry);
        let msg = RegistryMsg::ConfigProblem(problem.clone());
        self.ctx.actor_refs.registry.cast(msg);
        self.problem = problem;
    }
}

fn compare(ctx: &RuntimeContext) -> Option<String> {
    match crate::config::load_onto(&ctx.sources, &ctx.configuration()) {
        Ok(now) if now.fingerprint == ctx.configuration().fingerprint => None,
        Ok(_) => Some(
            "the configuration files changed; applying them while running is not available yet: \
             `mainstay down` and `mainstay up` apply them"
                .to_owned(),
        ),
        Err(problems) => Some(problems.to_string()),
    }
}

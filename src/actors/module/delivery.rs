//! New settings of a run that goes on: how it is told of them, and whether it has followed.
//! Owns the time that a module has between RELOADING=1 and READY=1.
//! Never decides what a failure leads to: the config actor does.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_protocol::config_change::{SettingsAnswer, SettingsParams, SettingsVerdict};
use mainstay_protocol::method::name;
use ractor::ActorRef;
use serde_json::{Value, json};

use super::{ModuleActorState, ModuleMsg};
use crate::actors::config::{ConfigMsg, Told};
use crate::actors::{RuntimeContext, launching};
use crate::config::ReloadBy;

/// How long a module may take to answer on its connection.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

impl ModuleActorState {
    /// Tells the run of its new settings. `prepared`: it has accepted them already.
    pub(super) fn deliver(&mut self, prepared: bool) {
        let (ctx, id, generation) = (Arc::clone(&self.ctx), self.id, self.module.generation());
        if !self.module.is_ready() {
            // It begins with them.
            return self.tell_config(Told::Followed);
        }
        let launch = ctx.launch(id);
        match launch.reload.clone() {
            Some(ReloadBy::Signal(signal)) => {
                ctx.os.signal(&ctx.instance(id), generation, signal);
                self.tell_config(Told::Followed);
            }
            Some(ReloadBy::Command(argv)) => {
                let number = ctx.os.now().0;
                let plan = ctx.plan().number();
                let mut spawn = launching::command_request(&ctx, id, &argv);
                spawn.generation = number;
                let limit = ctx.spec(id).startup_timeout.as_millis();
                spawn.timeout_ms = u64::try_from(limit).unwrap_or(u64::MAX);
                tokio::spawn(async move {
                    let ended = ctx.os.command(spawn).await;
                    let command = argv.join(" ");
                    let told = match ended.ok {
                        true => Told::Followed,
                        false => Told::Failed(format!("`{command}` failed: {}", ended.text)),
                    };
                    tell(&ctx, id, plan, told);
                });
            }
            None => {
                let plan = ctx.plan().number();
                tokio::spawn(async move {
                    let told = over_connection(&ctx, id, prepared).await;
                    let told = told.map_or_else(Told::Failed, |()| Told::Followed);
                    tell(&ctx, id, plan, told);
                });
            }
        }
    }

    fn tell_config(&self, told: Told) {
        tell(&self.ctx, self.id, self.ctx.plan().number(), told);
    }

    /// `RELOADING=1`: from now on the commit of a plan waits for its `READY=1`.
    pub(super) fn on_reloading(&mut self, myself: &ActorRef<ModuleMsg>, generation: u64) {
        if generation == self.module.generation() && self.module.is_ready() {
            let limit = self.ctx.spec(self.id).startup_timeout;
            self.await_reload(myself, generation, limit);
            self.tell_config(Told::Begun);
        }
    }

    pub(super) fn await_reload(
        &mut self,
        myself: &ActorRef<ModuleMsg>,
        generation: u64,
        limit: Duration,
    ) {
        let now = self.ctx.os.now();
        let of_run = self.reloading.filter(|(run, _)| *run == generation);
        let deadline = now.after(limit);
        let deadline = of_run.map_or(deadline, |(_, at)| at.max(deadline));
        self.reloading = Some((generation, deadline));
        let over = || ModuleMsg::ReloadTimeout;
        self.reload_alarm.set(now, Some(deadline), myself, over);
    }

    /// `READY=1` after `RELOADING=1`, or the end of the run.
    pub(super) fn end_reload(&mut self, generation: u64) {
        if self
            .reloading
            .take_if(|(run, _)| *run == generation)
            .is_some()
        {
            self.tell_config(Told::Followed);
        }
    }

    pub(super) fn on_reload_timeout(&mut self) {
        let now = self.ctx.os.now();
        if self
            .reloading
            .take_if(|(_, deadline)| *deadline <= now)
            .is_some()
        {
            let limit = self.ctx.spec(self.id).startup_timeout;
            let text = format!("it said RELOADING=1 and not READY=1 within {limit:?}");
            tracing::warn!(module = &*self.ctx.name(self.id), "{text}");
            self.tell_config(Told::Failed(text));
        }
    }
}

/// `plan`: the number of the one whose settings the module was told.
fn tell(ctx: &RuntimeContext, module: ModuleId, plan: u64, told: Told) {
    let msg = ConfigMsg::Told(module, plan, told);
    ctx.actor_refs.config.cast(msg);
}

async fn over_connection(
    ctx: &RuntimeContext,
    module: ModuleId,
    prepared: bool,
) -> Result<(), String> {
    if !prepared {
        let answer = prepare(ctx, module).await?;
        if answer.verdict != SettingsVerdict::Accepted {
            let reason = answer.reason.unwrap_or_else(|| answer.verdict.to_string());
            return Err(format!("it did not accept its settings: {reason}"));
        }
    }
    let commit = ctx
        .bus
        .request(module, name::CONFIG_COMMIT, json!({}), ANSWER_TIMEOUT)
        .await;
    commit.map(|_: Value| ()).map_err(|error| error.message)
}

/// Asks a module whether it can use the settings of the plan that it follows.
async fn prepare(ctx: &RuntimeContext, module: ModuleId) -> Result<SettingsAnswer, String> {
    let settings = ctx.launch(module).settings.clone();
    let params = json!(SettingsParams {
        settings: settings.into(),
    });
    let answer = ctx
        .bus
        .request(module, name::CONFIG_PREPARE, params, ANSWER_TIMEOUT)
        .await;
    let answer = answer.map_err(|error| error.message)?;
    serde_json::from_value(answer).map_err(|error| error.to_string())
}

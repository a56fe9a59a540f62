//! From facts of the machine to the actors they are about, in their order.
//! Owns the translation of signals to wishes, and the commands that run once everything is up.
//! Never decides.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::Operation;
use mainstay_process::ProcessEventKind;
use tokio::sync::oneshot;

use super::super::config::{ConfigMsg, ReloadRequest};
use super::super::lifecycle::{CONTINUED_STOP, LifecycleMsg, stop_budget_left};
use super::super::module::ModuleMsg;
use super::super::{ConsoleMessage, RuntimeContext, launching};
use super::RootMsg;
use crate::os::OsEvent;

/// What is left of the budget when a stop is asked for again.
const REPEATED_STOP_BUDGET: Duration = Duration::from_secs(1);

/// The lowest priority there is.
const PREWARM_NICE: i32 = 19;
/// How long one prewarm command may take, in milliseconds.
const PREWARM_MAX_MS: u64 = 60_000;

/// Runs the modules' prewarm commands one after the other, at idle priority, once everything is up.
pub(super) fn prewarm(ctx: Arc<RuntimeContext>) {
    tokio::spawn(async move {
        for id in ctx.plan().ids() {
            for argv in &ctx.launch(id).prewarm {
                let mut spawn = launching::command_request(&ctx, id, argv);
                spawn.limits.nice = Some(PREWARM_NICE);
                spawn.timeout_ms = PREWARM_MAX_MS;
                let outcome = ctx.os.command(spawn).await;
                if !outcome.ok {
                    let module = &*ctx.name(id);
                    tracing::warn!(module, "prewarm `{}`: {}", argv.join(" "), outcome.text);
                }
            }
        }
    });
}

/// Hands facts to who they are about, in their order, for as long as the machine tells any.
pub(crate) async fn route(
    ctx: Arc<RuntimeContext>,
    mut facts: tokio::sync::mpsc::Receiver<OsEvent>,
) {
    let mut stop_asked = false;
    while let Some(fact) = facts.recv().await {
        let board = &ctx.actor_refs;
        match fact {
            OsEvent::StopRequested { .. } | OsEvent::HolderGone => {
                let (budget, actor) = match (&fact, stop_asked) {
                    (OsEvent::StopRequested { left: Some(left) }, _) => {
                        (Some(stop_budget_left(*left)), CONTINUED_STOP)
                    }
                    (OsEvent::StopRequested { .. }, true) => {
                        (Some(REPEATED_STOP_BUDGET), "second signal")
                    }
                    (OsEvent::StopRequested { .. }, false) => (None, "signal"),
                    _ => (None, "the holder is gone"),
                };
                if matches!(fact, OsEvent::StopRequested { .. }) && !stop_asked {
                    let text = "stopping in order; a second Ctrl-C kills what still runs";
                    ctx.announce(ConsoleMessage::System(text));
                }
                stop_asked = true;
                // By way of root: behind the start or the adoption of everything.
                board.root.cast(RootMsg::StopRequested { budget, actor });
            }
            OsEvent::DirectoriesRestored { problem } => restored(&ctx, problem),
            OsEvent::ReloadRequested => {
                board
                    .config
                    .cast(ConfigMsg::Reload(ReloadRequest::by("SIGHUP")));
            }
            // By way of root: that it answers is what the holder wants to know.
            OsEvent::PingReceived => {
                board.root.cast(RootMsg::Ping);
            }
            OsEvent::Process(event) => {
                let Some(module) = ctx.find_instance(&event.instance) else {
                    continue;
                };
                match event.what {
                    ProcessEventKind::SocketActivated { socket } => {
                        activate_module(&ctx, module, &socket);
                    }
                    _ => {
                        board.module(module).cast(ModuleMsg::Process(event));
                    }
                }
            }
        }
    }
}

/// Directories that had been removed are there again, or why they are not.
fn restored(ctx: &Arc<RuntimeContext>, problem: Option<String>) {
    match &problem {
        None => {
            tracing::warn!("directories of mainstay were removed; they were created again");
            ctx.directories_restored.notify_one();
        }
        Some(problem) => tracing::error!("cannot create removed directories again: {problem}"),
    }
    let registry = &ctx.actor_refs.registry;
    registry.cast(super::super::registry::RegistryMsg::DirectoryProblem(
        problem,
    ));
}

/// A connection starts a lazy module.
fn activate_module(ctx: &RuntimeContext, module: ModuleId, socket: &str) {
    let (published, _nobody_waits) = oneshot::channel();
    ctx.actor_refs.lifecycle.cast(LifecycleMsg::Requested {
        module,
        operation: Operation::Wake,
        actor: format!("a connection to {socket}"),
        published,
    });
}

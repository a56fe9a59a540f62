//! From events of the machine to the actors that they are about, in their order.
//! Owns the translation of signals to requests, and the commands that run once everything is up.
//! Never decides.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::Operation;
use mainstay_process::ProcessEventKind;
use mainstay_protocol::EventKind;
use serde_json::json;
use tokio::sync::oneshot;

use super::super::config::{ConfigMsg, ReloadReply, ReloadRequest};
use super::super::event_recorder::EventBuilder;
use super::super::lifecycle::{CONTINUED_STOP, LifecycleMsg, stop_budget_left};
use super::super::module::ModuleMsg;
use super::super::{ConsoleMessage, RuntimeContext, launching, upgrade};
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

/// Requests a reload and counts it until it is completed or refused.
fn reload_by_signal(ctx: &Arc<RuntimeContext>) {
    let (reply, replied) = oneshot::channel();
    let (outcome, completed) = oneshot::channel();
    ctx.signalled_reloads.send_modify(|count| {
        count.total += 1;
        count.pending += 1;
    });
    ctx.actor_refs.config.cast(ConfigMsg::Reload(ReloadRequest {
        reply: Some(reply),
        outcome: Some(outcome),
        ..ReloadRequest::by("SIGHUP")
    }));
    let ctx = Arc::clone(ctx);
    tokio::spawn(async move {
        if let Ok(Ok(ReloadReply::Applied(_) | ReloadReply::Committing(_))) = replied.await {
            let _the_actor_ended = completed.await;
        }
        ctx.signalled_reloads
            .send_modify(|count| count.pending -= 1);
    });
}

/// Sends each event to the actor that it is about, in order, until their channel closes.
pub(crate) async fn route(
    ctx: Arc<RuntimeContext>,
    mut events: tokio::sync::mpsc::Receiver<OsEvent>,
) {
    let mut stop_requested = false;
    while let Some(event) = events.recv().await {
        let actor_refs = &ctx.actor_refs;
        match event {
            OsEvent::StopRequested { .. } | OsEvent::HolderGone => {
                let (budget, requester) = match (&event, stop_requested) {
                    (OsEvent::StopRequested { left: Some(left) }, _) => {
                        (Some(stop_budget_left(*left)), CONTINUED_STOP)
                    }
                    (OsEvent::StopRequested { .. }, true) => {
                        (Some(REPEATED_STOP_BUDGET), "second signal")
                    }
                    (OsEvent::StopRequested { .. }, false) => (None, "signal"),
                    _ => (None, "the holder is gone"),
                };
                if matches!(event, OsEvent::StopRequested { .. }) && !stop_requested {
                    let text = "stopping in order; a second Ctrl-C kills what still runs";
                    ctx.announce(ConsoleMessage::System(text));
                }
                stop_requested = true;
                // By way of root: after the start or the adoption of everything.
                actor_refs
                    .root
                    .cast(RootMsg::StopRequested { budget, requester });
            }
            OsEvent::HolderReplaced { pid } => holder_replaced(&ctx, pid),
            OsEvent::DirectoriesRestored { problem } => restored(&ctx, problem),
            OsEvent::ReloadRequested => reload_by_signal(&ctx),
            OsEvent::HolderExecuted { problem, is_last } => {
                upgrade::on_holder_executed(&ctx, problem, is_last);
            }
            // By way of root, whose reply shows the holder that the runtime responds.
            OsEvent::PingReceived => {
                actor_refs.root.cast(RootMsg::Ping);
            }
            OsEvent::Process(event) => {
                let module = ctx.find_instance(&event.instance);
                let Some(module) = module.filter(|id| actor_refs.module(*id).is_set()) else {
                    // The run of an instance that no plan has was ended.
                    if let ProcessEventKind::Exited(_) = event.what {
                        ctx.os.forget(&event.instance);
                    }
                    continue;
                };
                match event.what {
                    ProcessEventKind::SocketActivated { socket } => {
                        activate_module(&ctx, module, &socket);
                    }
                    _ => {
                        actor_refs.module(module).cast(ModuleMsg::Process(event));
                    }
                }
            }
        }
    }
}

/// The reason of its death only its parent is told.
fn holder_replaced(ctx: &RuntimeContext, pid: u32) {
    let before = ctx.holder.get();
    ctx.holder.replace(pid);
    let event = EventBuilder::of(EventKind::HolderReplaced);
    ctx.recorder
        .record(event.payload(json!({ "pid": pid, "before": before })));
    let text = "the holder died; another one goes on in its place, modules went on";
    ctx.announce(ConsoleMessage::System(text));
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
        requester: format!("a connection to {socket}"),
        published,
    });
}

//! The procedure before a restart: pre-checks, the reset, or taking a reset back.
//! Owns the task that performs it, and the event of each step.
//! Never starts a module: the result goes to the lifecycle, which does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::ProcedureOrder;
use mainstay_policy::spec::Readiness;
use mainstay_policy::states::State;
use mainstay_process::Probe;
use mainstay_protocol::EventKind;
use serde_json::json;

use super::super::event_recorder::{CausedBy, EventBuilder};
use super::super::lifecycle::LifecycleMsg;
use super::super::{RuntimeContext, launching};
use crate::os::{kept_files, probe};

/// How long a port may take to show that another process has it.
const PORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Performs an order in the background and casts the result to the lifecycle. Of the recovery
/// actor nothing is needed any more: the result arrives though it dies.
pub(super) fn perform(ctx: &Arc<RuntimeContext>, order: ProcedureOrder, opened: Option<u64>) {
    let steps = Steps {
        ctx: Arc::clone(ctx),
        order,
        opened,
    };
    tokio::spawn(async move {
        let done = match order.reset {
            true => steps.reset().await,
            false => steps.roll_back().await,
        };
        let ProcedureOrder { module, ticket, .. } = order;
        let ok = done.is_ok();
        let msg = LifecycleMsg::ProcedureEnded { module, ticket, ok };
        steps.ctx.actor_refs.lifecycle.cast(msg);
    });
}

/// The new run proved itself: what the reset set aside is removed.
pub(super) fn drop_kept(ctx: &Arc<RuntimeContext>, module: ModuleId) {
    let files = ctx.launch(module).reset.remove.clone();
    let (state_dir, keep) = places(ctx, module);
    let name = ctx.name(module);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = kept_files::drop_kept(&state_dir, &keep, &files) {
            tracing::warn!(
                module = &*name,
                "cannot remove what a reset set aside: {error}"
            );
        }
    });
}

/// The state directory, and the folder in it for what is set aside.
fn places(ctx: &RuntimeContext, module: ModuleId) -> (PathBuf, PathBuf) {
    let state_dir = ctx.configuration().system.state_dir.clone();
    (state_dir, Path::new("recovery").join(&*ctx.name(module)))
}

/// A step could not be done; its event says why.
struct Failed;

struct Steps {
    ctx: Arc<RuntimeContext>,
    order: ProcedureOrder,
    opened: Option<u64>,
}

impl Steps {
    async fn reset(&self) -> Result<(), Failed> {
        let (ctx, module) = (&self.ctx, self.order.module);
        self.tell_dependencies();
        let resources = launching::check_resources(ctx, module);
        self.step(
            "resources",
            resources.map(|()| "enough memory and disk are free".to_owned()),
        )?;
        if let Some(free) = self.port_is_free().await {
            self.step("port", free)?;
        }
        let reset = &ctx.launch(module).reset;
        if !reset.remove.is_empty() {
            let keeps_earlier = self.order.keeps_earlier;
            let removed = self.files(move |state_dir, keep, files| {
                if !keeps_earlier {
                    kept_files::drop_kept(state_dir, keep, files)?;
                }
                kept_files::set_aside(state_dir, keep, files)
            });
            let removed = removed.await;
            let of = reset.remove.len();
            self.step(
                "reset",
                removed.map(|count| format!("cleared {count} of {of} paths")),
            )?;
        }
        if reset.clear_queues {
            let dropped = ctx.bus.clear_queue(module);
            self.step("queues", Ok(format!("dropped what was queued: {dropped}")))?;
        }
        Ok(())
    }

    async fn roll_back(&self) -> Result<(), Failed> {
        let restored = self.files(kept_files::put_back).await;
        let text = |count| format!("the reset did not help; put back: {count}");
        self.step("rollback", restored.map(text))
    }

    /// A dependency that is down holds the start, not the procedure.
    fn tell_dependencies(&self) {
        let (ctx, spec) = (&self.ctx, self.ctx.spec(self.order.module));
        let hard = spec.edges.iter().filter(|edge| edge.hard);
        let up = |state| matches!(state, State::Running | State::Stopped);
        let down = hard.clone().map(|edge| edge.to);
        let down = down.filter(|id| !up(ctx.snapshots.module(*id).lifecycle.info.state));
        let down: Vec<ModuleId> = down.collect();
        let text = match (hard.count(), down.is_empty()) {
            (0, _) => return,
            (_, true) => "all dependencies are up".to_owned(),
            (_, false) => format!("the start waits for {}", ctx.names(&down)),
        };
        let _told = self.step("dependencies", Ok(text));
    }

    /// Whether no other process has the address by which the module becomes ready; None: there is
    /// no such address, or the module gets its sockets from mainstay.
    async fn port_is_free(&self) -> Option<Result<String, String>> {
        let spec = self.ctx.spec(self.order.module);
        let Readiness::Probe(readiness) = &spec.readiness else {
            return None;
        };
        if !self.ctx.launch(self.order.module).sockets.is_empty() {
            return None;
        }
        let (address, answered) = match readiness {
            Probe::Tcp(address) => (address, probe::tcp(address, None, PORT_TIMEOUT).await),
            Probe::Unix(path) => (path, probe::unix(path, PORT_TIMEOUT).await),
            Probe::Http { .. } | Probe::Grpc(_) | Probe::File(_) | Probe::Exec(_) => return None,
        };
        Some(match answered {
            Ok(()) => Err(format!("another process listens on {address}")),
            Err(_) => Ok(format!("{address} is free")),
        })
    }

    async fn files(
        &self,
        work: impl FnOnce(&Path, &Path, &[(PathBuf, PathBuf)]) -> std::io::Result<usize>
        + Send
        + 'static,
    ) -> Result<usize, String> {
        let files = self.ctx.launch(self.order.module).reset.remove.clone();
        let (state_dir, keep) = places(&self.ctx, self.order.module);
        let done = tokio::task::spawn_blocking(move || work(&state_dir, &keep, &files));
        match done.await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn step(&self, name: &str, result: Result<String, String>) -> Result<(), Failed> {
        let ok = result.is_ok();
        let text = match result {
            Ok(text) => text,
            Err(error) => format!("{name} failed: {error}"),
        };
        let mut entry = EventBuilder::of(EventKind::RecoveryStepCompleted)
            .module(self.order.module, self.order.generation)
            .payload(json!({ "step": name, "ok": ok, "text": text }));
        if let Some(opened) = self.opened {
            entry = entry.caused_by(CausedBy::Event(opened));
        }
        self.ctx.recorder.record(entry);
        if ok { Ok(()) } else { Err(Failed) }
    }
}

//! `module.start`, `module.stop`, `module.restart`, `recovery.accept`.
//! Owns a change from the request until the module is at rest: dry run, publication, waiting.
//! Never retries: recovery is policy's.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::Operation;
use mainstay_policy::spec::Kind;
use mainstay_policy::states::{Desired, State, Status};
use mainstay_protocol::method::{ChangeParams, ChangeResult, ChangeStep};
use mainstay_protocol::methods::{ModuleRestart, ModuleStart, ModuleStop, RecoveryAccept};
use mainstay_protocol::{ErrorCode, RequestError};
use tokio::sync::oneshot;

use super::modules::find_module;
use super::{Answer, Caller, MethodResult, view_builder};
use crate::actors::RuntimeContext;
use crate::actors::lifecycle::LifecycleMsg;
use crate::actors::lifecycle::requests::is_reached;
use crate::actors::snapshots::{LifecycleInfo, ModuleSnapshot};

/// Time the actors have to publish a change.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that waiting takes beyond the module's own timeouts.
const WAIT_MARGIN: Duration = Duration::from_secs(30);

/// A change that was requested, or (dry run) only previewed.
pub(crate) struct PendingChange {
    module: ModuleId,
    operation: Operation,
    steps: Vec<ChangeStep>,
    /// The generation before the change.
    before: u64,
}

impl PendingChange {
    /// Requests the change and waits until it is published; with `dry_run` only previews it.
    ///
    /// # Errors
    /// `unknown_module`, `not_permitted` for a builtin, `shutting_down`, `busy`, `timeout`.
    async fn submit(
        ctx: &RuntimeContext,
        operation: Operation,
        params: &ChangeParams,
        requester: String,
    ) -> Result<PendingChange, RequestError> {
        let module = find_module(ctx, &params.module)?;
        if operation != Operation::Start && ctx.spec(module).kind == Kind::Builtin {
            let text = format!(
                "cannot stop or restart {}: it is a part of mainstay and runs as long as mainstay",
                params.module
            );
            return Err(RequestError::new(ErrorCode::NotPermitted, text));
        }
        let is_proposed = ctx
            .snapshots
            .module(module)
            .lifecycle
            .info
            .proposal
            .is_some();
        if operation == Operation::Recover && !is_proposed {
            let name = &params.module;
            let text = format!(
                "cannot recover {name}: nothing is proposed for it; `mainstay why {name}` says \
                 where it stands, `mainstay start {name}` starts it"
            );
            return Err(RequestError::new(ErrorCode::InvalidParams, text));
        }
        let (answer, preview) = oneshot::channel();
        ctx.actor_refs.lifecycle.cast(LifecycleMsg::Preview {
            module,
            operation,
            answer,
        });
        let steps = await_reply(preview).await?;
        let before = ctx.snapshots.module(module).lifecycle.info.generation;
        let change = PendingChange {
            module,
            operation,
            steps,
            before,
        };
        if params.dry_run {
            return Ok(change);
        }
        if ctx.snapshots.system().summary.status == Status::Stopping {
            let text = "cannot change a module: the system is stopping";
            return Err(RequestError::new(ErrorCode::ShuttingDown, text));
        }
        await_reply(change.send(ctx, requester)).await?;
        Ok(change)
    }

    /// Starts a lazy module and waits until it runs or is at rest; the caller sets the deadline.
    pub(super) async fn wake(ctx: &RuntimeContext, module: ModuleId, requester: String) {
        let change = PendingChange {
            module,
            operation: Operation::Wake,
            steps: Vec::new(),
            before: 0,
        };
        let _published = change.send(ctx, requester).await;
        change.wait_reached(ctx).await;
    }

    /// Sends the operation to the lifecycle; the receiver learns when it is published.
    fn send(&self, ctx: &RuntimeContext, requester: String) -> oneshot::Receiver<()> {
        let (published, receiver) = oneshot::channel();
        ctx.actor_refs.lifecycle.cast(LifecycleMsg::Requested {
            module: self.module,
            operation: self.operation,
            requester,
            published,
        });
        receiver
    }

    /// What the change takes along, and the state of the module now.
    fn result(&self, ctx: &RuntimeContext) -> ChangeResult {
        ChangeResult {
            steps: self.steps.clone(),
            module: view_builder::module(ctx, self.module),
            overtaken_by: None,
        }
    }

    /// Waits until the change is reached or overtaken, and says which.
    async fn wait_result(&self, ctx: &RuntimeContext) -> ChangeResult {
        self.wait_reached(ctx).await;
        let now = ctx.snapshots.module(self.module);
        let is_overtaken = self.is_overtaken(ctx, &now);
        ChangeResult {
            overtaken_by: is_overtaken.then(|| self.overtaking_request(ctx, &now)),
            ..self.result(ctx)
        }
    }

    /// Whether the opposite is desired by now, so that waiting longer is in vain.
    fn is_overtaken(&self, ctx: &RuntimeContext, now: &ModuleSnapshot) -> bool {
        if self.operation == Operation::Wake || self.is_at_rest(&now.lifecycle) {
            return false;
        }
        let desired = if self.operation == Operation::Stop {
            Desired::Down
        } else {
            Desired::Up
        };
        let is_stopping = ctx.snapshots.system().summary.status == Status::Stopping;
        now.lifecycle.info.desired != desired || (is_stopping && desired == Desired::Up)
    }

    /// The request that overtook this one.
    fn overtaking_request(&self, ctx: &RuntimeContext, now: &ModuleSnapshot) -> String {
        if ctx.snapshots.system().summary.status == Status::Stopping {
            return "the system is stopping".to_owned();
        }
        let operation = match now.lifecycle.info.desired {
            Desired::Down => "stop",
            Desired::Up => "start",
        };
        let requester = now.lifecycle.requester.as_deref();
        format!(
            "{} requested {operation}",
            requester.unwrap_or("another request")
        )
    }

    /// Waits until the module is at rest or the change is overtaken, at most as long as the
    /// module's timeouts allow.
    async fn wait_reached(&self, ctx: &RuntimeContext) {
        let spec = ctx.spec(self.module);
        let timeout = spec.startup_timeout + spec.shutdown_timeout + WAIT_MARGIN;
        let is_over =
            |now: &ModuleSnapshot| self.is_at_rest(&now.lifecycle) || self.is_overtaken(ctx, now);
        let _or_late = tokio::time::timeout(timeout, wait_until(ctx, self.module, is_over)).await;
    }

    fn is_at_rest(&self, now: &LifecycleInfo) -> bool {
        let is_new_run = now.info.generation > self.before;
        let waits_in_vain = now.info.held_by_failed.is_some();
        let changes = matches!(
            now.info.state,
            State::Waiting | State::Starting | State::Stopping
        );
        match self.operation {
            // What is not asleep stays as it is.
            Operation::Wake => !changes || waits_in_vain,
            operation => is_reached(operation, now.info.state, is_new_run, waits_in_vain).is_some(),
        }
    }
}

/// Waits until a published state of the module satisfies `is_reached`.
pub(super) async fn wait_until(
    ctx: &RuntimeContext,
    module: ModuleId,
    is_reached: impl Fn(&ModuleSnapshot) -> bool,
) {
    let mut version = ctx.snapshots.version();
    loop {
        version.borrow_and_update();
        if is_reached(&ctx.snapshots.module(module)) || version.changed().await.is_err() {
            return;
        }
    }
}

pub(super) async fn await_reply<T>(reply: oneshot::Receiver<T>) -> Result<T, RequestError> {
    match tokio::time::timeout(PUBLISH_TIMEOUT, reply).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) => {
            let text = "cannot say whether the change was made: a part of mainstay is being \
                        restarted; check the status and try again";
            Err(RequestError::new(ErrorCode::Busy, text))
        }
        Err(_) => {
            let text = "cannot get a reply from the lifecycle in time; try again";
            Err(RequestError::new(ErrorCode::Timeout, text))
        }
    }
}

async fn change(
    ctx: &Arc<RuntimeContext>,
    caller: &Caller,
    operation: Operation,
    params: ChangeParams,
) -> Result<MethodResult<ChangeResult>, RequestError> {
    let change = PendingChange::submit(ctx, operation, &params, caller.label.clone()).await?;
    if params.dry_run || !params.wait {
        return Ok(MethodResult::Now(change.result(ctx)));
    }
    let ctx = Arc::clone(ctx);
    Ok(MethodResult::Later(Box::pin(async move {
        Ok(change.wait_result(&ctx).await)
    })))
}

macro_rules! answer_by_change {
    ($($method:ty: $operation:expr;)+) => { $(
        impl Answer for $method {
            async fn answer(
                ctx: &Arc<RuntimeContext>,
                caller: &Caller,
                params: Self::Params,
            ) -> Result<MethodResult<Self::Result>, RequestError> {
                change(ctx, caller, $operation, params).await
            }
        }
    )+ };
}
answer_by_change! {
    ModuleStart: Operation::Start;
    ModuleStop: Operation::Stop;
    ModuleRestart: Operation::Restart;
    RecoveryAccept: Operation::Recover;
}

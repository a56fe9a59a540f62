//! `module.hold` and `module.release`: a module is not started for a time, on request.
//! Owns the longest time, and the rows of the audit.
//! Never stops or starts anything: policy keeps the hold.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::spec::Kind;
use mainstay_policy::states::Status;
use mainstay_protocol::method::HoldResult;
use mainstay_protocol::methods::{ModuleHold, ModuleRelease};
use mainstay_protocol::{ErrorCode, RequestError};
use tokio::sync::oneshot;

use super::change::await_reply;
use super::modules::find_module;
use super::{Answer, Caller, MethodResult, audit};
use crate::actors::RuntimeContext;
use crate::actors::lifecycle::LifecycleMsg;
use crate::os_text::duration_text;

/// A hold that is forgotten is to end some day.
const LONGEST: Duration = Duration::from_hours(7 * 24);

impl Answer for ModuleHold {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let (module, name) = (find_module(ctx, &params.module)?, &params.module);
        let span = Duration::from_millis(params.for_ms);
        let refused = |code, text| Err(RequestError::new(code, text));
        if span.is_zero() || span > LONGEST {
            let text = format!("cannot hold {name}: the time has to be above 0 and a week at most");
            return refused(ErrorCode::InvalidParams, text);
        }
        if ctx.spec(module).kind == Kind::Builtin {
            let text = format!("cannot hold {name}: it is a part of mainstay");
            return refused(ErrorCode::NotPermitted, text);
        }
        if ctx.snapshots.system().summary.status == Status::Stopping {
            let text = "cannot hold a module: the system is stopping".to_owned();
            return refused(ErrorCode::ShuttingDown, text);
        }
        let operation = format!("hold for {}", duration_text(span));
        change(ctx, caller, (module, &operation), Some(span)).await
    }
}

impl Answer for ModuleRelease {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let module = find_module(ctx, &params.module)?;
        change(ctx, caller, (module, "release"), None).await
    }
}

/// Holds a module for this long from now, or releases it.
async fn change(
    ctx: &RuntimeContext,
    caller: &Caller,
    (module, operation): (ModuleId, &str),
    span: Option<Duration>,
) -> Result<MethodResult<HoldResult>, RequestError> {
    let generation = ctx.snapshots.module(module).lifecycle.info.generation;
    audit::record(ctx, caller, Some((module, generation)), operation);
    let until = span.map(|span| ctx.os.now().after(span));
    let (published, is_published) = oneshot::channel();
    ctx.actor_refs.lifecycle.cast(LifecycleMsg::Held {
        module,
        until,
        requester: caller.label.clone(),
        published,
    });
    await_reply(is_published).await?;
    let held_until = until.map(|until| ctx.to_wall_clock(until));
    Ok(MethodResult::Now(HoldResult { held_until }))
}

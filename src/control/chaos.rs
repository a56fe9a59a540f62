//! `chaos.inject`: a fault of a real process, on request.
//! Owns the permission `[chaos] allowed`, the row of the audit, and how long a process hangs.
//! Never repairs anything: recovery has to.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_protocol::chaos::{ChaosAction, ChaosParams, ChaosResult};
use mainstay_protocol::methods::ChaosInject;
use mainstay_protocol::{ErrorCode, EventKind, RequestError};
use serde_json::json;

use super::modules::find_module;
use super::{Answer, Caller, MethodResult};
use crate::actors::RuntimeContext;
use crate::actors::event_recorder::EventBuilder;
use crate::os::FreezeReason;

/// How long a fault lasts if the request does not say.
const LASTS_DEFAULT: Duration = Duration::from_secs(10);
/// How long one may last.
const LASTS_MAX: Duration = Duration::from_secs(600);
/// One lease; it ends by itself, whatever becomes of mainstay.
const LEASE: Duration = Duration::from_millis(300);
/// A slow process runs for the rest of each of these.
const SLOW_PERIOD: Duration = Duration::from_millis(100);
const SLOW_STOPPED: Duration = Duration::from_millis(90);

impl Answer for ChaosInject {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let module = permitted(ctx, &params)?;
        let instance = ctx.instance(module);
        let live = ctx.os.live_process(&instance);
        let Some((pid, generation)) =
            live.and_then(|live| Some((live.process()?, live.generation)))
        else {
            let text = format!(
                "cannot inject a fault into {}: it has no process",
                params.module
            );
            return Err(RequestError::new(ErrorCode::InvalidParams, text));
        };
        let lasts = params.for_ms.map_or(LASTS_DEFAULT, Duration::from_millis);
        let lasts = lasts.min(LASTS_MAX);
        let payload = json!({
            "action": params.action, "pid": pid,
            "for_ms": (params.action != ChaosAction::Kill).then_some(lasts.as_millis()),
        });
        let entry = EventBuilder::of(EventKind::ChaosInjected)
            .module(module, generation)
            .administrative(caller.label.clone())
            .payload(payload);
        ctx.recorder.record(entry);
        match params.action {
            ChaosAction::Kill => ctx.os.kill(&instance, generation),
            ChaosAction::Hang => suspend(ctx, module, generation, lasts, (LEASE, LEASE / 2)),
            _ => suspend(ctx, module, generation, lasts, (SLOW_STOPPED, SLOW_PERIOD)),
        }
        Ok(MethodResult::Now(ChaosResult { pid, generation }))
    }
}

fn permitted(ctx: &RuntimeContext, params: &ChaosParams) -> Result<ModuleId, RequestError> {
    let module = find_module(ctx, &params.module)?;
    if !ctx.configuration().system.chaos_allowed {
        let text = "cannot inject faults: the configuration does not allow it; set \
                    [chaos] allowed = true";
        return Err(RequestError::new(ErrorCode::NotPermitted, text));
    }
    if let ChaosAction::Other(action) = params.action {
        let text = format!(
            "cannot inject {}: kill, hang and slow are known",
            action.as_str()
        );
        return Err(RequestError::new(ErrorCode::InvalidParams, text));
    }
    let suspends = matches!(params.action, ChaosAction::Hang | ChaosAction::Slow);
    if cfg!(windows) && suspends {
        let text = "cannot inject that on Windows: nothing suspends processes there; use kill";
        return Err(RequestError::new(ErrorCode::NotPermitted, text));
    }
    Ok(module)
}

/// Stops the processes of a run for the first time of each period, until the fault or the run is
/// over.
fn suspend(
    ctx: &Arc<RuntimeContext>,
    module: ModuleId,
    generation: u64,
    lasts: Duration,
    (stopped, period): (Duration, Duration),
) {
    let ctx = Arc::clone(ctx);
    tokio::spawn(async move {
        let instance = ctx.instance(module);
        let end = ctx.os.now().after(lasts);
        loop {
            let left = end.since(ctx.os.now());
            let live = ctx.os.live_process(&instance);
            let is_over = left.is_zero() || live.is_none_or(|live| live.generation != generation);
            let span = if is_over { Duration::ZERO } else { stopped };
            ctx.os
                .freeze(&instance, generation, span, FreezeReason::Fault);
            if is_over {
                return;
            }
            tokio::time::sleep(period.min(left)).await;
        }
    });
}

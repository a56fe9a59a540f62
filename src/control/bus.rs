//! `bus.*`: what modules say to each other, and users to them.
//! Owns the rule who may call whom, and the timeouts of calls.
//! Never delivers an event itself: the bus does.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::spec::StartMode;
use mainstay_policy::states::State;
use mainstay_protocol::method::{
    BusCallParams, CallParams, Empty, PublishParams, PublishResult, name,
};
use mainstay_protocol::methods::{
    BusCall, BusPublish, BusRequest, BusSend, BusSubscribe, BusTap as BusTapMethod,
};
use mainstay_protocol::{ErrorCode, RequestError, RpcRequest};
use serde_json::{Value, json};

use super::change::{self, PendingChange};
use super::modules::find_module;
use super::reports::run_of;
use super::{Answer, Caller, MethodResult, NextNotification, Notifications, audit, internal};
use crate::actors::RuntimeContext;
use crate::bus::tap::BusTap;

/// The timeout of a call, when the caller does not say.
const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The timeout of a call, at most.
const CALL_TIMEOUT_MAX: Duration = Duration::from_mins(1);

/// Publishes an event of a module.
///
/// # Errors
/// As [`crate::bus::Bus::publish`].
pub(crate) fn publish(
    ctx: &RuntimeContext,
    module: ModuleId,
    params: PublishParams,
) -> Result<PublishResult, RequestError> {
    let PublishParams { subject, payload } = params;
    ctx.bus
        .publish(&ctx.name(module), ctx.os.wall_clock(), subject, payload)
}

/// Returns the module that a module calls, if it may.
///
/// # Errors
/// `unknown_module`, `not_permitted`.
pub(crate) fn callee(
    ctx: &RuntimeContext,
    caller: ModuleId,
    module: &str,
) -> Result<ModuleId, RequestError> {
    let callee = find_module(ctx, module)?;
    let may_call = &ctx.launch(caller).may_call;
    if may_call.iter().any(|name| name == module) {
        return Ok(callee);
    }
    let caller = &ctx.name(caller);
    let text = format!("cannot let {caller} call {module}: add it to module.{caller}.may_call");
    Err(RequestError::new(ErrorCode::NotPermitted, text))
}

/// Calls a module for another module. A call starts a lazy module; the timeout covers its start.
///
/// # Errors
/// As [`crate::bus::Bus::call`].
pub(crate) async fn call_module(
    ctx: &RuntimeContext,
    callee: ModuleId,
    call: CallParams,
    timeout: Duration,
) -> Result<Value, RequestError> {
    wake(ctx, callee, &call.from, timeout).await;
    ctx.bus
        .call(|| ctx.os.now(), callee, json!(call), timeout)
        .await
}

/// Starts a lazy module and waits until it is connected.
async fn wake(ctx: &RuntimeContext, callee: ModuleId, caller: &str, timeout: Duration) {
    let is_running = ctx.snapshots.module(callee).lifecycle.info.state == State::Running;
    if ctx.spec(callee).start != StartMode::Lazy || is_running {
        return;
    }
    let wake = async {
        PendingChange::wake(ctx, callee, format!("a call of {caller}")).await;
        tokio::select! {
            () = ctx.bus.wait_connected(callee) => {}
            () = change::wait_until(ctx, callee, |now| {
                now.lifecycle.info.state != State::Running
            }) => {}
        }
    };
    let _or_late = tokio::time::timeout(timeout, wake).await;
}

impl Answer for BusPublish {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        Ok(MethodResult::Now(publish(
            ctx,
            run_of(caller)?.module,
            params,
        )?))
    }
}

impl Answer for BusSubscribe {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let run = run_of(caller)?;
        ctx.bus
            .subscribe(run.module, run.connection, params.subjects)?;
        Ok(MethodResult::Now(Empty {}))
    }
}

impl Answer for BusCall {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let caller = run_of(caller)?.module;
        let callee = callee(ctx, caller, &params.module)?;
        Ok(call_later(
            ctx,
            callee,
            ctx.name(caller).to_string(),
            params,
        ))
    }
}

fn call_later(
    ctx: &Arc<RuntimeContext>,
    callee: ModuleId,
    from: String,
    params: BusCallParams,
) -> MethodResult<Value> {
    let timeout = params
        .timeout_ms
        .map_or(CALL_TIMEOUT_DEFAULT, Duration::from_millis);
    let call = CallParams {
        from,
        method: params.method,
        params: params.params,
    };
    let ctx = Arc::clone(ctx);
    MethodResult::Later(Box::pin(async move {
        call_module(&ctx, callee, call, timeout.min(CALL_TIMEOUT_MAX)).await
    }))
}

impl Answer for BusSend {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        PublishParams { subject, payload }: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let operation = format!("publish {subject:.64}");
        let (from, at) = (&caller.label, ctx.os.wall_clock());
        let published = ctx.bus.publish(from, at, subject, payload)?;
        audit::record(ctx, caller, None, &operation);
        Ok(MethodResult::Now(published))
    }
}

impl Answer for BusRequest {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let callee = find_module(ctx, &params.module)?;
        let generation = ctx.snapshots.module(callee).lifecycle.info.generation;
        let operation = format!("call {:.64}", params.method);
        audit::record(ctx, caller, Some((callee, generation)), &operation);
        Ok(call_later(ctx, callee, caller.label.clone(), params))
    }
}

impl Answer for BusTapMethod {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let tap = BusTap::open(&ctx.bus, params.subjects)?;
        Ok(MethodResult::Stream(
            Empty {},
            Box::new(TapNotifications(tap)),
        ))
    }
}

struct TapNotifications(BusTap);

impl Notifications for TapNotifications {
    fn next(&mut self) -> NextNotification<'_> {
        Box::pin(async move {
            let line = self.0.next().await?;
            let event = serde_json::from_slice::<RpcRequest>(&line).map_err(internal);
            Some(event.map(|event| RpcRequest::notification(name::BUS_EVENT, event.params)))
        })
    }
}

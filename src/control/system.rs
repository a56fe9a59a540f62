//! `system.status` and `system.stop`.
//! Owns nothing: the status comes from the published state, the stop goes to the lifecycle.
//! Never waits for the stop: its end closes the connection.

use std::sync::Arc;
use std::time::Duration;

use mainstay_protocol::RequestError;
use mainstay_protocol::method::Empty;
use mainstay_protocol::methods::{SystemStatus, SystemStop};

use super::{Answer, Caller, MethodResult, view_builder};
use crate::actors::RuntimeContext;
use crate::actors::lifecycle::LifecycleMsg;

/// Requests the ordered stop of the system.
pub(crate) fn stop(ctx: &RuntimeContext, caller: &Caller, budget: Option<Duration>) {
    let requester = caller.label.clone();
    let lifecycle = &ctx.actor_refs.lifecycle;
    lifecycle.cast(LifecycleMsg::StopAll { budget, requester });
}

impl Answer for SystemStatus {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        _: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        Ok(MethodResult::Now(view_builder::system(ctx)))
    }
}

impl Answer for SystemStop {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        stop(ctx, caller, params.timeout_ms.map(Duration::from_millis));
        Ok(MethodResult::Now(Empty {}))
    }
}

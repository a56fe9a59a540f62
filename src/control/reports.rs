//! `module.ready`, `module.status`, `module.health`: a module reports about itself.
//! Owns nothing: reports go to the actor of the module and to the health actor.
//! Never accepts a report about another module or run.

use std::sync::Arc;

use mainstay_protocol::method::{Empty, StatusParams};
use mainstay_protocol::methods::{ModuleHealth, ModuleReady, ModuleStatus};
use mainstay_protocol::{ErrorCode, HealthStatus, RequestError};

use super::caller::ModuleRun;
use super::{Answer, Caller, MethodResult};
use crate::actors::RuntimeContext;
use crate::actors::health::HealthMsg;
use crate::actors::module::ModuleMsg;

/// Returns the run of a caller that is a module.
///
/// # Errors
/// `not_permitted` for every other caller.
pub(super) fn run_of(caller: &Caller) -> Result<ModuleRun, RequestError> {
    caller.module.ok_or_else(|| {
        let text = "cannot answer: the method belongs to a module's own connection";
        RequestError::new(ErrorCode::NotPermitted, text)
    })
}

impl Answer for ModuleReady {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        _: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        report(ctx, caller, |generation| ModuleMsg::Ready { generation })
    }
}

impl Answer for ModuleStatus {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        StatusParams { text }: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        report(ctx, caller, |generation| ModuleMsg::Status {
            generation,
            text,
        })
    }
}

/// Sends a report of the caller's run to the actor of its module.
fn report(
    ctx: &RuntimeContext,
    caller: &Caller,
    msg: impl FnOnce(u64) -> ModuleMsg,
) -> Result<MethodResult<Empty>, RequestError> {
    let run = run_of(caller)?;
    let actor = ctx.actor_refs.module(run.module);
    actor.cast(msg(run.generation));
    Ok(MethodResult::Now(Empty {}))
}

impl Answer for ModuleHealth {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let ModuleRun {
            module, generation, ..
        } = run_of(caller)?;
        if !HealthStatus::ALL.contains(&params.status) {
            let status = params.status;
            let text = format!("cannot read the report: this version has no status {status}");
            return Err(RequestError::new(ErrorCode::InvalidParams, text));
        }
        ctx.actor_refs.health.cast(HealthMsg::SelfReported {
            module,
            generation,
            report: params,
        });
        Ok(MethodResult::Now(Empty {}))
    }
}

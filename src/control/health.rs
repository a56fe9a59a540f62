//! `health.report`: how the system and its modules are, with scores, metrics and trends.
//! Never probes: it reads what was published.

use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_protocol::RequestError;
use mainstay_protocol::health::SystemHealth;
use mainstay_protocol::method::PageParams;
use mainstay_protocol::methods::HealthReports;

use super::modules::find_module;
use super::paging::page;
use super::{Answer, Caller, MethodResult, view_builder};
use crate::actors::RuntimeContext;

impl Answer for HealthReports {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<SystemHealth>, RequestError> {
        let build = |ids: &[ModuleId]| view_builder::system_health(ctx, ids);
        if let Some(module) = params.module {
            let module = find_module(ctx, &module)?;
            return Ok(MethodResult::Now(build(&[module])));
        }
        let requested = PageParams {
            after: params.after,
            limit: params.limit,
        };
        let order: Vec<ModuleId> = ctx.plan().ids().collect();
        Ok(MethodResult::Now(page(ctx, &order, &requested, build)?))
    }
}

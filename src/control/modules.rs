//! `module.list` and `module.get`: views of modules, from the published state.
//! Never changes a module: `change` does.

use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_protocol::methods::{ModuleGet, ModuleList};
use mainstay_protocol::{ErrorCode, ModuleView, RequestError};

use super::paging::page;
use super::{Answer, Caller, MethodResult, view_builder};
use crate::actors::RuntimeContext;

/// Returns the module with this name.
///
/// # Errors
/// `unknown_module`, with the nearest name.
pub(crate) fn find_module(ctx: &RuntimeContext, module: &str) -> Result<ModuleId, RequestError> {
    ctx.find(module).ok_or_else(|| {
        let near = ctx
            .plan()
            .modules()
            .map(|spec| (strsim::osa_distance(&spec.name, module), &spec.name))
            .min()
            .filter(|(distance, name)| *distance <= name.len() / 3 + 1)
            .map_or_else(
                || "; `mainstay status` lists all".to_owned(),
                |(_, name)| format!("; did you mean {name}?"),
            );
        let text = format!("cannot find a module named {module:.64}{near}");
        RequestError::new(ErrorCode::UnknownModule, text)
    })
}

/// The view of one module.
///
/// # Errors
/// `unknown_module`.
pub(crate) fn get(ctx: &RuntimeContext, module: &str) -> Result<ModuleView, RequestError> {
    Ok(view_builder::module(ctx, find_module(ctx, module)?))
}

/// The views of all modules, in the order of the plan.
pub(crate) fn list(ctx: &RuntimeContext) -> Vec<ModuleView> {
    ctx.plan()
        .ids()
        .map(|id| view_builder::module(ctx, id))
        .collect()
}

impl Answer for ModuleList {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let order: Vec<ModuleId> = ctx.plan().ids().collect();
        let views = |ids: &[ModuleId]| -> Vec<ModuleView> {
            ids.iter()
                .map(|id| view_builder::module(ctx, *id))
                .collect()
        };
        Ok(MethodResult::Now(page(ctx, &order, &params, views)?))
    }
}

impl Answer for ModuleGet {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        Ok(MethodResult::Now(get(ctx, &params.module)?))
    }
}

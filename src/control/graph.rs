//! `graph`: the modules of the plan in start order, and their dependencies.
//! Never leaves out an edge of a module that it lists.

use std::sync::Arc;

use mainstay_protocol::RequestError;
use mainstay_protocol::methods::Graph;

use super::paging::page;
use super::{Answer, Caller, MethodResult, view_builder};
use crate::actors::RuntimeContext;

impl Answer for Graph {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let graph = |ids: &[_]| view_builder::graph(ctx, ids);
        Ok(MethodResult::Now(page(
            ctx,
            ctx.plan().order(),
            &params,
            graph,
        )?))
    }
}

//! `why`.
//! Owns nothing: the chain of events comes from the journal.
//! Never blocks the runtime: the journal is read on another thread.

use std::sync::Arc;

use mainstay_protocol::RequestError;
use mainstay_protocol::methods::Why;

use super::{Answer, Caller, MethodResult, internal, modules};
use crate::actors::RuntimeContext;

impl Answer for Why {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let view = modules::get(ctx, &params.module)?;
        let ctx = Arc::clone(ctx);
        let why = tokio::task::spawn_blocking(move || {
            crate::journal::why(ctx.recorder.journal(), &view, ctx.os.wall_clock())
        });
        Ok(MethodResult::Now(why.await.map_err(internal)?))
    }
}

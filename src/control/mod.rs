//! What can be requested of a running mainstay, from the name of a method to its result.
//! Owns permission, rate limit, waiting and the log of changes, once for sockets and applications.
//! Never reads bytes, never decides about a module: requests go to the actors.
//!
//! A method is a row of [`mainstay_protocol::methods`] and an [`Answer`] in the file of its family.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mainstay_protocol::methods::{self, Method, MethodInfo};
use mainstay_protocol::{ErrorCode, RequestError, RpcRequest};
use serde_json::{Value, json};
use tracing::Instrument;

use crate::actors::RuntimeContext;

pub(crate) mod accounts;
mod audit;
pub(crate) mod bus;
pub(crate) mod caller;
pub(crate) mod change;
mod chaos;
pub(crate) mod config;
mod config_change;
pub(crate) mod events;
pub(crate) mod graph;
mod health;
mod hold;
pub(crate) mod logs;
mod metrics;
pub(crate) mod modules;
mod paging;
pub(crate) mod refusals;
pub(crate) mod reload;
pub(crate) mod reports;
mod signal;
pub(crate) mod system;
mod upgrade;
pub(crate) mod view_builder;
pub(crate) mod why;

pub(crate) use caller::Caller;

/// How a method is answered.
pub(crate) trait Answer: Method {
    /// Answers one request. The caller may make it: that was checked.
    fn answer(
        ctx: &Arc<RuntimeContext>,
        caller: &Caller,
        params: Self::Params,
    ) -> impl Future<Output = Result<MethodResult<Self::Result>, RequestError>> + Send;
}

/// The answer to a request.
pub(crate) enum MethodResult<T> {
    /// The result.
    Now(T),
    /// The result, when it is reached; other requests of the connection need not wait for it.
    Later(Pin<Box<dyn Future<Output = Result<T, RequestError>> + Send>>),
    /// The result, then notifications until the stream ends.
    Stream(T, Box<dyn Notifications>),
}

/// Notifications after a result.
pub(crate) trait Notifications: Send {
    /// Returns the next one; None: the stream has ended. An error is the last item.
    fn next(&mut self) -> NextNotification<'_>;
}

/// The future of [`Notifications::next`].
pub(crate) type NextNotification<'a> =
    Pin<Box<dyn Future<Output = Option<Result<RpcRequest, RequestError>>> + Send + 'a>>;

/// A result as JSON: written from the typed value, never a tree of values.
pub(crate) struct ResultBody(pub(crate) Vec<u8>);

impl ResultBody {
    fn of(result: &impl serde::Serialize) -> ResultBody {
        // Protocol types have string keys and serialisers that do not fail.
        ResultBody(serde_json::to_vec(result).unwrap_or_else(|_| b"null".to_vec()))
    }
}

/// Why a request has no result.
pub(crate) struct Refused {
    /// The error to return.
    pub(crate) error: RequestError,
    /// The caller has been refused too often: its connection is to be closed.
    pub(crate) close: bool,
}

impl From<RequestError> for Refused {
    fn from(error: RequestError) -> Refused {
        Refused {
            error,
            close: false,
        }
    }
}

/// Answers a request of a client that speaks JSON.
///
/// # Errors
/// Every error code of the protocol.
pub(crate) async fn answer(
    ctx: &Arc<RuntimeContext>,
    caller: &Caller,
    method: &str,
    params: Value,
) -> Result<MethodResult<ResultBody>, Refused> {
    let Some(info) = methods::find(method) else {
        return Err(refusals::refuse(
            ctx,
            caller,
            method,
            unknown_method(method),
        ));
    };
    permit(ctx, caller, info)?;
    let answer = dispatch(ctx, caller, info, params);
    Ok(answer.instrument(audit_span(caller, info)).await?)
}

/// Requests `M` from this process and waits for its result.
///
/// # Errors
/// Those of the method.
pub(crate) async fn request<M: Answer>(
    ctx: &Arc<RuntimeContext>,
    caller: &Caller,
    params: M::Params,
) -> Result<M::Result, RequestError> {
    permit(ctx, caller, M::INFO).map_err(|refused| refused.error)?;
    let answer = M::answer(ctx, caller, params).instrument(audit_span(caller, M::INFO));
    match answer.await? {
        MethodResult::Now(result) | MethodResult::Stream(result, _) => Ok(result),
        MethodResult::Later(result) => result.await,
    }
}

/// Checks permission and allowance.
fn permit(ctx: &Arc<RuntimeContext>, caller: &Caller, info: &MethodInfo) -> Result<(), Refused> {
    if !caller.may(info) {
        let text = format!(
            "cannot answer {}: it needs level {}, this connection has {}",
            info.name, info.level, caller.level
        );
        let error = RequestError::new(ErrorCode::NotPermitted, text);
        return Err(refusals::refuse(ctx, caller, info.name, error));
    }
    if !info.effect.is_rate_limited() {
        return Ok(());
    }
    let per_second = ctx.configuration().system.ipc.requests_per_second;
    if !caller.take_request(per_second, ctx.os.now()) {
        let text = format!(
            "cannot answer {}: more than {per_second} requests a second; wait, or raise \
             ipc.requests_per_second",
            info.name,
        );
        return Err(RequestError::new(ErrorCode::RateLimited, text).into());
    }
    Ok(())
}

fn unknown_method(method: &str) -> RequestError {
    if mainstay_protocol::method::PLANNED_METHODS.contains(&method) {
        let text = format!("cannot answer {method}: it is not available yet");
        return RequestError::new(ErrorCode::NotAvailableYet, text);
    }
    let text = format!("cannot answer {method:.64}: there is no such method");
    RequestError::new(ErrorCode::UnknownMethod, text)
}

/// Log lines about a change name the request. A read leaves no trace.
fn audit_span(caller: &Caller, info: &MethodInfo) -> tracing::Span {
    if info.effect != methods::MethodEffect::Changes {
        return tracing::Span::none();
    }
    let span = tracing::info_span!("request", method = info.name, via = ?caller.via);
    span.in_scope(|| tracing::info!(requester = caller.label, "requested"));
    span
}

macro_rules! define_dispatch {
    ($(
        #[doc = $summary:literal]
        $method:ident $constant:ident $name:literal $level:ident $effect:ident
        $params:ty => $result:ty, $example:literal;
    )+) => {
        async fn dispatch(
            ctx: &Arc<RuntimeContext>,
            caller: &Caller,
            info: &MethodInfo,
            params: Value,
        ) -> Result<MethodResult<ResultBody>, RequestError> {
            match info.name {
                $($name => encoded::<methods::$method>(ctx, caller, params).await,)+
                other => Err(unknown_method(other)),
            }
        }
    };
}
mainstay_protocol::method_table!(define_dispatch);

async fn encoded<M: Answer>(
    ctx: &Arc<RuntimeContext>,
    caller: &Caller,
    params: Value,
) -> Result<MethodResult<ResultBody>, RequestError> {
    let params = if params.is_null() { json!({}) } else { params };
    let params = serde_json::from_value(params).map_err(|error| {
        let text = format!("cannot read the parameters of {}: {error}", M::INFO.name);
        RequestError::new(ErrorCode::InvalidParams, text)
    })?;
    Ok(match M::answer(ctx, caller, params).await? {
        MethodResult::Now(result) => MethodResult::Now(ResultBody::of(&result)),
        MethodResult::Later(result) => MethodResult::Later(Box::pin(async move {
            result.await.map(|result| ResultBody::of(&result))
        })),
        MethodResult::Stream(result, stream) => {
            MethodResult::Stream(ResultBody::of(&result), stream)
        }
    })
}

/// A failure inside of mainstay.
pub(crate) fn internal(error: impl std::fmt::Display) -> RequestError {
    RequestError::new(ErrorCode::Internal, error.to_string())
}

impl Answer for methods::Hello {
    async fn answer(
        _: &Arc<RuntimeContext>,
        _: &Caller,
        _: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let text = "cannot say hello twice on one connection";
        Err(RequestError::new(ErrorCode::InvalidRequest, text))
    }
}

//! `events.list` and `events.subscribe`.
//! Owns the end of a subscription: why it ended is its last message.
//! Never holds up the journal for a subscriber.

use std::sync::Arc;

use mainstay_protocol::method::{EventsParams, EventsResult, SubscribeResult, name};
use mainstay_protocol::methods::{EventsList, EventsSubscribe};
use mainstay_protocol::{ErrorCode, Event, EventKind, RequestError, RpcRequest};
use serde_json::json;

use super::modules::find_module;
use super::paging::newest_that_fit;
use super::{Answer, Caller, MethodResult, NextNotification, Notifications, internal};
use crate::actors::RuntimeContext;
use crate::journal::{EventFilter, EventSubscription, SubscriptionError};

/// Lists events of the past.
///
/// # Errors
/// `unknown_module` for a module that neither exists nor has events, `internal` when the journal
/// cannot be read.
pub(crate) async fn list(
    ctx: &RuntimeContext,
    params: EventsParams,
) -> Result<Vec<Event>, RequestError> {
    check_kinds(&params.kinds)?;
    let module = params.module.clone();
    let events = ctx
        .recorder
        .journal()
        .list(params)
        .await
        .map_err(internal)?;
    // A module that was removed from the configuration still has a past.
    if let (true, Some(module)) = (events.is_empty(), &module) {
        find_module(ctx, module)?;
    }
    Ok(events)
}

/// A filter for a kind of a newer mainstay would silently match nothing.
fn check_kinds(kinds: &[EventKind]) -> Result<(), RequestError> {
    let Some(kind) = kinds.iter().find(|kind| !EventKind::ALL.contains(kind)) else {
        return Ok(());
    };
    let text = format!("cannot filter events: this version has no kind {kind}");
    Err(RequestError::new(ErrorCode::InvalidParams, text))
}

impl Answer for EventsList {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let events = newest_that_fit(list(ctx, params).await?);
        Ok(MethodResult::Now(EventsResult { events }))
    }
}

impl Answer for EventsSubscribe {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        check_kinds(&params.kinds)?;
        if let Some(module) = &params.module {
            find_module(ctx, module)?;
        }
        let journal = ctx.recorder.journal();
        let seq = journal.committed();
        let filter = EventFilter::from(&params);
        let events = journal.subscribe(filter, params.since.or(Some(seq)));
        let stream = EventNotifications {
            events,
            ended: false,
        };
        Ok(MethodResult::Stream(
            SubscribeResult { seq },
            Box::new(stream),
        ))
    }
}

struct EventNotifications {
    events: EventSubscription,
    ended: bool,
}

impl Notifications for EventNotifications {
    fn next(&mut self) -> NextNotification<'_> {
        Box::pin(async move {
            if self.ended {
                return None;
            }
            let error = match self.events.recv().await {
                Ok(event) => return Some(Ok(RpcRequest::notification(name::EVENT, json!(event)))),
                Err(error) => error,
            };
            self.ended = true;
            let code = match &error {
                SubscriptionError::Lagged { .. } => ErrorCode::Timeout,
                SubscriptionError::Closed => ErrorCode::ShuttingDown,
                SubscriptionError::Unreadable(_) | SubscriptionError::Interrupted(_) => {
                    ErrorCode::Internal
                }
            };
            Some(Err(RequestError::new(code, error.to_string())))
        })
    }
}

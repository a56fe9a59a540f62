//! Requests that are refused: what they cost, and how the journal learns of them.
//! Owns the rule that a principal fills neither the journal nor the attention of the runtime.
//! Never records each refusal by itself: later ones are a count.

use std::sync::Arc;

use mainstay_protocol::{ErrorCode, EventKind, RequestError};
use serde_json::json;

use super::accounts::{Accounts, Principal, Report};
use super::{Caller, Refused};
use crate::actors::RuntimeContext;
use crate::actors::event_recorder::EventBuilder;

/// Refuses a request: spends the caller's allowance of refusals and records a denied one.
pub(crate) fn refuse(
    ctx: &Arc<RuntimeContext>,
    caller: &Caller,
    method: &str,
    error: RequestError,
) -> Refused {
    let Some(accounts) = &caller.accounts else {
        return error.into();
    };
    if error.data.code == ErrorCode::NotPermitted {
        record(ctx, accounts, caller.principal, method, Some(&caller.label));
    }
    if accounts.take_refusal(caller.principal, ctx.os.now()) {
        return error.into();
    }
    let text = format!(
        "{}; too many requests were refused: the connection is closed",
        error.message
    );
    Refused {
        error: RequestError::new(ErrorCode::RateLimited, text),
        close: true,
    }
}

/// Records a refusal of a principal: the first at once, later ones as a count within a minute.
pub(crate) fn record(
    ctx: &Arc<RuntimeContext>,
    accounts: &Arc<Accounts>,
    principal: Principal,
    method: &str,
    client: Option<&str>,
) {
    let delay = match accounts.report(principal, ctx.os.now()) {
        Report::Now => return write(ctx, 1, method, client),
        Report::Counted => return,
        Report::After(delay) => delay,
    };
    let (ctx, accounts) = (Arc::downgrade(ctx), Arc::downgrade(accounts));
    let (method, client) = (method.to_owned(), client.map(str::to_owned));
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        if let (Some(ctx), Some(accounts)) = (ctx.upgrade(), accounts.upgrade()) {
            let count = accounts.take_refusals(principal, ctx.os.now());
            write(&ctx, count, &method, client.as_deref());
        }
    });
}

fn write(ctx: &RuntimeContext, count: u64, method: &str, client: Option<&str>) {
    let mut payload = json!({ "code": ErrorCode::NotPermitted, "method": method });
    if let Some(client) = client {
        payload["client"] = json!(client);
    }
    if count > 1 {
        payload["count"] = json!(count);
    }
    let event = EventBuilder::of(EventKind::ClientRefused).payload(payload);
    ctx.recorder.record(event);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mainstay_protocol::Event;
    use mainstay_protocol::method::EventsParams;

    use super::*;
    use crate::actors::tests::{Rig, TWO};

    #[tokio::test(start_paused = true)]
    async fn the_first_refusal_is_recorded_at_once_and_the_others_as_a_count() {
        let rig = Rig::start(TWO).await;
        let accounts = Arc::new(Accounts::default());
        let refuse = |uid| {
            record(
                &rig.ctx,
                &accounts,
                Principal::User(uid),
                "module.stop",
                None,
            )
        };
        (0..100).for_each(|_| refuse(7));
        refuse(8);
        tokio::time::sleep(Duration::from_secs(61)).await;
        let params = EventsParams {
            kinds: vec![EventKind::ClientRefused],
            ..EventsParams::default()
        };
        let journal = rig.ctx.recorder.journal().clone();
        let events = journal.list(params).await.expect("events");
        let count = |event: &Event| event.payload["count"].as_u64().unwrap_or(1);
        let counts: Vec<u64> = events.iter().map(count).collect();
        assert_eq!(counts, [1, 1, 99]);
    }
}

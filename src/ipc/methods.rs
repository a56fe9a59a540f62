//! Each method: from its parameters to its answer.
//! Owns nothing. Reads come from the picture and the journal, changes go to the lifecycle.
//! Never checks permission: the connection did.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::Operation;
use mainstay_protocol::config::{ConfigGetParams, ConfigValues};
use mainstay_protocol::method::{
    BusCallParams, BusSubscribeParams, CallParams, ChangeParams, EventsParams, EventsResult,
    HealthReport, LogLines, LogsParams, ModuleParams, PageParams, PublishParams, StatusParams,
    StopParams, Subscribed, name,
};
use mainstay_protocol::rpc::{Reply, RequestId};
use mainstay_protocol::{MAX_LINE_BYTES, ModuleView, Refusal, RefusalCode, Request};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::bus::encode;
use super::connection::{Session, params};
use super::follow::Piece;
use super::requests::{
    Change, call_module, callee, config_values, find, internal, last_lines, why,
};
use super::view;
use crate::actors::House;
use crate::actors::health::HealthMsg;
use crate::actors::lifecycle::LifecycleMsg;
use crate::actors::module::ModuleMsg;
use crate::config::LogFormat;
use crate::journal::{Ended, Filter};

/// What a method answers.
pub(super) enum Answer {
    /// This.
    Now(Body),
    /// A task answers when it is done.
    Later,
}

/// `bus.call`, when the caller does not say, and at most.
const CALL_TIMEOUT: (u64, u64) = (5_000, 60_000);

/// What a result may take of a line: the rest of it is the reply around it.
const ROOM: usize = MAX_LINE_BYTES - 4096;

type Answered = Result<Answer, Refusal>;

/// The result of a call as it goes out: written from the typed value, never a tree of values.
pub(super) struct Body(Vec<u8>);

impl Body {
    fn of(value: &impl serde::Serialize) -> Body {
        // Our own views have string keys and no failing serialisers.
        Body(serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec()))
    }

    /// The whole line of a success.
    pub(super) fn line(&self, id: &RequestId) -> Vec<u8> {
        let mut line = br#"{"jsonrpc":"2.0","id":"#.to_vec();
        line.reserve(self.0.len() + 64);
        match id {
            RequestId::Number(number) => line.extend_from_slice(number.to_string().as_bytes()),
            RequestId::Text(text) => line.extend_from_slice(json!(text).to_string().as_bytes()),
        }
        line.extend_from_slice(br#","result":"#);
        line.extend_from_slice(&self.0);
        line.extend_from_slice(b"}\n");
        line
    }
}

fn now(value: impl serde::Serialize) -> Answered {
    Ok(Answer::Now(Body::of(&value)))
}

/// Answers one request.
pub(super) async fn answer(
    session: &mut Session,
    id: Option<RequestId>,
    method: &str,
    raw: Value,
) -> Answered {
    let house = Arc::clone(&session.house);
    match method {
        name::SYSTEM_STATUS => now(view::system(&house)),
        name::MODULE_LIST => {
            let order: Vec<ModuleId> = house.plan.ids().collect();
            let modules = |ids: &[ModuleId]| -> Vec<ModuleView> {
                ids.iter().map(|id| view::module(&house, *id)).collect()
            };
            page(&house, &order, &params(method, raw)?, modules)
        }
        name::MODULE_GET => {
            let ModuleParams { module } = params(method, raw)?;
            now(view::module(&house, find(&house, &module)?))
        }
        name::MODULE_START => change(session, id, Operation::Start, params(method, raw)?).await,
        name::MODULE_STOP => change(session, id, Operation::Stop, params(method, raw)?).await,
        name::MODULE_RESTART => change(session, id, Operation::Restart, params(method, raw)?).await,
        name::SYSTEM_STOP => {
            let StopParams { timeout_ms } = params(method, raw)?;
            let budget = timeout_ms.map(Duration::from_millis);
            let actor = session.actor.clone();
            house
                .switchboard
                .lifecycle
                .cast(LifecycleMsg::StopAll { budget, actor });
            now(json!({}))
        }
        name::EVENTS_LIST => {
            let params: EventsParams = params(method, raw)?;
            let named = params.module.clone();
            let events = house
                .chronicle
                .journal()
                .list(params)
                .await
                .map_err(internal)?;
            // One that was taken out of the configuration still has a past.
            if let (true, Some(module)) = (events.is_empty(), &named) {
                find(&house, module)?;
            }
            let events = newest_that_fit(events);
            now(EventsResult { events })
        }
        name::EVENTS_SUBSCRIBE => subscribe(session, params(method, raw)?),
        name::LOGS_READ => logs(session, params(method, raw)?).await,
        name::WHY => {
            let ModuleParams { module } = params(method, raw)?;
            now(why(&house, find(&house, &module)?).await?)
        }
        name::GRAPH => page(&house, house.plan.order(), &params(method, raw)?, |ids| {
            view::graph(&house, ids)
        }),
        name::CONFIG_GET => {
            let ConfigGetParams { path } = params(method, raw)?;
            let values = config_values(&house, &path.unwrap_or_default())?;
            now(ConfigValues { values })
        }
        _ => own(session, id, method, raw),
    }
}

/// Everything, or the part of it that is asked for and fits into a line.
fn page<T: serde::Serialize>(
    house: &House,
    order: &[ModuleId],
    asked: &PageParams,
    of: impl Fn(&[ModuleId]) -> T,
) -> Answered {
    let after = asked.after.as_ref().map(|after| find(house, after));
    let after = after.transpose()?;
    let before = order.iter().position(|id| Some(*id) == after);
    let rest = &order[before.map_or(0, |at| at + 1)..];
    let mut count = asked
        .limit
        .unwrap_or(usize::MAX)
        .clamp(1, rest.len().max(1));
    loop {
        let body = Body::of(&of(&rest[..count.min(rest.len())]));
        // Who asks for all gets all, or is told that it does not fit.
        if *asked == PageParams::default() || count == 1 || body.0.len() <= ROOM {
            return Ok(Answer::Now(body));
        }
        count /= 2;
    }
}

/// A module's own methods.
fn own(session: &mut Session, id: Option<RequestId>, method: &str, raw: Value) -> Answered {
    let house = Arc::clone(&session.house);
    let Some((module, generation)) = session.module else {
        return Err(unknown(method));
    };
    match method {
        name::HELLO => {
            let text = "cannot say hello twice on one connection";
            Err(Refusal::new(RefusalCode::InvalidRequest, text))
        }
        name::MODULE_READY => {
            house
                .switchboard
                .module(module)
                .cast(ModuleMsg::Ready { generation });
            now(json!({}))
        }
        name::MODULE_STATUS => {
            let StatusParams { text } = params(method, raw)?;
            house
                .switchboard
                .module(module)
                .cast(ModuleMsg::Status { generation, text });
            now(json!({}))
        }
        name::MODULE_HEALTH => {
            let report: HealthReport = params(method, raw)?;
            let fed = HealthMsg::Fed {
                module,
                generation,
                health: report.status,
            };
            house.switchboard.health.cast(fed);
            now(json!({}))
        }
        name::BUS_PUBLISH => {
            let PublishParams { subject, payload } = params(method, raw)?;
            now(house
                .bus
                .publish(module, house.os.wall_clock(), subject, payload)?)
        }
        name::BUS_SUBSCRIBE => {
            let BusSubscribeParams { subjects } = params(method, raw)?;
            house.bus.subscribe(module, session.id, subjects)?;
            now(json!({}))
        }
        name::BUS_CALL => bus_call(session, id, module, params(method, raw)?),
        _ => Err(unknown(method)),
    }
}

fn unknown(method: &str) -> Refusal {
    let text = format!("cannot answer {method}: it belongs to a module's own connection");
    Refusal::new(RefusalCode::NotPermitted, text)
}

async fn change(
    session: &mut Session,
    id: Option<RequestId>,
    wish: Operation,
    params: ChangeParams,
) -> Answered {
    let house = Arc::clone(&session.house);
    let change = Change::make(&house, wish, &params, session.actor.clone()).await?;
    if params.dry_run || !params.wait {
        return now(change.result(&house));
    }
    let outbox = session.outbox.clone();
    session.go_on(async move {
        change.reached(&house).await;
        if let Some(id) = id {
            let line = Body::of(&change.result(&house)).line(&id);
            let _reader_left = outbox.send(line).await;
        }
    })?;
    Ok(Answer::Later)
}

fn subscribe(session: &mut Session, params: EventsParams) -> Answered {
    if let Some(module) = &params.module {
        find(&session.house, module)?;
    }
    let journal = session.house.chronicle.journal();
    let seq = journal.committed();
    let filter = Filter {
        kinds: params.kinds,
        module: params.module,
    };
    let mut events = journal.subscribe(filter, params.since.or(Some(seq)));
    let outbox = session.outbox.clone();
    session.go_on(async move {
        loop {
            let line = match events.recv().await {
                Ok(event) => encode(&Request::notification(name::EVENT, json!(event))),
                Err(ended) => {
                    let code = match &ended {
                        Ended::Lagged { .. } => RefusalCode::Timeout,
                        Ended::Closed => RefusalCode::ShuttingDown,
                        Ended::Unreadable(_) | Ended::Interrupted(_) => RefusalCode::Internal,
                    };
                    let last = Reply::refusal(None, Refusal::new(code, ended.to_string()));
                    let _reader_left = outbox.send(encode(&last)).await;
                    return;
                }
            };
            if outbox.send(line).await.is_err() {
                return;
            }
        }
    })?;
    now(Subscribed { seq })
}

async fn logs(session: &mut Session, params: LogsParams) -> Answered {
    let house = Arc::clone(&session.house);
    let id = find(&house, &params.module)?;
    let json = house.configuration.system.logs.format == LogFormat::Json;
    // Followed first and read then: a line may come twice at the seam, never be missed.
    let following = params.follow.then(|| Following::begin(&house, id));
    if following.is_some() {
        house.os.flush_output(house.name(id)).await;
    }
    let lines = last_lines(&house, id, params.lines).await?;
    let module = params.module;
    if let Some(mut following) = following {
        let (outbox, module) = (session.outbox.clone(), module.clone());
        session.go_on(async move {
            while let Some(piece) = following.pieces.recv().await {
                let lines = piece.text.lines().map(str::to_owned).collect();
                let lines = log_lines(module.clone(), lines, json, piece.dropped_bytes);
                let line = encode(&Request::notification(name::LOG, json!(lines)));
                if outbox.send(line).await.is_err() {
                    break;
                }
            }
        })?;
    }
    now(log_lines(module, lines, json, 0))
}

/// Lines as the wire shows them, the newest that fit; with `json` also the objects they are.
fn log_lines(module: String, lines: Vec<String>, json: bool, dropped_bytes: u64) -> LogLines {
    if !json {
        let lines = newest_that_fit(lines);
        return LogLines {
            module,
            lines,
            records: Vec::new(),
            dropped_bytes,
        };
    }
    let object = |line: &str| serde_json::from_str(line).ok().filter(Value::is_object);
    let both = lines.into_iter().map(|line| {
        let record = object(&line);
        (line, record)
    });
    let (lines, records) = newest_that_fit(both.collect()).into_iter().unzip();
    LogLines {
        module,
        lines,
        records,
        dropped_bytes,
    }
}

/// A follower of a module's output; the tap is closed with the last one, however it ends.
struct Following {
    house: Arc<House>,
    id: ModuleId,
    pieces: mpsc::Receiver<Piece>,
}

impl Following {
    fn begin(house: &Arc<House>, id: ModuleId) -> Following {
        let pieces = house.bus.follow(&*house.os, house.name(id), id);
        Following {
            house: Arc::clone(house),
            id,
            pieces,
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.pieces.close();
        self.house
            .bus
            .release_tap(&*self.house.os, self.house.name(self.id), self.id);
    }
}

/// As many of the newest as a reply has room for: a line of the protocol is bounded.
fn newest_that_fit<T: serde::Serialize>(mut items: Vec<T>) -> Vec<T> {
    let mut taken = 0;
    let fits = items.iter().rev().take_while(|item| {
        taken += encode(item).len(); // with its newline, for the comma
        taken <= ROOM
    });
    let too_many = items.len() - fits.count();
    items.drain(..too_many);
    items
}

fn bus_call(
    session: &mut Session,
    id: Option<RequestId>,
    caller: ModuleId,
    BusCallParams {
        module,
        method,
        params,
        timeout_ms,
    }: BusCallParams,
) -> Answered {
    let house = Arc::clone(&session.house);
    let callee = callee(&house, caller, &module)?;
    let limit = Duration::from_millis(timeout_ms.unwrap_or(CALL_TIMEOUT.0).min(CALL_TIMEOUT.1));
    let from = house.name(caller).to_owned();
    let outbox = session.outbox.clone();
    session.go_on(async move {
        let call = CallParams {
            from,
            method,
            params,
        };
        let result = call_module(&house, callee, call, limit).await;
        let Some(id) = id else { return };
        let reply = match result {
            Ok(result) => Reply::success(id, result),
            Err(refusal) => Reply::refusal(Some(id), refusal),
        };
        let _caller_left = outbox.send(encode(&reply)).await;
    })?;
    Ok(Answer::Later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_its_line_says_what_the_protocol_says() {
        let value = json!({ "a": [1, null, "\"\n"], "b": { "c": 0.5 } });
        for id in [
            RequestId::Number(u64::MAX),
            RequestId::Text("a \"text\"\n".to_owned()),
        ] {
            let line = Body::of(&value).line(&id);
            let read: Value = serde_json::from_slice(&line).expect("JSON");
            assert_eq!(read, json!(Reply::success(id, value.clone())));
            let newlines = line.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!((newlines, line.last()), (1, Some(&b'\n')));
        }
    }
}

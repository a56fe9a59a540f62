//! Each method: from its parameters to its answer.
//! Owns nothing. Reads come from the picture and the journal, changes go to the lifecycle.
//! Never checks permission: the connection did.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::Wish;
use mainstay_policy::spec::Start;
use mainstay_protocol::method::{
    self, BusCallParams, BusSubscribeParams, CallParams, ChangeParams, ChangeResult, EventsParams,
    EventsResult, HealthReport, LogLines, LogsParams, ModuleParams, PublishParams, StatusParams,
    StopParams, Subscribed, name,
};
use mainstay_protocol::rpc::{Reply, RequestId};
use mainstay_protocol::{MAX_LINE_BYTES, Refusal, RefusalCode, Request, State};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::bus::encode;
use super::connection::{Session, params};
use super::follow::Piece;
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
    Now(Value),
    /// A task answers when it is done.
    Later,
}

/// How long the actors may take to publish a change.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long `wait` may take beyond the module's own timeouts.
const WAIT_MARGIN: Duration = Duration::from_secs(30);
/// `bus.call`, when the caller does not say, and at most.
const CALL_TIMEOUT: (u64, u64) = (5_000, 60_000);

type Answered = Result<Answer, Refusal>;

fn now(value: impl serde::Serialize) -> Answered {
    Ok(Answer::Now(json!(value)))
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
        name::MODULE_LIST => now(view::modules(&house)),
        name::MODULE_GET => {
            let ModuleParams { module } = params(method, raw)?;
            now(view::module(&house, find(&house, &module)?))
        }
        name::MODULE_START => change(session, id, Wish::Start, params(method, raw)?).await,
        name::MODULE_STOP => change(session, id, Wish::Stop, params(method, raw)?).await,
        name::MODULE_RESTART => change(session, id, Wish::Restart, params(method, raw)?).await,
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
            let events = house
                .chronicle
                .journal()
                .list(params)
                .await
                .map_err(internal)?;
            let events = newest_that_fit(events);
            now(EventsResult { events })
        }
        name::EVENTS_SUBSCRIBE => subscribe(session, params(method, raw)?),
        name::LOGS_READ => logs(session, params(method, raw)?).await,
        name::WHY => {
            let ModuleParams { module } = params(method, raw)?;
            why(&house, find(&house, &module)?).await
        }
        name::GRAPH => now(view::graph(&house)),
        _ => own(session, id, method, raw),
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
                .publish(module, house.os.wall(), subject, payload)?)
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

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Internal, error.to_string())
}

fn find(house: &House, module: &str) -> Result<ModuleId, Refusal> {
    house.find(module).ok_or_else(|| {
        let near = house
            .ids
            .keys()
            .map(|known| (strsim::osa_distance(known, module), known))
            .min()
            .filter(|(distance, known)| *distance <= known.len() / 3 + 1)
            .map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"));
        let text = format!("cannot find a module named {module:.64}{near}");
        Refusal::new(RefusalCode::UnknownModule, text)
    })
}

async fn change(
    session: &mut Session,
    id: Option<RequestId>,
    wish: Wish,
    ChangeParams {
        module,
        dry_run,
        wait,
    }: ChangeParams,
) -> Answered {
    let house = Arc::clone(&session.house);
    let module = find(&house, &module)?;
    let (answer, preview) = oneshot::channel();
    house.switchboard.lifecycle.cast(LifecycleMsg::Preview {
        module,
        wish,
        answer,
    });
    let steps = soon(preview).await?;
    if dry_run {
        return now(ChangeResult {
            steps,
            module: view::module(&house, module),
        });
    }
    if house.picture.system().status == mainstay_protocol::SystemStatus::Stopping {
        let text = "cannot change a module: the system is stopping";
        return Err(Refusal::new(RefusalCode::ShuttingDown, text));
    }
    let before = house.picture.module(module).generation;
    let actor = session.actor.clone();
    let (published, noted) = oneshot::channel();
    house.switchboard.lifecycle.cast(LifecycleMsg::Wished {
        module,
        wish,
        actor,
        published,
    });
    soon(noted).await?;
    if !wait {
        return now(ChangeResult {
            steps,
            module: view::module(&house, module),
        });
    }
    let outbox = session.outbox.clone();
    session.go_on(async move {
        reached(&house, module, wish, before).await;
        if let Some(id) = id {
            let result = ChangeResult {
                steps,
                module: view::module(&house, module),
            };
            let _reader_left = outbox
                .send(encode(&Reply::success(id, json!(result))))
                .await;
        }
    })?;
    Ok(Answer::Later)
}

async fn soon<T>(answer: oneshot::Receiver<T>) -> Result<T, Refusal> {
    match tokio::time::timeout(PUBLISH_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => {
            let text =
                "cannot tell what came of it: a part of mainstay is being restarted; ask again";
            Err(Refusal::new(RefusalCode::Busy, text))
        }
        Err(_) => Err(Refusal::new(
            RefusalCode::Timeout,
            "cannot get an answer in time",
        )),
    }
}

/// Waits until a wish came to rest, at most as long as the module's own timeouts allow.
async fn reached(house: &House, module: ModuleId, wish: Wish, before: u64) {
    let spec = house.spec(module);
    let limit = spec.startup_timeout + spec.shutdown_timeout + WAIT_MARGIN;
    let mut edition = house.picture.edition();
    let came_to_rest = async {
        loop {
            edition.borrow_and_update();
            let now = house.picture.module(module);
            let at_rest = match wish {
                Wish::Stop => matches!(now.state, State::Stopped | State::NotStarted),
                Wish::Start | Wish::Restart => {
                    let renewed = wish == Wish::Start || now.generation > before;
                    match now.state {
                        State::Running | State::Failed | State::Backoff => renewed,
                        // A finished task.
                        State::Stopped => now.generation > before,
                        _ => false,
                    }
                }
            };
            if at_rest || edition.changed().await.is_err() {
                return;
            }
        }
    };
    let _or_late = tokio::time::timeout(limit, came_to_rest).await;
}

fn subscribe(session: &mut Session, params: EventsParams) -> Answered {
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
    let count = params.lines.unwrap_or(100).min(10_000);
    let settings = &house.configuration.system.logs;
    let path = settings.directory.join(format!("{}.log", params.module));
    let json = settings.format == LogFormat::Json;
    // Followed first and read then: a line may come twice at the seam, never be missed.
    let following = params.follow.then(|| Following::begin(&house, id));
    let lines = tokio::task::spawn_blocking(move || crate::os::tail::last_lines(&path, count))
        .await
        .map_err(internal)?
        .map_err(internal)?;
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
    let room = MAX_LINE_BYTES - 4096;
    let mut taken = 0;
    let fits = items.iter().rev().take_while(|item| {
        taken += encode(item).len(); // with its newline, for the comma
        taken <= room
    });
    let too_many = items.len() - fits.count();
    items.drain(..too_many);
    items
}

async fn why(house: &Arc<House>, module: ModuleId) -> Answered {
    let view = view::module(house, module);
    let house = Arc::clone(house);
    let why = tokio::task::spawn_blocking(move || {
        crate::journal::why(house.chronicle.journal(), &view, house.os.wall())
    });
    let why: method::Why = why.await.map_err(internal)?;
    now(why)
}

/// The first call starts a lazy module; what the call may take is all that is waited.
async fn wake_lazy(house: &House, callee: ModuleId, caller: &str, limit: Duration) {
    let asleep = house.picture.module(callee).state == State::NotStarted;
    if house.spec(callee).start != Start::Lazy || !asleep {
        return;
    }
    let (published, noted) = oneshot::channel();
    let actor = format!("a call of {caller}");
    let wish = LifecycleMsg::Wished {
        module: callee,
        wish: Wish::Start,
        actor,
        published,
    };
    house.switchboard.lifecycle.cast(wish);
    let up = async {
        let _noted = noted.await;
        reached(house, callee, Wish::Start, 0).await;
        house.bus.arrived(callee).await;
    };
    let _or_late = tokio::time::timeout(limit, up).await;
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
    let callee = find(&house, &module)?;
    let launch = house.launch(caller);
    if !launch.may_call.contains(&module) {
        let text = format!(
            "cannot let {} call {module}: add it to module.{}.may_call",
            house.name(caller),
            house.name(caller)
        );
        return Err(Refusal::new(RefusalCode::NotPermitted, text));
    }
    let limit = Duration::from_millis(timeout_ms.unwrap_or(CALL_TIMEOUT.0).min(CALL_TIMEOUT.1));
    let from = house.name(caller).to_owned();
    let outbox = session.outbox.clone();
    session.go_on(async move {
        wake_lazy(&house, callee, &from, limit).await;
        let call = json!(CallParams {
            from,
            method,
            params
        });
        let result = house.bus.call(&*house.os, callee, call, limit).await;
        let Some(id) = id else { return };
        let reply = match result {
            Ok(result) => Reply::success(id, result),
            Err(refusal) => Reply::refusal(Some(id), refusal),
        };
        let _caller_left = outbox.send(encode(&reply)).await;
    })?;
    Ok(Answer::Later)
}

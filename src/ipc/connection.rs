//! One connection: hello, then requests one after the other, replies and notifications behind them.
//! Owns its socket, its outbox (bounded) and what it subscribed to, for as long as it lasts.
//! Never waits for a reader: one that does not read for 5 seconds is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_protocol::method::{Hello, Welcome, level_of, name};
use mainstay_protocol::rpc::{Reply, RequestId};
use mainstay_protocol::{
    EventKind, Level, MAX_LINE_BYTES, Message, PROTOCOL, Refusal, RefusalCode, Request, State,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::allowance::Allowance;
use super::bus::encode;
use super::line::{Line, Lines};
use super::lobby::Place;
use super::methods;
use super::outbox::{Outbox, Outgoing};
use super::peer::Peer;
use crate::actors::House;
use crate::actors::chronicle::Entry;
use crate::os::transport::{self, ClientStream, ClientWriter};

/// A reader may take this long for one line.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Hello must come within this.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest hello: who says it may be anyone.
const HELLO_BYTES_MAX: usize = 16 * 1024;
/// Tasks (subscriptions, calls, waits) one connection may have at work.
const TASKS_MAX: usize = 64;

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// A number that no other connection of this process has.
pub(super) fn next_connection() -> u64 {
    NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed)
}

/// Which socket a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// People and programs; the level comes from who they are.
    Control,
    /// Modules; only a token opens it.
    Module,
}

/// Who this connection turned out to be.
pub(super) struct Session {
    pub(super) house: Arc<House>,
    pub(super) id: u64,
    pub(super) level: Level,
    /// The module and run its token named.
    pub(super) module: Option<(ModuleId, u64)>,
    /// For the journal: `cli 0.1.0 (uid 0, pid 7)`.
    pub(super) actor: String,
    pub(super) outbox: Outbox,
    pub(super) tasks: JoinSet<()>,
    allowance: Allowance,
    _seat: OwnedSemaphorePermit,
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    house: Arc<House>,
    stream: ClientStream,
    door: Door,
    peer: Option<(u32, u32, u32)>,
    mut place: Place,
) {
    let (read, write) = transport::split(stream);
    let (outbox, lines) = Outbox::new();
    let mut writer = tokio::spawn(write_lines(write, lines));
    let mut from = Lines::new(read, HELLO_BYTES_MAX);
    let greeting = tokio::select! {
        biased;
        line = tokio::time::timeout(HELLO_TIMEOUT, from.next()) => Ok(line),
        refusal = place.needed() => Err(refusal),
    };
    let lobby = Arc::clone(&place.lobby);
    let greeted = match greeting {
        Ok(Ok(Ok(Line::Text(line)))) => {
            greet(&house, &line, door, peer, outbox.clone(), place).await
        }
        Ok(Ok(Ok(Line::TooLong))) => Err((None, too_long(HELLO_BYTES_MAX))),
        Ok(Ok(Ok(Line::End) | Err(_)) | Err(_)) => {
            writer.abort();
            return;
        }
        Err(refusal) => Err((None, refusal)),
    };
    match greeted {
        Ok(mut session) => {
            from.allow(MAX_LINE_BYTES);
            let gone = tokio::select! {
                () = session.serve(&mut from) => false,
                _ = &mut writer => true,
            };
            session.end();
            if gone {
                return;
            }
        }
        Err((id, refusal)) => {
            if refusal.data.code == RefusalCode::NotPermitted
                && !has_left(&house, peer, &mut from).await
            {
                lobby.refused(&house);
            }
            let _reader_left = outbox.try_send(encode(&Reply::refusal(id, refusal)));
        }
    }
    // What was queued may still go out; the writer ends when the last outbox is dropped.
    drop(outbox);
    let _written = tokio::time::timeout(WRITE_TIMEOUT, writer).await;
}

async fn write_lines(mut to: ClientWriter, mut lines: mpsc::Receiver<Outgoing>) {
    while let Some(mut first) = lines.recv().await {
        let mut rest = Vec::new();
        // What else is ready goes with it: one system call for a burst.
        while first.line.len() < 64 * 1024
            && let Ok(more) = lines.try_recv()
        {
            Arc::make_mut(&mut first.line).extend_from_slice(&more.line);
            rest.push(more); // its room is taken until it is written
        }
        match tokio::time::timeout(WRITE_TIMEOUT, to.write_all(&first.line)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

type Refused = (Option<RequestId>, Refusal);

async fn greet(
    house: &Arc<House>,
    line: &[u8],
    door: Door,
    peer: Option<(u32, u32, u32)>,
    outbox: Outbox,
    place: Place,
) -> Result<Session, Refused> {
    let refuse = |id: Option<RequestId>, code, text: &str| (id, Refusal::new(code, text));
    let request = match Message::parse(line).map_err(|refusal| (None, refusal))? {
        Message::Request(request) if request.method == name::HELLO => request,
        Message::Request(request) => {
            let text = "cannot answer: the first call must be hello";
            return Err(refuse(request.id, RefusalCode::HelloFirst, text));
        }
        Message::Reply(_) => {
            let text = "cannot answer: the first call must be hello";
            return Err(refuse(None, RefusalCode::HelloFirst, text));
        }
    };
    let id = request.id.clone();
    let hello: Hello = serde_json::from_value(request.params).map_err(|error| {
        let text = format!("cannot read the parameters of hello: {error}");
        (id.clone(), Refusal::new(RefusalCode::InvalidParams, text))
    })?;
    if hello.protocol == 0 || hello.protocol > PROTOCOL {
        let text = format!(
            "cannot speak protocol {}: this is protocol {PROTOCOL}",
            hello.protocol
        );
        return Err((id, Refusal::new(RefusalCode::UnsupportedProtocol, text)));
    }
    let peer = peer.map(|(pid, uid, gid)| Peer { pid, uid, gid });
    let (level, module) =
        admit(house, &hello, door, peer).map_err(|refusal| (id.clone(), refusal))?;
    let seat = place.lobby.seat();
    let seat = seat.map_err(|refusal| (id.clone(), refusal))?;
    let welcome = Welcome {
        server: format!("mainstay {}", env!("CARGO_PKG_VERSION")),
        protocol: PROTOCOL,
        level,
        module: module.map(|(module, _)| house.name(module).to_owned()),
    };
    let who = peer.map_or_else(String::new, |p| format!(" (uid {}, pid {})", p.uid, p.pid));
    let client: String = hello
        .client
        .chars()
        .filter(|c| !c.is_control())
        .take(64)
        .collect();
    let per_second = house.configuration.system.ipc.requests_per_second;
    let session = Session {
        house: Arc::clone(house),
        id: next_connection(),
        level,
        module,
        actor: format!("{client}{who}"),
        outbox,
        tasks: JoinSet::new(),
        allowance: Allowance::new(per_second, f64::from(per_second)),
        _seat: seat,
    };
    if let Some((module, _)) = module {
        house.bus.join(module, session.id, session.outbox.clone());
    }
    if let Some(id) = id {
        session.send(&Reply::success(id, json!(welcome))).await;
    }
    Ok(session)
}

fn admit(
    house: &House,
    hello: &Hello,
    door: Door,
    peer: Option<Peer>,
) -> Result<(Level, Option<(ModuleId, u64)>), Refusal> {
    if let Some(token) = &hello.token {
        let (name, generation) = house.tokens.check(token).ok_or_else(invalid_token)?;
        let module = house.find(name).ok_or_else(invalid_token)?;
        let now = house.picture.module(module);
        let alive = house
            .os
            .live_process(name)
            .is_some_and(|alive| alive.generation == generation);
        // A module may be quicker than the news of its own start.
        let arriving = now.state == State::Starting && now.generation <= generation;
        if !alive && !arriving {
            return Err(invalid_token());
        }
        return Ok((Level::Module, Some((module, generation))));
    }
    let level = match (door, peer) {
        (Door::Control, Some(peer)) => peer.level(house),
        (Door::Module, _) | (_, None) => None,
    };
    match level {
        Some(level) if level > Level::Module => Ok((level, None)),
        _ => Err(Refusal::new(
            RefusalCode::NotPermitted,
            "cannot let you in: your user is not among [ipc] observers, operators or admins, or \
             you are inside a module and showed no token",
        )),
    }
}

/// Whether a client hung up and is gone before it got an answer: nobody was refused then.
async fn has_left<R: tokio::io::AsyncRead + Unpin>(
    house: &House,
    peer: Option<(u32, u32, u32)>,
    from: &mut Lines<R>,
) -> bool {
    let more = tokio::time::timeout(Duration::ZERO, from.next()).await;
    let hung_up = matches!(more, Ok(Ok(Line::End) | Err(_)));
    let gone = |(pid, _, _): (u32, u32, u32)| transport::ancestry(pid, house.holder_pid).is_empty();
    hung_up && peer.is_some_and(gone)
}

fn too_long(limit: usize) -> Refusal {
    let text = format!("cannot read a line of more than {limit} bytes");
    Refusal::new(RefusalCode::TooLong, text)
}

fn invalid_token() -> Refusal {
    let text = "cannot let you in: the token is not the one of a living run";
    Refusal::new(RefusalCode::InvalidToken, text)
}

/// The reply, or that it does not fit into a line.
fn fitting(method: &str, id: RequestId, result: &methods::Body) -> Vec<u8> {
    let line = result.line(&id);
    if line.len() <= MAX_LINE_BYTES {
        return line;
    }
    let text = format!(
        "cannot answer {method} in one line: it would have {} bytes of {MAX_LINE_BYTES}; ask \
         for less at a time",
        line.len()
    );
    let refusal = Refusal::new(RefusalCode::TooLong, text);
    encode(&Reply::refusal(Some(id), refusal))
}

impl Session {
    async fn serve<R: tokio::io::AsyncRead + Unpin>(&mut self, from: &mut Lines<R>) {
        loop {
            let line = match from.next().await {
                Ok(Line::Text(line)) => line,
                Ok(Line::TooLong) => {
                    self.send(&Reply::refusal(None, too_long(MAX_LINE_BYTES)))
                        .await;
                    return;
                }
                Ok(Line::End) | Err(_) => return,
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match Message::parse(&line) {
                Ok(Message::Request(request)) => self.answer(request).await,
                Ok(Message::Reply(reply)) => {
                    if let Some((module, _)) = self.module {
                        self.house.bus.answered(module, self.id, reply);
                    }
                }
                Err(refusal) => self.send(&Reply::refusal(None, refusal)).await,
            }
        }
    }

    async fn answer(
        &mut self,
        Request {
            id, method, params, ..
        }: Request,
    ) {
        let result = match self.allow(&method) {
            Ok(()) => {
                let span = self.span(id.as_ref(), &method);
                let answer = methods::answer(self, id.clone(), &method, params);
                answer.instrument(span).await
            }
            Err(refusal) => Err(refusal),
        };
        let Some(id) = id else { return };
        match result {
            Ok(methods::Answer::Now(result)) => {
                let line = fitting(&method, id, &result);
                let _reader_left = self.outbox.send(line).await;
            }
            Ok(methods::Answer::Later) => {}
            Err(refusal) => self.send(&Reply::refusal(Some(id), refusal)).await,
        }
    }

    /// Lines of the log about a change name the request. Looking leaves no trace.
    fn span(&self, id: Option<&RequestId>, method: &str) -> tracing::Span {
        if level_of(method) < Some(Level::Operate) {
            return tracing::Span::none();
        }
        let id = id.map(tracing::field::debug);
        let span = tracing::info_span!("request", connection = self.id, id, method);
        span.in_scope(|| tracing::info!(actor = self.actor, "asked for"));
        span
    }

    fn allow(&mut self, method: &str) -> Result<(), Refusal> {
        let Some(needed) = level_of(method) else {
            let known = mainstay_protocol::method::NOT_YET.contains(&method);
            let (code, text) = if known {
                let text = format!("cannot answer {method}: it is not available yet");
                (RefusalCode::NotAvailableYet, text)
            } else {
                let text = format!("cannot answer {method:.64}: there is no such method");
                (RefusalCode::UnknownMethod, text)
            };
            return Err(Refusal::new(code, text));
        };
        // A module has exactly its own methods, and a person has no module's.
        let permitted = match self.module {
            Some(_) => needed == Level::Module,
            None => needed > Level::Module && self.level >= needed,
        };
        // Looking and publishing are bounded by one request at a time; refusing a publish would
        // lose it.
        let own = self.module.is_some() && method != name::BUS_CALL;
        let free = permitted && (needed == Level::Observe || own);
        if !free && !self.allowance.take(self.house.os.now()) {
            let text = format!(
                "cannot answer {method}: more than {} requests a second",
                self.house.configuration.system.ipc.requests_per_second
            );
            return Err(Refusal::new(RefusalCode::RateLimited, text));
        }
        if !permitted {
            let entry = Entry::of(EventKind::ClientRefused).payload(json!({
                "code": RefusalCode::NotPermitted, "method": method, "client": self.actor,
            }));
            self.house.chronicle.tell(entry);
            let text = format!(
                "cannot answer {method}: it needs the level {needed}, this connection has {}",
                self.level
            );
            return Err(Refusal::new(RefusalCode::NotPermitted, text));
        }
        Ok(())
    }

    pub(super) async fn send(&self, message: &impl serde::Serialize) {
        let _reader_left = self.outbox.send(encode(message)).await;
    }

    /// Work that goes on beside the next requests; bounded.
    pub(super) fn go_on(
        &mut self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Refusal> {
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.len() >= TASKS_MAX {
            let text = format!("cannot do more than {TASKS_MAX} things at once on one connection");
            return Err(Refusal::new(RefusalCode::Busy, text));
        }
        self.tasks.spawn(work);
        Ok(())
    }

    fn end(mut self) {
        self.tasks.abort_all();
        if let Some((module, _)) = self.module {
            self.house.bus.leave(module, self.id);
        }
    }
}

/// The parameters of a method, or `invalid_params` with what is wrong.
pub(super) fn params<T: serde::de::DeserializeOwned>(
    method: &str,
    params: Value,
) -> Result<T, Refusal> {
    let params = if params.is_null() { json!({}) } else { params };
    serde_json::from_value(params).map_err(|error| {
        let text = format!("cannot read the parameters of {method}: {error}");
        Refusal::new(RefusalCode::InvalidParams, text)
    })
}

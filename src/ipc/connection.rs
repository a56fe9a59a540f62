//! One connection: hello, then requests in order, responses and notifications after them.
//! Owns its socket, its queue of lines (bounded) and its pending requests (bounded).
//! Never waits for a client that does not read: after 5 seconds the connection is closed.

use std::sync::Arc;
use std::time::Duration;

use mainstay_protocol::method::name;
use mainstay_protocol::methods;
use mainstay_protocol::rpc::Response;
use mainstay_protocol::{
    ErrorCode, MAX_LINE_BYTES, RequestError, RequestId, RpcMessage, RpcRequest,
};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWriteExt, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError, mpsc};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::handshake::Incoming;
use super::handshake_limit::HandshakePermit;
use super::line_reader::{LineReader, ReadLine};
use crate::actors::{RuntimeContext, features};
use crate::bus::line_queue::{LineQueue, QueuedLine, SharedBytes, encode};
use crate::control::accounts::STREAMS_MAX;
use crate::control::{self, Caller, MethodResult, Notifications, Refused, ResultBody, refusals};
use crate::os::transport::ClientStream;

/// Time a client has to take one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time a client has to send its hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that are passed over to see whether a client that is refused is there at all.
const CALLS_WITH_HELLO_MAX: usize = 16;
/// The longest hello: any user can send one.
const HELLO_BYTES_MAX: usize = 16 * 1024;
/// Bytes that are written with one system call, if that much is queued.
const WRITE_BATCH_BYTES: usize = 64 * 1024;
/// Requests and subscriptions of one connection that are pending.
const TASKS_MAX: usize = 64;

/// Serves a connection until it is closed.
pub(super) async fn serve(incoming: Incoming, stream: ClientStream, mut permit: HandshakePermit) {
    let (read, write) = tokio::io::split(stream);
    let (queue, lines) = LineQueue::new();
    let mut writer = tokio::spawn(write_lines(write, lines));
    let mut from = LineReader::new(read, HELLO_BYTES_MAX);
    let hello = tokio::select! {
        biased;
        line = tokio::time::timeout(HELLO_TIMEOUT, from.next()) => Ok(line),
        error = permit.evicted() => Err(error),
    };
    let identified = match hello {
        Ok(Ok(Ok(ReadLine::Text(line)))) => incoming.handshake(&line),
        Ok(Ok(Ok(ReadLine::TooLong))) => Err((None, too_long(HELLO_BYTES_MAX))),
        Ok(Ok(Ok(ReadLine::End | ReadLine::TooSlow | ReadLine::NoMemory) | Err(_)) | Err(_)) => {
            writer.abort();
            return;
        }
        Err(error) => Err((None, error)),
    };
    drop(permit);
    match identified {
        Ok((id, caller)) => {
            from.set_limit(MAX_LINE_BYTES);
            let memory = caller.memory().cloned();
            if let Some(memory) = &memory {
                from.share(Arc::clone(&memory.unfinished));
            }
            let queue = queue.clone();
            let queue = queue.sharing(memory.map(|memory| memory.unwritten));
            let mut session = Session::start(&incoming, caller, queue);
            if let Some(id) = id {
                let welcome = incoming.welcome(&session.caller);
                session.send(&Response::success(id, json!(welcome))).await;
            }
            if let Some(run) = &session.caller.module {
                features::on_connected(&session.ctx, run.module);
            }
            let is_disconnected = tokio::select! {
                () = session.serve(&mut from) => false,
                _ = &mut writer => true,
            };
            session.close();
            if is_disconnected {
                return;
            }
        }
        Err((id, error)) => {
            let is_closed = is_closed_after_calls(&mut from).await;
            incoming.refused(&error, is_closed);
            let _disconnected = queue.try_send(encode(&Response::refusal(id, error)));
        }
    }
    // What is queued is still written; the writer ends with the last queue.
    drop(queue);
    let _written = tokio::time::timeout(WRITE_TIMEOUT, writer).await;
}

/// Whether a client is gone after the calls that it sent with its hello.
async fn is_closed_after_calls<R: AsyncRead + Unpin>(from: &mut LineReader<R>) -> bool {
    for _ in 0..CALLS_WITH_HELLO_MAX {
        match tokio::time::timeout(Duration::ZERO, from.next()).await {
            Ok(Ok(ReadLine::Text(_))) => {}
            Ok(Ok(ReadLine::End) | Err(_)) => return true,
            _ => return false,
        }
    }
    false
}

async fn write_lines(mut to: WriteHalf<ClientStream>, mut lines: mpsc::Receiver<QueuedLine>) {
    while let Some(mut first) = lines.recv().await {
        let mut rest = Vec::new();
        while first.line.len() < WRITE_BATCH_BYTES
            && let Ok(more) = lines.try_recv()
        {
            Arc::make_mut(&mut first.line).extend_from_slice(&more.line);
            rest.push(more); // its share of the limit is released when it is written
        }
        match tokio::time::timeout(WRITE_TIMEOUT, to.write_all(&first.line)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

fn too_long(limit: usize) -> RequestError {
    let text = format!("cannot read a line of more than {limit} bytes");
    RequestError::new(ErrorCode::TooLong, text)
}

fn no_memory() -> RequestError {
    let text = "cannot read the line: unfinished lines of other connections of this user or \
                module fill the memory there is for them";
    RequestError::new(ErrorCode::RateLimited, text)
}

fn too_many_pending() -> Refused {
    let text = format!("cannot answer: {TASKS_MAX} requests of the connection are pending");
    RequestError::new(ErrorCode::Busy, text).into()
}

fn too_many_streams() -> Refused {
    let text = format!(
        "cannot subscribe: {STREAMS_MAX} subscriptions of the same user or module are open; \
         close one"
    );
    RequestError::new(ErrorCode::Busy, text).into()
}

/// The line of a result, or of the error that it does not fit.
fn response_line(id: &RequestId, ResultBody(result): &ResultBody) -> Vec<u8> {
    let mut line = br#"{"jsonrpc":"2.0","id":"#.to_vec();
    line.reserve(result.len() + 64);
    match id {
        RequestId::Number(number) => line.extend_from_slice(number.to_string().as_bytes()),
        RequestId::Text(text) => line.extend_from_slice(json!(text).to_string().as_bytes()),
    }
    line.extend_from_slice(br#","result":"#);
    line.extend_from_slice(result);
    line.extend_from_slice(b"}\n");
    if line.len() <= MAX_LINE_BYTES {
        return line;
    }
    let text = format!(
        "cannot answer in one line: the result has {} bytes, {MAX_LINE_BYTES} at most; request \
         less at a time",
        line.len()
    );
    let error = RequestError::new(ErrorCode::TooLong, text);
    encode(&Response::refusal(Some(id.clone()), error))
}

/// An identified client.
struct Session {
    ctx: Arc<RuntimeContext>,
    caller: Caller,
    queue: LineQueue,
    tasks: JoinSet<()>,
}

impl Session {
    fn start(incoming: &Incoming, mut caller: Caller, queue: LineQueue) -> Session {
        let ctx = Arc::clone(&incoming.ctx);
        if let Some(run) = &mut caller.module {
            run.connection = ctx.bus.join(run.module, queue.clone());
        }
        Session {
            ctx,
            caller,
            queue,
            tasks: JoinSet::new(),
        }
    }

    async fn serve<R: AsyncRead + Unpin>(&mut self, from: &mut LineReader<R>) {
        loop {
            let line = match from.next().await {
                Ok(ReadLine::Text(line)) => line,
                Ok(ReadLine::TooLong) => {
                    let error = too_long(MAX_LINE_BYTES);
                    return self.send(&Response::refusal(None, error)).await;
                }
                Ok(ReadLine::NoMemory) => {
                    return self.send(&Response::refusal(None, no_memory())).await;
                }
                Ok(ReadLine::TooSlow) => {
                    let text = "cannot read the line: it was not completed in time";
                    let error = RequestError::new(ErrorCode::Timeout, text);
                    return self.send(&Response::refusal(None, error)).await;
                }
                Ok(ReadLine::End) | Err(_) => return,
            };
            let is_open = if line.iter().all(u8::is_ascii_whitespace) {
                let text = "cannot read the message: the line is empty";
                let error = RequestError::new(ErrorCode::ParseError, text);
                self.refuse_unless_allowed(error).await
            } else {
                self.on_line(&line).await
            };
            if !is_open {
                return;
            }
        }
    }

    /// Ignores an empty line as long as the caller has refusals left.
    async fn refuse_unless_allowed(&mut self, error: RequestError) -> bool {
        let refused = refusals::refuse(&self.ctx, &self.caller, "", error);
        if refused.close {
            self.send(&Response::refusal(None, refused.error)).await;
        }
        !refused.close
    }

    /// Answers a line; false: the connection is to be closed.
    async fn on_line(&mut self, line: &[u8]) -> bool {
        match RpcMessage::parse(line) {
            Ok(RpcMessage::Request(request)) => self.on_request(request).await,
            Ok(RpcMessage::Reply(response)) => {
                if let Some(run) = self.caller.module {
                    self.ctx
                        .bus
                        .on_response(run.module, run.connection, response);
                }
                true
            }
            Err(error) => {
                let refused = refusals::refuse(&self.ctx, &self.caller, "", error);
                self.send_refused(None, refused).await
            }
        }
    }

    async fn on_request(&mut self, request: RpcRequest) -> bool {
        let RpcRequest {
            id, method, params, ..
        } = request;
        while self.tasks.try_join_next().is_some() {}
        let is_full = self.tasks.len() >= TASKS_MAX;
        if is_full && methods::find(&method).is_some_and(|it| it.effect.is_rate_limited()) {
            return self.send_refused(Some(id), too_many_pending()).await;
        }
        let _turn = self.log_turn(&method).await;
        // Before the result is built: all that wait to be read share a limit.
        let Ok(shared) = self.queue.reserve_shared(MAX_LINE_BYTES).await else {
            return false;
        };
        // Log lines about a change name the request as the client does.
        let span = tracing::info_span!("client", id = id.as_ref().map(tracing::field::debug));
        let answer = control::answer(&self.ctx, &self.caller, &method, params);
        match answer.instrument(span).await {
            Ok(MethodResult::Now(result)) => self.send_result(id.as_ref(), &result, shared).await,
            Ok(MethodResult::Later(result)) => {
                drop(shared);
                let queue = self.queue.clone();
                self.tasks.spawn(async move {
                    let result = result.await;
                    let Some(id) = id else { return };
                    let line = match result {
                        Ok(result) => response_line(&id, &result),
                        Err(error) => encode(&Response::refusal(Some(id), error)),
                    };
                    let _disconnected = queue.send(line).await;
                });
            }
            Ok(MethodResult::Stream(..)) if is_full => {
                drop(shared);
                return self.send_refused(Some(id), too_many_pending()).await;
            }
            Ok(MethodResult::Stream(result, stream)) => {
                let Ok(permit) = self.stream_permit() else {
                    drop(shared);
                    return self.send_refused(Some(id), too_many_streams()).await;
                };
                self.send_result(id.as_ref(), &result, shared).await;
                let sent = send_notifications(stream, self.queue.clone());
                self.tasks.spawn(async move {
                    let _permit = permit;
                    sent.await;
                });
            }
            Err(refused) => {
                drop(shared);
                return self.send_refused(Some(id), refused).await;
            }
        }
        true
    }

    /// Waits until no other log is read for the same principal, if this is a request for one.
    async fn log_turn(&self, method: &str) -> Option<OwnedSemaphorePermit> {
        let memory = self.caller.memory().filter(|_| method == name::LOGS_READ)?;
        Arc::clone(&memory.log_reads).acquire_owned().await.ok()
    }

    /// One subscription more of the same principal.
    fn stream_permit(&self) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        let memory = self.caller.memory();
        let permit = memory.map(|memory| Arc::clone(&memory.streams).try_acquire_owned());
        permit.transpose()
    }

    async fn send_result(&self, id: Option<&RequestId>, result: &ResultBody, shared: SharedBytes) {
        if let Some(id) = id {
            let line = response_line(id, result);
            let _disconnected = self.queue.send_reserved(line, shared).await;
        }
    }

    /// Sends an error; none for a request without an id. False: the connection is to be closed.
    async fn send_refused(&self, id: Option<Option<RequestId>>, refused: Refused) -> bool {
        let is_notification = id == Some(None);
        if !is_notification || refused.close {
            let response = Response::refusal(id.flatten(), refused.error);
            self.send(&response).await;
        }
        !refused.close
    }

    async fn send(&self, message: &impl serde::Serialize) {
        let _disconnected = self.queue.send(encode(message)).await;
    }

    fn close(mut self) {
        self.tasks.abort_all();
        if let Some(run) = self.caller.module {
            self.ctx.bus.leave(run.module, run.connection);
        }
    }
}

async fn send_notifications(mut stream: Box<dyn Notifications>, queue: LineQueue) {
    while let Some(next) = stream.next().await {
        let line = match next {
            Ok(notification) => encode(&notification),
            Err(error) => encode(&Response::refusal(None, error)),
        };
        if queue.send(line).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_response_line_is_the_response_of_the_protocol() {
        let value = json!({ "a": [1, null, "\"\n"], "b": { "c": 0.5 } });
        let body = ResultBody(value.to_string().into_bytes());
        for id in [
            RequestId::Number(u64::MAX),
            RequestId::Text("a \"text\"\n".to_owned()),
        ] {
            let line = response_line(&id, &body);
            let read: Value = serde_json::from_slice(&line).expect("JSON");
            assert_eq!(read, json!(Response::success(id, value.clone())));
            let newlines = line.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!((newlines, line.last()), (1, Some(&b'\n')));
        }
    }
}

//! The connection to mainstay, opened again whenever it closes.
//! Owns two threads, one that connects and reads, one that writes, and the delay of retries.
//! Never stops retrying, and never blocks the module while mainstay is not running.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mainstay_local_socket::blocking::{Stream, connect};
use mainstay_protocol::method::{BusEvent, Hello, Welcome, name};
use mainstay_protocol::rpc::Response;
use mainstay_protocol::{
    ErrorCode, MAX_LINE_BYTES, PROTOCOL, RequestError, RequestId, RpcMessage, RpcRequest,
};
use serde_json::{Value, json};

use crate::callbacks::Callbacks;
use crate::environment::ModuleEnvironment;
use crate::event_dispatch::EventDispatcher;
use crate::outbox::{Outbox, line};

const RETRY_DELAY_MIN: Duration = Duration::from_millis(20);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);
/// Timeout of connecting and of the response to `hello`.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is opened again when it closes; shared by its two threads and the module.
pub(crate) struct ReconnectingConnection {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) events: Arc<EventDispatcher>,
    pub(crate) callbacks: Callbacks,
    environment: ModuleEnvironment,
}

impl ReconnectingConnection {
    /// Starts the threads and returns without waiting for the connection.
    pub(crate) fn start(environment: ModuleEnvironment) -> io::Result<Arc<ReconnectingConnection>> {
        let outbox = Arc::new(Outbox::default());
        let connection = Arc::new(ReconnectingConnection {
            callbacks: Callbacks::start(&outbox, &environment.features)?,
            events: EventDispatcher::start()?,
            outbox,
            environment,
        });
        let reader = Arc::clone(&connection);
        let writer = Arc::clone(&connection.outbox);
        thread("mainstay-reader", move || reader.run())?;
        thread("mainstay-writer", move || write(&writer))?;
        Ok(connection)
    }

    /// Closes the connection and ends the threads; a handler that is running finishes first.
    pub(crate) fn close(&self) {
        self.outbox.close();
        self.events.close();
        self.callbacks.close();
    }

    fn run(&self) {
        let Some(path) = self.environment.socket.clone() else {
            return;
        };
        let mut delay = RETRY_DELAY_MIN;
        loop {
            match self.connection(&path) {
                Ok(()) => delay = RETRY_DELAY_MIN,
                Err(error) => self.outbox.set_problem(error.to_string()),
            }
            if self.outbox.pause(jittered(delay)) {
                return;
            }
            delay = (delay * 2).min(RETRY_DELAY_MAX);
        }
    }

    /// Runs one connection until it closes; returns an error if `hello` did not succeed.
    fn connection(&self, path: &Path) -> io::Result<()> {
        let stream = Arc::new(connect(path, HANDSHAKE_TIMEOUT)?);
        set_timeout(&stream, Some(HANDSHAKE_TIMEOUT))?;
        let mut reader = BufReader::new(&*stream);
        self.hello(&stream, &mut reader)?;
        set_timeout(&stream, None)?;
        let epoch = self.outbox.connected(Arc::clone(&stream));
        while let Ok(Some(bytes)) = read_line(&mut reader) {
            self.on_line(epoch, &bytes);
        }
        stream.close();
        self.outbox.disconnected(epoch);
        Ok(())
    }

    fn hello(&self, mut stream: &Stream, reader: &mut impl BufRead) -> io::Result<()> {
        let module = self.environment.module.as_deref().unwrap_or("module");
        let hello = Hello {
            client: format!("{module} (mainstay-sdk {})", env!("CARGO_PKG_VERSION")),
            protocol: PROTOCOL,
            token: self.environment.token.clone(),
        };
        stream.write_all(&line(&RpcRequest::call(0, name::HELLO, json!(hello))))?;
        while let Some(bytes) = read_line(reader)? {
            if let Ok(RpcMessage::Reply(reply)) = RpcMessage::parse(&bytes) {
                let welcome = match (reply.result, reply.error) {
                    (Some(result), _) => serde_json::from_value::<Welcome>(result)?,
                    (None, error) => {
                        let why = error.map_or_else(String::new, |refusal| refusal.message);
                        return Err(io::Error::other(format!("mainstay refused hello: {why}")));
                    }
                };
                if welcome.protocol != PROTOCOL {
                    return Err(io::Error::other(format!(
                        "mainstay speaks protocol {}, this module {PROTOCOL}",
                        welcome.protocol
                    )));
                }
                return Ok(());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn on_line(&self, epoch: u64, bytes: &[u8]) {
        match RpcMessage::parse(bytes) {
            Ok(RpcMessage::Reply(reply)) => {
                let Some(RequestId::Number(id)) = reply.id else {
                    return;
                };
                let result = match reply.error {
                    Some(refusal) => Err(refusal),
                    None => Ok(reply.result.unwrap_or_default()),
                };
                self.outbox.on_response(id, result);
            }
            Ok(RpcMessage::Request(request)) => self.on_request(epoch, request),
            Err(refusal) => match null_result(bytes) {
                Some(id) => self.outbox.on_response(id, Ok(Value::Null)),
                None => self.outbox.set_problem(refusal.message),
            },
        }
    }

    fn on_request(&self, epoch: u64, request: RpcRequest) {
        if request.method == name::EVENT {
            match serde_json::from_value::<BusEvent>(request.params) {
                Ok(event) => self.events.deliver(event),
                Err(error) => self
                    .outbox
                    .set_problem(format!("cannot read an event: {error}")),
            }
            return;
        }
        let id = request.id.clone();
        if let Err(refusal) = self.callbacks.queue(epoch, request)
            && let Some(id) = id
        {
            self.outbox
                .reply(epoch, &Response::refusal(Some(id), refusal));
        }
    }
}

/// Returns the id of a success whose result is null; the shared envelope reads null as no result.
fn null_result(bytes: &[u8]) -> Option<u64> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    value
        .get("result")
        .filter(|result| result.is_null())
        .and_then(|_| value.get("id")?.as_u64())
}

fn write(outbox: &Outbox) {
    while let Some(batch) = outbox.next_batch() {
        if (&*batch.stream).write_all(&batch.bytes).is_err() {
            // The reader sees the close too; the first of the two threads reports it.
            batch.stream.close();
            outbox.disconnected(batch.epoch);
        }
    }
}

/// Reads one line without its newline; `None` at the end. A line that is too long is an error.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let limit = MAX_LINE_BYTES as u64 + 1;
    reader.take(limit).read_until(b'\n', &mut bytes)?;
    if bytes.pop_if(|last| *last == b'\n').is_some() {
        return Ok(Some(bytes));
    }
    if bytes.len() as u64 == limit {
        let refusal = RequestError::new(ErrorCode::TooLong, "cannot read a line of over 1 MiB");
        return Err(io::Error::new(io::ErrorKind::InvalidData, refusal));
    }
    Ok(None)
}

/// Returns 0.5 to 1.5 times the delay, so that modules do not reconnect all at once.
fn jittered(delay: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1000;
    let share = 0.5 + f64::from(u32::try_from(random).unwrap_or(500)) / 1000.0;
    delay.mul_f64(share)
}

/// Starts a thread with a name for debuggers.
pub(crate) fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(drop)
}

/// Sets the timeout of each read and write; `None` waits without limit.
fn set_timeout(stream: &Stream, timeout: Option<Duration>) -> io::Result<()> {
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_are_bounded_and_a_half_line_is_none() {
        let mut lines: &[u8] = b"{}\n[]\nhalf";
        assert_eq!(read_line(&mut lines).unwrap(), Some(b"{}".to_vec()));
        assert_eq!(read_line(&mut lines).unwrap(), Some(b"[]".to_vec()));
        assert_eq!(read_line(&mut lines).unwrap(), None);
        let endless = vec![b'x'; MAX_LINE_BYTES + 2];
        assert!(read_line(&mut endless.as_slice()).is_err());
    }

    #[test]
    fn jitter_stays_within_half_and_one_and_a_half() {
        for _ in 0..1000 {
            let delay = jittered(Duration::from_secs(1));
            assert!(delay >= Duration::from_millis(500), "{delay:?}");
            assert!(delay < Duration::from_millis(1500), "{delay:?}");
        }
    }

    #[test]
    fn a_null_result_keeps_its_id() {
        let id = null_result(br#"{"jsonrpc":"2.0","id":7,"result":null}"#);
        assert_eq!(id, Some(7));
        assert_eq!(null_result(br#"{"jsonrpc":"2.0","id":7}"#), None);
    }
}

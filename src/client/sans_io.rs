//! The protocol of one connection without its socket: bytes in, bytes out, typed replies.
//! Owns both buffers, the ids, and the bounded queue of notifications that were not read yet.
//! Never blocks and never reads a clock: the blocking and the async client move the bytes.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::PathBuf;

use mainstay_protocol::method::{BusEvent, LogLines, name};
use mainstay_protocol::{Event, MAX_LINE_BYTES, RequestError, RequestId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Error;

/// Notifications stored while a reply is awaited; further ones replace the oldest.
const NOTIFICATIONS_MAX: usize = 1024;

/// Bytes requested of the socket at a time.
const CHUNK: usize = 64 * 1024;

/// A notification that a client can follow: its name and parameters.
pub trait NotificationPayload: DeserializeOwned {
    /// The notification's method.
    const METHOD: &'static str;
}

impl NotificationPayload for Event {
    const METHOD: &'static str = name::EVENT;
}

impl NotificationPayload for LogLines {
    const METHOD: &'static str = name::LOG;
}

impl NotificationPayload for BusEvent {
    const METHOD: &'static str = name::BUS_EVENT;
}

/// A line towards mainstay.
#[derive(Serialize)]
struct OutgoingCall<'a, P> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: P,
}

/// A line from mainstay; what it carries is read once its type is known.
#[derive(Deserialize)]
struct IncomingLine<'a> {
    #[serde(default)]
    id: Option<RequestId>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<RequestError>,
}

/// A reply to one of several pending calls: its position among them, and the result.
pub(crate) type AnyReply<R> = (usize, Result<R, RequestError>);

struct StoredNotification {
    method: String,
    params: Box<RawValue>,
}

pub(crate) struct ClientConnection {
    path: PathBuf,
    incoming: Vec<u8>,
    /// `incoming[start..filled]` was received and not read yet.
    start: usize,
    filled: usize,
    /// No newline stands in `incoming[start..scanned]`.
    scanned: usize,
    outgoing: Vec<u8>,
    sent: usize,
    last_id: u64,
    held: VecDeque<StoredNotification>,
    dropped: u64,
}

impl ClientConnection {
    pub(crate) fn new(path: PathBuf) -> ClientConnection {
        ClientConnection {
            path,
            incoming: Vec::new(),
            start: 0,
            filled: 0,
            scanned: 0,
            outgoing: Vec::new(),
            sent: 0,
            last_id: 0,
            held: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Returns the number of notifications that were dropped before they were read.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Queues a call and returns its id.
    pub(crate) fn queue_call(
        &mut self,
        method: &str,
        params: impl Serialize,
    ) -> Result<u64, Error> {
        let id = self.last_id + 1;
        let line = OutgoingCall {
            jsonrpc: "2.0",
            id,
            method,
            params,
        };
        let line = serde_json::to_vec(&line).map_err(|source| Error::Params {
            method: method.to_owned(),
            source,
        })?;
        if line.len() > MAX_LINE_BYTES {
            return Err(Error::TooLong);
        }
        self.last_id = id;
        self.outgoing.drain(..self.sent);
        self.sent = 0;
        self.outgoing.extend_from_slice(&line);
        self.outgoing.push(b'\n');
        Ok(id)
    }

    /// Returns the bytes that are still to be written.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// Marks `count` bytes of `unsent` as written.
    pub(crate) fn wrote(&mut self, count: usize) {
        self.sent += count;
    }

    /// Returns the buffer for the next bytes.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.incoming.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.scanned -= self.start;
            self.start = 0;
        }
        if self.incoming.len() < self.filled + CHUNK {
            self.incoming.resize(self.filled + CHUNK, 0);
        }
        &mut self.incoming[self.filled..]
    }

    /// Accepts `count` bytes that were read into `room`; zero means that mainstay closed.
    pub(crate) fn received(&mut self, count: usize) -> Result<(), Error> {
        if count == 0 {
            return Err(Error::Closed {
                path: self.path.clone(),
            });
        }
        self.filled += count;
        Ok(())
    }

    /// Returns the error of a lost connection; a reset counts as a close.
    pub(crate) fn broke(&self, source: std::io::Error) -> Error {
        use std::io::ErrorKind;
        let path = self.path.clone();
        match source.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Error::Closed { path },
            _ => Error::ConnectionLost { path, source },
        }
    }

    /// The reply to the call `id` if it has arrived. Late replies to older calls are passed over.
    pub(crate) fn reply<R: DeserializeOwned>(
        &mut self,
        id: u64,
        method: &str,
    ) -> Result<Option<R>, Error> {
        match self.reply_to_any(&[id], method)? {
            None => Ok(None),
            Some((_, Ok(result))) => Ok(Some(result)),
            Some((_, Err(refusal))) => Err(Error::Refused(refusal)),
        }
    }

    /// The next reply to one of the pending calls `ids`, with its position among them. A reply
    /// without an id is for the first of them.
    pub(crate) fn reply_to_any<R: DeserializeOwned>(
        &mut self,
        ids: &[u64],
        method: &str,
    ) -> Result<Option<AnyReply<R>>, Error> {
        let malformed = |source| Error::Malformed {
            method: method.to_owned(),
            source,
        };
        while let Some((from, to)) = self.next_line()? {
            let line: IncomingLine<'_> =
                serde_json::from_slice(&self.incoming[from..to]).map_err(malformed)?;
            if let Some(held) = held(&line) {
                self.hold(held);
                continue;
            }
            let position = match &line.id {
                None => Some(0),
                Some(RequestId::Number(id)) => ids.iter().position(|pending| pending == id),
                Some(RequestId::Text(_)) => None,
            };
            let Some(position) = position.filter(|_| line.method.is_none()) else {
                continue;
            };
            let result = match line.error {
                Some(refusal) => Err(refusal),
                None => {
                    let result = line.result.map_or("null", RawValue::get);
                    Ok(serde_json::from_str(result).map_err(malformed)?)
                }
            };
            return Ok(Some((position, result)));
        }
        Ok(None)
    }

    /// The next notification of this kind if it has arrived.
    pub(crate) fn notification<T: NotificationPayload>(&mut self) -> Result<Option<T>, Error> {
        let malformed = |source| Error::Malformed {
            method: T::METHOD.to_owned(),
            source,
        };
        if let Some(at) = self.held.iter().position(|held| held.method == T::METHOD)
            && let Some(held) = self.held.remove(at)
        {
            return serde_json::from_str(held.params.get())
                .map(Some)
                .map_err(malformed);
        }
        while let Some((from, to)) = self.next_line()? {
            let line: IncomingLine<'_> =
                serde_json::from_slice(&self.incoming[from..to]).map_err(malformed)?;
            match (&line.id, &line.method, line.params) {
                (None, Some(method), Some(params)) if method == T::METHOD => {
                    return serde_json::from_str(params.get())
                        .map(Some)
                        .map_err(malformed);
                }
                (None, None, _) if line.error.is_some() => {
                    return line.error.map_or(Ok(None), |refusal| Err(refusal.into()));
                }
                _ => {
                    if let Some(held) = held(&line) {
                        self.hold(held);
                    }
                }
            }
        }
        Ok(None)
    }

    fn hold(&mut self, held: StoredNotification) {
        if self.held.len() == NOTIFICATIONS_MAX {
            self.held.pop_front();
            self.dropped += 1;
        }
        self.held.push_back(held);
    }

    /// The ends of the next whole line, which counts as read from here on.
    fn next_line(&mut self) -> Result<Option<(usize, usize)>, Error> {
        let unread = &self.incoming[self.scanned..self.filled];
        let Some(length) = unread.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.filled;
            let whole = self.filled - self.start;
            return if whole > MAX_LINE_BYTES {
                Err(Error::TooLong)
            } else {
                Ok(None)
            };
        };
        let line = (self.start, self.scanned + length);
        self.start = line.1 + 1;
        self.scanned = self.start;
        if line.1 - line.0 > MAX_LINE_BYTES {
            return Err(Error::TooLong);
        }
        Ok(Some(line))
    }
}

/// A notification, to be kept. Calls from mainstay are for modules; a client has no answer to them.
fn held(line: &IncomingLine<'_>) -> Option<StoredNotification> {
    match (&line.id, &line.method, line.params) {
        (None, Some(method), Some(params)) => Some(StoredNotification {
            method: method.to_string(),
            params: params.to_owned(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn new_connection() -> ClientConnection {
        ClientConnection::new(PathBuf::from("control.sock"))
    }

    fn receive(connection: &mut ClientConnection, bytes: &[u8]) {
        for part in bytes.chunks(CHUNK) {
            connection.room()[..part.len()].copy_from_slice(part);
            connection.received(part.len()).expect("open");
        }
    }

    fn log(n: usize) -> String {
        let params = json!({"module": "storage", "lines": [n.to_string()]});
        format!(
            "{}\n",
            json!({"jsonrpc": "2.0", "method": "log", "params": params})
        )
    }

    #[test]
    fn a_reply_in_pieces_is_read_when_it_is_whole() {
        let mut connection = new_connection();
        let id = connection
            .queue_call("why", json!({"module": "storage"}))
            .expect("asked");
        let line = br#"{"jsonrpc":"2.0","id":1,"result":{"a":1}}"#;
        for byte in line {
            receive(&mut connection, &[*byte]);
            assert!(
                connection
                    .reply::<Value>(id, "why")
                    .expect("fine")
                    .is_none()
            );
        }
        receive(&mut connection, b"\n");
        assert_eq!(
            connection.reply(id, "why").expect("fine"),
            Some(json!({"a": 1}))
        );
    }

    #[test]
    fn what_was_sent_is_not_sent_again() {
        let mut connection = new_connection();
        connection.queue_call("graph", json!({})).expect("asked");
        let whole = connection.unsent().to_vec();
        assert_eq!(whole.last(), Some(&b'\n'));
        connection.wrote(5);
        assert_eq!(connection.unsent(), &whole[5..]);
        connection.queue_call("graph", json!({})).expect("asked");
        assert!(connection.unsent().starts_with(&whole[5..]));
    }

    #[test]
    fn late_replies_are_passed_over_and_notifications_kept() {
        let mut connection = new_connection();
        let late = connection.queue_call("graph", json!({})).expect("asked");
        let id = connection.queue_call("graph", json!({})).expect("asked");
        assert_eq!((late, id), (1, 2));
        receive(&mut connection, log(1).as_bytes());
        receive(
            &mut connection,
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n",
        );
        receive(
            &mut connection,
            b"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":2}\n",
        );
        receive(&mut connection, log(2).as_bytes());
        assert_eq!(connection.reply(id, "graph").expect("fine"), Some(2));
        for n in ["1", "2"] {
            let lines: Option<LogLines> = connection.notification().expect("fine");
            assert_eq!(lines.expect("kept").lines, [n]);
        }
        assert!(
            connection
                .notification::<LogLines>()
                .expect("fine")
                .is_none()
        );
    }

    #[test]
    fn the_queue_of_notifications_is_bounded_and_counts_what_it_drops() {
        let mut connection = new_connection();
        let id = connection.queue_call("graph", json!({})).expect("asked");
        for n in 0..NOTIFICATIONS_MAX + 3 {
            receive(&mut connection, log(n).as_bytes());
        }
        assert!(
            connection
                .reply::<Value>(id, "graph")
                .expect("fine")
                .is_none()
        );
        assert_eq!(connection.dropped(), 3);
        let first: LogLines = connection.notification().expect("fine").expect("kept");
        assert_eq!(first.lines, ["3"]);
    }

    #[test]
    fn lines_that_are_too_long_are_refused_in_both_directions() {
        let mut connection = new_connection();
        let long = "x".repeat(MAX_LINE_BYTES);
        assert!(matches!(
            connection.queue_call("why", &long),
            Err(Error::TooLong)
        ));
        assert!(connection.unsent().is_empty());
        let id = connection.queue_call("why", json!({})).expect("asked");
        receive(&mut connection, long.as_bytes());
        assert!(
            connection
                .reply::<Value>(id, "why")
                .expect("may still end")
                .is_none()
        );
        receive(&mut connection, b"xx");
        assert!(matches!(
            connection.reply::<Value>(id, "why"),
            Err(Error::TooLong)
        ));
    }

    #[test]
    fn a_refusal_without_an_id_answers_the_call_at_hand() {
        let mut connection = new_connection();
        let id = connection.queue_call("hello", json!({})).expect("asked");
        let refusal = RequestError::new(
            mainstay_protocol::ErrorCode::TooManyConnections,
            "cannot accept more connections",
        );
        let line = json!({"jsonrpc": "2.0", "id": null, "error": refusal});
        receive(&mut connection, format!("{line}\n").as_bytes());
        let Err(Error::Refused(refused)) = connection.reply::<Value>(id, "hello") else {
            panic!("refused");
        };
        assert_eq!(refused, refusal);
    }
}

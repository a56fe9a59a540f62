//! Everything that waits to be sent or answered, and what survives a lost connection.
//! Owns the queues and their bounds: publishes outlive a connection, replies do not.
//! Never touches a socket.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_local_socket::blocking::Stream;
use mainstay_protocol::method::{BusSubscribeParams, StatusParams, name};
use mainstay_protocol::rpc::Response;
use mainstay_protocol::{RequestError, RpcRequest};
use serde_json::{Value, json};

/// Publishes kept while mainstay is away.
const BUFFERED: usize = 1024;
/// Publishes sent and not yet confirmed; sent again after a reconnection.
const UNCONFIRMED: usize = 256;
/// Replies and announcements waiting; more than this means the other side has stopped reading.
const ANNOUNCED: usize = 1024;
/// Calls that wait for an answer.
const CALLS: usize = 1024;
/// One write takes about this many bytes at most.
const BATCH_BYTES: usize = 256 * 1024;

/// How a call ended, before its names are put into the error.
#[derive(Debug)]
pub(crate) enum Ended {
    Answered(Value),
    Refused(RequestError),
    Disconnected,
}

/// Why a call was not queued.
pub(crate) enum NotQueued {
    TooMany(usize),
    TooLong(usize),
}

struct Pending {
    tell: SyncSender<Ended>,
    sent: bool,
}

#[derive(Default)]
struct State {
    closed: bool,
    epoch: u64,
    stream: Option<Arc<Stream>>,
    next_id: u64,
    /// For this connection only.
    announced: VecDeque<Vec<u8>>,
    calls: VecDeque<(u64, Vec<u8>)>,
    publishes: VecDeque<(u64, Vec<u8>)>,
    unconfirmed: VecDeque<(u64, Vec<u8>)>,
    pending: HashMap<u64, Pending>,
    dropped: u64,
    ready: bool,
    status: Option<String>,
    subjects: Vec<String>,
    problem: Option<String>,
}

/// The queues between the module's threads and the connection's.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the writer writes next, and where.
pub(crate) struct Batch {
    pub(crate) epoch: u64,
    pub(crate) stream: Arc<Stream>,
    pub(crate) bytes: Vec<u8>,
}

/// One message as a line.
pub(crate) fn line(message: &impl serde::Serialize) -> Vec<u8> {
    // Our own message types hold nothing that JSON cannot express.
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

impl State {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn announce(&mut self, method: &str, params: Value) {
        if self.stream.is_some() && self.announced.len() < ANNOUNCED {
            let id = self.id();
            self.announced
                .push_back(line(&RpcRequest::call(id, method, params)));
        }
    }

    fn announce_status(&mut self) {
        if let Some(text) = self.status.clone() {
            self.announce(name::MODULE_STATUS, json!(StatusParams { text }));
        }
    }

    fn make_room(&mut self) {
        while self.publishes.len() > BUFFERED {
            self.publishes.pop_front();
            self.dropped += 1;
        }
    }

    fn batch(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < BATCH_BYTES {
            if let Some(next) = self.announced.pop_front() {
                bytes.extend(next);
            } else if let Some((id, next)) = self.calls.pop_front() {
                if let Some(pending) = self.pending.get_mut(&id) {
                    pending.sent = true;
                    bytes.extend(next);
                }
            } else if self.unconfirmed.len() < UNCONFIRMED
                && let Some(next) = self.publishes.pop_front()
            {
                bytes.extend(&next.1);
                self.unconfirmed.push_back(next);
            } else {
                break;
            }
        }
        bytes
    }

    fn is_idle(&self) -> bool {
        self.announced.is_empty()
            && self.calls.is_empty()
            && self.publishes.is_empty()
            && self.unconfirmed.is_empty()
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it did, the queues are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A welcomed connection: what the other side must know again goes first.
    pub(crate) fn connected(&self, stream: Arc<Stream>) -> u64 {
        let mut state = self.lock();
        state.epoch += 1;
        state.stream = Some(stream);
        if !state.subjects.is_empty() {
            let subjects = state.subjects.clone();
            state.announce(name::BUS_SUBSCRIBE, json!(BusSubscribeParams { subjects }));
        }
        if state.ready {
            state.announce(name::MODULE_READY, json!({}));
        }
        state.announce_status();
        if state.closed
            && let Some(stream) = &state.stream
        {
            stream.close();
        }
        self.changed.notify_all();
        state.epoch
    }

    /// The connection ended: sent calls fail, unconfirmed publishes go first next time.
    pub(crate) fn disconnected(&self, epoch: u64) {
        let mut state = self.lock();
        if state.epoch != epoch || state.stream.take().is_none() {
            return;
        }
        state.announced.clear();
        while let Some(publish) = state.unconfirmed.pop_back() {
            state.publishes.push_front(publish);
        }
        state.make_room();
        let sent: Vec<u64> = state
            .pending
            .iter()
            .filter_map(|(id, pending)| pending.sent.then_some(*id))
            .collect();
        for id in sent {
            if let Some(pending) = state.pending.remove(&id) {
                // The caller may have given up at this moment.
                let _ = pending.tell.try_send(Ended::Disconnected);
            }
        }
        self.changed.notify_all();
    }

    /// Waits for something to write; None once closed.
    pub(crate) fn next_batch(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(stream) = state.stream.clone() {
                let bytes = state.batch();
                if !bytes.is_empty() {
                    let epoch = state.epoch;
                    return Some(Batch {
                        epoch,
                        stream,
                        bytes,
                    });
                }
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Queues a publish; over the bound the oldest goes and is counted.
    pub(crate) fn publish(&self, params: Value) -> Result<(), usize> {
        let mut state = self.lock();
        let id = state.id();
        let bytes = line(&RpcRequest::call(id, name::BUS_PUBLISH, params));
        check_length(&bytes)?;
        state.publishes.push_back((id, bytes));
        state.make_room();
        self.changed.notify_all();
        Ok(())
    }

    /// Queues a call.
    pub(crate) fn call(&self, params: Value, tell: SyncSender<Ended>) -> Result<u64, NotQueued> {
        let mut state = self.lock();
        if state.pending.len() >= CALLS {
            return Err(NotQueued::TooMany(state.pending.len()));
        }
        let id = state.id();
        let bytes = line(&RpcRequest::call(id, name::BUS_CALL, params));
        check_length(&bytes).map_err(NotQueued::TooLong)?;
        state.calls.push_back((id, bytes));
        state.pending.insert(id, Pending { tell, sent: false });
        self.changed.notify_all();
        Ok(id)
    }

    /// Gives a call up; true when it had been sent.
    pub(crate) fn give_up(&self, id: u64) -> bool {
        let mut state = self.lock();
        state.calls.retain(|call| call.0 != id);
        state.pending.remove(&id).is_none_or(|pending| pending.sent)
    }

    /// An answer arrived.
    pub(crate) fn answered(&self, id: u64, result: Result<Value, RequestError>) {
        let mut state = self.lock();
        if let Err(refusal) = &result {
            state.problem = Some(refusal.message.clone());
        }
        if let Some(pending) = state.pending.remove(&id) {
            let ended = match result {
                Ok(value) => Ended::Answered(value),
                Err(refusal) => Ended::Refused(refusal),
            };
            let _ = pending.tell.try_send(ended);
        } else if let Some(at) = state.unconfirmed.iter().position(|sent| sent.0 == id) {
            state.unconfirmed.remove(at);
            state.dropped += u64::from(result.is_err());
            self.changed.notify_all();
        }
    }

    /// Queues an answer to a request of this connection; for an earlier one it is too late.
    pub(crate) fn reply(&self, epoch: u64, reply: &Response) {
        let mut state = self.lock();
        if state.epoch == epoch && state.stream.is_some() && state.announced.len() < ANNOUNCED {
            state.announced.push_back(line(reply));
            self.changed.notify_all();
        }
    }

    pub(crate) fn ready(&self) {
        let mut state = self.lock();
        state.ready = true;
        state.announce(name::MODULE_READY, json!({}));
        self.changed.notify_all();
    }

    pub(crate) fn status(&self, text: &str) {
        let mut state = self.lock();
        state.status = Some(text.to_owned());
        state.announce_status();
        self.changed.notify_all();
    }

    pub(crate) fn health(&self, report: Value) {
        self.lock().announce(name::MODULE_HEALTH, report);
        self.changed.notify_all();
    }

    /// Remembers subjects and asks for those that are new.
    pub(crate) fn subscribe(&self, subjects: &[&str]) {
        let mut state = self.lock();
        let mut new: Vec<String> = Vec::new();
        for subject in subjects {
            if !state.subjects.iter().any(|known| known == subject) {
                state.subjects.push((*subject).to_owned());
                new.push((*subject).to_owned());
            }
        }
        if !new.is_empty() {
            let params = BusSubscribeParams { subjects: new };
            state.announce(name::BUS_SUBSCRIBE, json!(params));
            self.changed.notify_all();
        }
    }

    /// Waits until everything was taken; false when the deadline came first.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while !state.is_idle() && !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.is_idle()
    }

    /// Sleeps between two attempts to connect; true once closed.
    pub(crate) fn pause(&self, delay: Duration) -> bool {
        let deadline = Instant::now() + delay;
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return state.closed;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends the connection for good and lets both threads leave.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(stream) = &state.stream {
            stream.close();
        }
        self.changed.notify_all();
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.lock().stream.is_some()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    pub(crate) fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    pub(crate) fn set_problem(&self, text: String) {
        self.lock().problem = Some(text);
    }
}

fn check_length(bytes: &[u8]) -> Result<(), usize> {
    // The newline is not counted.
    let length = bytes.len() - 1;
    if length > mainstay_protocol::MAX_LINE_BYTES {
        return Err(length);
    }
    Ok(())
}

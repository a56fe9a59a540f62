//! Messages that wait to be sent, confirmed or answered.
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

/// Publishes buffered while the connection is closed.
const PUBLISHES_MAX: usize = 1024;
/// Publishes sent and not yet confirmed; sent again after a reconnection.
const UNCONFIRMED_MAX: usize = 256;
/// Replies and notifications that may wait; further ones are dropped.
const MESSAGES_MAX: usize = 1024;
/// Calls that may wait for an answer.
const CALLS_MAX: usize = 1024;
/// No message is added to a write that has reached this size.
const BATCH_BYTES: usize = 256 * 1024;

/// The result of a call, before the names of module and method are added to the error.
#[derive(Debug)]
pub(crate) enum CallOutcome {
    Answered(Value),
    Refused(RequestError),
    Disconnected,
}

/// Why a call was not queued.
pub(crate) enum CallRejected {
    TooMany(usize),
    TooLong(usize),
}

struct Pending {
    reply_to: SyncSender<CallOutcome>,
    sent: bool,
}

#[derive(Default)]
struct OutboxState {
    closed: bool,
    epoch: u64,
    stream: Option<Arc<Stream>>,
    next_id: u64,
    /// Replies and notifications of the current connection.
    messages: VecDeque<Vec<u8>>,
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

/// The queues between the module's threads and the threads of the connection.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<OutboxState>,
    changed: Condvar,
}

/// What the writer writes next, and the connection it writes to.
pub(crate) struct WriteBatch {
    pub(crate) epoch: u64,
    pub(crate) stream: Arc<Stream>,
    pub(crate) bytes: Vec<u8>,
}

/// One message as a line.
pub(crate) fn line(message: &impl serde::Serialize) -> Vec<u8> {
    // The message types hold nothing that JSON cannot express.
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

impl OutboxState {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn queue_message(&mut self, method: &str, params: Value) {
        if self.stream.is_some() && self.messages.len() < MESSAGES_MAX {
            let id = self.id();
            self.messages
                .push_back(line(&RpcRequest::call(id, method, params)));
        }
    }

    fn queue_status(&mut self) {
        if let Some(text) = self.status.clone() {
            self.queue_message(name::MODULE_STATUS, json!(StatusParams { text }));
        }
    }

    fn drop_oldest(&mut self) {
        while self.publishes.len() > PUBLISHES_MAX {
            self.publishes.pop_front();
            self.dropped += 1;
        }
    }

    fn batch(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < BATCH_BYTES {
            if let Some(next) = self.messages.pop_front() {
                bytes.extend(next);
            } else if let Some((id, next)) = self.calls.pop_front() {
                if let Some(pending) = self.pending.get_mut(&id) {
                    pending.sent = true;
                    bytes.extend(next);
                }
            } else if self.unconfirmed.len() < UNCONFIRMED_MAX
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
        self.messages.is_empty()
            && self.calls.is_empty()
            && self.publishes.is_empty()
            && self.unconfirmed.is_empty()
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, OutboxState> {
        // No code panics under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a connection after `hello`: subscriptions, readiness and status are sent first.
    pub(crate) fn connected(&self, stream: Arc<Stream>) -> u64 {
        let mut state = self.lock();
        state.epoch += 1;
        state.stream = Some(stream);
        if !state.subjects.is_empty() {
            let subjects = state.subjects.clone();
            state.queue_message(name::BUS_SUBSCRIBE, json!(BusSubscribeParams { subjects }));
        }
        if state.ready {
            state.queue_message(name::MODULE_READY, json!({}));
        }
        state.queue_status();
        if state.closed
            && let Some(stream) = &state.stream
        {
            stream.close();
        }
        self.changed.notify_all();
        state.epoch
    }

    /// Ends a connection: calls that were sent fail, unconfirmed publishes are sent again first.
    pub(crate) fn disconnected(&self, epoch: u64) {
        let mut state = self.lock();
        if state.epoch != epoch || state.stream.take().is_none() {
            return;
        }
        state.messages.clear();
        while let Some(publish) = state.unconfirmed.pop_back() {
            state.publishes.push_front(publish);
        }
        state.drop_oldest();
        let sent: Vec<u64> = state
            .pending
            .iter()
            .filter_map(|(id, pending)| pending.sent.then_some(*id))
            .collect();
        for id in sent {
            if let Some(pending) = state.pending.remove(&id) {
                // The caller may have timed out at the same moment.
                let _ = pending.reply_to.try_send(CallOutcome::Disconnected);
            }
        }
        self.changed.notify_all();
    }

    /// Waits for something to write; returns `None` once closed.
    pub(crate) fn next_batch(&self) -> Option<WriteBatch> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(stream) = state.stream.clone() {
                let bytes = state.batch();
                if !bytes.is_empty() {
                    let epoch = state.epoch;
                    return Some(WriteBatch {
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

    /// Queues a publish; if the queue is full, the oldest is dropped and counted.
    pub(crate) fn publish(&self, params: Value) -> Result<(), usize> {
        let mut state = self.lock();
        let id = state.id();
        let bytes = line(&RpcRequest::call(id, name::BUS_PUBLISH, params));
        check_length(&bytes)?;
        state.publishes.push_back((id, bytes));
        state.drop_oldest();
        self.changed.notify_all();
        Ok(())
    }

    /// Queues a call.
    pub(crate) fn call(
        &self,
        params: Value,
        reply_to: SyncSender<CallOutcome>,
    ) -> Result<u64, CallRejected> {
        let mut state = self.lock();
        if state.pending.len() >= CALLS_MAX {
            return Err(CallRejected::TooMany(state.pending.len()));
        }
        let id = state.id();
        let bytes = line(&RpcRequest::call(id, name::BUS_CALL, params));
        check_length(&bytes).map_err(CallRejected::TooLong)?;
        state.calls.push_back((id, bytes));
        state.pending.insert(
            id,
            Pending {
                reply_to,
                sent: false,
            },
        );
        self.changed.notify_all();
        Ok(id)
    }

    /// Cancels a call; returns true if it was sent.
    pub(crate) fn cancel_call(&self, id: u64) -> bool {
        let mut state = self.lock();
        state.calls.retain(|call| call.0 != id);
        state.pending.remove(&id).is_none_or(|pending| pending.sent)
    }

    /// Delivers the response with the number `id`.
    pub(crate) fn on_response(&self, id: u64, result: Result<Value, RequestError>) {
        let mut state = self.lock();
        if let Err(refusal) = &result {
            state.problem = Some(refusal.message.clone());
        }
        if let Some(pending) = state.pending.remove(&id) {
            let outcome = match result {
                Ok(value) => CallOutcome::Answered(value),
                Err(refusal) => CallOutcome::Refused(refusal),
            };
            let _ = pending.reply_to.try_send(outcome);
        } else if let Some(at) = state.unconfirmed.iter().position(|sent| sent.0 == id) {
            state.unconfirmed.remove(at);
            state.dropped += u64::from(result.is_err());
            self.changed.notify_all();
        }
    }

    /// Queues a reply to a request of connection `epoch`; dropped if that has closed.
    pub(crate) fn reply(&self, epoch: u64, reply: &Response) {
        let mut state = self.lock();
        if state.epoch == epoch && state.stream.is_some() && state.messages.len() < MESSAGES_MAX {
            state.messages.push_back(line(reply));
            self.changed.notify_all();
        }
    }

    pub(crate) fn ready(&self) {
        let mut state = self.lock();
        state.ready = true;
        state.queue_message(name::MODULE_READY, json!({}));
        self.changed.notify_all();
    }

    pub(crate) fn status(&self, text: &str) {
        let mut state = self.lock();
        state.status = Some(text.to_owned());
        state.queue_status();
        self.changed.notify_all();
    }

    pub(crate) fn health(&self, report: Value) {
        self.lock().queue_message(name::MODULE_HEALTH, report);
        self.changed.notify_all();
    }

    /// Stores the subjects and subscribes to the new ones.
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
            state.queue_message(name::BUS_SUBSCRIBE, json!(params));
            self.changed.notify_all();
        }
    }

    /// Waits until every message is sent and confirmed; returns false if `timeout` expires first.
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

    /// Sleeps between two attempts to connect; returns true once closed.
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

    /// Closes the connection permanently; both threads exit.
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

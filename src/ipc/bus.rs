//! The event bus: publish and subscribe, request and response between modules.
//! Owns the modules' connections, their subscriptions and the calls on their way.
//! Never waits for a module: queues are bounded, what does not fit is counted as lag.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_policy::circuit_breaker::CircuitBreaker;
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::method::{BusEvent, Published, name};
use mainstay_protocol::rpc::{Reply, RequestId};
use mainstay_protocol::{MAX_LINE_BYTES, Refusal, RefusalCode, Request, Timestamp, subject};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};

use super::follow::{Followers, Piece};
use super::outbox::Outbox;
use crate::os::Os;

/// Calls that may be on their way to one module.
const CALLS_MAX: usize = 256;
/// What `lag` may add to an event.
const LAG_BYTES: usize = 32;
/// Patterns one module may subscribe to.
const PATTERNS_MAX: usize = 256;

/// A module's living connection.
struct Member {
    connection: u64,
    outbox: Outbox,
    patterns: Vec<String>,
    /// Events it was too slow for since the last it got.
    lag: u64,
    calls: HashMap<u64, oneshot::Sender<Result<Value, Refusal>>>,
    next_call: u64,
}

/// The bus.
pub(crate) struct Bus {
    names: Vec<Arc<str>>,
    members: Mutex<Vec<Option<Member>>>,
    /// Members with a subscription; changed under the members' lock.
    listening: AtomicUsize,
    breakers: Mutex<Vec<CircuitBreaker>>,
    followers: Followers,
    /// Signalled when a module's connection begins.
    arrivals: Notify,
}

/// A poisoned lock means that a thread died inside a push or a lookup: the data is still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// A bus for these modules, in plan order.
    pub(crate) fn new(names: Vec<Arc<str>>) -> Bus {
        let members = Mutex::new(names.iter().map(|_| None).collect());
        let breakers = Mutex::new(vec![CircuitBreaker::default(); names.len()]);
        Bus {
            names,
            members,
            listening: AtomicUsize::new(0),
            breakers,
            followers: Followers::default(),
            arrivals: Notify::new(),
        }
    }

    /// A module's connection begins; a former one of the same module is forgotten.
    pub(super) fn join(&self, module: ModuleId, connection: u64, outbox: Outbox) {
        let member = Member {
            connection,
            outbox,
            patterns: Vec::new(),
            lag: 0,
            calls: HashMap::new(),
            next_call: 1,
        };
        let mut members = lock(&self.members);
        self.left(members[module.index()].replace(member).as_ref());
        drop(members);
        self.arrivals.notify_waiters();
    }

    /// Waits until a module has a connection; the caller bounds it.
    pub(super) async fn arrived(&self, module: ModuleId) {
        loop {
            let arrival = self.arrivals.notified();
            if lock(&self.members)[module.index()].is_some() {
                return;
            }
            arrival.await;
        }
    }

    /// A connection ends; calls on their way over it fail at once.
    pub(super) fn leave(&self, module: ModuleId, connection: u64) {
        let mut members = lock(&self.members);
        let seat = &mut members[module.index()];
        if seat
            .as_ref()
            .is_some_and(|member| member.connection == connection)
        {
            self.left(seat.take().as_ref());
        }
    }

    fn left(&self, member: Option<&Member>) {
        if member.is_some_and(|member| !member.patterns.is_empty()) {
            self.listening.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Subscribes to more subjects.
    pub(super) fn subscribe(
        &self,
        module: ModuleId,
        connection: u64,
        subjects: Vec<String>,
    ) -> Result<(), Refusal> {
        if let Some(bad) = subjects
            .iter()
            .find(|subject| !subject::is_pattern(subject))
        {
            let text = format!("cannot subscribe to {bad:?}: subjects are words joined by dots");
            return Err(Refusal::new(RefusalCode::InvalidParams, text));
        }
        let mut members = lock(&self.members);
        let member = members[module.index()]
            .as_mut()
            .filter(|m| m.connection == connection);
        let Some(member) = member else { return Ok(()) };
        if member.patterns.is_empty() && !subjects.is_empty() {
            self.listening.fetch_add(1, Ordering::Relaxed);
        }
        for subject in subjects {
            if !member.patterns.contains(&subject) {
                member.patterns.push(subject);
            }
        }
        if member.patterns.len() > PATTERNS_MAX {
            member.patterns.truncate(PATTERNS_MAX);
            let text = format!("cannot subscribe: more than {PATTERNS_MAX} subjects");
            return Err(Refusal::new(RefusalCode::InvalidParams, text));
        }
        Ok(())
    }

    /// Publishes for a module.
    pub(crate) fn publish(
        &self,
        from: ModuleId,
        at: Timestamp,
        subject: String,
        payload: Value,
    ) -> Result<Published, Refusal> {
        if !subject::is_subject(&subject) || subject.split('.').next() == Some("mainstay") {
            let text = format!(
                "cannot publish under {subject:?}: subjects are words joined by dots, and \
                 mainstay.* is reserved"
            );
            return Err(Refusal::new(RefusalCode::InvalidParams, text));
        }
        let event = BusEvent {
            subject,
            from: self.names[from.index()].to_string(),
            at,
            payload,
            lag: 0,
        };
        let line = event_line(&event, 0);
        if line.len() + LAG_BYTES > MAX_LINE_BYTES {
            let text = format!(
                "cannot publish under {:?}: with its envelope the event has {} bytes of \
                 {MAX_LINE_BYTES}",
                event.subject,
                line.len() + LAG_BYTES
            );
            return Err(Refusal::new(RefusalCode::TooLong, text));
        }
        let mut members = lock(&self.members);
        Ok(deliver(
            members.iter_mut().flatten(),
            &event,
            &Arc::new(line),
        ))
    }

    /// Publishes for mainstay itself; costs next to nothing while nobody listens.
    pub(crate) fn publish_own(
        &self,
        at: Timestamp,
        subject: &str,
        payload: impl FnOnce() -> Value,
    ) {
        if self.listening.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut members = lock(&self.members);
        let event = own_event(at, subject, payload());
        let line = event_line(&event, 0);
        deliver(members.iter_mut().flatten(), &event, &Arc::new(line));
    }

    /// Tells one module about a module it depends on: subject `mainstay.dependency.WORD`.
    pub(crate) fn tell_dependency(&self, at: Timestamp, to: ModuleId, about: &str, word: &str) {
        let event = own_event(
            at,
            &format!("mainstay.dependency.{word}"),
            json!({ "module": about }),
        );
        if let Some(member) = lock(&self.members)[to.index()].as_mut() {
            hand(member, &event, &Arc::new(event_line(&event, 0)));
        }
    }

    /// Asks a module something over its connection.
    pub(crate) async fn ask(
        &self,
        module: ModuleId,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Result<Value, Refusal> {
        let (id, answer) = self.send_call(module, method, params)?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_connection_ended)) => Err(self.unavailable(module)),
            Err(_) => {
                if let Some(member) = lock(&self.members)[module.index()].as_mut() {
                    member.calls.remove(&id);
                }
                let text = format!(
                    "cannot get an answer from {} within {limit:?}",
                    self.names[module.index()]
                );
                Err(Refusal::new(RefusalCode::Timeout, text))
            }
        }
    }

    /// One module calls another; the callee's breaker holds calls back after failures in a row.
    pub(crate) async fn call(
        &self,
        os: &dyn Os,
        callee: ModuleId,
        params: Value,
        limit: Duration,
    ) -> Result<Value, Refusal> {
        if !self.admit(callee, os.now()) {
            let text = format!(
                "cannot call {}: it failed to answer too often; try again in a few seconds",
                self.names[callee.index()]
            );
            return Err(Refusal::new(RefusalCode::BreakerOpen, text));
        }
        let admitted = Admitted(self, callee);
        let result = self.ask(callee, name::CALL, params, limit).await;
        let answered = match &result {
            Ok(_) => true,
            Err(refusal) => !matches!(
                refusal.data.code,
                RefusalCode::Timeout | RefusalCode::Unavailable
            ),
        };
        lock(&self.breakers)[callee.index()].record_result(os.now(), answered);
        drop(admitted);
        result
    }

    fn admit(&self, callee: ModuleId, now: MonoTime) -> bool {
        lock(&self.breakers)[callee.index()].try_acquire(now)
    }

    fn send_call(
        &self,
        module: ModuleId,
        method: &str,
        params: Value,
    ) -> Result<(u64, oneshot::Receiver<Result<Value, Refusal>>), Refusal> {
        let mut members = lock(&self.members);
        let Some(member) = members[module.index()].as_mut() else {
            return Err(self.unavailable(module));
        };
        // Those who asked may have given up meanwhile.
        member.calls.retain(|_, waiting| !waiting.is_closed());
        if member.calls.len() >= CALLS_MAX {
            let text = format!(
                "cannot call {}: too many calls wait",
                self.names[module.index()]
            );
            return Err(Refusal::new(RefusalCode::Busy, text));
        }
        let id = member.next_call;
        member.next_call += 1;
        let line = encode(&Request::call(id, method, params));
        if member.outbox.try_send(line).is_err() {
            return Err(self.unavailable(module));
        }
        let (sender, receiver) = oneshot::channel();
        member.calls.insert(id, sender);
        Ok((id, receiver))
    }

    fn unavailable(&self, module: ModuleId) -> Refusal {
        let text = format!(
            "cannot reach {}: it has no connection to mainstay",
            self.names[module.index()]
        );
        Refusal::new(RefusalCode::Unavailable, text)
    }

    /// A module answered.
    pub(super) fn answered(&self, module: ModuleId, connection: u64, reply: Reply) {
        let Some(RequestId::Number(id)) = reply.id else {
            return;
        };
        let mut members = lock(&self.members);
        let member = members[module.index()]
            .as_mut()
            .filter(|m| m.connection == connection);
        let Some(waiting) = member.and_then(|member| member.calls.remove(&id)) else {
            return;
        };
        let result = match reply.error {
            Some(refusal) => Err(Refusal::new(RefusalCode::ModuleError, refusal.message)),
            None => Ok(reply.result.unwrap_or(Value::Null)),
        };
        let _caller_gave_up = waiting.send(result);
    }

    /// Follows a module's output; opens the tap.
    pub(super) fn follow(
        &self,
        os: &dyn Os,
        instance: &str,
        module: ModuleId,
    ) -> mpsc::Receiver<Piece> {
        let pieces = self.followers.add(module);
        os.tap(instance, true, false);
        pieces
    }

    /// Hands output to those who follow.
    pub(crate) fn follow_logs(&self, module: ModuleId, text: &str, dropped_bytes: u64) {
        self.followers.hand_out(module, text, dropped_bytes);
    }

    /// Opens the tap for as long as a module's output is searched for its readiness; `again`: what
    /// its run wrote before is searched too.
    pub(crate) fn search_logs(&self, os: &dyn Os, instance: &str, module: ModuleId, again: bool) {
        self.followers.search(module, true);
        os.tap(instance, true, again);
    }

    /// The line was there.
    pub(crate) fn end_search(&self, os: &dyn Os, instance: &str, module: ModuleId) {
        self.followers.search(module, false);
        self.release_tap(os, instance, module);
    }

    /// Closes the tap unless someone follows.
    pub(crate) fn release_tap(&self, os: &dyn Os, instance: &str, module: ModuleId) {
        if !self.followers.any(module) {
            os.tap(instance, false, false);
        }
    }
}

/// A call the breaker let out. A caller that leaves before it is answered proves nothing about
/// the callee, and must not keep others waiting for what comes of it.
struct Admitted<'a>(&'a Bus, ModuleId);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        lock(&self.0.breakers)[self.1.index()].cancel();
    }
}

/// One line of JSON.
pub(super) fn encode(message: &impl serde::Serialize) -> Vec<u8> {
    // Our own messages have string keys and no failing serialisers.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

fn own_event(at: Timestamp, subject: &str, payload: Value) -> BusEvent {
    BusEvent {
        subject: subject.to_owned(),
        from: "mainstay".to_owned(),
        at,
        payload,
        lag: 0,
    }
}

/// An event as it travels; written once for all who get it without lag.
fn event_line(event: &BusEvent, lag: u64) -> Vec<u8> {
    let mut params = json!(event);
    if lag > 0 {
        params["lag"] = json!(lag);
    }
    encode(&Request::notification(name::EVENT, params))
}

fn deliver<'a>(
    members: impl Iterator<Item = &'a mut Member>,
    event: &BusEvent,
    line: &Arc<Vec<u8>>,
) -> Published {
    let mut published = Published {
        delivered: 0,
        dropped: 0,
    };
    for member in members {
        if member
            .patterns
            .iter()
            .any(|pattern| subject::matches(pattern, &event.subject))
        {
            if hand(member, event, line) {
                published.delivered += 1;
            } else {
                published.dropped += 1;
            }
        }
    }
    published
}

/// Queues an event for one member; `line` is the event without lag, one for all. Nothing is copied
/// or written anew before it is known that there is room.
fn hand(member: &mut Member, event: &BusEvent, line: &Arc<Vec<u8>>) -> bool {
    let Ok(room) = member.outbox.room(line.len() + LAG_BYTES) else {
        member.lag += 1;
        return false;
    };
    room.put(match std::mem::take(&mut member.lag) {
        0 => Arc::clone(line),
        lag => Arc::new(event_line(event, lag)),
    });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus_of(count: usize) -> (Bus, Vec<mpsc::Receiver<super::super::outbox::Outgoing>>) {
        let bus = Bus::new((0..count).map(|n| Arc::from(format!("m{n}"))).collect());
        let lines = (0..count).map(|n| {
            let module = ModuleId(u32::try_from(n).expect("few"));
            let (outbox, lines) = Outbox::new();
            bus.join(module, 1, outbox);
            bus.subscribe(module, 1, vec!["big".to_owned()])
                .expect("a pattern");
            lines
        });
        let lines = lines.collect();
        (bus, lines)
    }

    #[tokio::test]
    async fn one_line_goes_to_all_and_a_full_outbox_costs_its_owner_alone() {
        let (bus, mut lines) = bus_of(2);
        let publish = |bytes: usize| {
            let payload = json!("x".repeat(bytes));
            let published = bus.publish(ModuleId(0), Timestamp(0), "big".to_owned(), payload);
            published
                .map(|it| (it.delivered, it.dropped))
                .expect("a subject")
        };
        const BIG: usize = 900_000;
        assert_eq!(publish(BIG), (2, 0));
        let first = lines[0].recv().await.expect("an event").line;
        let same = lines[1].recv().await.expect("an event").line;
        assert!(Arc::ptr_eq(&first, &same), "a copy for each");
        assert_eq!([publish(BIG), publish(BIG)], [(2, 0), (2, 0)]);
        // One reads on, the other does not.
        for _ in 0..2 {
            drop(lines[0].recv().await);
        }
        assert_eq!([publish(BIG), publish(10)], [(1, 1), (2, 0)]);
        for _ in 0..2 {
            drop(lines[1].recv().await);
        }
        let late = lines[1].recv().await.expect("the small one").line;
        let late: Value = serde_json::from_slice(&late).expect("JSON");
        assert_eq!(late["params"]["lag"], 1);
        drop(lines[0].recv().await);
        let other = lines[0].recv().await.expect("the small one").line;
        let other: Value = serde_json::from_slice(&other).expect("JSON");
        assert!(
            other["params"].get("lag").is_none_or(|lag| *lag == 0),
            "{other}"
        );
    }
}

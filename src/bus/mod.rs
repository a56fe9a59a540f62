//! The event bus: subjects, subscriptions and the clients of modules.
//! Owns the connected clients, their subscriptions and the count of events each of them missed.
//! Never waits for a module: queues are bounded, an event that does not fit is counted as lag.

mod calls;
pub(crate) mod line_queue;
pub(crate) mod local_client;
pub(crate) mod tap;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_policy::ModuleId;
use mainstay_policy::circuit_breaker::CircuitBreaker;
use mainstay_protocol::method::{BusEvent, PublishResult, name};
use mainstay_protocol::{ErrorCode, MAX_LINE_BYTES, RequestError, RpcRequest, Timestamp, subject};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use line_queue::{LineQueue, encode};

/// Bytes that the field `lag` can add to an event.
const LAG_BYTES: usize = 32;
/// Subjects that one module can subscribe to.
const PATTERNS_MAX: usize = 256;

/// The connection of a module to the bus.
struct BusClient {
    connection: u64,
    queue: LineQueue,
    patterns: Vec<String>,
    /// Events that did not fit into the queue since the last one that did.
    lag: u64,
    calls: HashMap<u64, oneshot::Sender<Result<Value, RequestError>>>,
    next_call: u64,
}

impl BusClient {
    fn new(connection: u64, queue: LineQueue) -> BusClient {
        BusClient {
            connection,
            queue,
            patterns: Vec::new(),
            lag: 0,
            calls: HashMap::new(),
            next_call: 1,
        }
    }
}

/// What the bus keeps of one module.
struct Endpoint {
    name: Arc<str>,
    client: Option<BusClient>,
    breaker: CircuitBreaker,
    calls: CallCount,
}

/// The calls of others to a module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CallCount {
    /// So far.
    pub(crate) total: u64,
    /// Of those, without a result yet.
    pub(crate) pending: u64,
}

impl Endpoint {
    fn is_subscribed(&self) -> bool {
        let client = self.client.as_ref();
        client.is_some_and(|client| !client.patterns.is_empty())
    }
}

#[derive(Default)]
struct Endpoints {
    by_module: HashMap<ModuleId, Endpoint>,
    taps: Vec<BusClient>,
    last_connection: u64,
}

impl Endpoints {
    /// The client of a module, if it is this connection.
    fn client(&mut self, module: ModuleId, connection: u64) -> Option<&mut BusClient> {
        let client = self.by_module.get_mut(&module)?.client.as_mut();
        client.filter(|client| client.connection == connection)
    }

    /// Queues an event for its subscribers and for taps; counts the subscribers.
    fn deliver(&mut self, event: &BusEvent, line: &Arc<Vec<u8>>) -> PublishResult {
        deliver(self.taps.iter_mut(), event, line);
        let endpoints = self.by_module.values_mut();
        let clients = endpoints.filter_map(|endpoint| endpoint.client.as_mut());
        deliver(clients, event, line)
    }
}

/// The bus.
#[derive(Default)]
pub(crate) struct Bus {
    endpoints: Mutex<Endpoints>,
    /// Modules with a subscription, and taps; changed under the lock of the endpoints.
    subscribed: AtomicUsize,
    /// Signalled when a module connects.
    connected: Notify,
}

/// Ignores poisoning: a thread that died inside a push or a lookup leaves the data whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// Makes a module reachable under a name. One that is registered already keeps its client.
    pub(crate) fn register(&self, module: ModuleId, name: Arc<str>) {
        let mut endpoints = lock(&self.endpoints);
        let endpoint = endpoints.by_module.entry(module).or_insert(Endpoint {
            name: Arc::clone(&name),
            client: None,
            breaker: CircuitBreaker::default(),
            calls: CallCount::default(),
        });
        endpoint.name = name;
    }

    /// Connects a module and returns the number of its connection; an earlier connection of the
    /// module is dropped.
    pub(crate) fn join(&self, module: ModuleId, queue: LineQueue) -> u64 {
        let mut endpoints = lock(&self.endpoints);
        endpoints.last_connection += 1;
        let connection = endpoints.last_connection;
        if let Some(endpoint) = endpoints.by_module.get_mut(&module) {
            self.drop_client(endpoint);
            endpoint.client = Some(BusClient::new(connection, queue));
        }
        drop(endpoints);
        self.connected.notify_waiters();
        connection
    }

    /// Waits until a module is connected; the caller sets the deadline.
    pub(crate) async fn wait_connected(&self, module: ModuleId) {
        loop {
            let connected = self.connected.notified();
            if self.is_connected(module) {
                return;
            }
            connected.await;
        }
    }

    /// Whether a module has a connection.
    pub(crate) fn is_connected(&self, module: ModuleId) -> bool {
        let endpoints = lock(&self.endpoints);
        let endpoint = endpoints.by_module.get(&module);
        endpoint.is_none_or(|endpoint| endpoint.client.is_some())
    }

    /// Drops a connection; its pending calls fail at once.
    pub(crate) fn leave(&self, module: ModuleId, connection: u64) {
        let mut endpoints = lock(&self.endpoints);
        if endpoints.client(module, connection).is_some()
            && let Some(endpoint) = endpoints.by_module.get_mut(&module)
        {
            self.drop_client(endpoint);
        }
    }

    /// Drops what is queued for a module, and its connection; returns the number of lines.
    pub(crate) fn clear_queue(&self, module: ModuleId) -> usize {
        let mut endpoints = lock(&self.endpoints);
        let Some(endpoint) = endpoints.by_module.get_mut(&module) else {
            return 0;
        };
        let queued = endpoint.client.as_ref().map_or(0, |it| it.queue.len());
        self.drop_client(endpoint);
        queued
    }

    fn drop_client(&self, endpoint: &mut Endpoint) {
        if endpoint.is_subscribed() {
            self.subscribed.fetch_sub(1, Ordering::Relaxed);
        }
        endpoint.client = None;
    }

    /// Adds subscriptions to a connection.
    ///
    /// # Errors
    /// `invalid_params` for a subject that is not valid, or for too many subjects.
    pub(crate) fn subscribe(
        &self,
        module: ModuleId,
        connection: u64,
        subjects: Vec<String>,
    ) -> Result<(), RequestError> {
        check_patterns(&subjects)?;
        let mut endpoints = lock(&self.endpoints);
        let Some(client) = endpoints.client(module, connection) else {
            return Ok(()); // a newer connection of the module replaced this one
        };
        let was_subscribed = !client.patterns.is_empty();
        for subject in subjects {
            if !client.patterns.contains(&subject) {
                client.patterns.push(subject);
            }
        }
        let too_many = client.patterns.len() > PATTERNS_MAX;
        client.patterns.truncate(PATTERNS_MAX);
        if !was_subscribed && !client.patterns.is_empty() {
            self.subscribed.fetch_add(1, Ordering::Relaxed);
        }
        match too_many {
            true => Err(too_many_patterns()),
            false => Ok(()),
        }
    }

    /// Publishes an event of a module.
    ///
    /// # Errors
    /// `invalid_params` for a subject that is not valid or reserved, `too_long` for an event that
    /// does not fit into a line.
    pub(crate) fn publish(
        &self,
        from: &str,
        at: Timestamp,
        subject: String,
        payload: Value,
    ) -> Result<PublishResult, RequestError> {
        if !subject::is_subject(&subject) || subject.split('.').next() == Some("mainstay") {
            let text = format!(
                "cannot publish under {subject:?}: not a subject, or reserved (mainstay.*); join \
                 words of letters, digits, '-' and '_' by dots"
            );
            return Err(RequestError::new(ErrorCode::InvalidParams, text));
        }
        let event = BusEvent {
            subject,
            from: from.to_owned(),
            at,
            payload,
            lag: 0,
        };
        let line = event_line(&event, 0);
        let bytes = line.len() + LAG_BYTES;
        if bytes > MAX_LINE_BYTES {
            let text = format!(
                "cannot publish under {:?}: the event has {bytes} bytes, {MAX_LINE_BYTES} at most; \
                 send a smaller payload",
                event.subject
            );
            return Err(RequestError::new(ErrorCode::TooLong, text));
        }
        Ok(lock(&self.endpoints).deliver(&event, &Arc::new(line)))
    }

    /// Publishes an event of mainstay; does not build the payload without a subscription.
    pub(crate) fn publish_internal(
        &self,
        at: Timestamp,
        subject: &str,
        payload: impl FnOnce() -> Value,
    ) {
        if self.subscribed.load(Ordering::Relaxed) == 0 {
            return;
        }
        let event = internal_event(at, subject, payload());
        let line = Arc::new(event_line(&event, 0));
        lock(&self.endpoints).deliver(&event, &line);
    }

    /// Notifies a module about one of its dependencies: subject `mainstay.dependency.WORD`.
    pub(crate) fn notify_dependency(&self, at: Timestamp, to: ModuleId, about: &str, word: &str) {
        let subject = format!("mainstay.dependency.{word}");
        let event = internal_event(at, &subject, json!({ "module": about }));
        let mut endpoints = lock(&self.endpoints);
        let endpoint = endpoints.by_module.get_mut(&to);
        if let Some(client) = endpoint.and_then(|endpoint| endpoint.client.as_mut()) {
            queue_event(client, &event, &Arc::new(event_line(&event, 0)));
        }
    }
}

fn check_patterns(subjects: &[String]) -> Result<(), RequestError> {
    let Some(bad) = subjects.iter().find(|text| !subject::is_pattern(text)) else {
        return Ok(());
    };
    let text = format!(
        "cannot subscribe to {bad:?}: not a subject; join words of letters, digits, '-' and '_' \
         by dots"
    );
    Err(RequestError::new(ErrorCode::InvalidParams, text))
}

fn too_many_patterns() -> RequestError {
    let text = format!("cannot subscribe: more than {PATTERNS_MAX} subjects; use '*' for a word");
    RequestError::new(ErrorCode::InvalidParams, text)
}

fn internal_event(at: Timestamp, subject: &str, payload: Value) -> BusEvent {
    BusEvent {
        subject: subject.to_owned(),
        from: "mainstay".to_owned(),
        at,
        payload,
        lag: 0,
    }
}

/// Encodes an event as a line; all subscribers without lag share one.
fn event_line(event: &BusEvent, lag: u64) -> Vec<u8> {
    let mut params = json!(event);
    if lag > 0 {
        params["lag"] = json!(lag);
    }
    encode(&RpcRequest::notification(name::EVENT, params))
}

fn deliver<'a>(
    clients: impl Iterator<Item = &'a mut BusClient>,
    event: &BusEvent,
    line: &Arc<Vec<u8>>,
) -> PublishResult {
    let mut published = PublishResult {
        delivered: 0,
        dropped: 0,
    };
    for client in clients {
        let mut patterns = client.patterns.iter();
        if patterns.any(|pattern| subject::matches(pattern, &event.subject)) {
            if queue_event(client, event, line) {
                published.delivered += 1;
            } else {
                published.dropped += 1;
            }
        }
    }
    published
}

/// Queues an event for one client; `line` is the event without lag. Copies nothing before there is
/// space for it.
fn queue_event(client: &mut BusClient, event: &BusEvent, line: &Arc<Vec<u8>>) -> bool {
    let Ok(permit) = client.queue.try_reserve(line.len() + LAG_BYTES) else {
        client.lag += 1;
        return false;
    };
    permit.push(match std::mem::take(&mut client.lag) {
        0 => Arc::clone(line),
        lag => Arc::new(event_line(event, lag)),
    });
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use line_queue::QueuedLine;
    use tokio::sync::mpsc;

    fn bus_of(count: u32) -> (Bus, Vec<mpsc::Receiver<QueuedLine>>) {
        let bus = Bus::default();
        let lines = (0..count).map(|n| {
            bus.register(ModuleId(n), Arc::from(format!("m{n}")));
            let (queue, lines) = LineQueue::new();
            let connection = bus.join(ModuleId(n), queue);
            let subjects = vec!["big".to_owned()];
            bus.subscribe(ModuleId(n), connection, subjects)
                .expect("a pattern");
            lines
        });
        let lines = lines.collect();
        (bus, lines)
    }

    fn read(line: &QueuedLine) -> Value {
        serde_json::from_slice(&line.line).expect("JSON")
    }

    #[tokio::test]
    async fn subscribers_share_one_line_and_a_full_queue_costs_its_owner_alone() {
        const BIG: usize = 900_000;
        let (bus, mut lines) = bus_of(2);
        let publish = |bytes: usize| {
            let payload = json!("x".repeat(bytes));
            let published = bus.publish("m0", Timestamp(0), "big".to_owned(), payload);
            published
                .map(|it| (it.delivered, it.dropped))
                .expect("a subject")
        };
        assert_eq!(publish(BIG), (2, 0));
        let first = lines[0].recv().await.expect("an event").line;
        let same = lines[1].recv().await.expect("an event").line;
        assert!(Arc::ptr_eq(&first, &same), "one copy for each subscriber");
        assert_eq!([publish(BIG), publish(BIG)], [(2, 0), (2, 0)]);
        // The first subscriber reads on, the second does not.
        for _ in 0..2 {
            drop(lines[0].recv().await);
        }
        assert_eq!([publish(BIG), publish(10)], [(1, 1), (2, 0)]);
        for _ in 0..2 {
            drop(lines[1].recv().await);
        }
        let lagging = read(&lines[1].recv().await.expect("the small one"));
        assert_eq!(lagging["params"]["lag"], 1);
        drop(lines[0].recv().await);
        let other = read(&lines[0].recv().await.expect("the small one"));
        assert!(
            other["params"].get("lag").is_none_or(|lag| *lag == 0),
            "{other}"
        );
    }

    #[tokio::test]
    async fn a_connection_that_was_replaced_neither_subscribes_nor_drops_the_new_one() {
        let (bus, mut old) = bus_of(1);
        let (queue, mut lines) = LineQueue::new();
        let connection = bus.join(ModuleId(0), queue);
        assert!(old[0].recv().await.is_none(), "the old queue is closed");
        let subjects = || vec!["a".to_owned()];
        bus.subscribe(ModuleId(0), connection - 1, subjects())
            .expect("ignored");
        bus.leave(ModuleId(0), connection - 1);
        let publish = || {
            bus.publish("m0", Timestamp(0), "a".to_owned(), json!(1))
                .expect("sent")
        };
        assert_eq!(publish().delivered, 0);
        bus.subscribe(ModuleId(0), connection, subjects())
            .expect("a pattern");
        assert_eq!(publish().delivered, 1);
        assert_eq!(
            read(&lines.recv().await.expect("an event"))["params"]["subject"],
            "a"
        );
        bus.leave(ModuleId(0), connection);
        assert_eq!(bus.subscribed.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_module_that_joins_the_plan_later_is_reachable() {
        let (bus, _lines) = bus_of(1);
        bus.register(ModuleId(0), Arc::from("renamed"));
        bus.register(ModuleId(7), Arc::from("late"));
        let (queue, _more) = LineQueue::new();
        let connection = bus.join(ModuleId(7), queue);
        bus.subscribe(ModuleId(7), connection, vec!["big".to_owned()])
            .expect("a pattern");
        let published = bus.publish("late", Timestamp(0), "big".to_owned(), json!(1));
        assert_eq!(
            published.expect("sent").delivered,
            2,
            "the first one kept its client"
        );
    }

    #[test]
    fn too_many_subjects_are_refused_and_those_that_fit_are_kept() {
        let (bus, _lines) = bus_of(1);
        let (queue, _more) = LineQueue::new();
        let connection = bus.join(ModuleId(0), queue);
        let subjects = (0..=PATTERNS_MAX).map(|n| format!("s{n}")).collect();
        let refused = bus
            .subscribe(ModuleId(0), connection, subjects)
            .expect_err("too many");
        assert_eq!(refused.data.code, ErrorCode::InvalidParams);
        let published = bus.publish("m0", Timestamp(0), "s0".to_owned(), json!(1));
        assert_eq!(published.expect("sent").delivered, 1);
    }
}

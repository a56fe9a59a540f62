//! Requests of mainstay and of other modules to this module, answered by its handlers.
//! Owns the handlers and two worker threads: one for prompt requests, one for slow calls.
//! Never lets a slow call delay a health check.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_protocol::config_change::SettingsParams;
use mainstay_protocol::method::{CallParams, FeatureParams, HealthReportParams, LoadParams, name};
use mainstay_protocol::rpc::Response;
use mainstay_protocol::{ErrorCode, HealthStatus, MAX_LINE_BYTES, RequestError, RpcRequest};
use serde_json::{Value, json};

use crate::config_change::{ConfigCallback, ConfigChange};
use crate::outbox::Outbox;
use crate::queue::BoundedQueue;
use crate::reconnect::thread;

/// Requests that may wait for one worker.
const QUEUED_MAX: usize = 64;

type HealthFn = Box<dyn FnMut() -> HealthReportParams + Send>;
type ReduceFn = Box<dyn FnMut(f64) + Send>;
type FeatureFn = Box<dyn FnMut(&str, &Value) + Send>;
type ServeFn = Arc<dyn Fn(CallParams) -> Result<Value, String> + Send + Sync>;

/// The handler that reports the module's health; called once at a time.
#[derive(Clone, Default)]
pub(crate) struct HealthCallback(Arc<Mutex<Option<HealthFn>>>);

impl HealthCallback {
    pub(crate) fn set(&self, handler: HealthFn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    /// Calls the handler; returns `None` if it panicked. Without a handler the module is healthy.
    pub(crate) fn probe(&self) -> Option<HealthReportParams> {
        let mut handler = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match handler.as_mut() {
            Some(handler) => catch_unwind(AssertUnwindSafe(handler)).ok(),
            None => Some(HealthReportParams {
                status: HealthStatus::Healthy,
                metrics: std::collections::BTreeMap::new(),
                issues: Vec::new(),
            }),
        }
    }
}

#[derive(Default)]
struct Handlers {
    health: HealthCallback,
    reduce: Mutex<Option<ReduceFn>>,
    feature: Mutex<Option<FeatureFn>>,
    /// Each feature that is known, with its value.
    features: Mutex<HashMap<String, Value>>,
    config: ConfigCallback,
    served: Mutex<HashMap<String, ServeFn>>,
}

struct QueuedRequest {
    epoch: u64,
    request: RpcRequest,
}

/// The handlers and the two queues of requests to them.
pub(crate) struct Callbacks {
    handlers: Arc<Handlers>,
    prompt: Arc<BoundedQueue<QueuedRequest>>,
    calls: Arc<BoundedQueue<QueuedRequest>>,
}

impl Callbacks {
    pub(crate) fn start(outbox: &Arc<Outbox>, features: &[String]) -> io::Result<Callbacks> {
        let on = features
            .iter()
            .map(|name| (name.clone(), Value::Bool(true)));
        let callbacks = Callbacks {
            handlers: Arc::new(Handlers {
                features: Mutex::new(on.collect()),
                ..Handlers::default()
            }),
            prompt: Arc::new(BoundedQueue::new(QUEUED_MAX)),
            calls: Arc::new(BoundedQueue::new(QUEUED_MAX)),
        };
        for (name, queue) in [
            ("mainstay-prompt", &callbacks.prompt),
            ("mainstay-calls", &callbacks.calls),
        ] {
            let (queue, outbox) = (Arc::clone(queue), Arc::clone(outbox));
            let handlers = Arc::clone(&callbacks.handlers);
            thread(name, move || work(&queue, &handlers, &outbox))?;
        }
        Ok(callbacks)
    }

    /// Queues a request; a full queue refuses it.
    pub(crate) fn queue(&self, epoch: u64, request: RpcRequest) -> Result<(), RequestError> {
        let queue = match request.method.as_str() {
            name::CALL => &self.calls,
            name::HEALTH_CHECK
            | name::LOAD_REDUCE
            | name::FEATURE_SET
            | name::CONFIG_PREPARE
            | name::CONFIG_COMMIT
            | name::CONFIG_ABORT => &self.prompt,
            other => {
                let text = format!("cannot answer {other}: this module's SDK does not know it");
                return Err(RequestError::new(ErrorCode::UnknownMethod, text));
            }
        };
        queue
            .push(QueuedRequest { epoch, request })
            .map_err(|request| {
                let text = format!(
                    "cannot answer {}: {QUEUED_MAX} requests already wait; try again later",
                    request.request.method
                );
                RequestError::new(ErrorCode::Busy, text)
            })
    }

    pub(crate) fn health(&self) -> HealthCallback {
        self.handlers.health.clone()
    }

    pub(crate) fn on_reduce_load(&self, handler: ReduceFn) {
        *lock(&self.handlers.reduce) = Some(handler);
    }

    pub(crate) fn on_feature(&self, handler: FeatureFn) {
        *lock(&self.handlers.feature) = Some(handler);
    }

    /// Whether a feature is on.
    pub(crate) fn feature(&self, name: &str) -> bool {
        let features = lock(&self.handlers.features);
        features.get(name).is_some_and(is_on)
    }

    pub(crate) fn on_config(
        &self,
        handler: Box<dyn FnMut(Value) -> Result<ConfigChange, String> + Send>,
    ) {
        self.handlers.config.set(handler);
    }

    pub(crate) fn serve(&self, method: &str, handler: ServeFn) {
        lock(&self.handlers.served).insert(method.to_owned(), handler);
    }

    pub(crate) fn close(&self) {
        self.prompt.close();
        self.calls.close();
    }
}

fn is_on(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

/// Locks a handler. A handler that panicked under its lock is called again.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(queue: &BoundedQueue<QueuedRequest>, handlers: &Handlers, outbox: &Outbox) {
    while let Some(QueuedRequest { epoch, request }) = queue.pop() {
        let id = request.id.clone();
        let method = request.method.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| handlers.handle(request)));
        let result = outcome.unwrap_or_else(|_| {
            let text = format!("cannot answer {method}: the module panicked; see its output");
            Err(RequestError::new(ErrorCode::ModuleError, text))
        });
        if let Some(id) = id {
            let reply = match result.and_then(|value| fitting(&method, value)) {
                Ok(value) => Response::success(id, value),
                Err(refusal) => Response::refusal(Some(id), refusal),
            };
            outbox.reply(epoch, &reply);
        }
    }
}

/// Returns a result that fits a response: `{}` for null, an error if it exceeds a line.
fn fitting(method: &str, value: Value) -> Result<Value, RequestError> {
    // The rest of the line is for the envelope.
    let room = MAX_LINE_BYTES - 1024;
    let bytes = serde_json::to_vec(&value).map_or(0, |text| text.len());
    if bytes > room {
        let text = format!("cannot answer {method}: the result has {bytes} bytes of {room}");
        return Err(RequestError::new(ErrorCode::ModuleError, text));
    }
    Ok(if value.is_null() { json!({}) } else { value })
}

fn parameters<T: serde::de::DeserializeOwned>(request: RpcRequest) -> Result<T, RequestError> {
    let method = request.method;
    serde_json::from_value(request.params).map_err(|error| {
        let text = format!("cannot read the parameters of {method}: {error}");
        RequestError::new(ErrorCode::InvalidParams, text)
    })
}

impl Handlers {
    fn handle(&self, request: RpcRequest) -> Result<Value, RequestError> {
        match request.method.as_str() {
            name::HEALTH_CHECK => Ok(json!(self.health.probe().unwrap_or_else(|| {
                HealthReportParams {
                    status: HealthStatus::Unhealthy,
                    metrics: std::collections::BTreeMap::new(),
                    issues: vec!["the health check itself panicked".to_owned()],
                }
            }))),
            name::LOAD_REDUCE => {
                let params: LoadParams = parameters(request)?;
                let mut handler = lock(&self.reduce);
                let handled = handler.as_mut().map(|reduce| reduce(params.factor));
                Ok(json!({ "handled": handled.is_some() }))
            }
            name::FEATURE_SET => {
                let params: FeatureParams = parameters(request)?;
                let value = params.value.clone();
                let before = lock(&self.features).insert(params.name.clone(), value);
                let mut handler = lock(&self.feature);
                // A module that connects is told all of them.
                if before.as_ref() != Some(&params.value)
                    && let Some(handler) = handler.as_mut()
                {
                    handler(&params.name, &params.value);
                }
                Ok(json!({ "handled": handler.is_some() }))
            }
            name::CONFIG_PREPARE => {
                let params: SettingsParams = parameters(request)?;
                Ok(json!(self.config.prepare(params.settings)))
            }
            name::CONFIG_COMMIT if self.config.commit() => Ok(json!({})),
            name::CONFIG_COMMIT => {
                let text = "cannot use new settings: none were prepared";
                Err(RequestError::new(ErrorCode::ModuleError, text))
            }
            name::CONFIG_ABORT => {
                self.config.abort();
                Ok(json!({}))
            }
            _ => self.call(parameters(request)?),
        }
    }

    fn call(&self, call: CallParams) -> Result<Value, RequestError> {
        let served = lock(&self.served).get(&call.method).cloned();
        let Some(serve) = served else {
            let text = format!("cannot call {}: the module does not serve it", call.method);
            return Err(RequestError::new(ErrorCode::UnknownMethod, text));
        };
        serve(call).map_err(|text| RequestError::new(ErrorCode::ModuleError, text))
    }
}

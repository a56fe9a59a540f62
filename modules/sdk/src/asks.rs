//! What mainstay and other modules ask of this module, and who answers.
//! Owns the module's closures and two workers: one prompt, one for calls that may take long.
//! Never lets a slow call delay a health check.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_protocol::method::{CallParams, HealthReportParams, name};
use mainstay_protocol::rpc::Response;
use mainstay_protocol::{ErrorCode, HealthStatus, MAX_LINE_BYTES, RequestError, RpcRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::link::thread;
use crate::outbox::Outbox;
use crate::queue::Queue;

/// `load.reduce`, not yet among the constants of the protocol.
const LOAD_REDUCE: &str = "load.reduce";
/// `feature.set`, likewise.
const FEATURE_SET: &str = "feature.set";
/// Requests that wait for a worker.
const WAITING: usize = 64;

type HealthFn = Box<dyn FnMut() -> HealthReportParams + Send>;
type ReduceFn = Box<dyn FnMut(f64) + Send>;
type FeatureFn = Box<dyn FnMut(&str, &Value) + Send>;
type ServeFn = Arc<dyn Fn(CallParams) -> Result<Value, String> + Send + Sync>;

/// The closure that tells how the module is; one question at a time.
#[derive(Clone, Default)]
pub(crate) struct HealthSlot(Arc<Mutex<Option<HealthFn>>>);

impl HealthSlot {
    pub(crate) fn set(&self, closure: HealthFn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(closure);
    }

    /// Asks the module; None when it panicked. Without a closure it is healthy: it answers.
    pub(crate) fn ask(&self) -> Option<HealthReportParams> {
        let mut closure = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match closure.as_mut() {
            Some(closure) => catch_unwind(AssertUnwindSafe(closure)).ok(),
            None => Some(HealthReportParams {
                status: HealthStatus::Healthy,
                metrics: std::collections::BTreeMap::new(),
                issues: Vec::new(),
            }),
        }
    }
}

#[derive(Deserialize)]
struct ReduceParams {
    factor: f64,
}

#[derive(Deserialize)]
struct FeatureParams {
    name: String,
    #[serde(default)]
    value: Value,
}

#[derive(Default)]
struct Closures {
    health: HealthSlot,
    reduce: Mutex<Option<ReduceFn>>,
    feature: Mutex<Option<FeatureFn>>,
    served: Mutex<HashMap<String, ServeFn>>,
}

struct Ask {
    epoch: u64,
    request: RpcRequest,
}

/// The closures and the two queues in front of them.
pub(crate) struct Asks {
    closures: Arc<Closures>,
    prompt: Arc<Queue<Ask>>,
    calls: Arc<Queue<Ask>>,
}

impl Asks {
    pub(crate) fn start(outbox: &Arc<Outbox>) -> io::Result<Asks> {
        let asks = Asks {
            closures: Arc::new(Closures::default()),
            prompt: Arc::new(Queue::new(WAITING)),
            calls: Arc::new(Queue::new(WAITING)),
        };
        for (name, queue) in [
            ("mainstay-prompt", &asks.prompt),
            ("mainstay-calls", &asks.calls),
        ] {
            let (queue, outbox) = (Arc::clone(queue), Arc::clone(outbox));
            let closures = Arc::clone(&asks.closures);
            thread(name, move || work(&queue, &closures, &outbox))?;
        }
        Ok(asks)
    }

    /// Queues a request; full queues refuse.
    pub(crate) fn take(&self, epoch: u64, request: RpcRequest) -> Result<(), RequestError> {
        let queue = match request.method.as_str() {
            name::CALL => &self.calls,
            name::HEALTH_CHECK | LOAD_REDUCE | FEATURE_SET => &self.prompt,
            other => {
                let text = format!("cannot answer {other}: this module's SDK does not know it");
                return Err(RequestError::new(ErrorCode::UnknownMethod, text));
            }
        };
        queue.push(Ask { epoch, request }).map_err(|ask| {
            let text = format!(
                "cannot answer {}: {WAITING} requests already wait; try again later",
                ask.request.method
            );
            RequestError::new(ErrorCode::Busy, text)
        })
    }

    pub(crate) fn health(&self) -> HealthSlot {
        self.closures.health.clone()
    }

    pub(crate) fn on_reduce_load(&self, closure: ReduceFn) {
        *lock(&self.closures.reduce) = Some(closure);
    }

    pub(crate) fn on_feature(&self, closure: FeatureFn) {
        *lock(&self.closures.feature) = Some(closure);
    }

    pub(crate) fn serve(&self, method: &str, closure: ServeFn) {
        lock(&self.closures.served).insert(method.to_owned(), closure);
    }

    pub(crate) fn close(&self) {
        self.prompt.close();
        self.calls.close();
    }
}

/// Closures may panic while they hold their lock; the next question is asked all the same.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(queue: &Queue<Ask>, closures: &Closures, outbox: &Outbox) {
    while let Some(Ask { epoch, request }) = queue.pop() {
        let id = request.id.clone();
        let method = request.method.clone();
        let answer = catch_unwind(AssertUnwindSafe(|| closures.answer(request)));
        let result = answer.unwrap_or_else(|_| {
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

/// A result that can travel: never null (the envelope takes that for none), never over a line.
fn fitting(method: &str, value: Value) -> Result<Value, RequestError> {
    // Room for the envelope around it.
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

impl Closures {
    fn answer(&self, request: RpcRequest) -> Result<Value, RequestError> {
        match request.method.as_str() {
            name::HEALTH_CHECK => Ok(json!(self.health.ask().unwrap_or_else(|| {
                HealthReportParams {
                    status: HealthStatus::Unhealthy,
                    metrics: std::collections::BTreeMap::new(),
                    issues: vec!["the health check itself panicked".to_owned()],
                }
            }))),
            LOAD_REDUCE => {
                let params: ReduceParams = parameters(request)?;
                let mut closure = lock(&self.reduce);
                let handled = closure.as_mut().map(|reduce| reduce(params.factor));
                Ok(json!({ "handled": handled.is_some() }))
            }
            FEATURE_SET => {
                let params: FeatureParams = parameters(request)?;
                let mut closure = lock(&self.feature);
                let handled = closure
                    .as_mut()
                    .map(|feature| feature(&params.name, &params.value));
                Ok(json!({ "handled": handled.is_some() }))
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

//! Calls to modules: from mainstay, and from one module to another.
//! Owns the pending calls of each client and the circuit breaker of each module.
//! Never waits without a deadline.

use std::time::Duration;

use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::method::name;
use mainstay_protocol::rpc::Response;
use mainstay_protocol::{ErrorCode, RequestError, RequestId, RpcRequest};
use serde_json::Value;
use tokio::sync::oneshot;

use super::line_queue::encode;
use super::{Bus, CallCount, Endpoint, Endpoints, lock};

/// Calls to one module that can be pending.
const CALLS_MAX: usize = 256;

type CallResult = Result<Value, RequestError>;

impl Bus {
    /// Calls a method of a module over its connection.
    ///
    /// # Errors
    /// `unavailable`, `busy`, `timeout`, or `module_error` with the error of the module.
    pub(crate) async fn request(
        &self,
        module: ModuleId,
        method: &str,
        params: Value,
        timeout: Duration,
    ) -> CallResult {
        let (id, response) = self.send_call(module, method, params)?;
        match tokio::time::timeout(timeout, response).await {
            Ok(Ok(result)) => result,
            Ok(Err(_disconnected)) => Err(self.error(module, ErrorCode::Unavailable, |name| {
                format!("cannot call {name}: it closed its connection to mainstay")
            })),
            Err(_) => {
                let mut endpoints = lock(&self.endpoints);
                let endpoint = endpoints.by_module.get_mut(&module);
                if let Some(client) = endpoint.and_then(|endpoint| endpoint.client.as_mut()) {
                    client.calls.remove(&id);
                }
                drop(endpoints);
                Err(self.error(module, ErrorCode::Timeout, |name| {
                    format!("cannot call {name}: no response within {timeout:?}")
                }))
            }
        }
    }

    /// Calls a module for another module; the breaker of the called module refuses calls after
    /// failures in a row. `now` reads the clock.
    ///
    /// # Errors
    /// As [`Bus::request`], and `breaker_open`.
    pub(crate) async fn call(
        &self,
        now: impl Fn() -> MonoTime,
        callee: ModuleId,
        params: Value,
        timeout: Duration,
    ) -> CallResult {
        if !self.with_endpoint(callee, |endpoint| endpoint.breaker.try_acquire(now())) {
            return Err(self.error(callee, ErrorCode::BreakerOpen, |name| {
                format!("cannot call {name}: its last calls failed; try again in a few seconds")
            }));
        }
        self.with_endpoint(callee, |endpoint| {
            endpoint.calls.total += 1;
            endpoint.calls.pending += 1;
            true
        });
        let permit = BreakerPermit(self, callee);
        let result = self.request(callee, name::CALL, params, timeout).await;
        let answered = match &result {
            Ok(_) => true,
            Err(error) => !matches!(error.data.code, ErrorCode::Timeout | ErrorCode::Unavailable),
        };
        self.with_endpoint(callee, |endpoint| {
            endpoint.breaker.record_result(now(), answered);
            true
        });
        drop(permit);
        result
    }

    /// The calls of others to a module; those of mainstay itself do not count.
    pub(crate) fn calls(&self, module: ModuleId) -> CallCount {
        let endpoints = lock(&self.endpoints);
        let endpoint = endpoints.by_module.get(&module);
        endpoint.map(|endpoint| endpoint.calls).unwrap_or_default()
    }

    /// Passes the response of a module to the pending call.
    pub(crate) fn on_response(&self, module: ModuleId, connection: u64, response: Response) {
        let Some(RequestId::Number(id)) = response.id else {
            return;
        };
        let mut endpoints = lock(&self.endpoints);
        let client = endpoints.client(module, connection);
        let Some(call) = client.and_then(|client| client.calls.remove(&id)) else {
            return;
        };
        let result = match response.error {
            Some(error) => Err(RequestError::new(ErrorCode::ModuleError, error.message)),
            None => Ok(response.result.unwrap_or(Value::Null)),
        };
        let _caller_gave_up = call.send(result);
    }

    fn send_call(
        &self,
        module: ModuleId,
        method: &str,
        params: Value,
    ) -> Result<(u64, oneshot::Receiver<CallResult>), RequestError> {
        let unavailable = |endpoints: &Endpoints| {
            endpoints.error(module, ErrorCode::Unavailable, |name| {
                format!("cannot call {name}: it is not connected to mainstay")
            })
        };
        let mut endpoints = lock(&self.endpoints);
        let endpoint = endpoints.by_module.get_mut(&module);
        let Some(client) = endpoint.and_then(|endpoint| endpoint.client.as_mut()) else {
            return Err(unavailable(&endpoints));
        };
        client.calls.retain(|_, caller| !caller.is_closed()); // callers that gave up
        if client.calls.len() >= CALLS_MAX {
            return Err(endpoints.error(module, ErrorCode::Busy, |name| {
                format!("cannot call {name}: {CALLS_MAX} calls are pending; try again later")
            }));
        }
        let id = client.next_call;
        client.next_call += 1;
        let line = encode(&RpcRequest::call(id, method, params));
        if client.queue.try_send(line).is_err() {
            return Err(unavailable(&endpoints));
        }
        let (sender, receiver) = oneshot::channel();
        client.calls.insert(id, sender);
        Ok((id, receiver))
    }

    fn with_endpoint(&self, module: ModuleId, act: impl FnOnce(&mut Endpoint) -> bool) -> bool {
        let mut endpoints = lock(&self.endpoints);
        endpoints.by_module.get_mut(&module).is_none_or(act)
    }

    fn error(
        &self,
        module: ModuleId,
        code: ErrorCode,
        text: impl FnOnce(&str) -> String,
    ) -> RequestError {
        lock(&self.endpoints).error(module, code, text)
    }
}

impl Endpoints {
    fn error(
        &self,
        module: ModuleId,
        code: ErrorCode,
        text: impl FnOnce(&str) -> String,
    ) -> RequestError {
        let endpoint = self.by_module.get(&module);
        RequestError::new(code, text(endpoint.map_or("the module", |it| &it.name)))
    }
}

/// A call that the breaker admitted. A caller that gives up before the response proves nothing
/// about the called module, so that its permit is returned without a result.
struct BreakerPermit<'a>(&'a Bus, ModuleId);

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        self.0.with_endpoint(self.1, |endpoint| {
            endpoint.breaker.cancel();
            endpoint.calls.pending = endpoint.calls.pending.saturating_sub(1);
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::line_queue::LineQueue;
    use serde_json::json;
    use std::sync::Arc;

    const CALLEE: ModuleId = ModuleId(0);
    const SHORT: Duration = Duration::from_millis(10);

    fn bus() -> Bus {
        let bus = Bus::default();
        bus.register(CALLEE, Arc::from("callee"));
        bus
    }

    fn code(result: CallResult) -> ErrorCode {
        result.expect_err("refused").data.code
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_reaches_its_call_and_no_other_connection_can_send_it() {
        let bus = bus();
        let (queue, mut lines) = LineQueue::new();
        let connection = bus.join(CALLEE, queue);
        let respond = async {
            let line = lines.recv().await.expect("a call");
            let call: Value = serde_json::from_slice(&line.line).expect("JSON");
            let id = RequestId::Number(call["id"].as_u64().expect("a number"));
            bus.on_response(
                CALLEE,
                connection + 1,
                Response::success(id.clone(), json!(1)),
            );
            bus.on_response(CALLEE, connection, Response::success(id, json!(2)));
        };
        let call = bus.request(CALLEE, "score", json!({}), SHORT);
        assert_eq!(tokio::join!(call, respond).0.ok(), Some(json!(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_fail_without_a_connection_in_time_and_when_it_closes() {
        let bus = bus();
        let call = || bus.request(CALLEE, "score", json!({}), SHORT);
        assert_eq!(code(call().await), ErrorCode::Unavailable);
        let (queue, _lines) = LineQueue::new();
        let connection = bus.join(CALLEE, queue);
        assert_eq!(code(call().await), ErrorCode::Timeout);
        let leave = async { bus.leave(CALLEE, connection) };
        assert_eq!(code(tokio::join!(call(), leave).0), ErrorCode::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn the_breaker_opens_after_failures_in_a_row() {
        let bus = bus();
        let call = || bus.call(|| MonoTime(0), CALLEE, json!({}), SHORT);
        let mut codes = Vec::new();
        for _ in 0..10 {
            codes.push(code(call().await));
        }
        assert_eq!(codes.first(), Some(&ErrorCode::Unavailable));
        assert_eq!(codes.last(), Some(&ErrorCode::BreakerOpen), "{codes:?}");
    }
}

//! What a task of an application sees of mainstay.
//! Owns one run's view: its cancellation, its settings, its words.
//! Never speaks for another run: what an old one says changes nothing.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use mainstay_protocol::ErrorCode;
use mainstay_protocol::method::{CallParams, PublishParams, PublishResult};
use mainstay_protocol::{RequestError, method::BusEvent};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::actors::RuntimeContext;
use crate::bus::local_client::LocalBusClient;
use crate::control::bus as control_bus;
use crate::os::embedded::TaskRun;

/// Why a task failed: any error, by `?`.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// One run of a task. Clones are the same run.
#[derive(Clone)]
pub struct TaskContext {
    run: Arc<TaskRun>,
    runtime: Weak<RuntimeContext>,
}

/// The runtime that tasks belong to, as soon as it is built.
pub(super) type RuntimeRef = Arc<OnceLock<Weak<RuntimeContext>>>;

impl TaskContext {
    pub(super) fn new(run: TaskRun, runtime: &RuntimeRef) -> TaskContext {
        TaskContext {
            run: Arc::new(run),
            runtime: runtime.get().cloned().unwrap_or_default(),
        }
    }

    /// The module's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.run.instance
    }

    /// The number of this run; each start has a greater one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.run.generation
    }

    /// Waits until the task is to stop. It then has `shutdown_timeout` (10 s unless configured) to
    /// return; after that it is aborted at its next await.
    pub async fn cancelled(&self) {
        self.run.cancelled.cancelled().await;
    }

    /// Whether the task is to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.run.cancelled.is_cancelled()
    }

    /// Says that the task does its work from now on; needed with `ready = { notify = true }`.
    pub fn ready(&self) {
        self.run.notify("READY=1");
    }

    /// Says in one line what the task is doing; line breaks become spaces.
    pub fn status(&self, text: impl AsRef<str>) {
        let text = text.as_ref().replace(['\n', '\r'], " ");
        self.run.notify(&format!("STATUS={text}"));
    }

    /// Feeds the watchdog of a module with a probe `{ watchdog = "…" }`.
    pub fn feed_watchdog(&self) {
        self.run.notify("WATCHDOG=1");
    }

    /// The module's own table, `[module.NAME.settings]`; empty when there is none.
    #[must_use]
    pub fn settings(&self) -> &Map<String, Value> {
        &self.run.settings
    }

    /// Publishes under a subject (words joined by dots; `mainstay.*` is reserved). Does not wait: a
    /// slow subscriber loses the event and gets the number of lost ones.
    ///
    /// # Errors
    /// `invalid_params` for a subject that is none, `shutting_down` after the runtime's end.
    pub fn publish(&self, subject: &str, payload: Value) -> Result<PublishResult, RequestError> {
        let ctx = self.runtime()?;
        let module = ctx.find(self.name()).ok_or_else(shutting_down)?;
        let params = PublishParams {
            subject: subject.to_owned(),
            payload,
        };
        control_bus::publish(&ctx, module, params)
    }

    /// Follows what is published under these subjects: `*` matches one word, as the last word all
    /// that follow. A later call of the same task replaces an earlier one. 1024 events may
    /// wait; what does not fit is counted in `lag` of the next.
    ///
    /// # Errors
    /// `invalid_params` for a pattern that is none, `shutting_down` after the runtime's end.
    pub fn subscribe(&self, subjects: &[&str]) -> Result<TaskSubscription, RequestError> {
        let ctx = self.runtime()?;
        let module = ctx.find(self.name()).ok_or_else(shutting_down)?;
        let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
        let seat = LocalBusClient::join(&ctx.bus, module, subjects)?;
        let cancelled = self.run.cancelled.clone();
        Ok(TaskSubscription { seat, cancelled })
    }

    /// Calls a method that a module serves over its connection and waits for the reply, for at most
    /// `limit`. A task may call what a process may: the modules in `may_call`, or those it
    /// requires or wants.
    ///
    /// # Errors
    /// `not_permitted`, `unknown_module`, `unavailable`, `timeout`, `breaker_open`, `module_error`.
    pub async fn call(
        &self,
        module: &str,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Result<Value, RequestError> {
        let ctx = self.runtime()?;
        let caller = ctx.find(self.name()).ok_or_else(shutting_down)?;
        let callee = control_bus::callee(&ctx, caller, module)?;
        let call = CallParams {
            from: self.name().to_owned(),
            method: method.to_owned(),
            params,
        };
        control_bus::call_module(&ctx, callee, call, limit).await
    }

    fn runtime(&self) -> Result<Arc<RuntimeContext>, RequestError> {
        self.runtime.upgrade().ok_or_else(shutting_down)
    }
}

impl std::fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskContext")
            .field("module", &self.run.instance)
            .field("generation", &self.run.generation)
            .finish_non_exhaustive()
    }
}

fn shutting_down() -> RequestError {
    RequestError::new(
        ErrorCode::ShuttingDown,
        "cannot reach the runtime: it has ended",
    )
}

/// What a task subscribed to; ends the subscription when it is dropped.
#[derive(Debug)]
pub struct TaskSubscription {
    seat: LocalBusClient,
    cancelled: CancellationToken,
}

impl TaskSubscription {
    /// Returns the next event; None when the task is to stop, has subscribed again, or the runtime
    /// has ended. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<BusEvent> {
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => None,
            event = self.seat.next() => event,
        }
    }
}

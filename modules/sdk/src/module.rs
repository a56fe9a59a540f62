//! The handle of a module: what it can report, publish, call and serve.
//! Owns the choice between the connection, sd_notify and neither.
//! Never fails because mainstay is not running, if the message can wait; else returns an error.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_protocol::ErrorCode;
use mainstay_protocol::method::{BusCallParams, PublishParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::callbacks::HealthCallback;
use crate::config_change::ConfigChange;
use crate::notify_socket::NotifySocket;
use crate::outbox::{CallOutcome, CallRejected};
use crate::reconnect::ReconnectingConnection;
use crate::watchdog::Watchdog;
use crate::{Call, CallError, Error, Event, HealthReport, ModuleEnvironment};

/// A module's connection to mainstay. Clones share it; it closes when the last one is dropped (a
/// handler that holds a clone keeps it open).
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    environment: ModuleEnvironment,
    notify: NotifySocket,
    health: HealthCallback,
    connection: Option<Arc<ReconnectingConnection>>,
    watchdog: Option<Arc<Watchdog>>,
    /// The last failure to start a thread or to notify; the connection keeps its own.
    problem: Mutex<Option<String>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.close();
        }
        if let Some(watchdog) = &self.watchdog {
            watchdog.close();
        }
    }
}

impl Module {
    /// Connects to the mainstay that started this program; returns without waiting, and connects
    /// again whenever the connection closes. Without mainstay the handle does nothing; with
    /// `NOTIFY_SOCKET` alone it sends sd_notify messages. With `WATCHDOG_USEC` it feeds the
    /// watchdog at half the interval as long as the health handler returns.
    #[must_use]
    pub fn connect() -> Module {
        Module::connect_with(ModuleEnvironment::from_env())
    }

    /// Connects as [`Module::connect`], with values that are not read from the environment.
    #[must_use]
    pub fn connect_with(environment: ModuleEnvironment) -> Module {
        let mut problem = None;
        let notify = NotifySocket::new(environment.notify_socket.clone());
        let mut connection = None;
        if environment.socket.is_some() {
            match ReconnectingConnection::start(environment.clone()) {
                Ok(started) => connection = Some(started),
                Err(error) => problem = Some(format!("cannot start a thread: {error}")),
            }
        }
        let health = connection
            .as_ref()
            .map_or_else(HealthCallback::default, |connection| {
                connection.callbacks.health()
            });
        let mut watchdog = None;
        if let Some(interval) = environment.watchdog.filter(|_| notify.is_set()) {
            match Watchdog::start(interval, notify.clone(), health.clone()) {
                Ok(started) => watchdog = Some(started),
                Err(error) => problem = Some(format!("cannot start a thread: {error}")),
            }
        }
        Module {
            inner: Arc::new(Inner {
                environment,
                notify,
                health,
                connection,
                watchdog,
                problem: Mutex::new(problem),
            }),
        }
    }

    /// Returns the module's name; `None` if mainstay did not start the program.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.inner.environment.module.as_deref()
    }

    /// Returns the generation of this run; `None` if mainstay did not start the program.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.inner.environment.generation
    }

    /// Reports that the module is ready.
    pub fn ready(&self) {
        self.notify("READY=1");
        if let Some(connection) = &self.inner.connection {
            connection.outbox.ready();
        }
    }

    /// Sets the status text, one line; line breaks become spaces.
    pub fn status(&self, text: impl AsRef<str>) {
        let text = text.as_ref().replace(['\n', '\r'], " ");
        self.notify(&format!("STATUS={text}"));
        if let Some(connection) = &self.inner.connection {
            connection.outbox.status(&text);
        }
    }

    /// Reports that the module is stopping. The module itself has to wait for SIGTERM.
    pub fn stopping(&self) {
        self.notify("STOPPING=1");
    }

    /// Sets the handler that reports the module's health. The SDK calls it at every health check
    /// and before it feeds the watchdog, one call at a time; it should return within milliseconds.
    /// Without a handler every check reports healthy.
    pub fn health(&self, mut handler: impl FnMut() -> HealthReport + Send + 'static) {
        self.inner.health.set(Box::new(move || handler().into()));
    }

    /// Reports the module's health between two checks. Dropped while the connection is closed.
    pub fn report_health(&self, report: HealthReport) {
        if let Some(connection) = &self.inner.connection {
            let report: mainstay_protocol::method::HealthReportParams = report.into();
            connection.outbox.health(json!(report));
        }
    }

    /// Returns the table `[settings]` of the module's configuration; an empty one if mainstay did
    /// not start the program, so that `#[serde(default)]` applies.
    ///
    /// # Errors
    /// If the file cannot be read or the table does not fit `T`.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_value(self.settings_value()?).map_err(Error::SettingsShape)
    }

    /// Calls the handler with the settings, now and whenever they change while the module runs. The
    /// handler looks whether it can use them, and changes nothing yet: it returns what does
    /// ([`ConfigChange::apply`]), that it can only begin with them ([`ConfigChange::Restart`]), or
    /// why it refuses them. After a refusal no module gets new settings. It should return within
    /// milliseconds, as a health check.
    ///
    /// # Errors
    /// If the settings cannot be read, or the handler refuses those that the module begins with.
    pub fn on_config(
        &self,
        mut handler: impl FnMut(Value) -> Result<ConfigChange, String> + Send + 'static,
    ) -> Result<(), Error> {
        let first = handler(self.settings_value()?).map_err(Error::SettingsRefused)?;
        if let ConfigChange::Apply(apply) = first {
            apply();
        }
        if let Some(connection) = &self.inner.connection {
            connection.callbacks.on_config(Box::new(handler));
        }
        Ok(())
    }

    fn settings_value(&self) -> Result<Value, Error> {
        let Some(path) = &self.inner.environment.settings else {
            return Ok(json!({}));
        };
        let text = std::fs::read(path).map_err(|source| Error::SettingsFile {
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(Error::SettingsShape)
    }

    /// Sets the handler that reduces the module's work to a share between 0 and 1.
    pub fn on_reduce_load(&self, handler: impl FnMut(f64) + Send + 'static) {
        if let Some(connection) = &self.inner.connection {
            connection.callbacks.on_reduce_load(Box::new(handler));
        }
    }

    /// Returns whether a feature is on for this module: as configured in `[features]`, and off
    /// while the module is degraded and gives it up. False for one that nobody configured.
    #[must_use]
    pub fn feature(&self, name: &str) -> bool {
        match &self.inner.connection {
            Some(connection) => connection.callbacks.feature(name),
            None => self.inner.environment.features.iter().any(|on| on == name),
        }
    }

    /// Sets the handler that switches a feature by name. It is called when a value changes.
    pub fn on_feature(&self, handler: impl FnMut(&str, &Value) + Send + 'static) {
        if let Some(connection) = &self.inner.connection {
            connection.callbacks.on_feature(Box::new(handler));
        }
    }

    /// Publishes under a subject (names joined by dots; `mainstay.*` is reserved) and returns
    /// without waiting. While the connection is closed, up to 1024 messages are buffered.
    ///
    /// # Errors
    /// If the payload cannot be written as JSON or the message is longer than 1 MiB.
    pub fn publish(&self, subject: &str, payload: impl Serialize) -> Result<(), Error> {
        let Some(connection) = &self.inner.connection else {
            return Ok(());
        };
        let payload = serde_json::to_value(payload).map_err(|source| Error::Payload {
            subject: subject.to_owned(),
            source,
        })?;
        let subject = subject.to_owned();
        let what = subject.clone();
        connection
            .outbox
            .publish(json!(PublishParams { subject, payload }))
            .map_err(|bytes| Error::TooLong { what, bytes })
    }

    /// Calls the handler for every event under one of the subjects (`*` matches one name; at the
    /// end of the subject, one or more). All handlers share one thread. If they are slow, the
    /// oldest of 1024 queued events is dropped and counted in `lag` of the next event.
    pub fn subscribe(&self, subjects: &[&str], handler: impl FnMut(&Event) + Send + 'static) {
        if let Some(connection) = &self.inner.connection {
            connection.events.listen(subjects, Box::new(handler));
            connection.outbox.subscribe(subjects);
        }
    }

    /// Sets the handler for calls of other modules to `method`. One thread serves all calls, one
    /// at a time. The caller receives `Err` as `module_error`, and `null` as `{}`.
    pub fn serve(
        &self,
        method: &str,
        handler: impl Fn(Call) -> Result<Value, String> + Send + Sync + 'static,
    ) {
        if let Some(connection) = &self.inner.connection {
            connection.callbacks.serve(method, Arc::new(handler));
        }
    }

    /// Calls another module and waits for its result, at most `timeout`. While the connection is
    /// closed the call waits to be sent.
    ///
    /// # Errors
    /// See [`CallError`]; after `Disconnected` and `TimedOut` the call may have been carried out.
    pub fn call(
        &self,
        module: &str,
        method: &str,
        params: impl Serialize,
        timeout: Duration,
    ) -> Result<Value, CallError> {
        let (module, method) = (module.to_owned(), method.to_owned());
        let Some(connection) = &self.inner.connection else {
            return Err(CallError::NotSupervised { module });
        };
        let waited = timeout;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let params = json!(BusCallParams {
            module: module.clone(),
            method: method.clone(),
            params: serde_json::to_value(params).unwrap_or_default(),
            timeout_ms: Some(timeout_ms.clamp(1, 60_000)),
        });
        let (reply_to, reply) = sync_channel(1);
        let id = match connection.outbox.call(params, reply_to) {
            Ok(id) => id,
            Err(CallRejected::TooMany(waiting)) => {
                return Err(CallError::TooMany { module, waiting });
            }
            Err(CallRejected::TooLong(bytes)) => return Err(CallError::TooLong { module, bytes }),
        };
        match reply.recv_timeout(timeout) {
            Ok(CallOutcome::Answered(value)) => Ok(value),
            Ok(CallOutcome::Refused(refusal)) if refusal.data.code == ErrorCode::Timeout => {
                Err(CallError::TimedOut {
                    module,
                    method,
                    waited,
                })
            }
            Ok(CallOutcome::Refused(refusal)) => Err(CallError::Refused(refusal)),
            Ok(CallOutcome::Disconnected) => Err(CallError::Disconnected { module, method }),
            Err(_) if connection.outbox.cancel_call(id) => Err(CallError::TimedOut {
                module,
                method,
                waited,
            }),
            Err(_) => Err(CallError::NotConnected { module, waited }),
        }
    }

    /// Waits until mainstay has confirmed every published message, at most `timeout`; returns
    /// whether it has. For a module that publishes before it exits.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        match &self.inner.connection {
            Some(connection) => connection.outbox.flush(timeout),
            None => true,
        }
    }

    /// Returns whether the connection is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match &self.inner.connection {
            Some(connection) => connection.outbox.is_connected(),
            None => false,
        }
    }

    /// Returns the number of published messages that were dropped or refused since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inner
            .connection
            .as_ref()
            .map_or(0, |connection| connection.outbox.dropped())
    }

    /// Returns the text of the last failure in the background: a refused subscription, a failed
    /// connection, an sd_notify message that could not be sent.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let own = self.inner.problem.lock();
        let own = own.unwrap_or_else(PoisonError::into_inner).clone();
        own.or_else(|| self.inner.connection.as_ref()?.outbox.problem())
    }

    fn notify(&self, text: &str) {
        if let Err(error) = self.inner.notify.send(text) {
            let mut problem = self
                .inner
                .problem
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *problem = Some(format!("cannot send {text} by sd_notify: {error}"));
        }
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("environment", &self.inner.environment)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

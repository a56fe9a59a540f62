//! The handle a module holds: everything it can say, ask and offer.
//! Owns the choice between the connection, sd_notify and nothing at all.
//! Never fails because mainstay is away; what can wait waits, what cannot is a typed error.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_protocol::ErrorCode;
use mainstay_protocol::method::{BusCallParams, PublishParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::asks::HealthSlot;
use crate::link::Link;
use crate::notify::Notify;
use crate::outbox::{Ended, NotQueued};
use crate::watchdog::Watchdog;
use crate::{Call, CallError, Error, Event, HealthReport, Surroundings};

/// A module's side of mainstay. Clones are the same module; when the last one is dropped the
/// connection ends (a closure that holds a clone keeps it).
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    surroundings: Surroundings,
    notify: Notify,
    health: HealthSlot,
    link: Option<Arc<Link>>,
    watchdog: Option<Arc<Watchdog>>,
    /// Why a thread or a notification could not be had; the connection keeps its own.
    problem: Mutex<Option<String>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.close();
        }
        if let Some(watchdog) = &self.watchdog {
            watchdog.close();
        }
    }
}

impl Module {
    /// Connects to the mainstay that started this program, in the background and for as long as
    /// the program lives. Outside mainstay the handle does nothing; with `NOTIFY_SOCKET` alone
    /// it speaks sd_notify. With `WATCHDOG_USEC` it feeds the watchdog at half the interval,
    /// as long as the health closure answers.
    #[must_use]
    pub fn connect() -> Module {
        Module::connect_in(Surroundings::from_env())
    }

    /// The same with surroundings that do not come from the environment.
    #[must_use]
    pub fn connect_in(surroundings: Surroundings) -> Module {
        let mut problem = None;
        let notify = Notify::new(surroundings.notify_socket.clone());
        let mut link = None;
        if surroundings.socket.is_some() {
            match Link::start(surroundings.clone()) {
                Ok(started) => link = Some(started),
                Err(error) => problem = Some(format!("cannot start a thread: {error}")),
            }
        }
        let health = link
            .as_ref()
            .map_or_else(HealthSlot::default, |link| link.asks.health());
        let mut watchdog = None;
        if let Some(every) = surroundings.watchdog.filter(|_| notify.is_set()) {
            match Watchdog::start(every, notify.clone(), health.clone()) {
                Ok(started) => watchdog = Some(started),
                Err(error) => problem = Some(format!("cannot start a thread: {error}")),
            }
        }
        Module {
            inner: Arc::new(Inner {
                surroundings,
                notify,
                health,
                link,
                watchdog,
                problem: Mutex::new(problem),
            }),
        }
    }

    /// The name mainstay gave this module; None outside.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.inner.surroundings.module.as_deref()
    }

    /// The number of this run; None outside.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.inner.surroundings.generation
    }

    /// Says that the module does its work from now on.
    pub fn ready(&self) {
        self.notify("READY=1");
        if let Some(link) = &self.inner.link {
            link.outbox.ready();
        }
    }

    /// Says in one line what the module is doing; line breaks become spaces.
    pub fn status(&self, text: impl AsRef<str>) {
        let text = text.as_ref().replace(['\n', '\r'], " ");
        self.notify(&format!("STATUS={text}"));
        if let Some(link) = &self.inner.link {
            link.outbox.status(&text);
        }
    }

    /// Says that the module is ending in order. Waiting for SIGTERM is the module's own business.
    pub fn stopping(&self) {
        self.notify("STOPPING=1");
    }

    /// Offers the closure that tells how the module is. It is asked at every health check and
    /// before every feeding of the watchdog, never twice at once; it should answer in
    /// milliseconds. Without one the module counts as healthy while it answers.
    pub fn health(&self, mut closure: impl FnMut() -> HealthReport + Send + 'static) {
        self.inner.health.set(Box::new(move || closure().into()));
    }

    /// Tells how the module is without being asked. Lost when mainstay is away: it asks again.
    pub fn report_health(&self, report: HealthReport) {
        if let Some(link) = &self.inner.link {
            let report: mainstay_protocol::method::HealthReportParams = report.into();
            link.outbox.health(json!(report));
        }
    }

    /// The module's own settings, the table `[settings]` of its configuration; outside mainstay
    /// an empty one, so that `#[serde(default)]` gives the defaults.
    ///
    /// # Errors
    /// When the file cannot be read or the table does not fit `T`.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_value(self.settings_value()?).map_err(Error::SettingsShape)
    }

    /// Delivers the settings to the closure, once, before this returns. Changes while the module
    /// runs are not delivered yet; the closure is given away so that they can be later.
    ///
    /// # Errors
    /// When the settings cannot be read.
    pub fn on_config(&self, mut closure: impl FnMut(Value) + Send + 'static) -> Result<(), Error> {
        closure(self.settings_value()?);
        Ok(())
    }

    fn settings_value(&self) -> Result<Value, Error> {
        let Some(path) = &self.inner.surroundings.settings else {
            return Ok(json!({}));
        };
        let text = std::fs::read(path).map_err(|source| Error::SettingsFile {
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(Error::SettingsShape)
    }

    /// Offers the closure that reduces the module's work to a share between 0 and 1.
    pub fn on_reduce_load(&self, closure: impl FnMut(f64) + Send + 'static) {
        if let Some(link) = &self.inner.link {
            link.asks.on_reduce_load(Box::new(closure));
        }
    }

    /// Offers the closure that switches a feature by name.
    pub fn on_feature(&self, closure: impl FnMut(&str, &Value) + Send + 'static) {
        if let Some(link) = &self.inner.link {
            link.asks.on_feature(Box::new(closure));
        }
    }

    /// Publishes under a subject (words joined by dots; `mainstay.*` is reserved). Returns at
    /// once; what cannot be sent now waits, 1024 messages at most.
    ///
    /// # Errors
    /// When the payload is not JSON or the message is over 1 MiB.
    pub fn publish(&self, subject: &str, payload: impl Serialize) -> Result<(), Error> {
        let Some(link) = &self.inner.link else {
            return Ok(());
        };
        let payload = serde_json::to_value(payload).map_err(|source| Error::Payload {
            subject: subject.to_owned(),
            source,
        })?;
        let subject = subject.to_owned();
        let what = subject.clone();
        link.outbox
            .publish(json!(PublishParams { subject, payload }))
            .map_err(|bytes| Error::TooLong { what, bytes })
    }

    /// Calls the closure for every event under one of the subjects (`*` stands for one word, as
    /// the last word for all that follow). All closures share one thread; when they are too slow
    /// the oldest of 1024 waiting events goes, and `lag` of the next one counts it.
    pub fn subscribe(&self, subjects: &[&str], closure: impl FnMut(&Event) + Send + 'static) {
        if let Some(link) = &self.inner.link {
            link.events.listen(subjects, Box::new(closure));
            link.outbox.subscribe(subjects);
        }
    }

    /// Answers calls of other modules to `method`, one at a time on a thread of its own. `Err`
    /// reaches the caller as `module_error`; a result of `null` reaches it as `{}`.
    pub fn serve(
        &self,
        method: &str,
        closure: impl Fn(Call) -> Result<Value, String> + Send + Sync + 'static,
    ) {
        if let Some(link) = &self.inner.link {
            link.asks.serve(method, Arc::new(closure));
        }
    }

    /// Calls another module and waits for its result, `timeout` at most. While mainstay is away
    /// the call waits to be sent.
    ///
    /// # Errors
    /// See [`CallError`]; `Disconnected` and `TimedOut` leave open whether it was carried out.
    pub fn call(
        &self,
        module: &str,
        method: &str,
        params: impl Serialize,
        timeout: Duration,
    ) -> Result<Value, CallError> {
        let (module, method) = (module.to_owned(), method.to_owned());
        let Some(link) = &self.inner.link else {
            return Err(CallError::Outside { module });
        };
        let waited = timeout;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let params = json!(BusCallParams {
            module: module.clone(),
            method: method.clone(),
            params: serde_json::to_value(params).unwrap_or_default(),
            timeout_ms: Some(timeout_ms.clamp(1, 60_000)),
        });
        let (tell, told) = sync_channel(1);
        let id = match link.outbox.call(params, tell) {
            Ok(id) => id,
            Err(NotQueued::TooMany(waiting)) => return Err(CallError::TooMany { module, waiting }),
            Err(NotQueued::TooLong(bytes)) => return Err(CallError::TooLong { module, bytes }),
        };
        match told.recv_timeout(timeout) {
            Ok(Ended::Answered(value)) => Ok(value),
            Ok(Ended::Refused(refusal)) if refusal.data.code == ErrorCode::Timeout => {
                Err(CallError::TimedOut {
                    module,
                    method,
                    waited,
                })
            }
            Ok(Ended::Refused(refusal)) => Err(CallError::Refused(refusal)),
            Ok(Ended::Disconnected) => Err(CallError::Disconnected { module, method }),
            Err(_) if link.outbox.give_up(id) => Err(CallError::TimedOut {
                module,
                method,
                waited,
            }),
            Err(_) => Err(CallError::Away { module, waited }),
        }
    }

    /// Waits until everything published was taken by mainstay, `timeout` at most; true when it
    /// was. For a module that wants its last words heard before it ends.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        match &self.inner.link {
            Some(link) => link.outbox.flush(timeout),
            None => true,
        }
    }

    /// True while a connection stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match &self.inner.link {
            Some(link) => link.outbox.is_connected(),
            None => false,
        }
    }

    /// Published messages that were dropped or refused since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inner
            .link
            .as_ref()
            .map_or(0, |link| link.outbox.dropped())
    }

    /// The newest thing that went wrong behind the module's back (a refused subscription, no
    /// connection, a notification nobody took), in words.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let own = self.inner.problem.lock();
        let own = own.unwrap_or_else(PoisonError::into_inner).clone();
        own.or_else(|| self.inner.link.as_ref()?.outbox.problem())
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
            .field("surroundings", &self.inner.surroundings)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

//! The handle of an embedded runtime: every question of the socket, and its end.
//! Owns nothing but the way to the actors; when the last clone goes, the system is stopped.
//! Never a second way: it requests what a socket requests, from `control`.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::states::Status;
use mainstay_protocol::config_change::{ConfigChanged, ConfigSetParams};
use mainstay_protocol::config_values::ConfigValue;
use mainstay_protocol::health::SystemHealth;
use mainstay_protocol::method::{
    ChangeParams, ChangeResult, EventsParams, GraphView, WhyParams, WhyResult,
};
use mainstay_protocol::methods::{self, ModuleRestart, ModuleStart, ModuleStop, RecoveryAccept};
use mainstay_protocol::{ErrorCode, Event, ModuleView, RequestError, SystemView};
use tokio::sync::watch;

use super::builder::RuntimeBuilder;
use crate::actors::RuntimeContext;
use crate::control::{self, Answer, Caller, config, events, logs, modules, system, view_builder};
use crate::journal::{EventFilter, EventSubscription};

/// How long the actors may take to publish what they told.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// How everything ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Modules that did not stop in time and were ended by force.
    pub forced: u32,
    /// Why the system ended by itself, if it did: the first start failed, or mainstay did.
    pub failure: Option<String>,
}

/// A running mainstay inside of an application. Clones share it; when the last one is dropped, all
/// modules are stopped in order, in the background and within `shutdown_timeout`. If the
/// application's tokio runtime ends before that, the processes that still run are killed.
///
/// Only the command line needs the default feature `cli`: with `default-features = false` the
/// application links neither it nor clap.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let mainstay = mainstay::Runtime::builder()
///     .config("config")
///     .task("indexer", |ctx| async move {
///         ctx.status("watching");
///         ctx.cancelled().await;
///         Ok(())
///     })
///     .start()
///     .await?;
/// mainstay.wait_started().await?;
/// println!("{}", mainstay.status().status);
/// mainstay.stop_system(std::time::Duration::from_secs(10)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<RuntimeShared>,
}

struct RuntimeShared {
    ctx: Arc<RuntimeContext>,
    started: watch::Receiver<Option<Result<(), String>>>,
    outcome: watch::Receiver<Option<ShutdownReport>>,
}

impl Drop for RuntimeShared {
    fn drop(&mut self) {
        stop(&self.ctx, None);
    }
}

fn stop(ctx: &RuntimeContext, budget: Option<Duration>) {
    system::stop(ctx, &Caller::application(), budget);
}

impl Runtime {
    /// Begins to describe a runtime.
    #[must_use]
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    pub(super) fn new(
        ctx: Arc<RuntimeContext>,
        started: watch::Receiver<Option<Result<(), String>>>,
        outcome: watch::Receiver<Option<ShutdownReport>>,
    ) -> Runtime {
        let shared = Arc::new(RuntimeShared {
            ctx,
            started,
            outcome,
        });
        Runtime { shared }
    }

    /// Waits until the initial startup has ended: every eager module is ready, done, or (when it is
    /// not required) failed. Takes at most `mainstay.startup_timeout`.
    ///
    /// # Errors
    /// `unavailable` with the reason when the startup failed; everything is being stopped then.
    pub async fn wait_started(&self) -> Result<(), RequestError> {
        let mut started = self.shared.started.clone();
        let how = started.wait_for(Option::is_some).await;
        match how.ok().and_then(|how| how.clone()) {
            Some(Ok(())) => {
                // The event may arrive before its snapshot.
                let _or_late =
                    tokio::time::timeout(PUBLISH_TIMEOUT, self.first_start_published()).await;
                Ok(())
            }
            Some(Err(text)) => Err(RequestError::new(ErrorCode::Unavailable, text)),
            None => Err(shutting_down()),
        }
    }

    /// Waits until the snapshots show the end of the initial startup.
    async fn first_start_published(&self) {
        let snapshots = &self.shared.ctx.snapshots;
        let mut edition = snapshots.version();
        loop {
            edition.borrow_and_update();
            let starting = snapshots.system().summary.status == Status::Starting;
            if !starting || edition.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stops everything in reverse order of dependency, `timeout` in all, and waits until it is
    /// done. Modules that do not stop get killed within it; a task that never yields is given up
    /// about 2 seconds after. A second call can only shorten the first; after the end it returns
    /// at once.
    pub async fn stop_system(&self, timeout: Duration) -> ShutdownReport {
        stop(&self.shared.ctx, Some(timeout));
        self.wait_ended().await
    }

    /// Waits until everything has ended, whatever the reason.
    pub async fn wait_ended(&self) -> ShutdownReport {
        let mut outcome = self.shared.outcome.clone();
        let outcome = outcome.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| ShutdownReport {
            forced: 0,
            failure: Some("the application's tokio runtime ended".to_owned()),
        })
    }

    /// Returns the status of the system, why it is not healthy, counts and usage.
    #[must_use]
    pub fn status(&self) -> SystemView {
        view_builder::system(&self.shared.ctx)
    }

    /// Returns the health of the system and of every module, with scores, metrics and trends, as
    /// `health.report` does.
    #[must_use]
    pub fn system_health(&self) -> SystemHealth {
        let modules: Vec<ModuleId> = self.shared.ctx.plan().ids().collect();
        view_builder::system_health(&self.shared.ctx, &modules)
    }

    /// All modules, the builtin `event-bus` among them, by name.
    #[must_use]
    pub fn modules(&self) -> Vec<ModuleView> {
        modules::list(&self.shared.ctx)
    }

    /// One module.
    ///
    /// # Errors
    /// `unknown_module`.
    pub fn module(&self, name: &str) -> Result<ModuleView, RequestError> {
        modules::get(&self.shared.ctx, name)
    }

    /// Starts a module and what it needs, and waits until it is running or failed, at most its own
    /// timeouts and 30 s.
    ///
    /// # Errors
    /// `unknown_module`, `shutting_down`, `busy`, `timeout`.
    pub async fn start_module(&self, name: &str) -> Result<ModuleView, RequestError> {
        self.change::<ModuleStart>(name).await
    }

    /// Stops a module and waits until it is down; what needs it goes down with it and waits.
    ///
    /// # Errors
    /// As [`Runtime::start_module`].
    pub async fn stop_module(&self, name: &str) -> Result<ModuleView, RequestError> {
        self.change::<ModuleStop>(name).await
    }

    /// Restarts a module and waits until its new run is running or failed.
    ///
    /// # Errors
    /// As [`Runtime::start_module`].
    pub async fn restart_module(&self, name: &str) -> Result<ModuleView, RequestError> {
        self.change::<ModuleRestart>(name).await
    }

    /// Accepts the recovery that is proposed for a failed module (`recovery.auto = false`), and
    /// waits until its new run is running or failed.
    ///
    /// # Errors
    /// As [`Runtime::start_module`]; `invalid_params` when nothing is proposed.
    pub async fn accept_recovery(&self, name: &str) -> Result<ModuleView, RequestError> {
        self.change::<RecoveryAccept>(name).await
    }

    async fn change<M>(&self, name: &str) -> Result<ModuleView, RequestError>
    where
        M: Answer<Params = ChangeParams, Result = ChangeResult>,
    {
        let params = ChangeParams {
            module: name.to_owned(),
            dry_run: false,
            wait: true,
        };
        let caller = Caller::application();
        let result = control::request::<M>(&self.shared.ctx, &caller, params).await?;
        Ok(result.module)
    }

    /// Returns why a module is in its state: the chain of events that led there, and what is next.
    ///
    /// # Errors
    /// `unknown_module`, `internal`.
    pub async fn why(&self, name: &str) -> Result<WhyResult, RequestError> {
        let params = WhyParams {
            module: name.to_owned(),
            full: false,
        };
        control::request::<methods::Why>(&self.shared.ctx, &Caller::application(), params).await
    }

    /// The dependency graph, in start order.
    #[must_use]
    pub fn graph(&self) -> GraphView {
        view_builder::graph(&self.shared.ctx, self.shared.ctx.plan().order())
    }

    /// Returns the configuration in force at or below a path, and where each value is set; "" is
    /// everything.
    ///
    /// # Errors
    /// `invalid_params` when there is no such key.
    pub fn config(&self, path: &str) -> Result<Vec<ConfigValue>, RequestError> {
        config::values(&self.shared.ctx, path)
    }

    /// Events of the journal: the newest 100 unless `params` says, oldest first.
    ///
    /// # Errors
    /// `internal` when the journal cannot be read.
    pub async fn events(&self, params: EventsParams) -> Result<Vec<Event>, RequestError> {
        events::list(&self.shared.ctx, params).await
    }

    /// Follows committed events from now on. 1024 may wait; a subscriber that lags further gets an
    /// error and subscribes again after the last event it received.
    #[must_use]
    pub fn subscribe(&self) -> EventSubscription {
        self.subscribe_to(EventFilter::default(), None)
    }

    /// Follows the committed events that pass the filter; with `since`, those after that number
    /// come first, without a gap or a repetition.
    #[must_use]
    pub fn subscribe_to(&self, filter: EventFilter, since: Option<u64>) -> EventSubscription {
        self.shared.ctx.recorder.journal().subscribe(filter, since)
    }

    /// The newest lines of what a module's process wrote, oldest first; at most 10 000. A task
    /// writes where the application does: it has none.
    ///
    /// # Errors
    /// `unknown_module`, `internal` when the file cannot be read.
    pub async fn logs(&self, name: &str, lines: usize) -> Result<Vec<String>, RequestError> {
        let ctx = &self.shared.ctx;
        logs::last_lines(ctx, modules::find_module(ctx, name)?, Some(lines)).await
    }

    /// Sets one key of the configuration while everything runs, as `config.set` does: the plan that
    /// follows from it is applied, watched, then committed or rolled back. With `wait` in the
    /// options it returns after that, else as soon as the plan is applied.
    ///
    /// # Errors
    /// `invalid_config` with all problems: nothing has changed then; `shutting_down`, `busy`.
    pub async fn update_config(
        &self,
        params: ConfigSetParams,
    ) -> Result<ConfigChanged, RequestError> {
        let caller = Caller::application();
        control::request::<methods::ConfigSet>(&self.shared.ctx, &caller, params).await
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("name", &self.shared.ctx.configuration().system.name)
            .finish_non_exhaustive()
    }
}

fn shutting_down() -> RequestError {
    RequestError::new(
        ErrorCode::ShuttingDown,
        "cannot say how the first start went: the runtime ended before it was over",
    )
}

//! From the settings of an application to a running runtime.
//! Owns those settings until `start`. Never changes anything before the configuration is checked.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mainstay_holder::{EngineOptions, embed};
use tokio::sync::watch;

use super::guard::EngineGuard;
use super::handle::{Runtime, ShutdownReport};
use super::task_context::{RuntimeRef, TaskContext, TaskError};
use crate::config::{ConfigSources, Problems};
use crate::os::Os;
use crate::os::embedded::{EmbeddedOs, TaskFn};
use crate::os::handshake::{HandshakeError, HolderHandshake};
use crate::os::transport::HolderEndpoint;
use crate::runtime::{self, PreparedRuntime, RunningRuntime, RuntimeStartError};

/// Why an embedded runtime did not start. Nothing was started then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has problems; all of them, with file, line and hint.
    #[error("{0}")]
    Configuration(Problems),
    /// The same name was given to two tasks.
    #[error("cannot start: two tasks are named {0}; give each its own name")]
    DuplicateTask(String),
    /// The state directory is in use, or a directory cannot be made.
    #[error("{0}")]
    StateDir(String),
    /// A file of the state directory.
    #[error("cannot use {}: {source}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the system reports.
        #[source]
        source: io::Error,
    },
    /// A thread, a descriptor or a tokio runtime is missing, as text.
    #[error("cannot start the runtime: {0}")]
    Os(String),
}

impl From<RuntimeStartError> for StartError {
    fn from(error: RuntimeStartError) -> StartError {
        match error {
            RuntimeStartError::Configuration(problems) => StartError::Configuration(problems),
            RuntimeStartError::Wire(HandshakeError::Refused(text, _)) => StartError::StateDir(text),
            RuntimeStartError::Wire(other) => StartError::Os(other.to_string()),
            RuntimeStartError::State { path, source } => StartError::State { path, source },
            RuntimeStartError::Os(text) => StartError::Os(text),
        }
    }
}

/// What an embedded runtime is made of; see [`Runtime::builder`].
#[derive(Default)]
pub struct RuntimeBuilder {
    folder: Option<PathBuf>,
    set: Vec<String>,
    strict: bool,
    tasks: Vec<(String, TaskFn)>,
    /// The running runtime, for tasks: set once before anything starts.
    runtime: RuntimeRef,
}

impl RuntimeBuilder {
    /// The configuration's folder. Without it: `$MAINSTAY_CONFIG`, `./config`, the user's, as for
    /// `mainstay up`.
    #[must_use]
    pub fn config(mut self, folder: impl Into<PathBuf>) -> RuntimeBuilder {
        self.folder = Some(folder.into());
        self
    }

    /// A value on top of the files, `health.interval=10s`, as `--set` of the command line.
    #[must_use]
    pub fn set(mut self, key_and_value: impl Into<String>) -> RuntimeBuilder {
        self.set.push(key_and_value.into());
        self
    }

    /// Files with problems are an error of `start`. Without it, the plan that was committed last
    /// starts where there is one, and the status says what is wrong with the files.
    #[must_use]
    pub fn strict(mut self) -> RuntimeBuilder {
        self.strict = true;
        self
    }

    /// A module that the application runs itself. `Ok` is a clean exit, `Err` a failed one
    /// (exit code 1), a panic a crash (101); what follows is configured in `[module.NAME]`, which
    /// may be missing and has no `command`. Each run has a thread of its own and is polled there
    /// with the application's tokio runtime; the closure is called once for each run.
    #[must_use]
    pub fn task<F, R>(mut self, name: impl Into<String>, task: F) -> RuntimeBuilder
    where
        F: Fn(TaskContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let runtime = Arc::clone(&self.runtime);
        let work: TaskFn = Arc::new(move |run| {
            let run = task(TaskContext::new(run, &runtime));
            Box::pin(async move { run.await.map_err(|error| chain(&*error)) })
        });
        self.tasks.push((name.into(), work));
        self
    }

    /// Checks the configuration, takes the state directory and begins the first start; see
    /// [`Runtime::wait_started`] for its end. Needs a tokio runtime with I/O and time, of any
    /// flavour; the actors run on it, processes are started and waited for on threads of their own.
    ///
    /// # Errors
    /// [`StartError`]; nothing was started then.
    pub async fn start(self) -> Result<Runtime, StartError> {
        let mut tasks: HashMap<String, TaskFn> = HashMap::new();
        for (name, work) in self.tasks {
            if tasks.insert(name.clone(), work).is_some() {
                return Err(StartError::DuplicateTask(name));
            }
        }
        let mut names: Vec<String> = tasks.keys().cloned().collect();
        names.sort();
        let sources = ConfigSources::find(self.folder.as_deref(), &self.set);
        let sources = sources.map_err(StartError::Configuration)?;
        let sources = ConfigSources {
            tasks: names,
            strict: self.strict,
            ..sources
        };
        // The engine answers from its own thread; files are read meanwhile.
        let prepared = tokio::task::spawn_blocking(move || prepare(sources));
        let (wire, ground, mut guard) = prepared
            .await
            .map_err(|error| StartError::Os(error.to_string()))??;
        let settings = settings_of(&ground);
        let (held, facts) = runtime::connect_holder(wire, &ground)?;
        let tasks = tasks.into_iter().map(|(name, work)| {
            let settings = settings.get(&name).cloned().unwrap_or_default();
            (name, work, settings)
        });
        let direct = Arc::new(EmbeddedOs::new(Arc::clone(&held), tasks));
        guard.guard(Arc::clone(&direct));
        let os: Arc<dyn Os> = Arc::clone(&direct) as Arc<dyn Os>;
        let built = ground.build(os, None)?;
        let _only_once = self.runtime.set(Arc::downgrade(&built.ctx));
        let running = built.start(facts).await?;
        let (ctx, started) = (Arc::clone(&running.ctx), running.started.clone());
        let (over, outcome) = watch::channel(None);
        tokio::spawn(run_to_end(running, held, guard, over));
        Ok(Runtime::new(ctx, started, outcome))
    }
}

impl std::fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tasks: Vec<&String> = self.tasks.iter().map(|(name, _)| name).collect();
        f.debug_struct("RuntimeBuilder")
            .field("folder", &self.folder)
            .field("set", &self.set)
            .field("strict", &self.strict)
            .field("tasks", &tasks)
            .finish()
    }
}

fn prepare(
    sources: ConfigSources,
) -> Result<(HolderHandshake, PreparedRuntime, EngineGuard), StartError> {
    let machine = |error: io::Error| StartError::Os(error.to_string());
    let (socket, engine) = embed(EngineOptions::default()).map_err(machine)?;
    let end = HolderEndpoint::from(socket);
    let guard = EngineGuard::new(&end, engine).map_err(machine)?;
    let mut wire = HolderHandshake::new(end);
    let ground = runtime::prepare(&mut wire, Ok(sources))?;
    Ok((wire, ground, guard))
}

type SettingsMap = serde_json::Map<String, serde_json::Value>;

fn settings_of(ground: &PreparedRuntime) -> HashMap<String, SettingsMap> {
    let modules = ground.configuration.modules.iter();
    modules
        .map(|(spec, launch)| (spec.name.clone(), launch.settings.clone()))
        .collect()
}

/// Waits for the end and brings it about to its last trace. Dropped half-way (with the
/// application's tokio runtime), the guard ends what is left.
async fn run_to_end(
    mut running: RunningRuntime,
    held: Arc<crate::os::holder_client::HolderClient>,
    guard: EngineGuard,
    over: watch::Sender<Option<ShutdownReport>>,
) {
    let end = running.wait().await;
    let failure = running.started.borrow().clone().and_then(Result::err);
    let outcome = match end {
        Some(end) => ShutdownReport {
            forced: end.forced,
            failure,
        },
        None => ShutdownReport {
            forced: 0,
            failure: Some("a part of mainstay failed too often; its log says why".to_owned()),
        },
    };
    running
        .close(&held, u8::from(outcome.failure.is_some()))
        .await;
    let _ended = tokio::task::spawn_blocking(move || drop(guard)).await;
    over.send_replace(Some(outcome));
}

/// An error and what led to it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

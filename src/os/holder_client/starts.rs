//! Starts that are in flight: who the process becomes is looked up before, and why it did not start
//! is put into words after. Owns what of each request is needed for that, and the look-ups.
//! Never waits for a look-up or a file on the thread of the actors.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mainstay_holder::messages::HolderRequest;
use mainstay_process::{
    Instance, ProcessEvent, ProcessEventKind, SpawnRequest, StartFailure, StartStep,
};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{HolderClient, lock};
use crate::os::OsEvent;
use crate::os::accounts::{self, Account, AccountError};
use crate::os::start_failure::{StartContext, explain};

/// How long the name service may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the files that say why a program cannot be executed may take.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Look-ups that may be in flight: with more, the name service hangs.
pub(super) const LOOKUPS_MAX: usize = 8;

/// A start whose outcome is not known yet.
pub(super) struct Start {
    generation: u64,
    context: StartContext,
    /// Its user is being looked up, its sockets bound: the holder does not know of it.
    pending: bool,
    cancelled: bool,
}

impl HolderClient {
    /// Requests a start, after its user and group were looked up and its sockets bound.
    pub(super) fn request_spawn(&self, spawn: SpawnRequest) {
        let looks_up = spawn.user.is_some() || spawn.group.is_some();
        let pending = looks_up || self.has_sockets(&spawn.instance, &spawn.sockets);
        let start = Start {
            generation: spawn.generation,
            context: StartContext::from(&spawn),
            pending,
            cancelled: false,
        };
        lock(&self.starts).insert(spawn.instance.clone(), start);
        match self.myself.upgrade() {
            Some(client) if pending => {
                self.handle.spawn(client.prepare_and_spawn(spawn));
            }
            _ => self.send_request(&HolderRequest::Spawn(Box::new(spawn))),
        }
    }

    /// Whether a run that is to end is not requested yet: then it never is.
    pub(super) fn cancel_start(&self, instance: &Instance, generation: u64) -> bool {
        let mut starts = lock(&self.starts);
        let start = starts.get_mut(instance);
        let pending = start.filter(|one| one.pending && one.generation == generation);
        pending.map(|one| one.cancelled = true).is_some()
    }

    async fn prepare_and_spawn(self: Arc<Self>, mut spawn: SpawnRequest) {
        let prepared = self.prepare(&mut spawn).await;
        let cancelled = match lock(&self.starts).get_mut(&spawn.instance) {
            Some(start) if start.generation == spawn.generation => {
                start.pending = false;
                start.cancelled
            }
            _ => false,
        };
        let (failure, message) = match prepared {
            _ if cancelled => {
                let (step, errno) = (StartStep::Fork, libc::ECANCELED);
                let message = "cannot start a process that is to end".to_owned();
                (StartFailure { step, errno }, message)
            }
            Ok(()) => return self.send_request(&HolderRequest::Spawn(Box::new(spawn))),
            Err(failed) => failed,
        };
        lock(&self.starts).remove(&spawn.instance);
        let event = ProcessEvent {
            instance: spawn.instance,
            generation: spawn.generation,
            what: ProcessEventKind::SpawnFailed { failure, message },
        };
        self.deliver(event).await;
    }

    /// Does what the holder leaves to the runtime: names become numbers, sockets descriptors.
    async fn prepare(&self, spawn: &mut SpawnRequest) -> Result<(), (StartFailure, String)> {
        if spawn.user.is_some() || spawn.group.is_some() {
            let (user, group) = (spawn.user.clone(), spawn.group.clone());
            let found = look_up(&self.lookups, user, group).await;
            let account = found.map_err(|error| (error.failure, error.message))?;
            // What `env` says comes later and counts.
            spawn.env.splice(0..0, account.env);
            let who = account.credentials.as_ref();
            spawn.user = who.map(|who| who.uid.to_string());
            spawn.group = who.map(|who| who.gid.to_string());
            spawn.credentials = account.credentials;
        }
        if self.has_sockets(&spawn.instance, &spawn.sockets) {
            let wanted = spawn.sockets.clone();
            let passed = self.pass_sockets(&spawn.instance, wanted, false).await;
            passed.map_err(|error| (error.failure, error.message))?;
        }
        Ok(())
    }

    /// A failure that the holder did not put into words is delivered when it has them.
    pub(super) fn explain_later(&self, event: ProcessEvent) -> Option<ProcessEvent> {
        let start = match &event.what {
            ProcessEventKind::Spawned { .. } | ProcessEventKind::SpawnFailed { .. } => {
                lock(&self.starts).remove(&event.instance)
            }
            // Its start is not reported.
            ProcessEventKind::Exited(_) if event.instance.command().is_some() => {
                lock(&self.starts).remove(&event.instance)
            }
            _ => return Some(event),
        };
        let unexplained = match &event.what {
            ProcessEventKind::SpawnFailed { failure, message } if message.is_empty() => *failure,
            _ => return Some(event),
        };
        let Some((start, client)) = start.zip(self.myself.upgrade()) else {
            return Some(event);
        };
        self.handle
            .spawn(client.explain_and_deliver(event, start.context, unexplained));
        None
    }

    async fn explain_and_deliver(
        self: Arc<Self>,
        mut event: ProcessEvent,
        context: StartContext,
        failure: StartFailure,
    ) {
        let plain = context.text(failure);
        let explained = tokio::task::spawn_blocking(move || explain(&context, failure));
        let text = match timeout(EXPLAIN_TIMEOUT, explained).await {
            Ok(Ok(text)) => text,
            _ => plain,
        };
        if let ProcessEventKind::SpawnFailed { message, .. } = &mut event.what {
            *message = text;
        }
        self.deliver(event).await;
    }

    async fn deliver(&self, event: ProcessEvent) {
        if let Some(event) = self.apply_event(event) {
            let _router_ended = self.facts.send(OsEvent::Process(event)).await;
        }
    }
}

/// Looks up on a thread that may hang.
fn look_up(
    lookups: &Arc<Semaphore>,
    user: Option<String>,
    group: Option<String>,
) -> impl Future<Output = Result<Account, AccountError>> + Send + use<> {
    let permit = Arc::clone(lookups).try_acquire_owned();
    async move {
        let late = accounts::timed_out(user.as_deref(), group.as_deref());
        let Ok(permit) = permit else {
            return Err(late);
        };
        let found = tokio::task::spawn_blocking(move || {
            let _until_it_returns = permit;
            accounts::resolve(user.as_deref(), group.as_deref())
        });
        match timeout(LOOKUP_TIMEOUT, found).await {
            Ok(Ok(found)) => found,
            _ => Err(late),
        }
    }
}

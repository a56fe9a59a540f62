//! Sockets that the holder keeps for instances: bound before it needs them, and again when their
//! files were removed. Owns what is known of them, one list an instance.
//! Never binds on the thread of the actors, nor two times at once for one instance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_holder::messages::{BoundSocket, HolderRequest, TakeoverState};
use mainstay_process::{
    ActivationSocket, Instance, ProcessEvent, ProcessEventKind, StartFailure, StartStep,
};
use tokio::time::timeout;

use super::{HolderClient, lock};
use crate::os::OsEvent;
use crate::os::activation::{BindError, BoundSockets, bind_missing, is_in_place};

/// How long the file system of a socket may take.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);

/// What the holder keeps for one instance; locked while it is changed.
type Sockets = Arc<tokio::sync::Mutex<Vec<BoundSocket>>>;

/// What the holder keeps for each instance that has sockets.
pub(super) type SocketTable = Mutex<HashMap<Instance, Sockets>>;

/// The sockets that a holder kept while there was no runtime.
pub(super) fn table(known: &TakeoverState) -> SocketTable {
    let known = known.sockets.iter();
    let sockets = known.map(|one| {
        let sockets = tokio::sync::Mutex::new(one.sockets.clone());
        (one.instance.clone(), Arc::new(sockets))
    });
    Mutex::new(sockets.collect())
}

impl HolderClient {
    /// Whether the holder keeps sockets for an instance, or is to.
    pub(super) fn has_sockets(&self, instance: &Instance, wanted: &[ActivationSocket]) -> bool {
        !wanted.is_empty() || lock(&self.sockets).contains_key(instance)
    }

    pub(super) fn forget_sockets(&self, instance: &Instance) {
        lock(&self.sockets).remove(instance);
    }

    /// Has the holder keep these sockets for an instance and no others: binds what it lacks.
    pub(super) async fn pass_sockets(
        &self,
        instance: &Instance,
        wanted: Vec<ActivationSocket>,
        activates: bool,
    ) -> Result<(), BindError> {
        let sockets = Arc::clone(lock(&self.sockets).entry(instance.clone()).or_default());
        let mut kept = sockets.lock().await;
        let before = kept.clone();
        let bound = tokio::task::spawn_blocking(move || bind_missing(&before, wanted));
        let BoundSockets {
            sockets,
            passed,
            fds,
        } = match timeout(BIND_TIMEOUT, bound).await {
            Ok(Ok(bound)) => bound?,
            _ => return Err(timed_out()),
        };
        if activates || *kept != sockets || !passed.is_empty() {
            let passing = sockets.clone();
            let request = HolderRequest::Listen {
                instance: instance.clone(),
                sockets,
                passed,
                activates,
            };
            if self.send_request_with(&request, fds) {
                *kept = passing;
            }
        }
        Ok(())
    }

    /// Listens for an instance that does not run; reports it if that is not possible.
    pub(super) async fn listen_or_report(
        self: Arc<Self>,
        instance: Instance,
        wanted: Vec<ActivationSocket>,
    ) {
        if let Err(error) = self.pass_sockets(&instance, wanted, true).await {
            self.report_socket(&instance, error.message).await;
        }
    }

    /// Binds again what was removed with its directory. A run that has the old socket keeps it: its
    /// next run gets the new one.
    pub(super) fn restore_sockets(&self) {
        let Some(client) = self.myself.upgrade() else {
            return;
        };
        let all: Vec<(Instance, Sockets)> = lock(&self.sockets)
            .iter()
            .map(|(instance, sockets)| (instance.clone(), Arc::clone(sockets)))
            .collect();
        self.handle.spawn(async move {
            for (instance, sockets) in all {
                client.restore_sockets_of(instance, sockets).await;
            }
        });
    }

    async fn restore_sockets_of(&self, instance: Instance, sockets: Sockets) {
        let kept = sockets.lock().await.clone();
        let wanted: Vec<ActivationSocket> = kept.iter().map(|one| one.socket.clone()).collect();
        let missing = tokio::task::spawn_blocking(move || {
            let missing = kept.iter().filter(|one| !is_in_place(one));
            missing.map(|one| one.socket.address.clone()).collect()
        });
        let missing: Vec<String> = match timeout(BIND_TIMEOUT, missing).await {
            Ok(Ok(missing)) => missing,
            _ => return,
        };
        if missing.is_empty() {
            return;
        }
        if self.living(&instance).is_some() {
            let paths = missing.join(", ");
            let message = format!(
                "cannot be reached on {paths}: the socket file was removed, and a run keeps the \
                 socket it started with; restart {instance}"
            );
            self.report_socket(&instance, message).await;
        } else if let Err(error) = self.pass_sockets(&instance, wanted, false).await {
            self.report_socket(&instance, error.message).await;
        }
    }

    async fn report_socket(&self, instance: &Instance, message: String) {
        let generation = self.living(instance).map_or(0, |alive| alive.generation);
        let event = ProcessEvent {
            instance: instance.clone(),
            generation,
            what: ProcessEventKind::NotifyRejected { message },
        };
        let _router_ended = self.facts.send(OsEvent::Process(event)).await;
    }
}

fn timed_out() -> BindError {
    let seconds = BIND_TIMEOUT.as_secs();
    let (step, errno) = (StartStep::Descriptors, libc::ETIMEDOUT);
    BindError {
        failure: StartFailure { step, errno },
        message: format!(
            "cannot bind its sockets: the file system did not answer in {seconds}s; check the \
             directories in `sockets`"
        ),
    }
}

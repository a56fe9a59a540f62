//! The files in which modules find their features, written on a thread that a folder may hold up.
//! Owns which files are to be written, one at a time: each gets what holds at that moment.
//! Never holds up an actor; a start waits a moment for the file of its module.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_policy::ModuleId;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::module::ModuleMsg;
use super::{RuntimeContext, features};

/// How long a folder may take until that is reported, and a start does without the file.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Which files are to be written.
#[derive(Debug, Default)]
pub(crate) struct FeatureFiles {
    writes: Mutex<Writes>,
    written: Notify,
}

#[derive(Debug, Default)]
struct Writes {
    waiting: BTreeSet<ModuleId>,
    current: Option<ModuleId>,
    /// The thread is at work.
    is_running: bool,
}

impl FeatureFiles {
    fn writes(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file to write next; the one before is written.
    fn next(&self) -> Option<ModuleId> {
        let mut writes = self.writes();
        writes.current = writes.waiting.pop_first();
        writes.is_running = writes.current.is_some();
        self.written.notify_waiters();
        writes.current
    }

    fn has(&self, module: ModuleId) -> bool {
        let writes = self.writes();
        writes.current == Some(module) || writes.waiting.contains(&module)
    }
}

/// A module has features switched off, or all of them again.
pub(super) fn set_degraded(ctx: &Arc<RuntimeContext>, module: ModuleId, degraded: bool) {
    if ctx.degraded.get(module).swap(degraded, Ordering::Relaxed) != degraded {
        refresh(ctx, module);
    }
}

/// Has the features of a module written to its file; a run that read others is told then.
pub(super) fn refresh(ctx: &Arc<RuntimeContext>, module: ModuleId) {
    if ctx.features_file(module).is_none() {
        return;
    }
    let mut writes = ctx.feature_files.writes();
    writes.waiting.insert(module);
    if std::mem::replace(&mut writes.is_running, true) {
        return;
    }
    drop(writes);
    let thread = Arc::clone(ctx);
    let work = tokio::task::spawn_blocking(move || {
        while let Some(module) = thread.feature_files.next() {
            if features::write(&thread, module) && !thread.bus.is_connected(module) {
                let msg = ModuleMsg::Deliver { prepared: false };
                thread.actor_refs.module(module).cast(msg);
            }
        }
    });
    let ctx = Arc::clone(ctx);
    tokio::spawn(async move {
        if timeout(WRITE_TIMEOUT, work).await.is_err() {
            let current = ctx.feature_files.writes().current;
            let module = current.map(|module| ctx.name(module)).unwrap_or_default();
            tracing::error!(
                module = &*module,
                "cannot write the features of the module: the folder did not answer within \
                 {WRITE_TIMEOUT:?}; they are written when it does"
            );
        }
    });
}

/// Waits until the features of a module are in its file, at most until that should have been.
pub(super) async fn until_written(ctx: &RuntimeContext, module: ModuleId) {
    let written = async {
        loop {
            let mut written = std::pin::pin!(ctx.feature_files.written.notified());
            written.as_mut().enable();
            if !ctx.feature_files.has(module) {
                return;
            }
            written.await;
        }
    };
    let _reported = timeout(WRITE_TIMEOUT, written).await; // where it is written
}

//! Restarts of modules whose own files changed (`watch`).
//! Owns the watch over those files, and how often a module is restarted for them.
//! Never restarts a module itself: the lifecycle does, unless it is to be down.
//! In flight at most: 1 message of changes, 1 search for folders.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_policy::ModuleId;
use mainstay_policy::rate_limit::TokenBucket;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;

use super::RuntimeContext;
use super::lifecycle::{FilesChanged, LifecycleMsg};
use super::timer::DeadlineTimer;
use crate::os::source_watch::{SharedChanges, SourceChange, SourcePatterns, SourceWatch};

/// Restarts of one module for its files: `BURST` together, then one per interval.
const BURST: u32 = 10;
const STEADY: Duration = Duration::from_secs(6);
/// When a restart that came too early is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// What it is told.
#[derive(Debug)]
pub(crate) enum SourceFilesMsg {
    /// Another plan is in force, or this actor is new.
    PlanChanged,
    /// Files changed.
    Changed(BTreeMap<u32, SourceChange>),
    /// The timer.
    TimerFired,
}

/// The state.
pub(crate) struct SourceFilesActorState {
    ctx: Arc<RuntimeContext>,
    watch: Arc<Mutex<SourceWatch>>,
    task: AbortHandle,
    allowances: HashMap<u32, TokenBucket>,
    /// Changes that no restart followed yet.
    pending: BTreeMap<u32, SourceChange>,
    timer: DeadlineTimer,
}

impl Drop for SourceFilesActorState {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The actor.
pub(crate) struct SourceFilesActor;

impl Actor for SourceFilesActor {
    type Msg = SourceFilesMsg;
    type State = SourceFilesActorState;
    type Arguments = Arc<RuntimeContext>;

    async fn pre_start(
        &self,
        myself: ActorRef<SourceFilesMsg>,
        ctx: Arc<RuntimeContext>,
    ) -> Result<SourceFilesActorState, ActorProcessingErr> {
        let shared: Arc<SharedChanges> = Arc::default();
        let watch = Arc::new(Mutex::new(SourceWatch::new(Arc::clone(&shared))));
        let task = tokio::spawn(follow(myself.clone(), shared, Arc::clone(&watch)));
        myself.cast(SourceFilesMsg::PlanChanged)?;
        Ok(SourceFilesActorState {
            ctx,
            watch,
            task: task.abort_handle(),
            allowances: HashMap::new(),
            pending: BTreeMap::new(),
            timer: DeadlineTimer::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SourceFilesMsg>,
        msg: SourceFilesMsg,
        state: &mut SourceFilesActorState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            SourceFilesMsg::PlanChanged => state.watch_plan(),
            SourceFilesMsg::Changed(changes) => state.changed(changes),
            SourceFilesMsg::TimerFired => {}
        }
        state.restart_pending();
        let now = state.ctx.os.now();
        let again = (!state.pending.is_empty()).then(|| now.after(AGAIN));
        state
            .timer
            .set(now, again, &myself, || SourceFilesMsg::TimerFired);
        Ok(())
    }
}

/// Tells the actor what changed, and watches folders that are new.
async fn follow(
    actor: ActorRef<SourceFilesMsg>,
    shared: Arc<SharedChanges>,
    watch: Arc<Mutex<SourceWatch>>,
) {
    loop {
        let (mut changed, may_have_folders) = shared.settled().await;
        if may_have_folders {
            let watch = Arc::clone(&watch);
            let look = move || lock(&watch).look_for_folders();
            let _a_panic_ends_the_look = tokio::task::spawn_blocking(look).await;
            changed.extend(shared.take());
        }
        if !changed.is_empty() && actor.cast(SourceFilesMsg::Changed(changed)).is_err() {
            return;
        }
    }
}

fn lock(watch: &Mutex<SourceWatch>) -> std::sync::MutexGuard<'_, SourceWatch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SourceFilesActorState {
    /// Watches what the newest plan says.
    fn watch_plan(&mut self) {
        let (planned, watch) = (self.ctx.planned(), Arc::clone(&self.watch));
        let configuration = Arc::clone(&planned.configuration);
        let ids: Vec<ModuleId> = planned.plan.ids().collect();
        let sources = ids.into_iter().filter_map(|id| {
            let launch = &planned.module(id).launch;
            let (watch, ignore) = (&launch.watch.files, &launch.watch.ignore);
            let some =
                (!watch.is_empty()).then(|| SourcePatterns::new(&launch.directory, watch, ignore));
            // Each pattern was checked when it was read.
            some.and_then(Result::ok).map(|patterns| (id.0, patterns))
        });
        let sources: BTreeMap<u32, SourcePatterns> = sources.collect();
        self.pending
            .retain(|module, _| sources.contains_key(module));
        let system = &configuration.system;
        let own = [
            &system.state_dir,
            &system.runtime_dir,
            &system.logs.directory,
        ];
        let files = configuration.files.iter();
        let excluded = own.into_iter().chain(files).cloned().collect();
        let plan = planned.plan.number();
        tokio::task::spawn_blocking(move || lock(&watch).set(plan, sources, excluded));
    }

    fn changed(&mut self, changes: BTreeMap<u32, SourceChange>) {
        for (module, change) in changes {
            let pending = self.pending.entry(module);
            let pending = pending
                .and_modify(|pending| pending.count = pending.count.saturating_add(change.count));
            pending.or_insert(change);
        }
    }

    /// Asks for the restarts that the allowance of their module lets through.
    fn restart_pending(&mut self) {
        let now = self.ctx.os.now();
        let allowances = &mut self.allowances;
        let due = self.pending.extract_if(.., |module, _| {
            let allowance = allowances
                .entry(*module)
                .or_insert_with(|| TokenBucket::new(BURST, STEADY.as_secs_f64().recip()));
            allowance.try_take(now)
        });
        for (module, change) in due {
            let msg = LifecycleMsg::FilesChanged(FilesChanged {
                module: ModuleId(module),
                path: change.path.map(|path| path.to_string_lossy().into_owned()),
                count: change.count,
            });
            self.ctx.actor_refs.lifecycle.cast(msg);
        }
    }
}

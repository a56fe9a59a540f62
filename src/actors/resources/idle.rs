//! Runs that are not used: their sockets and calls are looked at with each sample.
//! Owns the idle clock of each run that is up. Never stops a run: the lifecycle does, unless
//! something needs it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mainstay_policy::idle::IdleClock;
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_process::Instance;

use super::super::RuntimeContext;
use super::super::lifecycle::LifecycleMsg;
use crate::os::machine::Listening;

/// One run that is up.
struct IdleRun {
    generation: u64,
    clock: IdleClock,
    /// Calls to it at the last look.
    calls: u64,
    /// A warning said that its use is not known.
    is_unknown: bool,
}

/// The runs that are up.
pub(super) struct IdleRuns {
    ctx: Arc<RuntimeContext>,
    runs: BTreeMap<ModuleId, IdleRun>,
}

impl IdleRuns {
    pub(super) fn new(ctx: Arc<RuntimeContext>) -> IdleRuns {
        let runs = BTreeMap::new();
        IdleRuns { ctx, runs }
    }

    /// A run is up: from here on its time without use counts.
    pub(super) fn run_is_up(&mut self, module: ModuleId, generation: u64) {
        let run = IdleRun {
            generation,
            clock: IdleClock::new(self.ctx.os.now()),
            calls: self.ctx.bus.calls(module).total,
            is_unknown: false,
        };
        self.runs.insert(module, run);
    }

    /// A run is not up any more.
    pub(super) fn run_is_down(&mut self, module: ModuleId) {
        self.runs.remove(&module);
    }

    /// The sockets to look at.
    pub(super) fn listening(&self) -> Vec<Listening> {
        let launches = self.runs.keys().map(|id| (*id, self.ctx.launch(*id)));
        let listening = launches.filter(|(_, it)| it.idle_stop.is_some() && !it.sockets.is_empty());
        listening
            .map(|(id, launch)| {
                let addresses = launch.sockets.iter().map(|(_, address)| address.clone());
                (self.ctx.instance(id), addresses.collect())
            })
            .collect()
    }

    /// Takes in whether sockets are used; reports the runs that were not used for long.
    pub(super) fn look(&mut self, now: MonoTime, used_sockets: &HashMap<Instance, bool>) {
        let interval = self.ctx.configuration().system.check_interval;
        for (module, run) in &mut self.runs {
            let launch = self.ctx.launch(*module);
            let Some(idle_stop) = launch.idle_stop else {
                continue;
            };
            let calls = self.ctx.bus.calls(*module);
            let was_called = std::mem::replace(&mut run.calls, calls.total) != calls.total;
            let sockets = used_sockets.get(&self.ctx.instance(*module));
            let is_unknown = sockets.is_none() && !launch.sockets.is_empty();
            if is_unknown && !std::mem::replace(&mut run.is_unknown, true) {
                let module = &*self.ctx.name(*module);
                tracing::warn!(
                    module,
                    "cannot see who is connected to its sockets: it is not stopped when idle"
                );
            }
            // What cannot be seen may be used.
            let is_connected = is_unknown || sockets == Some(&true);
            let is_used = is_connected || was_called || calls.pending > 0;
            if run.clock.look(now, is_used, (interval, idle_stop)) {
                let (module, generation) = (*module, run.generation);
                let lifecycle = &self.ctx.actor_refs.lifecycle;
                lifecycle.cast(LifecycleMsg::Idle { module, generation });
            }
        }
    }
}

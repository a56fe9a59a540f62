//! What the actor of a module knows of a run beside its state, for `why`: deadlines, what it
//! reported, the check that it waits for.

use mainstay_protocol::Timestamp;

use super::super::probing;
use super::ModuleActorState;

/// What is known of a run beside its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunOutlook {
    /// What the last readiness check found instead, and how many there were.
    pub(crate) not_ready: Option<String>,
    /// When it must have fed its watchdog.
    pub(crate) watchdog_by: Option<Timestamp>,
}

impl ModuleActorState {
    pub(super) fn outlook(&self) -> RunOutlook {
        let (found, count) = &self.not_ready;
        let found = found.as_ref().filter(|_| !self.module.is_ready());
        let watchdog = self.module.watchdog_deadline();
        RunOutlook {
            not_ready: found.map(|found| probing::counted(found, *count)),
            watchdog_by: watchdog.map(|at| self.ctx.to_wall_clock(at)),
        }
    }
}

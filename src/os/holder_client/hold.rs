//! Whether a run can answer: a debugger may hold it, or the governor stops it.
//! Owns nothing. Never stops or continues a run.

use mainstay_policy::MonoTime;
use mainstay_process::Instance;

use super::super::{Os, RunHold, machine};
use super::HolderClient;

impl HolderClient {
    /// Why a run could not answer at some time since then.
    pub(super) fn hold_since(&self, instance: &Instance, since: MonoTime) -> Option<RunHold> {
        if machine::is_traced(self.live_process(instance)?.pid) {
            return Some(RunHold::Debugger);
        }
        #[cfg(unix)]
        if self.governor.was_frozen(instance, since) {
            return Some(RunHold::Frozen);
        }
        #[cfg(windows)]
        let _nothing_is_stopped_there = since;
        None
    }
}

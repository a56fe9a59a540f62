//! Restarts that modules share: of a group, or of all modules.
//! Owns which module waits for which: no member starts before every member has ended, and none
//! before the backoff of the one that failed has expired.
//! Never stops a module: it marks, and the reconcile step stops them in order.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Lifecycle;
use super::managed_module::StopReason;
use crate::group::Scope;
use crate::spec::ModuleId;
use crate::states::{Desired, State};

/// One restart that several modules share.
#[derive(Debug, Clone)]
pub(super) struct SharedRestart {
    /// The module that failed.
    by: ModuleId,
    /// The others.
    members: BTreeSet<ModuleId>,
    /// Those of them whose run has to end first.
    ending: BTreeSet<ModuleId>,
}

impl SharedRestart {
    fn concerns(&self, module: ModuleId) -> bool {
        self.by == module || self.members.contains(&module)
    }
}

impl Lifecycle {
    /// `by` failed and will be back: the modules of the scope restart with it. They keep what is
    /// desired, and it costs them no attempt.
    pub(super) fn restart_along(&mut self, by: ModuleId, scope: Scope, degrade: bool) {
        let modules: Vec<ModuleId> = match scope {
            Scope::This => return,
            Scope::System => self.ids().filter(|id| *id != by).collect(),
            _ => self.plan.groups().taken_along(scope, by),
        };
        let mut restart = SharedRestart {
            by,
            members: BTreeSet::new(),
            ending: BTreeSet::new(),
        };
        for module in modules {
            let Some(Some(slot)) = self.modules.get_mut(module.index()) else {
                continue;
            };
            if slot.is_builtin() || slot.goal() == Desired::Down {
                continue;
            }
            match slot.state {
                State::Starting | State::Running | State::Stopping => {
                    slot.stop_reason.get_or_insert(StopReason::Group(by));
                    restart.ending.insert(module);
                    self.mark_dirty(module);
                }
                State::Waiting | State::Backoff => {}
                State::NotStarted | State::Stopped | State::Failed => continue,
            }
            self.module_mut(module).is_degraded |= degrade;
            restart.members.insert(module);
        }
        if restart.members.is_empty() {
            return;
        }
        let stopped = restart.ending.clone();
        // It failed again before its restart began: who shares that still does.
        for former in self.shared_restarts.extract_if(.., |other| other.by == by) {
            restart.members.extend(former.members);
            restart.ending.extend(former.ending);
        }
        self.shared_restarts.push(restart);
        for module in stopped {
            self.propagate_restart(module);
        }
    }

    /// Whether a start has to wait for others that restart with `module`.
    pub(super) fn awaits_members(&self, module: ModuleId) -> bool {
        let holds = |restart: &SharedRestart| {
            let backs_off = self
                .get(restart.by)
                .is_some_and(|slot| slot.state == State::Backoff);
            let holds = !restart.ending.is_empty() || (restart.by != module && backs_off);
            restart.concerns(module) && holds
        };
        self.shared_restarts.iter().any(holds)
    }

    /// A request outranks recovery: `module` waits for no member any more.
    pub(super) fn leave_shared_restarts(&mut self, module: ModuleId) {
        for restart in &mut self.shared_restarts {
            restart.members.remove(&module);
        }
    }

    /// The run of a module has ended.
    pub(super) fn member_ended(&mut self, module: ModuleId) {
        let mut was_awaited = false;
        for restart in &mut self.shared_restarts {
            was_awaited |= restart.ending.remove(&module);
        }
        if was_awaited {
            self.release_shared_restarts();
        }
    }

    /// Releases the restarts that wait for no module any more.
    pub(super) fn release_shared_restarts(&mut self) {
        if self.shared_restarts.is_empty() {
            return;
        }
        let restarts = core::mem::take(&mut self.shared_restarts);
        let graph = Arc::clone(&self.graph);
        for restart in restarts {
            if !restart.ending.is_empty() {
                self.shared_restarts.push(restart);
                continue;
            }
            let backs_off = self
                .get(restart.by)
                .is_some_and(|slot| slot.state == State::Backoff);
            let all = restart.members.iter().chain([&restart.by]);
            for module in all.filter(|id| self.modules[id.index()].is_some()) {
                self.dirty.insert(graph.rank(*module));
            }
            if backs_off {
                self.shared_restarts.push(restart);
            }
        }
    }
}

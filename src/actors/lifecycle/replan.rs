//! Another plan while modules run, as the actors see it.
//! Owns the order: policy accepts the plan, readers see it, then modules follow it one by one.
//! Never decides about a module: [`mainstay_policy::lifecycle::Lifecycle::replan`] does.

use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::{ChangeClass, ReplanError};
use tokio::sync::oneshot;

use super::{LifecycleActorState, ModuleNotes};
use crate::actors::Planned;
use crate::actors::health::HealthMsg;
use crate::actors::launching;

/// A plan that is to follow the one in force.
#[derive(Debug)]
pub(crate) struct Replan {
    /// The plan, made with [`Planned::next`].
    pub(crate) planned: Planned,
    /// The modules whose definition changed, and whether their run can go on under the new one.
    pub(crate) changes: Vec<(ModuleId, ChangeClass)>,
    /// Answered when policy has accepted or refused the plan; a refusal changes nothing.
    pub(crate) result: oneshot::Sender<Result<(), ReplanError>>,
}

impl LifecycleActorState {
    pub(super) fn replan(&mut self, replan: Replan) {
        let Replan {
            planned,
            changes,
            result,
        } = replan;
        let (now, plan) = (self.ctx.os.now(), Arc::clone(&planned.plan));
        let done = self.policy.replan(now, Arc::clone(&plan), &changes);
        if done.is_ok() {
            let notes = ModuleNotes::new(self.ctx.os.wall_clock());
            let slots = self.modules.len().max(planned.slots());
            self.modules.resize(slots, notes);
            self.ctx.replace_plan(planned);
            for module in plan.ids() {
                self.follow_plan(module);
                self.dirty.insert(module);
            }
        }
        let _requester_is_gone = result.send(done);
    }

    /// Lets a module follow the newest plan, once policy says that it does.
    pub(super) fn follow_plan(&self, module: ModuleId) {
        let newest = self.ctx.planned();
        let follows = self.policy.spec(module);
        if follows.is_none_or(|(_, number)| number != newest.plan.number()) {
            return;
        }
        let before = self.ctx.follow_plan(module);
        let after = newest.module(module);
        if before.launch.sockets != after.launch.sockets {
            let _listens = launching::listen_if_lazy(&self.ctx, module);
        }
        let view = self.policy.view(module);
        if before.launch.probes != after.launch.probes {
            self.ctx
                .actor_refs
                .health
                .cast(HealthMsg::ReadinessChanged {
                    module,
                    generation: view.generation,
                    running: view.state == mainstay_policy::states::State::Running,
                    found: true,
                });
        }
    }
}

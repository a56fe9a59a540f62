//! Another plan while modules run, as the actors see it.
//! Owns the order: policy accepts the plan, readers see it, then modules follow it one by one.
//! Never decides about a module: [`mainstay_policy::lifecycle::Lifecycle::replan`] does.

use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::{ChangeClass, ReplanError};
use mainstay_policy::plan::Plan;
use mainstay_protocol::{EventKind, StateCause};
use serde_json::json;
use tokio::sync::oneshot;

use super::{LifecycleActorState, ModuleNotes};
use crate::actors::Planned;
use crate::actors::event_recorder::EventBuilder;
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
            let former = Arc::clone(&self.ctx.planned().plan);
            self.ctx.replace_plan(planned);
            self.record_membership(&former, &plan);
            for module in plan.ids() {
                self.follow_plan(module);
                self.dirty.insert(module);
            }
        }
        let _requester_is_gone = result.send(done);
    }

    /// Records which modules the plan has and the former one did not, and the other way round.
    fn record_membership(&self, former: &Plan, plan: &Plan) {
        let added = plan.ids().filter(|id| former.get(*id).is_none());
        let removed = former.ids().filter(|id| plan.get(*id).is_none());
        let added = added.map(|id| (EventKind::ModuleAdded, id));
        for (kind, id) in added.chain(removed.map(|id| (EventKind::ModuleRemoved, id))) {
            let event = EventBuilder::of(kind)
                .module(id, self.policy.view(id).generation)
                .cause(StateCause::Reload)
                .payload(json!({ "plan": plan.number() }));
            self.ctx.recorder.record(event);
        }
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

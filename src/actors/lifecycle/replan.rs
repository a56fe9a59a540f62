//! Another plan while modules run, as the actors see it.
//! Owns the order: policy accepts the plan, readers see it, then modules follow it one by one.
//! Never decides about a module: [`mainstay_policy::lifecycle::Lifecycle::replan`] does.

use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_policy::lifecycle::{ChangeClass, ReplanError};
use mainstay_policy::plan::Plan;
use mainstay_policy::reload::ReloadEvent;
use mainstay_protocol::{EventKind, StateCause};
use serde_json::json;
use tokio::sync::oneshot;

use super::{AdoptedModule, LifecycleActorState, ModuleNotes};
use crate::actors::config::ConfigMsg;
use crate::actors::event_recorder::{CausedBy, EventBuilder};
use crate::actors::health::HealthMsg;
use crate::actors::module::ModuleMsg;
use crate::actors::resources::ResourcesMsg;
use crate::actors::source_files::SourceFilesMsg;
use crate::actors::{ConsoleMessage, Planned, PlannedModule, features, holder_setup, launching};
use crate::config::Configuration;

/// A plan that is to follow the one in force.
#[derive(Debug)]
pub(crate) struct Replan {
    /// The plan, made with [`Planned::next`].
    pub(crate) planned: Planned,
    /// The modules whose definition changed, and whether their run can continue under the new one.
    pub(crate) changes: Vec<(ModuleId, ChangeClass)>,
    /// Runs that an earlier runtime left of modules that are new: which, and the process if it
    /// lives.
    pub(crate) found: Vec<(ModuleId, u64, Option<u32>)>,
    /// What is recorded of it before what it leads to.
    pub(crate) events: Vec<EventBuilder>,
    /// Answered when policy has accepted or refused the plan; a refusal changes nothing.
    pub(crate) result: oneshot::Sender<Result<(), ReplanError>>,
}

/// What the config actor is sent about a plan until that is committed.
#[derive(Debug, Default)]
pub(super) struct PlanWatch {
    is_on: bool,
    /// Whose state is to be reported once the effects of a message are performed.
    to_report: Vec<ModuleId>,
    /// What a plan removed that is not committed: the next one may have it again.
    removed: Vec<ModuleId>,
}

impl LifecycleActorState {
    pub(super) fn replan(&mut self, replan: Replan) {
        let Replan {
            planned,
            changes,
            found,
            events,
            result,
        } = replan;
        for (module, generation, pid) in found {
            self.policy.found_run(module, generation, pid);
        }
        let (now, plan) = (self.ctx.os.now(), Arc::clone(&planned.plan));
        let done = self.policy.replan(now, Arc::clone(&plan), &changes);
        if done.is_ok() {
            for event in events {
                self.ctx.recorder.record(event);
            }
            let notes = ModuleNotes::new(self.ctx.os.wall_clock());
            let slots = self.modules.len().max(planned.slots());
            self.modules.resize(slots, notes);
            let former_plan = self.ctx.planned();
            let former = Arc::clone(&former_plan.plan);
            self.ctx.replace_plan(planned);
            self.record_membership(&former, &plan);
            for module in plan.ids() {
                self.follow_plan(module);
                self.dirty.insert(module);
            }
            self.tell_others(&former_plan.configuration);
            self.watch.is_on = true;
            let changed = changes.iter().map(|(module, _)| *module);
            self.watch.to_report = changed.collect();
        }
        let _requester_is_gone = result.send(done);
    }

    /// Tells those that do not read the plan at each use that another one is in force.
    fn tell_others(&self, former: &Configuration) {
        features::on_plan(&self.ctx, former);
        let live = holder_setup::live(&self.ctx.configuration());
        if live != holder_setup::live(former) {
            self.ctx.os.reconfigure(live);
        }
        let logs = &self.ctx.configuration().system.logs;
        if *logs != former.system.logs {
            self.ctx.announce(ConsoleMessage::LogsChanged(logs));
        }
        let refs = &self.ctx.actor_refs;
        refs.source_files.cast(SourceFilesMsg::PlanChanged);
        refs.resources.cast(ResourcesMsg::PlanChanged);
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
        self.record_renames(former, plan);
    }

    /// Records new names. A name that one module leaves can go to another: the events are in an
    /// order in which each new name is free.
    fn record_renames(&self, former: &Plan, plan: &Plan) {
        let renamed = plan.modules().filter_map(|spec| {
            let from = &former.get(spec.id)?.name;
            (*from != spec.name).then_some((spec, from.clone()))
        });
        let mut renamed: Vec<_> = renamed.collect();
        while !renamed.is_empty() {
            let is_free = |to: &String| renamed.iter().all(|(_, from)| from != to);
            let next = renamed.iter().position(|(spec, _)| is_free(&spec.name));
            let (spec, from) = renamed.swap_remove(next.unwrap_or(0));
            let event = EventBuilder::of(EventKind::ModuleRenamed)
                .module(spec.id, self.policy.view(spec.id).generation)
                .cause(StateCause::Reload)
                .caused_by(CausedBy::SameModule)
                .payload(json!({ "from": from, "plan": plan.number() }));
            self.ctx.recorder.record(event);
        }
    }

    /// Drops what only a return to the plan before would have needed.
    pub(super) fn commit(&mut self) {
        self.policy.commit();
        self.watch.is_on = false;
        for module in std::mem::take(&mut self.watch.removed) {
            if self.policy.spec(module).is_none() {
                self.ctx.os.forget(&self.ctx.instance(module));
                self.ctx.actor_refs.module(module).cast(ModuleMsg::Forget);
            }
        }
    }

    /// A new lifecycle hears of runs that are out and that the plan has no module for.
    pub(super) fn keep_former(&mut self, modules: &[AdoptedModule]) {
        let planned = self.ctx.planned();
        let out = modules.iter().filter(|one| one.alive.is_some());
        let former = out.filter(|one| !planned.plan.has(one.module));
        let specs = former.map(|one| self.ctx.spec(one.module));
        self.policy.keep_former(specs.collect::<Vec<_>>());
    }

    /// A new lifecycle hears of a module: the plan has it, or removed it and is not committed.
    pub(super) fn adopt_removed(&mut self, module: ModuleId) {
        match self.policy.spec(module) {
            Some(_) => drop(self.dirty.insert(module)),
            None => self.watch.removed.push(module),
        }
    }

    pub(super) fn removed(&mut self, module: ModuleId) {
        // It says that the last run has ended: a new lifecycle would wait for that end.
        self.save_record(module);
        self.watch.removed.push(module);
        self.report(module, ReloadEvent::Removed, String::new());
    }

    /// Reports all modules, those that are gone included, to a config actor that is new or that
    /// hears of a new lifecycle.
    pub(super) fn report_watched(&mut self) {
        self.watch.is_on = true;
        let slots = (0_u32..).map(ModuleId).take(self.modules.len());
        self.watch.to_report = slots.collect();
        if !self.policy.is_changing() {
            let plan = self.policy.plan().number();
            self.ctx.actor_refs.config.cast(ConfigMsg::InForce(plan));
        }
    }

    pub(super) fn report_states(&mut self) {
        for module in std::mem::take(&mut self.watch.to_report) {
            self.report_state(module);
        }
    }

    /// Reports where a module is, or that it is gone.
    pub(super) fn report_state(&self, module: ModuleId) {
        if self.policy.spec(module).is_none() {
            return self.report(module, ReloadEvent::Removed, String::new());
        }
        let view = self.policy.view(module);
        let event = ReloadEvent::State(view.state, view.health);
        self.report(module, event, self.state_text(module, view.state));
    }

    pub(super) fn report_failure(&self, module: ModuleId, why: &str) {
        self.report(module, ReloadEvent::Failed, why.to_owned());
    }

    fn report(&self, module: ModuleId, event: ReloadEvent, text: String) {
        if self.watch.is_on {
            let msg = ConfigMsg::Module(module, event, text);
            self.ctx.actor_refs.config.cast(msg);
        }
    }

    /// The end of its run may be what a module waited for before it followed the newest plan.
    pub(super) fn follow_plan_after_run(&self, module: ModuleId) {
        let followed = &self.ctx.definition(module).spec;
        let is_behind = |(spec, _): (&Arc<_>, u64)| !Arc::ptr_eq(spec, followed);
        if self.policy.spec(module).is_some_and(is_behind) {
            self.follow_plan(module);
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
        let listens = |one: &PlannedModule| (one.spec.start, one.launch.sockets.clone());
        if listens(&before) != listens(after) {
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

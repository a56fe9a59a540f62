//! What the throttle ladder of each run decides, performed: an event first, then the rung.
//! Owns the ladder of each run that is up, and the limits that were set for it.
//! Never restarts: the lifecycle does, through recovery.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::resources::{
    Ladder, LadderSpec, MachineLoad, MachinePressure, Resource, ResourceUsage, Rung, RungChange,
    Squeezable, squeezed,
};
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_process::RunLimits;
use mainstay_protocol::method::name;
use mainstay_protocol::{EventKind, StateCause};
use serde_json::json;

use super::super::event_recorder::EventBuilder;
use super::super::lifecycle::LifecycleMsg;
use super::super::registry::RegistryMsg;
use super::super::snapshots::ThrottleInfo;
use super::super::{RuntimeContext, convert};
use crate::os::FreezeReason;

/// How long a module may take to reply that it reduces its load.
const REDUCE_TIMEOUT: Duration = Duration::from_secs(5);
/// The share of its load that a module is asked to keep to on the rung `notice`.
const NOTICE_LOAD: f64 = 0.5;
/// How long a run stays still while its end is being decided: until its stop signal, at most.
const STILL: Duration = Duration::from_millis(300);

/// One run that is up.
struct ThrottledRun {
    generation: u64,
    ladder: Ladder,
    /// What was set for it last.
    limits: RunLimits,
}

/// The ladders of all runs, by slot.
pub(super) struct Throttles {
    ctx: Arc<RuntimeContext>,
    runs: Vec<Option<ThrottledRun>>,
    pressure: MachinePressure,
}

/// What a run used until now.
pub(super) struct RunUsage {
    pub(super) module: ModuleId,
    pub(super) generation: u64,
    pub(super) usage: ResourceUsage,
}

impl Throttles {
    pub(super) fn new(ctx: Arc<RuntimeContext>) -> Throttles {
        Throttles {
            ctx,
            runs: Vec::new(),
            pressure: MachinePressure::default(),
        }
    }

    /// A run is up: from here on its limits hold. A start is exempt.
    pub(super) fn run_is_up(&mut self, module: ModuleId, generation: u64) {
        self.run(module, generation);
        self.set_limits(self.ctx.os.now(), module);
    }

    /// The runs that are up follow the limits of the plan in force.
    pub(super) fn follow_plan(&mut self, now: MonoTime) {
        let slots = (0_u32..).map(ModuleId).zip(&self.runs);
        let up: Vec<ModuleId> = slots
            .filter_map(|(module, run)| run.as_ref().map(|_| module))
            .collect();
        up.into_iter()
            .for_each(|module| self.set_limits(now, module));
    }

    /// A run is not up any more.
    pub(super) fn run_is_down(&mut self, module: ModuleId) {
        if let Some(run) = self.runs.get_mut(module.index()) {
            *run = None;
        }
    }

    fn run(&mut self, module: ModuleId, generation: u64) {
        let slots = self.ctx.planned().slots().max(module.index() + 1);
        if self.runs.len() < slots {
            self.runs.resize_with(slots, || None);
        }
        let run = &mut self.runs[module.index()];
        run.take_if(|run| run.generation != generation);
        run.get_or_insert_with(|| ThrottledRun {
            generation,
            ladder: Ladder::default(),
            limits: RunLimits::default(),
        });
    }

    /// Takes in a sample of all runs that are alive, and how busy the machine is.
    pub(super) fn sample(&mut self, now: MonoTime, runs: &[RunUsage], load: &MachineLoad) {
        let is_up = |one: &&RunUsage| {
            let run = self.runs.get(one.module.index()).and_then(Option::as_ref);
            run.is_some_and(|run| run.generation == one.generation)
        };
        let up: Vec<&RunUsage> = runs.iter().filter(is_up).collect();
        let turn = self.find_squeezed(&up, load);
        let scarce = self.pressure.scarce();
        for one in up {
            let spec = self.ladder_spec(one.module);
            let squeeze = scarce.filter(|_| turn.contains(&one.module));
            let Some(run) = &mut self.runs[one.module.index()] else {
                continue;
            };
            let change = run.ladder.sample(&spec, now, &one.usage, squeeze);
            if let Some(change) = change {
                self.perform(one, change);
            }
            self.set_limits(now, one.module);
        }
    }

    fn ladder_spec(&self, module: ModuleId) -> LadderSpec {
        let spec = self.ctx.spec(module);
        LadderSpec {
            throttle: spec.throttle.clone(),
            importance: spec.importance,
            can_cap_memory: self.ctx.os.enforcement().mechanism("memory_mb").is_some(),
        }
    }

    /// Whose turn it is when the machine is short of something; an event when that begins.
    fn find_squeezed(&mut self, up: &[&RunUsage], load: &MachineLoad) -> Vec<ModuleId> {
        let threshold = self.ctx.configuration().system.throttle_threshold;
        let was = self.pressure.scarce().is_some();
        let Some(scarce) = self.pressure.sample(load, threshold) else {
            return Vec::new();
        };
        if !was {
            let text = match scarce {
                Resource::MachineMemory => format!("{:.0} % of memory in use", load.memory * 100.0),
                _ => format!("{:.0} % of all processors in use", load.cpu * 100.0),
            };
            let entry = EventBuilder::of(EventKind::SystemOverloaded);
            self.ctx
                .recorder
                .record(entry.payload(json!({ "text": text })));
        }
        let modules = up.iter().map(|one| {
            let used = match scarce {
                Resource::MachineMemory => one.usage.memory_bytes,
                _ => one.usage.cpu_permille,
            };
            let run = self.runs[one.module.index()].as_ref();
            let ladder = run.map_or_else(Ladder::default, |run| run.ladder);
            let spec = self.ladder_spec(one.module);
            Squeezable {
                module: one.module,
                importance: spec.importance,
                used: used.unwrap_or(0),
                can_climb: ladder.can_be_squeezed(&spec),
                is_held: ladder.is_held_by_machine(&spec),
            }
        });
        squeezed(scarce, &modules.collect::<Vec<_>>())
    }

    fn perform(&self, one: &RunUsage, change: RungChange) {
        let (module, generation) = (one.module, one.generation);
        let mechanism = self.mechanism(change);
        let text = resource_text(change.resource, change.used, change.limit);
        let kind = if change.to > change.from {
            EventKind::ModuleThrottled
        } else {
            EventKind::ModuleReleased
        };
        let entry = EventBuilder::of(kind)
            .module(module, generation)
            .cause(StateCause::Limit)
            .payload(json!({
                "from": convert::rung(change.from), "to": convert::rung(change.to),
                "text": text, "mechanism": mechanism,
            }));
        self.ctx.recorder.record(entry);
        let info = (change.to != Rung::None).then_some(ThrottleInfo {
            rung: change.to,
            mechanism,
        });
        self.ctx
            .actor_refs
            .registry
            .cast(RegistryMsg::Throttle(module, info));
        if change.to > change.from {
            self.climb(module, generation, change, text);
        } else if change.to == Rung::None {
            // What a degraded module leaves out it leaves out still.
            let degraded = self.ctx.snapshots.module(module).lifecycle.info.degraded;
            let degrade = self.ctx.launch(module).degrade.reduce_load;
            self.set_load(module, degrade.filter(|_| degraded).unwrap_or(1.0));
        }
    }

    fn climb(&self, module: ModuleId, generation: u64, change: RungChange, text: String) {
        match change.to {
            Rung::Notice => self.set_load(module, NOTICE_LOAD),
            Rung::Restart | Rung::Stop => {
                // What is over its limit uses no more of it meanwhile.
                let instance = self.ctx.instance(module);
                self.ctx
                    .os
                    .freeze(&instance, generation, STILL, FreezeReason::Limit);
                self.ctx
                    .actor_refs
                    .lifecycle
                    .cast(LifecycleMsg::LimitExceeded {
                        module,
                        generation,
                        stop: change.to == Rung::Stop,
                        text,
                    });
            }
            Rung::None | Rung::Priority | Rung::Cap => {}
        }
    }

    /// What is done on a rung, in a word.
    fn mechanism(&self, change: RungChange) -> &'static str {
        match change.from.max(change.to) {
            Rung::None | Rung::Notice => "notice",
            Rung::Priority => "priority",
            Rung::Cap => self.ctx.os.enforcement().throttles(change.resource),
            Rung::Restart | Rung::Stop => "recovery",
        }
    }

    /// Asks a module that has a connection to do less.
    fn set_load(&self, module: ModuleId, factor: f64) {
        let bus = Arc::clone(&self.ctx.bus);
        tokio::spawn(async move {
            let params = json!({ "factor": factor });
            let _without_a_connection = bus
                .request(module, name::LOAD_REDUCE, params, REDUCE_TIMEOUT)
                .await;
        });
    }

    /// Sets what is to hold for a run now, if that is something else than before.
    fn set_limits(&mut self, now: MonoTime, module: ModuleId) {
        let spec = self.ladder_spec(module);
        let Some(run) = &mut self.runs[module.index()] else {
            return;
        };
        let limits = run.ladder.limits(&spec, now);
        if limits != run.limits {
            let instance = self.ctx.instance(module);
            self.ctx.os.limit(&instance, run.generation, limits);
            run.limits = limits;
        }
    }
}

/// What is used of a resource and what is allowed, in the words of the configuration.
fn resource_text(resource: Resource, used: u64, limit: u64) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let percent = |permille: u64| permille as f64 / 10.0;
    match resource {
        Resource::Cpu => format!(
            "CPU time at {} % of a core, limits.cpu_percent = {}",
            percent(used),
            percent(limit)
        ),
        Resource::Memory => format!(
            "memory at {} MiB, limits.memory_mb = {}",
            mib(used),
            mib(limit)
        ),
        Resource::Threads => format!("{used} threads, limits.threads = {limit}"),
        Resource::Processes => format!("{used} processes, limits.processes = {limit}"),
        Resource::MachineCpu => format!(
            "the processors of the machine are busy; it uses {} % of a core",
            percent(used)
        ),
        Resource::MachineMemory => "the memory of the machine is short".to_owned(),
    }
}

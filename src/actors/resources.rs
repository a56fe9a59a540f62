//! Resources: what the modules, the machine and mainstay itself use, and what is done about it.
//! Owns the last sample, to make rates of, the throttle ladders and one alarm. Never decides.
//! In flight at most: 1 sample, 1 TimerFired, 1 PlanChanged a plan, 2 changes of readiness a
//! module.

use std::sync::Arc;
use std::time::Duration;

use mainstay_policy::resources::{MachineLoad, ResourceUsage};
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::view::{MachineUsage, SelfUsage, Usage};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::RuntimeContext;
use super::health::HealthMsg;
use super::registry::RegistryMsg;
use super::timer::DeadlineTimer;
use crate::os::{Sample, SampleRequest, TreeUsage};

mod idle;
mod throttle;

use idle::IdleRuns;
use throttle::{RunUsage, Throttles};

/// Soon after the start, so that `status` has numbers early.
const FIRST_SAMPLE: Duration = Duration::from_secs(2);

/// Messages of the resources actor.
#[derive(Debug)]
pub(crate) enum ResourcesMsg {
    /// A sample was taken; None: it could not be taken.
    Sampled(Option<Box<Sample>>),
    /// A run is up, or not any more.
    ReadinessChanged {
        /// The module.
        module: ModuleId,
        /// The number of the run.
        generation: u64,
        /// Up, or not any more.
        running: bool,
    },
    /// Another plan is in force.
    PlanChanged,
    /// The alarm.
    TimerFired,
}

/// The state.
pub(crate) struct ResourcesActorState {
    ctx: Arc<RuntimeContext>,
    last: Option<Box<Sample>>,
    throttles: Throttles,
    idle_runs: IdleRuns,
    alarm: DeadlineTimer,
    /// When the next sample is taken; None: one is in flight.
    due: Option<MonoTime>,
}

/// The actor.
pub(crate) struct ResourcesActor;

impl Actor for ResourcesActor {
    type Msg = ResourcesMsg;
    type State = ResourcesActorState;
    type Arguments = Arc<RuntimeContext>;

    async fn pre_start(
        &self,
        myself: ActorRef<ResourcesMsg>,
        ctx: Arc<RuntimeContext>,
    ) -> Result<ResourcesActorState, ActorProcessingErr> {
        let wait = FIRST_SAMPLE.min(ctx.configuration().system.check_interval);
        let mut state = ResourcesActorState {
            due: Some(ctx.os.now().after(wait)),
            throttles: Throttles::new(Arc::clone(&ctx)),
            idle_runs: IdleRuns::new(Arc::clone(&ctx)),
            ctx,
            last: None,
            alarm: DeadlineTimer::default(),
        };
        state.arm(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<ResourcesMsg>,
        msg: ResourcesMsg,
        state: &mut ResourcesActorState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ResourcesMsg::Sampled(sample) => {
                if let Some(sample) = sample {
                    state.publish(&sample);
                    state.last = Some(sample);
                }
                let interval = state.ctx.configuration().system.check_interval;
                state.due = Some(state.ctx.os.now().after(interval));
            }
            ResourcesMsg::ReadinessChanged {
                module,
                generation,
                running: true,
            } => {
                state.throttles.run_is_up(module, generation);
                state.idle_runs.run_is_up(module, generation);
            }
            ResourcesMsg::ReadinessChanged { module, .. } => {
                state.throttles.run_is_down(module);
                state.idle_runs.run_is_down(module);
            }
            ResourcesMsg::PlanChanged => state.follow_plan(),
            ResourcesMsg::TimerFired => state.request_sample(&myself),
        }
        state.arm(&myself);
        Ok(())
    }
}

impl ResourcesActorState {
    fn arm(&mut self, myself: &ActorRef<ResourcesMsg>) {
        let now = self.ctx.os.now();
        self.alarm
            .set(now, self.due, myself, || ResourcesMsg::TimerFired);
    }

    /// Applies new limits and a shorter interval at once.
    fn follow_plan(&mut self) {
        let now = self.ctx.os.now();
        self.throttles.follow_plan(now);
        let by = now.after(self.ctx.configuration().system.check_interval);
        self.due = self.due.map(|due| due.min(by));
    }

    fn request_sample(&mut self, myself: &ActorRef<ResourcesMsg>) {
        let now = self.ctx.os.now();
        if self.due.take_if(|due| *due <= now).is_none() {
            return;
        }
        let (pid, holder) = (std::process::id(), self.ctx.holder.get());
        // Embedded they are one, and its memory belongs to the application.
        let is_alone = holder != pid;
        let plan = self.ctx.plan();
        let sample = self.ctx.os.sample(SampleRequest {
            modules: plan.ids().map(|id| self.ctx.instance(id)).collect(),
            own: std::iter::once(pid)
                .chain(is_alone.then_some(holder))
                .collect(),
            listening: self.idle_runs.listening(),
            volume: self.ctx.configuration().system.state_dir.clone(),
            release_memory: is_alone && self.last.is_none(),
        });
        let myself = myself.clone();
        tokio::spawn(async move {
            let sample = sample.await.map(Box::new);
            let _actor_ended = myself.cast(ResourcesMsg::Sampled(sample));
        });
    }

    fn publish(&mut self, sample: &Sample) {
        let (mut modules, mut runs) = (Vec::new(), Vec::new());
        for id in self.ctx.plan().ids() {
            let instance = self.ctx.instance(id);
            let Some((generation, used)) = sample.modules.get(&instance) else {
                continue;
            };
            let last = self.last.as_ref();
            let before = last.and_then(|last| {
                let (of, before) = last.modules.get(&instance)?;
                (of == generation).then_some((last.at, *before))
            });
            let usage = self.usage(sample.at, used, before);
            runs.push(RunUsage {
                module: id,
                generation: *generation,
                usage: ResourceUsage {
                    cpu_permille: before.map(|_| permille(usage.cpu_percent)),
                    memory_bytes: Some(used.memory_bytes),
                    threads: used.threads,
                    processes: Some(used.processes),
                },
            });
            modules.push((id, usage));
        }
        let before = self.last.as_ref().map(|last| (last.at, last.own));
        let used = self.usage(sample.at, &sample.own, before);
        let self_usage = SelfUsage {
            cpu_percent: used.cpu_percent,
            memory_bytes: used.memory_bytes,
        };
        let machine = self.machine(sample);
        let msg = RegistryMsg::Usage(modules, machine, self_usage);
        self.ctx.actor_refs.registry.cast(msg);
        let now = &sample.machine;
        let load = MachineLoad {
            cpu: machine.cpu_percent / 100.0 / now.cores.max(1) as f64,
            memory: now.memory_bytes as f64 / now.memory_total.max(1) as f64,
            cpu_pressure: now.cpu_pressure,
            memory_pressure: now.memory_pressure,
        };
        self.throttles.sample(sample.at, &runs, &load);
        self.idle_runs.look(sample.at, &sample.used_sockets);
        let memory = runs.iter().map(|run| {
            let bytes = run.usage.memory_bytes.unwrap_or(0);
            (run.module, run.generation, bytes)
        });
        let memory = HealthMsg::Sampled(memory.collect());
        self.ctx.actor_refs.health.cast(memory);
    }

    /// What a tree uses, and at what rate since the sample before.
    fn usage(
        &self,
        now: MonoTime,
        used: &TreeUsage,
        before: Option<(MonoTime, TreeUsage)>,
    ) -> Usage {
        let (since, before) = before.unwrap_or((self.ctx.up_since, TreeUsage::default()));
        let took = now.since(since);
        let io = used.io_bytes.zip(before.io_bytes.or(Some(0)));
        Usage {
            cpu_percent: percent(used.cpu_ns.saturating_sub(before.cpu_ns), took),
            memory_bytes: used.memory_bytes,
            memory_kind: used.memory_kind,
            file_handles: used.file_handles,
            threads: used.threads,
            processes: used.processes,
            io_bytes_per_s: io.map(|(now, then)| per_second(now.saturating_sub(then), took)),
        }
    }

    fn machine(&self, sample: &Sample) -> MachineUsage {
        let now = &sample.machine;
        let rates = self.last.as_ref().map(|last| {
            let (before, took) = (&last.machine, sample.at.since(last.at));
            let cpu = percent(now.cpu_ns.saturating_sub(before.cpu_ns), took);
            let bytes = now.network_bytes.saturating_sub(before.network_bytes);
            (cpu, per_second(bytes, took))
        });
        let (cpu_percent, network_bytes_per_s) = rates.unwrap_or_default();
        MachineUsage {
            cpu_percent,
            cores: now.cores,
            load: now.load,
            memory_bytes: now.memory_bytes,
            memory_total_bytes: now.memory_total,
            disk_bytes: now.disk_bytes,
            network_bytes_per_s,
        }
    }
}

/// CPU time as percent of one core over a span, to a tenth.
fn percent(cpu_ns: u64, span: Duration) -> f64 {
    let share = Duration::from_nanos(cpu_ns).as_secs_f64() / span.as_secs_f64().max(1e-6);
    (share * 1000.0).round() / 10.0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is not negative, and saturates"
)]
fn permille(percent: f64) -> u64 {
    (percent * 10.0).round() as u64
}

fn per_second(bytes: u64, span: Duration) -> u64 {
    let per_second = u128::from(bytes) * 1000 / span.as_millis().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

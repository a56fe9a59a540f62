//! Resources: what the modules, the machine and mainstay itself use.
//! Owns the sampler thread and the last sample, to make rates of. Never throttles (not built yet).
//! In flight at most: 1 sample; the thread takes the next one only after this was taken.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use mainstay_policy::MonoTime;
use mainstay_protocol::view::{MachineUsage, MemoryKind, SelfUsage, Usage};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::RuntimeContext;
use super::registry::RegistryMsg;
use crate::os::LiveProcess;
use crate::os::machine::{self, TreeSampler, TreeUsage};

/// Behind the start, so that `status` has numbers early.
const FIRST_SAMPLE: Duration = Duration::from_secs(2);

/// What resources is told.
#[derive(Debug)]
pub(crate) enum ResourcesMsg {
    /// A sample was taken.
    Sampled(ResourceSample),
}

/// One look at everything.
#[derive(Debug)]
pub(crate) struct ResourceSample {
    at: MonoTime,
    trees: HashMap<u32, TreeUsage>,
    machine: (u64, u64, u64),
    disk_bytes: u64,
}

/// The state.
pub(crate) struct ResourcesActorState {
    ctx: Arc<RuntimeContext>,
    last: Option<ResourceSample>,
    sample_now: Sender<Vec<u32>>,
}

/// The actor.
pub(crate) struct ResourcesActor;

impl Actor for ResourcesActor {
    type Msg = ResourcesMsg;
    type State = ResourcesActorState;
    type Arguments = Arc<RuntimeContext>;

    async fn pre_start(
        &self,
        me: ActorRef<ResourcesMsg>,
        ctx: Arc<RuntimeContext>,
    ) -> Result<ResourcesActorState, ActorProcessingErr> {
        let interval = ctx.configuration().system.check_interval;
        let state_dir = ctx.configuration().system.state_dir.clone();
        let go_on = start_sampler(me, Arc::clone(&ctx), interval, state_dir)?;
        Ok(ResourcesActorState {
            ctx,
            last: None,
            sample_now: go_on,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<ResourcesMsg>,
        msg: ResourcesMsg,
        own: &mut ResourcesActorState,
    ) -> Result<(), ActorProcessingErr> {
        let ResourcesMsg::Sampled(sample) = msg;
        own.publish(&sample);
        own.last = Some(sample);
        let _sampler_ended = own.sample_now.try_send(Vec::new());
        Ok(())
    }
}

impl ResourcesActorState {
    fn publish(&self, sample: &ResourceSample) {
        let rate = |pid: u32, used: &TreeUsage| -> f64 {
            let last = self.last.as_ref();
            let before = last.and_then(|last| Some((last.at, last.trees.get(&pid)?.cpu_ns)));
            let (since, ns) = before.unwrap_or((self.ctx.up_since, 0));
            percent(used.cpu_ns.saturating_sub(ns), sample.at.since(since))
        };
        let mut modules = Vec::new();
        for id in self.ctx.plan().ids() {
            let Some(alive) = self.ctx.os.live_process(&self.ctx.instance(id)) else {
                continue;
            };
            let used = alive.process().and_then(|pid| sample.trees.get(&pid));
            if let Some(used) = used {
                modules.push((id, usage(used, rate(alive.pid, used))));
            }
        }
        let mut own = SelfUsage::default();
        for pid in own_processes(&self.ctx) {
            if let Some(used) = sample.trees.get(&pid) {
                own.cpu_percent += rate(pid, used);
                own.memory_bytes += used.memory_bytes;
            }
        }
        let msg = RegistryMsg::Usage(modules, self.machine(sample), own);
        self.ctx.actor_refs.registry.cast(msg);
    }

    fn machine(&self, sample: &ResourceSample) -> MachineUsage {
        let (cpu_ns, memory_bytes, network) = sample.machine;
        let (cpu_percent, network_bytes_per_s) = self.last.as_ref().map_or((0.0, 0), |last| {
            let took = sample.at.since(last.at);
            let bytes = u128::from(network.saturating_sub(last.machine.2)) * 1000;
            let per_second = bytes / took.as_millis().max(1);
            let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
            (
                percent(cpu_ns.saturating_sub(last.machine.0), took),
                per_second,
            )
        });
        let disk_bytes = sample.disk_bytes;
        MachineUsage {
            cpu_percent,
            memory_bytes,
            disk_bytes,
            network_bytes_per_s,
        }
    }
}

fn usage(used: &TreeUsage, cpu_percent: f64) -> Usage {
    Usage {
        cpu_percent,
        memory_bytes: used.memory_bytes,
        memory_kind: MemoryKind::Rss,
        file_handles: Some(used.file_handles),
        threads: Some(used.threads),
        processes: used.processes,
    }
}

/// CPU time as percent of one core over a span, to a tenth.
fn percent(cpu_ns: u64, span: Duration) -> f64 {
    let share = Duration::from_nanos(cpu_ns).as_secs_f64() / span.as_secs_f64().max(1e-6);
    (share * 1000.0).round() / 10.0
}

/// The sampler sleeps on its channel: one wake-up an interval, none while a sample is on its way.
fn start_sampler(
    me: ActorRef<ResourcesMsg>,
    ctx: Arc<RuntimeContext>,
    interval: Duration,
    state_dir: PathBuf,
) -> Result<Sender<Vec<u32>>, std::io::Error> {
    let (go_on, taken) = bounded::<Vec<u32>>(1);
    std::thread::Builder::new()
        .name("sampler".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            let mut wait = FIRST_SAMPLE.min(interval);
            let (mut census, mut settled) = (TreeSampler::default(), false);
            // What an application around us needs is not ours to judge.
            let alone = ctx.holder_pid != std::process::id();
            // A disconnected channel is the actor's end; a word in it before its time is none.
            while let Err(RecvTimeoutError::Timeout) = taken.recv_timeout(wait) {
                let sample = sample(&ctx, &mut census, &state_dir);
                if me.cast(ResourcesMsg::Sampled(sample)).is_err() {
                    return;
                }
                if alone && !std::mem::replace(&mut settled, true) {
                    crate::os::trim::release_startup_memory();
                }
                if taken.recv_timeout(Duration::from_secs(60))
                    == Err(RecvTimeoutError::Disconnected)
                {
                    return;
                }
                wait = interval;
            }
        })?;
    Ok(go_on)
}

/// The runtime and the holder; embedded they are one.
fn own_processes(ctx: &RuntimeContext) -> impl Iterator<Item = u32> + use<> {
    let (own, holder) = (std::process::id(), ctx.holder_pid);
    std::iter::once(own).chain((holder != own).then_some(holder))
}

fn sample(
    ctx: &RuntimeContext,
    census: &mut TreeSampler,
    state_dir: &std::path::Path,
) -> ResourceSample {
    let mut roots: Vec<u32> = ctx
        .plan()
        .ids()
        .filter_map(|id| ctx.os.live_process(&ctx.instance(id)))
        .filter_map(LiveProcess::process)
        .collect();
    roots.extend(own_processes(ctx));
    ResourceSample {
        at: ctx.os.now(),
        trees: census.trees(&roots),
        machine: machine::machine(),
        disk_bytes: machine::disk(state_dir).map_or(0, |(used, _)| used),
    }
}

//! The one sampler of a runtime: measures trees and machine on a thread of its own.
//! Owns that thread, started with the first sample, and what it knows from the last one.
//! Never decides what a sample means.

use std::sync::OnceLock;

use crossbeam_channel::{Receiver, Sender, bounded};
use mainstay_process::Instance;
use tokio::sync::oneshot;

use super::LiveProcess;
use super::machine::{self, TreeRoot, TreeSampler};
use super::usage::{Sample, SampleRequest, TreeUsage};

/// Samples that may wait; the resources actor requests one at a time.
const WAITING_MAX: usize = 4;

/// One sample to take.
struct SampleJob {
    request: SampleRequest,
    /// The main process of each module that is alive.
    live: Vec<(Instance, LiveProcess)>,
    result: oneshot::Sender<Sample>,
}

/// The sampler.
#[derive(Default)]
pub(crate) struct Sampler(OnceLock<Option<Sender<SampleJob>>>);

impl Sampler {
    /// Measures; None: the thread cannot be started, or lags too far.
    pub(crate) fn sample(
        &self,
        request: SampleRequest,
        live: Vec<(Instance, LiveProcess)>,
    ) -> oneshot::Receiver<Sample> {
        let (result, receiver) = oneshot::channel();
        let job = SampleJob {
            request,
            live,
            result,
        };
        if let Some(jobs) = self.0.get_or_init(start) {
            let _dropped_with_its_result = jobs.try_send(job);
        }
        receiver
    }
}

fn start() -> Option<Sender<SampleJob>> {
    let (jobs, todo) = bounded(WAITING_MAX);
    let thread = std::thread::Builder::new()
        .name("sampler".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || run(&todo));
    thread
        .inspect_err(|error| tracing::error!(%error, "cannot start the sampler"))
        .ok()?;
    Some(jobs)
}

/// Sleeps on its channel; ends with the runtime.
fn run(todo: &Receiver<SampleJob>) {
    let mut trees = TreeSampler::default();
    while let Ok(job) = todo.recv() {
        let sample = measure(&mut trees, &job);
        let _receiver_ended = job.result.send(sample);
        if job.request.release_memory {
            #[cfg(unix)]
            mainstay_holder::release_startup_memory();
        }
    }
}

fn measure(trees: &mut TreeSampler, job: &SampleJob) -> Sample {
    let own = job.request.own.iter().map(|pid| {
        let live = LiveProcess {
            generation: 0,
            pid: *pid,
            start_time: 0,
        };
        (String::new(), live)
    });
    let modules = job.live.iter();
    let modules = modules.map(|(instance, live)| (instance.to_string(), *live));
    let roots: Vec<TreeRoot> = modules.chain(own).collect();
    let mut usages = trees.usage(&roots);
    let own = usages.split_off(job.live.len());
    let pairs = job.live.iter().zip(usages);
    let modules = pairs.filter_map(|((instance, live), usage)| {
        Some((instance.clone(), (live.generation, usage?)))
    });
    let mut machine = machine::machine();
    machine.disk_bytes = machine::disk(&job.request.volume).map_or(0, |(used, _)| used);
    Sample {
        at: machine::monotonic(),
        modules: modules.collect(),
        used_sockets: machine::used_sockets(&job.request.listening),
        own: own.into_iter().flatten().fold(TreeUsage::default(), add),
        machine,
    }
}

fn add(mut sum: TreeUsage, one: TreeUsage) -> TreeUsage {
    sum.cpu_ns += one.cpu_ns;
    sum.memory_bytes += one.memory_bytes;
    sum.processes += one.processes;
    sum
}

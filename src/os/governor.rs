//! The portable mechanism behind a ceiling on CPU time: stops a run for a part of every 100 ms.
//! Owns the runs that it holds, and a thread that is started with the first of them.
//! Never stops a run without a lease of the holder, except what the holder cannot continue: it
//! continues that itself when the holder is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mainstay_policy::MonoTime;
use mainstay_policy::cpu_governor::CpuGovernor;
use mainstay_process::{Instance, RunLimits};

use super::machine::{self, Tree, TreeSampler, VerifiedProcess};
use super::{FreezeReason, LiveProcess, priority};

/// Orders that may wait.
const WAITING_MAX: usize = 1024;
/// A stop that walks the processes is repeated for those that started meanwhile: after this time,
const RECHECK: Duration = Duration::from_millis(2);
/// and so many times while there are any.
const RECHECKS_MAX: u32 = 4;
/// After the end of a lease: the holder has ended it, if there was one.
const ENDED_BY_NOW: Duration = Duration::from_secs(1);

/// What the governor needs of the holder's channel.
pub(super) trait FreezeOrders: Send + 'static {
    /// The main process of a run; None: it has ended.
    fn live(&self, instance: &Instance, generation: u64) -> Option<LiveProcess>;
    /// Orders a stop of this length.
    fn freeze(&self, instance: &Instance, generation: u64, ms: u64, processes: Vec<(u32, u64)>);
}

/// Messages of the governor.
enum GovernorOrder {
    /// Hold a run at its ceiling on CPU time, and in the background; or no longer.
    Limit(Instance, u64, RunLimits),
    /// Stop a run once.
    Freeze(Instance, u64, Duration, FreezeReason),
    /// The holder is gone: continue everything, and hold nothing.
    ThawAll,
}

/// The governor.
#[derive(Default)]
pub(super) struct Governor {
    orders: OnceLock<Option<Sender<GovernorOrder>>>,
    frozen: FrozenUntil,
}

/// When the last stop that holds each run at its limit ends or ended.
#[derive(Clone, Default)]
struct FrozenUntil(Arc<Mutex<HashMap<Instance, MonoTime>>>);

impl FrozenUntil {
    fn lock(&self) -> MutexGuard<'_, HashMap<Instance, MonoTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Governor {
    /// Holds a run at its ceiling on CPU time, and in the background; or no longer.
    pub(super) fn limit(
        &self,
        orders: impl FnOnce() -> Box<dyn FreezeOrders>,
        (instance, generation): (&Instance, u64),
        limits: RunLimits,
    ) {
        if limits.cpu_permille.is_some() || limits.background || self.orders.get().is_some() {
            let order = GovernorOrder::Limit(instance.clone(), generation, limits);
            self.send(orders, order);
        }
    }

    /// Stops a run for this time.
    pub(super) fn freeze(
        &self,
        orders: impl FnOnce() -> Box<dyn FreezeOrders>,
        (instance, generation): (&Instance, u64),
        span: Duration,
        reason: FreezeReason,
    ) {
        let order = GovernorOrder::Freeze(instance.clone(), generation, span, reason);
        self.send(orders, order);
    }

    /// Whether a run was stopped at some time since then, to hold it at its limit.
    pub(super) fn was_frozen(&self, instance: &Instance, since: MonoTime) -> bool {
        let frozen = self.frozen.lock();
        frozen.get(instance).is_some_and(|until| *until >= since)
    }

    /// The holder is gone.
    pub(super) fn thaw_all(&self) {
        if let Some(Some(sender)) = self.orders.get() {
            let _ended = sender.try_send(GovernorOrder::ThawAll);
        }
    }

    fn send(&self, orders: impl FnOnce() -> Box<dyn FreezeOrders>, order: GovernorOrder) {
        let frozen = self.frozen.clone();
        if let Some(sender) = self.orders.get_or_init(|| start(orders(), frozen))
            && sender.try_send(order).is_err()
        {
            tracing::error!("cannot tell the governor of a limit: it does not keep up");
        }
    }
}

fn start(orders: Box<dyn FreezeOrders>, frozen: FrozenUntil) -> Option<Sender<GovernorOrder>> {
    let (sender, receiver) = bounded(WAITING_MAX);
    let mut thread = GovernorThread {
        orders,
        frozen,
        held: HashMap::new(),
        stopped: HashMap::new(),
        background: HashMap::new(),
    };
    let started = std::thread::Builder::new()
        .name("governor".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || thread.run(&receiver));
    started
        .inspect_err(|error| tracing::error!(%error, "cannot start the governor"))
        .ok()?;
    Some(sender)
}

/// A run that is held.
struct HeldRun {
    generation: u64,
    governor: CpuGovernor,
    trees: TreeSampler,
    next: MonoTime,
}

/// What was ordered to stop, for the case that the holder ends.
struct Stopped {
    until: MonoTime,
    tree: Tree,
    /// Without a control group.
    processes: Vec<(u32, u64)>,
}

struct GovernorThread {
    orders: Box<dyn FreezeOrders>,
    frozen: FrozenUntil,
    held: HashMap<Instance, HeldRun>,
    stopped: HashMap<Instance, Stopped>,
    /// Which run of an instance is in the background, and the least `nice` in its tree before.
    background: HashMap<Instance, (u64, i32)>,
}

impl GovernorThread {
    fn run(&mut self, orders: &Receiver<GovernorOrder>) {
        loop {
            let now = machine::monotonic();
            let next = self.held.values().map(|held| held.next).min();
            let order = match next {
                Some(at) => orders.recv_timeout(at.since(now)),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(order) => self.apply(order),
                Err(RecvTimeoutError::Timeout) => self.look_at_due(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn apply(&mut self, order: GovernorOrder) {
        match order {
            GovernorOrder::Limit(instance, generation, limits) => {
                self.set_background((&instance, generation), limits.background);
                match limits.cpu_permille {
                    Some(permille) => self.hold(instance, generation, permille),
                    None => self.release(&instance, generation),
                }
            }
            GovernorOrder::Freeze(instance, generation, span, reason) => {
                let mut trees = TreeSampler::default();
                if let Some(tree) = self.tree(&mut trees, &instance, generation) {
                    if reason == FreezeReason::Limit {
                        self.excuse(&instance, span);
                    }
                    self.stop(&mut trees, (&instance, generation), tree, span);
                }
            }
            GovernorOrder::ThawAll => {
                self.held.clear();
                // The holder has ended older ones: who is stopped since was stopped by others.
                let now = machine::monotonic();
                let stopped = self.stopped.drain().map(|(_, stopped)| stopped);
                stopped
                    .filter(|one| one.until.after(ENDED_BY_NOW) > now)
                    .for_each(Stopped::end);
            }
        }
    }

    fn hold(&mut self, instance: Instance, generation: u64, permille: u64) {
        let held = self.held.get_mut(&instance);
        if let Some(held) = held.filter(|held| held.generation == generation) {
            return held.governor.set_ceiling(permille);
        }
        let held = HeldRun {
            generation,
            governor: CpuGovernor::new(permille),
            trees: TreeSampler::default(),
            next: machine::monotonic(),
        };
        self.held.insert(instance, held);
    }

    fn release(&mut self, instance: &Instance, generation: u64) {
        let held = self.held.get(instance);
        if held.is_some_and(|held| held.generation == generation) {
            self.held.remove(instance);
            self.orders.freeze(instance, generation, 0, Vec::new());
        }
    }

    /// What starts in a run later inherits it.
    fn set_background(&mut self, (instance, generation): (&Instance, u64), lower: bool) {
        let of_run = |(of, _): &(u64, i32)| *of == generation;
        if lower == self.background.get(instance).is_some_and(of_run) {
            return;
        }
        let before = self.background.remove(instance);
        let Some(tree) = self.tree(&mut TreeSampler::default(), instance, generation) else {
            return;
        };
        let processes = tree.all();
        match before {
            Some((_, nice)) if !lower => {
                processes
                    .into_iter()
                    .for_each(|pid| priority::raise(pid, nice));
            }
            _ if lower => {
                let nice = processes.iter().map(|pid| priority::nice(*pid)).min();
                let nice = nice.unwrap_or_default();
                self.background.insert(instance.clone(), (generation, nice));
                processes.into_iter().for_each(priority::lower);
            }
            _ => {}
        }
    }

    fn tree(&self, trees: &mut TreeSampler, instance: &Instance, generation: u64) -> Option<Tree> {
        let live = self.orders.live(instance, generation)?;
        trees.trees(&[(instance.to_string(), live)]).pop()?
    }

    fn look_at_due(&mut self) {
        let now = machine::monotonic();
        self.stopped.retain(|_, stopped| stopped.until > now);
        let due = self.held.iter().filter(|(_, held)| held.next <= now);
        let due: Vec<Instance> = due.map(|(instance, _)| instance.clone()).collect();
        for instance in due {
            if let Some(mut held) = self.held.remove(&instance)
                && self.look(&instance, &mut held)
            {
                self.held.insert(instance, held);
            }
        }
    }

    /// Looks at a run and stops it if it used too much; false: it has ended, or the kernel keeps
    /// its ceiling.
    fn look(&mut self, instance: &Instance, held: &mut HeldRun) -> bool {
        let Some(tree) = self.tree(&mut held.trees, instance, held.generation) else {
            return false;
        };
        if tree.has_cpu_controller() {
            return false;
        }
        let now = machine::monotonic();
        let step = held.governor.look(now, tree.cpu_ns());
        held.next = now.after(step.next);
        if step.stop > Duration::ZERO {
            self.excuse(instance, step.stop);
            self.stop(
                &mut held.trees,
                (instance, held.generation),
                tree,
                step.stop,
            );
        }
        true
    }

    /// Who is stopped to be held at its limit cannot answer, and is not at fault.
    fn excuse(&self, instance: &Instance, span: Duration) {
        let until = machine::monotonic().after(span);
        self.frozen.lock().insert(instance.clone(), until);
    }

    /// Orders the stop. What is walked may have started processes meanwhile: they stop too.
    fn stop(
        &mut self,
        trees: &mut TreeSampler,
        (instance, generation): (&Instance, u64),
        tree: Tree,
        span: Duration,
    ) {
        let until = machine::monotonic().after(span);
        let ms = |span: Duration| u64::try_from(span.as_millis().max(1)).unwrap_or(1);
        let mut ordered = tree.running();
        let is_grouped = tree.is_grouped();
        let processes = if is_grouped {
            Vec::new()
        } else {
            ordered.clone()
        };
        let stopped = Stopped {
            until,
            tree,
            processes: processes.clone(),
        };
        self.stopped.insert(instance.clone(), stopped);
        self.orders
            .freeze(instance, generation, ms(span), processes);
        for _ in 0..RECHECKS_MAX {
            let left = until.since(machine::monotonic());
            if is_grouped || left < RECHECK * 4 {
                return;
            }
            std::thread::park_timeout(RECHECK);
            let Some(tree) = self.tree(trees, instance, generation) else {
                return;
            };
            let mut new = tree.running();
            new.retain(|one| !ordered.contains(one));
            if new.is_empty() {
                return;
            }
            ordered.extend(&new);
            if let Some(stopped) = self.stopped.get_mut(instance) {
                stopped.processes.extend(&new);
            }
            let left = until.since(machine::monotonic());
            self.orders.freeze(instance, generation, ms(left), new);
        }
    }
}

impl Stopped {
    /// Continues what the holder cannot continue any more.
    fn end(self) {
        if self.tree.is_grouped() {
            return self.tree.thaw();
        }
        for (pid, start_time) in self.processes {
            if let Some(process) = VerifiedProcess::new(pid, start_time) {
                process.signal(libc::SIGCONT);
            }
        }
    }
}

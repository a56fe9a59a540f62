//! The threads that start processes: two, because a vfork stops only the thread that calls it, and
//! more while programs hang in their exec.
//! Owns the starts that wait, by the user they are for: no user waits for the programs of another.
//! Never ends a thread before the holder ends, so no child's parent thread exits under it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine_queue::EngineEvent;
use crate::spawn::fork::UNKNOWN;
use crate::spawn::launch::LaunchThread;
use crate::spawn::spawn_job::{SpawnContext, SpawnInFlight, SpawnJob};
use crate::spawn::trim::release_startup_memory;
use crate::threads::{lock, thread};

const THREADS: usize = 2;
/// With those that were added because all others hang.
const THREADS_MAX: usize = 64;
/// Starts of one user that are in flight, at most.
const USER_STARTS_MAX: usize = 8;
/// How long a start waits while all threads hang, before one is added.
const HANG_TIME: Duration = Duration::from_millis(50);
/// So long after a start without another one the first starts are over.
const QUIET_TIME: Duration = Duration::from_secs(5);

/// The starts of one user.
#[derive(Debug, Default)]
struct Lane {
    jobs: VecDeque<SpawnJob>,
    in_flight: usize,
    /// When one was taken last, in starts of all users.
    taken: u64,
}

#[derive(Debug)]
struct SpawnQueue {
    lanes: BTreeMap<u32, Lane>,
    quit: bool,
    threads: usize,
    idle: usize,
    taken: u64,
    /// When a job was last taken, or a thread was added.
    moved_at: Instant,
    /// The memory that the first starts needed is given back, or is not ours to give.
    is_trimmed: bool,
}

impl SpawnQueue {
    /// The user whose turn it is: of those that have the fewest starts in flight, the one that has
    /// waited longest.
    fn next_user(&self) -> Option<u32> {
        let waits = |lane: &Lane| !lane.jobs.is_empty() && lane.in_flight < USER_STARTS_MAX;
        let lanes = self.lanes.iter().filter(|(_, lane)| waits(lane));
        let next = lanes.min_by_key(|(_, lane)| (lane.in_flight, lane.taken));
        next.map(|(user, _)| *user)
    }

    fn take(&mut self) -> Option<SpawnJob> {
        let lane = self.lanes.get_mut(&self.next_user()?)?;
        self.taken += 1;
        lane.taken = self.taken;
        lane.in_flight += 1;
        self.moved_at = Instant::now();
        lane.jobs.pop_front()
    }

    fn done(&mut self, user: u32) {
        if let Some(lane) = self.lanes.get_mut(&user) {
            lane.in_flight -= 1;
        }
        self.lanes
            .retain(|_, lane| lane.in_flight > 0 || !lane.jobs.is_empty());
    }
}

#[derive(Debug)]
struct SpawnerShared {
    context: Arc<SpawnContext>,
    queue: Mutex<SpawnQueue>,
    filled: Condvar,
    in_flight: Vec<Arc<SpawnInFlight>>,
}

/// The spawner threads.
#[derive(Debug, Clone)]
pub(crate) struct Spawner(Arc<SpawnerShared>);

impl Spawner {
    pub(crate) fn start(context: Arc<SpawnContext>) -> io::Result<Spawner> {
        let queue = SpawnQueue {
            lanes: BTreeMap::new(),
            quit: false,
            threads: THREADS,
            idle: 0,
            taken: 0,
            moved_at: Instant::now(),
            is_trimmed: context.embedded,
        };
        let shared = Arc::new(SpawnerShared {
            context,
            queue: Mutex::new(queue),
            filled: Condvar::new(),
            in_flight: (0..THREADS_MAX).map(|_| Arc::default()).collect(),
        });
        for place in 0..THREADS {
            let shared = Arc::clone(&shared);
            thread("spawn", move || run(&shared, place))?;
        }
        Ok(Spawner(shared))
    }

    pub(crate) fn queue(&self, job: SpawnJob) {
        let mut queue = lock(&self.0.queue);
        let user = job.user();
        if queue.idle > 0 {
            queue.moved_at = Instant::now(); // it is about to be taken
        }
        queue.lanes.entry(user).or_default().jobs.push_back(job);
        drop(queue);
        self.0.filled.notify_one();
    }

    /// When a thread is to be added, if none takes a job until then.
    pub(crate) fn hang_deadline(&self) -> Option<Instant> {
        let queue = lock(&self.0.queue);
        let waits = queue.threads < THREADS_MAX && queue.next_user().is_some();
        waits.then(|| queue.moved_at + HANG_TIME)
    }

    /// Adds a thread if all others hang.
    pub(crate) fn add_thread(&self, now: Instant) {
        if self.hang_deadline().is_none_or(|at| at > now) {
            return;
        }
        let mut queue = lock(&self.0.queue);
        queue.moved_at = now;
        let (shared, place) = (Arc::clone(&self.0), queue.threads);
        if thread("spawn", move || run(&shared, place)).is_ok() {
            queue.threads += 1; // else it is tried again
        }
    }

    /// Whether no start waits or is in flight, and all is closed that starts had.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.0.queue).lanes.is_empty()
    }

    /// Whether this unknown child may be one whose start is not reported yet.
    pub(crate) fn may_be_pending_child(&self, pid: i32) -> bool {
        let in_flight = self.0.in_flight.iter();
        let mut children = in_flight.map(|one| one.child_pid.load(Ordering::SeqCst));
        children.any(|one| one == pid || one == UNKNOWN)
    }

    /// Aborts the start of an instance. True if it had not begun: nothing will be reported of it.
    pub(crate) fn abort(&self, id: u32) -> bool {
        let lanes = &mut lock(&self.0.queue).lanes;
        for lane in lanes.values_mut() {
            if let Some(at) = lane.jobs.iter().position(|job| job.id == id) {
                lane.jobs.remove(at);
                return true;
            }
        }
        for one in &self.0.in_flight {
            one.abort(|instance| instance == id);
        }
        false
    }

    /// Drops the starts that wait and aborts those in flight; returns how many waited.
    pub(crate) fn abandon(&self) -> usize {
        let mut queue = lock(&self.0.queue);
        let waiting = queue.lanes.values_mut();
        let waiting = waiting
            .map(|lane| std::mem::take(&mut lane.jobs).len())
            .sum();
        drop(queue);
        for one in &self.0.in_flight {
            one.abort(|_| true);
        }
        waiting
    }

    pub(crate) fn quit(&self) {
        lock(&self.0.queue).quit = true;
        self.0.filled.notify_all();
    }
}

/// Waits for the next job; none when the holder exits.
fn next(shared: &SpawnerShared) -> Option<SpawnJob> {
    let mut queue = lock(&shared.queue);
    loop {
        if queue.quit {
            return None;
        }
        if let Some(job) = queue.take() {
            return Some(job);
        }
        let may_trim = !queue.is_trimmed && queue.taken > 0;
        if may_trim && queue.moved_at.elapsed() >= QUIET_TIME {
            queue.is_trimmed = true;
            drop(queue);
            release_startup_memory();
            queue = lock(&shared.queue);
            continue;
        }
        queue.idle += 1;
        queue = if may_trim {
            let woken = shared.filled.wait_timeout(queue, QUIET_TIME);
            woken.unwrap_or_else(PoisonError::into_inner).0
        } else {
            let woken = shared.filled.wait(queue);
            woken.unwrap_or_else(PoisonError::into_inner)
        };
        queue.idle -= 1;
    }
}

fn run(shared: &Arc<SpawnerShared>, place: usize) {
    let mut launcher = LaunchThread::new(
        Arc::clone(&shared.context),
        Arc::clone(&shared.in_flight[place]),
    );
    while let Some(job) = next(shared) {
        let (id, user) = (job.id, job.user());
        let outcome = launcher.spawn_one(job).map(Box::new);
        shared
            .context
            .queue
            .send(EngineEvent::Spawn { id, outcome });
        shared.in_flight[place].child_pid.store(0, Ordering::SeqCst);
        launcher.wait_until_idle(); // until then it counts for its user
        let mut queue = lock(&shared.queue);
        queue.done(user);
        if queue.next_user().is_some() {
            shared.filled.notify_one(); // another of this user may start now
        }
    }
}

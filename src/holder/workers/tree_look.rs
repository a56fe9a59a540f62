//! Looks at the rest of trees whose main process has exited in a stop: who is alive of each.
//! Owns the thread that looks and sends the stop signal, and when the next look is due.
//! Never kills, and never signals a process whose start time changed since it was recognised.

use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mainstay_process::TreeProcess;

use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::kernel::{self, Cgroup};
use crate::process::{ProcessInfo, Tag};
use crate::threads::thread;
use crate::workers::mark::mark_variable;
use crate::workers::reports::TreeFound;
use crate::workers::sweep::{ProcessTree, children, own_ancestors};

/// The pause after the first look; doubles up to [`LOOK_INTERVAL_MAX`].
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(4);
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(64);
/// A look that takes longer hangs: the next one is made by another thread.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// Processes of a tree that are reported by name.
const REPORTED_MAX: usize = 16;

/// One look at a tree.
#[derive(Debug, Clone)]
pub(crate) struct TreeLook {
    pub(crate) id: u32,
    pub(crate) generation: u64,
    pub(crate) trees: Vec<ProcessTree>,
    /// The number by which its orphans are known.
    pub(crate) tag: u64,
    /// What its processes are sent; only by the first look.
    pub(crate) signal: Option<i32>,
}

/// The trees that are being stopped.
#[derive(Debug, Default)]
pub(crate) struct TreeStops {
    /// With the signal, until it was sent.
    pub(crate) ids: BTreeMap<u32, Option<i32>>,
    pub(crate) next: Option<Instant>,
    pub(crate) pause: Duration,
    /// When the look that is in flight counts as hanging.
    pub(crate) in_flight: Option<Instant>,
    jobs: Option<SyncSender<Vec<TreeLook>>>,
}

impl TreeStops {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.in_flight.or(self.next)
    }

    pub(crate) fn add(&mut self, id: u32, signal: i32) {
        self.ids.insert(id, Some(signal));
        self.next = Some(Instant::now());
        self.pause = LOOK_INTERVAL_MIN;
    }

    /// Goes on with one whose processes were sent the signal by an earlier holder.
    #[cfg(target_os = "linux")]
    pub(crate) fn resume(&mut self, id: u32) {
        self.ids.insert(id, None);
        self.next = Some(Instant::now());
        self.pause = LOOK_INTERVAL_MIN;
    }

    pub(crate) fn start(&mut self, looks: Vec<TreeLook>, queue: &Arc<EngineQueue>) {
        self.in_flight = Some(Instant::now() + LOOK_TIMEOUT);
        if self.jobs.is_none() {
            let (jobs, todo) = sync_channel(1);
            let queue = Arc::clone(queue);
            let started = thread("tree-stop", move || run(&todo, &queue));
            self.jobs = started.ok().map(|()| jobs);
        }
        if let Some(jobs) = &self.jobs {
            let _it_hangs = jobs.try_send(looks); // then another thread is started in time
        }
    }

    /// A look is done, or hangs: the next one follows after a pause.
    pub(crate) fn look_again(&mut self) {
        if self.next.is_none() && !self.ids.is_empty() {
            self.next = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(LOOK_INTERVAL_MAX);
        }
    }

    /// Gives a look up that hangs.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.in_flight.take_if(|at| *at <= now).is_some() {
            self.jobs = None;
            self.look_again();
        }
    }
}

fn run(todo: &Receiver<Vec<TreeLook>>, queue: &EngineQueue) {
    while let Ok(looks) = todo.recv() {
        queue.send(EngineEvent::TreesLooked(look(&looks)));
    }
}

/// Looks at trees, and signals their processes where a look says so.
fn look(looks: &[TreeLook]) -> Vec<TreeFound> {
    let all = kernel::processes();
    let owners = owners(looks, &all);
    let found = |(at, look): (usize, &TreeLook)| {
        let members = all.iter().filter(|one| owners.get(&one.pid) == Some(&at));
        let mut tree = TreeFound {
            id: look.id,
            generation: look.generation,
            signalled: look.signal,
            processes: Vec::new(),
            total: 0,
        };
        for one in members {
            if let Some(signal) = look.signal {
                if tree.processes.len() < REPORTED_MAX {
                    tree.processes.push(TreeProcess {
                        pid: one.pid.unsigned_abs(),
                        command: kernel::command_name(one.pid),
                    });
                }
                if kernel::signal_verified(one, signal) {
                    kernel::signal_verified(one, libc::SIGCONT);
                }
            }
            tree.total += 1;
        }
        tree
    };
    looks.iter().enumerate().map(found).collect()
}

/// Which processes are of which look, by its place.
fn owners(looks: &[TreeLook], all: &[ProcessInfo]) -> HashMap<i32, usize> {
    let starts: HashMap<i32, u64> = all.iter().map(|one| (one.pid, one.start_time)).collect();
    let (spared, own) = (own_ancestors(), std::process::id().cast_signed());
    let mut leaders = HashMap::new();
    let (mut marks, mut tags, mut groups) = (HashMap::new(), HashMap::new(), Vec::new());
    for (at, look) in looks.iter().enumerate() {
        for tree in &look.trees {
            groups.extend(tree.group.clone().map(|group| (group, at)));
            if tree.group.is_none() {
                // One that is gone says nothing about sessions: its number may have been given to a
                // stranger, who left a session of that number when he ended.
                if starts.get(&tree.pid) == Some(&tree.start_time) {
                    leaders.insert(tree.pid, at);
                }
                marks.insert(mark_variable(&tree.mark), at);
                tags.insert(look.tag, at);
            }
        }
    }
    let by_group: Vec<_> = groups.iter().map(|(group, _)| Arc::clone(group)).collect();
    let of = |one: &ProcessInfo| {
        if let Some(place) = Cgroup::position(&by_group, one.pid) {
            return Some(groups[place].1);
        }
        let numbers = [one.pid, one.session, one.group];
        if let Some(at) = numbers.iter().find_map(|id| leaders.get(id)) {
            return Some(*at);
        }
        if marks.is_empty() || (one.parent > 1 && one.parent != own) {
            return None; // its parent decides
        }
        let tagged = match kernel::tag(one.pid) {
            Tag::Of(tag) => tags.get(&tag).copied(),
            Tag::Untouched | Tag::Forged => None,
        };
        tagged.or_else(|| marked(one.pid, &marks))
    };
    let candidate = |one: &&ProcessInfo| !one.zombie && !one.kernel && !spared.contains(&one.pid);
    let members = all.iter().filter(candidate);
    let mut owners: HashMap<i32, usize> = members
        .clone()
        .filter_map(|one| Some((one.pid, of(one)?)))
        .collect();
    let children = children(members);
    let mut next: Vec<(i32, usize)> = owners.iter().map(|(pid, at)| (*pid, *at)).collect();
    while let Some((pid, at)) = next.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if let Entry::Vacant(vacant) = owners.entry(*child) {
                vacant.insert(at);
                next.push((*child, at));
            }
        }
    }
    owners
}

fn marked(pid: i32, marks: &HashMap<Vec<u8>, usize>) -> Option<usize> {
    let found = Cell::new(None);
    let _ = kernel::has_variable(pid, |variable| {
        let at = marks.get(variable).copied();
        found.set(found.get().or(at));
        at.is_some()
    });
    found.get()
}

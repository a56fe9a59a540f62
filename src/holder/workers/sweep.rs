//! Killing whole trees, and what belongs to no run: freeze, look again, then kill.
//! Owns a thread that is started with the first sweep.
//! Never signals a process whose start time changed since it was recognised, a kernel thread, or
//! what another mainstay runs.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::ancestry::ancestry;
use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::kernel::{self, Cgroup};
use crate::process::{ProcessInfo, Tag, Unseen};
use crate::random::Tags;
use crate::threads::thread;
use crate::workers::mark::{TREE_MARK_VAR, mark_variable};
use crate::workers::reports::SweptRun;

/// Looks at most this often for new processes before it kills what it has.
const ROUNDS: usize = 40;
/// How long the end of what was killed is awaited.
const EXIT_WAIT: Duration = Duration::from_secs(1);

/// One tree.
#[derive(Debug, Clone)]
pub(crate) struct ProcessTree {
    pub(crate) id: u32,
    /// Number of the main process, the process group and the session of the tree.
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    /// Value of the variable that all of it inherited.
    pub(crate) mark: String,
    /// The control group that was killed already: only its end is awaited.
    pub(crate) group: Option<Arc<Cgroup>>,
}

pub(crate) fn runs_of(trees: &[ProcessTree]) -> Vec<SweptRun> {
    trees.iter().map(|one| (one.id, one.mark.clone())).collect()
}

/// What of the children of a holder is not to be killed: all others were left by runs that have
/// ended, where every orphan becomes a child of the holder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Living {
    /// Processes whose end is still awaited.
    pub(crate) pids: HashSet<i32>,
    /// Children that this process had before it was a holder.
    pub(crate) inherited: HashSet<(i32, u64)>,
    /// Also what is in the session of the holder, which no process of a run can join: the runtime.
    /// None at the end of the holder, when no run is to be left.
    pub(crate) runs: Option<LivingRuns>,
}

/// By what orphans of living runs are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct LivingRuns {
    /// Numbers of sessions and process groups.
    pub(crate) leaders: HashSet<i32>,
    pub(crate) tags: HashSet<u64>,
    /// The tags that were given so far.
    pub(crate) given: Range<u64>,
    pub(crate) marks: HashSet<String>,
    pub(crate) groups: Vec<Arc<Cgroup>>,
}

impl Living {
    /// Whether a child of the holder is not to be killed; None: it cannot be told just now.
    fn has(&self, one: &ProcessInfo) -> Option<bool> {
        let own = nix::unistd::getsid(None).map_or(0, nix::unistd::Pid::as_raw);
        if one.session == own {
            return Some(true);
        }
        if self.pids.contains(&one.pid) || self.inherited.contains(&(one.pid, one.start_time)) {
            return Some(true);
        }
        let Some(runs) = &self.runs else {
            return Some(false);
        };
        if Cgroup::position(&runs.groups, one.pid).is_some() {
            return Some(true);
        }
        if [one.session, one.group]
            .iter()
            .any(|id| runs.leaders.contains(id))
        {
            return Some(true);
        }
        let tag = kernel::tag(one.pid);
        if let Tag::Of(tag) = tag
            && Tags::are_of_one_holder(tag, runs.given.start)
        {
            return Some(tag >= runs.given.end || runs.tags.contains(&tag));
        }
        let marked = Cell::new(false);
        let living = kernel::has_variable(one.pid, |variable| {
            let value = variable.strip_prefix(TREE_MARK_VAR.as_bytes());
            let Some(mark) = value.and_then(|value| value.strip_prefix(b"=")) else {
                return false;
            };
            marked.set(true);
            std::str::from_utf8(mark).is_ok_and(|mark| runs.marks.contains(mark))
        });
        let living = match living {
            Ok(living) => living,
            Err(Unseen::Executing) => return None,
            Err(Unseen::Hidden) => return Some(true), // nothing says that it is of no run
        };
        // Orphans that never were of a run reach the first process of a namespace alone.
        let is_foreign = !marked.get() && tag == Tag::Untouched && std::process::id() == 1;
        Some(living || is_foreign)
    }
}

/// What is to be killed at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct SweepJob {
    pub(crate) trees: Vec<ProcessTree>,
    /// Where all orphans become children of the holder: those that are of no living run go too.
    pub(crate) living: Option<Living>,
}

/// Kills these trees, main processes included, as whole as it can be done here, and waits until
/// they are gone.
pub(crate) fn sweep(job: &SweepJob) {
    let walked: Vec<_> = job.trees.iter().filter(|one| one.group.is_none()).collect();
    if !walked.is_empty() || job.living.is_some() {
        kill_walk(&Walk::new(walked, job.living.as_ref()));
    }
    for group in job.trees.iter().filter_map(|one| one.group.as_deref()) {
        group.wait_until_empty();
    }
}

/// What is looked for in all processes.
struct Walk<'a> {
    trees: Vec<&'a ProcessTree>,
    marks: HashSet<Vec<u8>>,
    living: Option<&'a Living>,
    /// This process and those above it. They carry a mark too if `up` was typed in what an earlier
    /// holder left behind: it is not ended by its own order, nor is the shell it was given in.
    spared: HashSet<i32>,
}

impl<'a> Walk<'a> {
    fn new(trees: Vec<&'a ProcessTree>, living: Option<&'a Living>) -> Walk<'a> {
        let marks = trees.iter().map(|one| mark_variable(&one.mark)).collect();
        Walk {
            trees,
            marks,
            living,
            spared: own_ancestors(),
        }
    }

    /// What is doomed now, and whether something cannot be told yet.
    fn select(
        &self,
        all: &[ProcessInfo],
        told: &mut HashMap<(i32, u64), bool>,
    ) -> (Vec<ProcessInfo>, bool) {
        let starts: HashMap<i32, u64> = all.iter().map(|one| (one.pid, one.start_time)).collect();
        // A main process that is gone says nothing about sessions: its number may have been given
        // to a stranger, who left a session of that number when he ended.
        let valid = |tree: &&&ProcessTree| starts.get(&tree.pid) == Some(&tree.start_time);
        let leaders: HashSet<i32> = self.trees.iter().filter(valid).map(|one| one.pid).collect();
        // Not all children: one that is being started is a child of the thread that starts it.
        let orphans = self
            .living
            .and_then(|_| kernel::orphans())
            .unwrap_or_default();
        let mut unclear = false;
        let mut chosen: HashSet<i32> = HashSet::new();
        for one in all.iter().filter(|one| self.may_be_killed(one)) {
            let by_number = [one.pid, one.session, one.group]
                .iter()
                .any(|id| leaders.contains(id));
            let doomed = by_number || {
                // Until its parent is gone, the parent decides.
                let decides = self.living.is_none() || orphans.contains(&one.pid);
                let found = if decides {
                    self.is_doomed(one, told)
                } else {
                    Some(false)
                };
                unclear |= found.is_none();
                found == Some(true)
            };
            if doomed {
                chosen.insert(one.pid);
            }
        }
        self.descend(all, &mut chosen);
        let doomed = all.iter().filter(|one| chosen.contains(&one.pid));
        (doomed.copied().collect(), unclear)
    }

    fn may_be_killed(&self, one: &ProcessInfo) -> bool {
        !one.zombie && !one.kernel && !self.spared.contains(&one.pid)
    }

    /// Whether a process is to be killed for itself; None: it cannot be told just now.
    fn is_doomed(&self, one: &ProcessInfo, told: &mut HashMap<(i32, u64), bool>) -> Option<bool> {
        let key = (one.pid, one.start_time);
        if let Some(known) = told.get(&key) {
            return Some(*known);
        }
        let found = match self.living {
            Some(living) => !living.has(one)?,
            None if self.marks.is_empty() => false,
            None => match kernel::has_variable(one.pid, |one| self.marks.contains(one)) {
                Ok(found) => found,
                Err(Unseen::Executing) => return None,
                Err(Unseen::Hidden) => false,
            },
        };
        told.insert(key, found);
        Some(found)
    }

    fn descend(&self, all: &[ProcessInfo], chosen: &mut HashSet<i32>) {
        let candidates = all.iter().filter(|one| self.may_be_killed(one));
        let children = children(candidates);
        let mut next: Vec<i32> = chosen.iter().copied().collect();
        while let Some(pid) = next.pop() {
            let below = children.get(&pid).into_iter().flatten();
            next.extend(below.filter(|child| chosen.insert(**child)));
        }
    }
}

/// The children of each process, in time that grows with the number of processes alone, however
/// deep they lie.
pub(super) fn children<'a>(all: impl Iterator<Item = &'a ProcessInfo>) -> HashMap<i32, Vec<i32>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for one in all {
        children.entry(one.parent).or_default().push(one.pid);
    }
    children
}

fn kill_walk(walk: &Walk<'_>) {
    let mut told = HashMap::new();
    for _ in 0..3 {
        let mut frozen: HashSet<(i32, u64)> = HashSet::new();
        let mut all = Vec::new();
        for _ in 0..ROUNDS {
            let (doomed, unclear) = walk.select(&kernel::processes(), &mut told);
            let mut found = false;
            for process in doomed {
                if frozen.insert((process.pid, process.start_time)) {
                    found = true;
                    kernel::signal_verified(&process, libc::SIGSTOP);
                    all.push(process);
                }
            }
            if !found && !unclear {
                break;
            }
            if !found {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if all.is_empty() {
            return;
        }
        for process in &all {
            kernel::signal_verified(process, libc::SIGKILL);
        }
        wait_until_gone(&all);
    }
}

/// Bounded: the kernel may hold on to one that waits for a disk.
fn wait_until_gone(killed: &[ProcessInfo]) {
    let end = Instant::now() + EXIT_WAIT;
    let lives = |one: &ProcessInfo| {
        let seen = kernel::process(one.pid);
        seen.is_some_and(|seen| seen.start_time == one.start_time && !seen.zombie)
    };
    for one in killed {
        while lives(one) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub(crate) fn own_ancestors() -> HashSet<i32> {
    let line = ancestry(std::process::id()).unwrap_or_default();
    let line = line.iter().map(|(pid, _)| *pid).chain([std::process::id()]);
    line.map(u32::cast_signed).collect()
}

/// Kills whatever carries a mark that begins so, in this namespace of processes.
pub(crate) fn sweep_marked(prefix: &str) {
    let start = mark_variable(prefix);
    kill_each(&|pid| has_marked(pid, &|variable| variable.starts_with(&start)));
}

/// Whether a process has such a mark; None: it cannot be told just now.
fn has_marked(pid: i32, is: &dyn Fn(&[u8]) -> bool) -> Option<bool> {
    match kernel::has_variable(pid, is) {
        Ok(found) => Some(found),
        Err(Unseen::Executing) => None,
        Err(Unseen::Hidden) => Some(false),
    }
}

fn kill_each(is: &dyn Fn(i32) -> Option<bool>) {
    let spared = own_ancestors();
    for _ in 0..ROUNDS {
        let (mut found, mut unclear) = (false, false);
        for one in kernel::processes() {
            if one.zombie || one.kernel || spared.contains(&one.pid) {
                continue;
            }
            let is_stale = is(one.pid);
            unclear |= is_stale.is_none();
            if is_stale == Some(true) && kernel::is_in_own_namespace(one.pid) {
                found = true;
                kernel::signal_verified(&one, libc::SIGKILL);
            }
        }
        if !found && !unclear {
            return;
        }
        if !found {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The runs of an earlier holder that go on.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
pub(crate) struct KnownRuns {
    /// How all marks of the state directory begin.
    pub(crate) prefix: String,
    pub(crate) marks: HashSet<String>,
    /// The first tag that the holder gave.
    pub(crate) first_tag: u64,
    pub(crate) tags: HashSet<u64>,
}

/// Kills whatever is of no run that goes on, by its tag or its mark, in this namespace of
/// processes: what an earlier holder had started and nobody was told of.
#[cfg(target_os = "linux")]
pub(crate) fn sweep_unknown(known: &KnownRuns) {
    let start = mark_variable(&known.prefix);
    let marks: HashSet<Vec<u8>> = known.marks.iter().map(|mark| mark_variable(mark)).collect();
    kill_each(&|pid| match kernel::tag(pid) {
        Tag::Of(tag) if Tags::are_of_one_holder(tag, known.first_tag) => {
            Some(!known.tags.contains(&tag))
        }
        _ => has_marked(pid, &|variable| {
            variable.starts_with(&start) && !marks.contains(variable)
        }),
    });
}

/// The thread that sweeps, so that the loop continues meanwhile.
#[derive(Debug)]
pub(crate) struct Sweeper {
    jobs: Option<SyncSender<SweepJob>>,
    queue: Arc<EngineQueue>,
}

impl Sweeper {
    pub(crate) fn new(queue: Arc<EngineQueue>) -> Sweeper {
        Sweeper { jobs: None, queue }
    }

    /// Reported as [`EngineEvent::Swept`]. At most one job is in flight: the caller waits for it.
    pub(crate) fn sweep(&mut self, job: SweepJob) {
        if self.jobs.is_none() {
            let (jobs, todo) = sync_channel(1);
            let queue = Arc::clone(&self.queue);
            if thread("sweep", move || run(&todo, &queue)).is_ok() {
                self.jobs = Some(jobs);
            }
        }
        match &self.jobs {
            Some(jobs) if jobs.send(job.clone()).is_ok() => {}
            _ => finish(&job, &self.queue),
        }
    }
}

fn run(todo: &Receiver<SweepJob>, queue: &EngineQueue) {
    while let Ok(job) = todo.recv() {
        finish(&job, queue);
    }
}

fn finish(job: &SweepJob, queue: &EngineQueue) {
    sweep(job);
    queue.send(EngineEvent::Swept(runs_of(&job.trees)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> ProcessInfo {
        ProcessInfo {
            pid,
            parent,
            group: pid,
            session: pid,
            start_time: 0,
            zombie: false,
            kernel: false,
        }
    }

    #[test]
    fn what_lies_deep_below_is_found_in_time_that_grows_with_the_number_of_processes() {
        const DEPTH: i32 = 20_000;
        // Children first: a walk that goes through the list once for each level needs all of them.
        let all: Vec<ProcessInfo> = (2..DEPTH).rev().map(|pid| process(pid, pid - 1)).collect();
        let walk = Walk {
            trees: Vec::new(),
            marks: HashSet::new(),
            living: None,
            spared: HashSet::new(),
        };
        let mut chosen = HashSet::from([1]);
        let before = Instant::now();
        walk.descend(&all, &mut chosen);
        assert_eq!(chosen.len(), DEPTH as usize - 1);
        let took = before.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

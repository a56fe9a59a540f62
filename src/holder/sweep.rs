//! Killing whole trees where there is no control group: freeze, look again, then kill.
//! Owns a thread that is started with the first sweep.
//! Never signals a process whose start time changed since it was recognised.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::kernel::{self, Cgroup};
use crate::prepare::TREE_MARK_VAR;
use crate::process::{self, ProcessInfo};

/// Looks at most this often for new processes before it kills what it has.
const ROUNDS: usize = 40;
/// Looks at one process that is changing.
const RECHECKS_MAX: usize = 16;
/// How long the end of what was killed is awaited.
const EXIT_WAIT: Duration = Duration::from_secs(1);

/// One tree.
#[derive(Debug, Clone)]
pub(crate) struct ProcessTree {
    pub(crate) id: u32,
    /// Main process, group and session of the tree.
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    /// Value of the mark all of it inherited.
    pub(crate) mark: String,
    /// The control group that was killed already: only its end is awaited.
    pub(crate) group: Option<Arc<Cgroup>>,
}

/// Whether this process belongs to the tree by session, group, mark or an ancestor in it.
/// While that cannot be told it is looked at again, a few times and then until `until`.
pub(crate) fn belongs(pid: i32, target: &ProcessTree, until: Instant) -> bool {
    for looks in 1.. {
        if let Some(answer) = is_member(pid, target) {
            return answer;
        }
        if looks < RECHECKS_MAX {
            std::thread::yield_now();
        } else if Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        } else {
            break;
        }
    }
    false
}

/// None: what it hangs on changed under the look, or its mark is not to be seen at this moment.
fn is_member(pid: i32, target: &ProcessTree) -> Option<bool> {
    let mut next = pid;
    let mut is_marked = Some(false);
    for _ in 0..64 {
        if next == target.pid {
            return Some(true);
        }
        let Some(seen) = kernel::process(next) else {
            return (next == pid).then_some(false); // else it has another parent by now
        };
        if seen.session == target.pid || seen.group == target.pid {
            return Some(true);
        }
        if next == pid {
            is_marked = marked(pid, target);
        }
        if is_marked == Some(true) || seen.parent <= 1 {
            break;
        }
        next = seen.parent;
    }
    is_marked
}

/// None in the moment of an exec, when a process has no environment.
fn marked(pid: i32, target: &ProcessTree) -> Option<bool> {
    let mark = variable(&target.mark);
    kernel::has_variable(pid, |one| one == mark)
}

fn variable(mark: &str) -> Vec<u8> {
    format!("{TREE_MARK_VAR}={mark}").into_bytes()
}

/// Kills these trees, main processes included, as whole as it can be done here, and waits until
/// they are gone.
pub(crate) fn sweep(targets: &[ProcessTree]) {
    let (grouped, walked): (Vec<_>, Vec<_>) =
        targets.iter().cloned().partition(|one| one.group.is_some());
    if !walked.is_empty() {
        kill_walk(&walked);
    }
    for group in grouped.iter().filter_map(|one| one.group.as_deref()) {
        group.wait_until_empty();
    }
}

fn kill_walk(targets: &[ProcessTree]) {
    let (mut marks, spared) = (HashMap::new(), own_ancestors());
    for _ in 0..3 {
        let mut frozen: HashSet<(i32, u64)> = HashSet::new();
        let mut all = Vec::new();
        for _ in 0..ROUNDS {
            let doomed = matching(&kernel::processes(), targets, &spared, &mut marks);
            let mut found = false;
            for process in doomed {
                if frozen.insert((process.pid, process.start_time)) {
                    found = true;
                    kernel::signal_verified(&process, libc::SIGSTOP);
                    all.push(process);
                }
            }
            if !found {
                break;
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

/// This process and those above it. They carry a mark too if `up` was typed in what an earlier
/// holder left behind: it is not ended by its own order, nor is the shell it was given in.
fn own_ancestors() -> HashSet<i32> {
    let line = process::ancestry(std::process::id());
    line.iter().map(|(pid, _)| pid.cast_signed()).collect()
}

fn matching(
    all: &[ProcessInfo],
    targets: &[ProcessTree],
    spared: &HashSet<i32>,
    marks: &mut HashMap<(i32, u64), bool>,
) -> Vec<ProcessInfo> {
    let starts: HashMap<i32, u64> = all.iter().map(|one| (one.pid, one.start_time)).collect();
    // A main process whose number now belongs to someone else says nothing about sessions.
    let valid = |target: &&ProcessTree| {
        starts
            .get(&target.pid)
            .is_none_or(|at| *at == target.start_time)
    };
    let sessions: HashSet<i32> = targets
        .iter()
        .filter(valid)
        .map(|target| target.pid)
        .collect();
    let wanted: HashSet<Vec<u8>> = targets.iter().map(|one| variable(&one.mark)).collect();
    let mut chosen: HashSet<i32> = HashSet::new();
    for one in all
        .iter()
        .filter(|one| !spared.contains(&one.pid) && one.pid > 2 && one.parent != 2)
    {
        let by_number = [one.pid, one.session, one.group]
            .iter()
            .any(|id| sessions.contains(id));
        let mut by_mark = || {
            let key = (one.pid, one.start_time);
            if let Some(known) = marks.get(&key) {
                return *known;
            }
            let is = kernel::has_variable(one.pid, |variable| wanted.contains(variable));
            if let Some(is) = is {
                marks.insert(key, is);
            }
            is == Some(true)
        };
        if by_number || by_mark() {
            chosen.insert(one.pid);
        }
    }
    loop {
        let below = |one: &&ProcessInfo| chosen.contains(&one.parent) && !chosen.contains(&one.pid);
        let more: Vec<i32> = all.iter().filter(below).map(|one| one.pid).collect();
        if more.is_empty() {
            break;
        }
        chosen.extend(more);
    }
    all.iter()
        .filter(|one| chosen.contains(&one.pid) && !one.zombie)
        .copied()
        .collect()
}

/// Kills whatever carries the mark of this state directory.
pub(crate) fn sweep_marked(hash: &str) {
    let spared = own_ancestors();
    let start = format!("{TREE_MARK_VAR}={hash}:");
    let is_stale = |one: &ProcessInfo| {
        let is = |variable: &[u8]| variable.starts_with(start.as_bytes());
        kernel::has_variable(one.pid, is) == Some(true)
    };
    for _ in 0..ROUNDS {
        let all = kernel::processes();
        let stale: Vec<_> = all
            .iter()
            .filter(|one| !one.zombie && !spared.contains(&one.pid) && is_stale(one))
            .collect();
        if stale.is_empty() {
            return;
        }
        for process in stale {
            kernel::signal_verified(process, libc::SIGKILL);
        }
    }
}

/// The thread that sweeps, so that the loop goes on meanwhile.
#[derive(Debug)]
pub(crate) struct Sweeper {
    jobs: Option<SyncSender<Vec<ProcessTree>>>,
    mail: Arc<EngineQueue>,
}

impl Sweeper {
    pub(crate) fn new(mail: Arc<EngineQueue>) -> Sweeper {
        Sweeper { jobs: None, mail }
    }

    /// Told as [`EngineEvent::Swept`]. At most one batch is in flight: the caller waits for it.
    pub(crate) fn sweep(&mut self, targets: Vec<ProcessTree>) {
        if self.jobs.is_none() {
            let (jobs, todo) = sync_channel(1);
            let mail = Arc::clone(&self.mail);
            if process::thread("sweep", move || run(&todo, &mail)).is_ok() {
                self.jobs = Some(jobs);
            }
        }
        match &self.jobs {
            Some(jobs) if jobs.send(targets.clone()).is_ok() => {}
            _ => {
                sweep(&targets);
                self.mail.send(EngineEvent::Swept(
                    targets.iter().map(|one| one.id).collect(),
                ));
            }
        }
    }
}

fn run(todo: &Receiver<Vec<ProcessTree>>, mail: &EngineQueue) {
    while let Ok(targets) = todo.recv() {
        sweep(&targets);
        mail.send(EngineEvent::Swept(
            targets.iter().map(|one| one.id).collect(),
        ));
    }
}

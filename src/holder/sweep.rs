//! Killing whole trees where there is no control group: freeze, look again, then kill.
//! Owns a thread that is started with the first sweep.
//! Never signals a process whose start time changed since it was recognised.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::instance::RunningProcess;
use crate::kernel::{self, Cgroup};
use crate::prepare::mark_variable;
use crate::process::{self, ProcessInfo};

/// Looks at most this often for new processes before it kills what it has.
const ROUNDS: usize = 40;
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

/// The tree of a run: below the process that was started, and below the one it named instead.
pub(crate) fn trees_of(id: u32, run: &RunningProcess) -> impl Iterator<Item = ProcessTree> {
    let main = (run.pid, run.start_time);
    let other = (main != run.first).then_some(main);
    let processes = [Some(run.first), other].into_iter().flatten();
    processes.map(move |(pid, start_time)| ProcessTree {
        id,
        pid,
        start_time,
        mark: run.mark.clone(),
        group: None,
    })
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
    let wanted: HashSet<Vec<u8>> = targets.iter().map(|one| mark_variable(&one.mark)).collect();
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

/// Kills whatever carries a mark that begins so.
pub(crate) fn sweep_marked(prefix: &str) {
    let spared = own_ancestors();
    let start = mark_variable(prefix);
    let is_stale = |one: &ProcessInfo| {
        let is = |variable: &[u8]| variable.starts_with(&start);
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

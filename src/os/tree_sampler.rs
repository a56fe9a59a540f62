//! What the process trees of runs use, sample by sample.
//! Owns which processes were in them at the last sample: the next one reads those and what started
//! since, and not every process of the machine. Never signals.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_holder::look_at_all;
use mainstay_protocol::view::MemoryKind;

use super::LiveProcess;
use super::machine::{ProcStat, every_process, head, page_bytes, root_of, stats, ticks_per_second};
use super::usage::TreeUsage;

/// With more new pids than this, reading all processes costs less.
const NEW_MAX: u32 = 1000;
/// Levels of groups that a run may have made in its own.
const DEPTH_MAX: u32 = 8;
/// A pid with its line break, at most.
const PID_BYTES_MAX: usize = 16;

/// A run to look at: its instance as the holder names it, and its main process. Without a name it
/// is a process of mainstay itself, whose descendants are those of others.
pub(crate) type TreeRoot = (String, LiveProcess);

/// The processes of one run.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Each of them.
    pub(crate) processes: Vec<ProcStat>,
    /// Its control group, if it has one.
    group: Option<Arc<Group>>,
}

/// The control group of a run.
#[derive(Debug)]
struct Group {
    path: PathBuf,
    /// CPU time that earlier runs in it used.
    cpu_before: u64,
    /// The kernel counts its memory.
    has_memory: bool,
}

/// Samples process trees, again and again.
#[derive(Debug, Default)]
pub(crate) struct TreeSampler {
    /// The newest pid that was given out at the last sample.
    newest: Option<u32>,
    /// The processes that were in the trees.
    known: Vec<u32>,
    /// The control group of each main process, by pid and start time.
    groups: HashMap<(u32, u64), Option<Arc<Group>>>,
    /// What each of these groups used at the last sample: the CPU time it had counted, and all.
    last: HashMap<(u32, u64), (u64, TreeUsage)>,
    /// The looks of the last sample.
    handles: Handles,
}

impl TreeSampler {
    /// The processes of each run: those of its control group, else everything that descends from
    /// its main process or is in the session of that (a process that double-forked without
    /// leaving the session stays in the tree). None: its main process has ended.
    pub(crate) fn trees(&mut self, roots: &[TreeRoot]) -> Vec<Option<Tree>> {
        let groups: Vec<_> = roots.iter().map(|root| self.group(root)).collect();
        self.forget_all_but(roots);
        self.trees_in(roots, groups)
    }

    /// Drops what is known of other runs.
    fn forget_all_but(&mut self, roots: &[TreeRoot]) {
        if self.groups.len() > roots.len() {
            let pids: HashSet<u32> = roots.iter().map(|(_, live)| live.pid).collect();
            self.groups.retain(|(pid, _), _| pids.contains(pid));
            self.last.retain(|(pid, _), _| pids.contains(pid));
        }
    }

    fn trees_in(
        &mut self,
        roots: &[TreeRoot],
        groups: Vec<Option<Arc<Group>>>,
    ) -> Vec<Option<Tree>> {
        let is_walked = |(root, group): &(&TreeRoot, &Option<Arc<Group>>)| {
            group.is_none() && !root.0.is_empty()
        };
        let pairs = roots.iter().zip(&groups);
        let walked: Vec<u32> = pairs
            .filter(is_walked)
            .map(|(root, _)| root.1.pid)
            .collect();
        let mut walked = if walked.is_empty() {
            HashMap::new()
        } else {
            self.walk(&walked)
        };
        let trees = roots.iter().zip(members_of(&groups)).zip(groups);
        let trees = trees.map(|(((name, live), members), group)| {
            let processes = match &group {
                Some(_) => members,
                None if name.is_empty() => stats([live.pid]),
                None => walked.remove(&live.pid)?,
            };
            let is_main = |one: &ProcStat| {
                one.pid == live.pid && (live.start_time == 0 || one.start_time == live.start_time)
            };
            let found = processes.iter().any(is_main);
            found.then_some(Tree { processes, group })
        });
        trees.collect()
    }

    /// What the trees of these runs use. Where no CPU time was used since the last sample nothing
    /// has changed but the memory, of which the kernel may have taken some back: nothing else is
    /// read again.
    pub(crate) fn usage(&mut self, roots: &[TreeRoot]) -> Vec<Option<TreeUsage>> {
        let groups: Vec<_> = roots.iter().map(|root| self.group(root)).collect();
        self.forget_all_but(roots);
        // Read first: what is used meanwhile is seen the next time.
        let cpu = |group: &Option<Arc<Group>>| group_cpu_ns(&group.as_ref()?.path);
        let cpu: Vec<Option<u64>> = groups.iter().map(cpu).collect();
        let rested = |((_, live), cpu): (&TreeRoot, &Option<u64>)| {
            let (before, usage) = self.last.get(&(live.pid, live.start_time))?;
            (Some(*before) == *cpu).then_some(*usage)
        };
        let pairs = roots.iter().zip(&cpu);
        let mut usages: Vec<Option<TreeUsage>> = pairs.map(rested).collect();
        let mut moved = Vec::new();
        for (place, group) in groups.iter().enumerate() {
            match (&mut usages[place], group) {
                (Some(usage), Some(group)) => group.refresh_memory(usage),
                _ => moved.push(place),
            }
        }
        let roots_of: Vec<TreeRoot> = moved.iter().map(|place| roots[*place].clone()).collect();
        let groups_of = moved.iter().map(|place| groups[*place].clone()).collect();
        let trees = self.trees_in(&roots_of, groups_of);
        self.handles.look(trees.iter().flatten());
        for ((place, tree), (_, live)) in moved.into_iter().zip(trees).zip(roots_of) {
            let usage = tree.map(|tree| tree.usage(cpu[place], &self.handles));
            let key = (live.pid, live.start_time);
            match usage.zip(cpu[place]) {
                Some((usage, cpu)) => drop(self.last.insert(key, (cpu, usage))),
                None => drop(self.last.remove(&key)),
            }
            usages[place] = usage;
        }
        usages
    }

    fn group(&mut self, (instance, live): &TreeRoot) -> Option<Arc<Group>> {
        let find = || {
            let path = mainstay_holder::group_dir(instance, live.pid)?;
            let of_run: u64 = members(&path).iter().map(process_cpu_ns).sum();
            let cpu_before = group_cpu_ns(&path).unwrap_or(0).saturating_sub(of_run);
            let has_memory = path.join("memory.current").exists();
            Some(Arc::new(Group {
                path,
                cpu_before,
                has_memory,
            }))
        };
        let found = self.groups.entry((live.pid, live.start_time));
        found.or_insert_with(find).clone()
    }

    fn walk(&mut self, roots: &[u32]) -> HashMap<u32, Vec<ProcStat>> {
        // Read first: what starts meanwhile is new again the next time.
        let newest = newest_pid();
        // Pids are given out in rising order, until they begin again.
        let began = self.newest.zip(newest);
        let began = began.filter(|(before, newest)| before <= newest && newest - before <= NEW_MAX);
        let all = match began {
            Some((before, newest)) => self.scan(before + 1..=newest, roots),
            None => every_process(),
        };
        let mut parents: HashMap<u32, (u32, u32)> = all
            .iter()
            .map(|stat| (stat.pid, (stat.parent, stat.session)))
            .collect();
        let wanted: HashSet<u32> = roots.iter().copied().collect();
        let mut trees: HashMap<u32, Vec<ProcStat>> = HashMap::with_capacity(roots.len());
        (self.newest, self.known) = (newest, Vec::with_capacity(roots.len()));
        for stat in &all {
            let is_new = began.is_some_and(|(before, _)| stat.pid > before);
            if let Some(root) = root_of(stat.pid, &mut parents, &wanted)
                && (!is_new || is_process(stat.pid))
            {
                trees.entry(root).or_default().push(*stat);
                self.known.push(stat.pid);
            }
        }
        trees
    }

    /// All that can be in the trees: what descends from a process of them started below it.
    fn scan(&mut self, new: RangeInclusive<u32>, roots: &[u32]) -> Vec<ProcStat> {
        let mut pids = std::mem::take(&mut self.known);
        pids.extend(roots);
        pids.extend(new);
        pids.sort_unstable();
        pids.dedup();
        stats(pids)
    }
}

impl Tree {
    /// Whether the holder stops it as a whole.
    pub(crate) fn is_grouped(&self) -> bool {
        self.group.is_some()
    }

    /// Whether the kernel keeps its ceiling on CPU time.
    pub(crate) fn has_cpu_controller(&self) -> bool {
        self.group
            .as_ref()
            .is_some_and(|group| group.path.join("cpu.max").exists())
    }

    /// The pids of its processes.
    pub(crate) fn all(&self) -> Vec<u32> {
        self.processes.iter().map(|one| one.pid).collect()
    }

    /// Its processes, each with its start time, but those that a signal has stopped.
    pub(crate) fn running(&self) -> Vec<(u32, u64)> {
        let running = self.processes.iter().filter(|one| !one.stopped);
        running.map(|one| (one.pid, one.start_time)).collect()
    }

    /// Continues what is stopped as a whole.
    pub(crate) fn thaw(&self) {
        if let Some(group) = &self.group {
            let _removed_with_its_run = fs::write(group.path.join("cgroup.freeze"), "0");
        }
    }

    /// CPU time in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        let group = self.group.as_ref();
        self.cpu_ns_of(group.and_then(|group| group_cpu_ns(&group.path)))
    }

    /// The same, of what its group has counted.
    fn cpu_ns_of(&self, counted: Option<u64>) -> u64 {
        let pair = self.group.as_ref().zip(counted);
        let counted = pair.map(|(group, counted)| counted.saturating_sub(group.cpu_before));
        counted.unwrap_or_else(|| self.processes.iter().map(process_cpu_ns).sum())
    }

    fn usage(&self, counted: Option<u64>, handles: &Handles) -> TreeUsage {
        let resident = self.processes.iter().map(|one| one.rss_pages).sum::<u64>();
        let looks = self.processes.iter();
        let looks = looks.filter_map(|one| handles.of(one.pid));
        let (files, io): (Vec<u64>, Vec<Option<u64>>) = looks.unzip();
        let mut usage = TreeUsage {
            cpu_ns: self.cpu_ns_of(counted),
            memory_bytes: resident.saturating_mul(page_bytes()),
            memory_kind: MemoryKind::Rss,
            threads: Some(self.processes.iter().map(|one| one.threads).sum()),
            processes: self.processes.len() as u64,
            file_handles: Some(files.iter().sum()),
            io_bytes: io.into_iter().sum(),
        };
        if let Some(group) = &self.group {
            group.refresh_memory(&mut usage);
        }
        usage
    }
}

impl Group {
    /// Where the kernel counts it.
    fn refresh_memory(&self, usage: &mut TreeUsage) {
        let counting = self.has_memory.then(|| self.path.join("memory.current"));
        if let Some(bytes) = counting.and_then(|path| number(&path)) {
            (usage.memory_bytes, usage.memory_kind) = (bytes, MemoryKind::Cgroup);
        }
    }
}

/// What was seen of a process: its CPU time then, its open files, and the bytes that it had read
/// and written.
type Look = (Option<u64>, u64, Option<u64>);

/// The looks at processes, by pid.
#[derive(Debug, Default)]
struct Handles(HashMap<u32, Look>);

impl Handles {
    /// At all trees at once: each list of looks costs a change of thread. One that has used no CPU
    /// time since the last look has opened nothing.
    fn look<'a>(&mut self, trees: impl Iterator<Item = &'a Tree>) {
        let mut before = std::mem::take(&mut self.0);
        let mut moved = Vec::new();
        for one in trees.flat_map(|tree| &tree.processes) {
            let cpu = own_cpu_ns(one.pid);
            match before.remove(&one.pid) {
                Some(seen) if cpu.is_some() && seen.0 == cpu => drop(self.0.insert(one.pid, seen)),
                _ => moved.push((one.pid, cpu)),
            }
        }
        let pids = moved.iter().map(|(pid, _)| pid.cast_signed()).collect();
        let look = |pid: i32| {
            let pid = pid.cast_unsigned();
            (pid, (open_files(pid), io_bytes(pid)))
        };
        let mut seen: HashMap<u32, _> = look_at_all(pids, look).into_iter().collect();
        for (pid, cpu) in moved {
            if let Some((files, io)) = seen.remove(&pid) {
                self.0.insert(pid, (cpu, files, io));
            }
        }
    }

    fn of(&self, pid: u32) -> Option<(u64, Option<u64>)> {
        self.0.get(&pid).map(|(_, files, io)| (*files, *io))
    }
}

/// The processes of each of these control groups; of no group, none.
fn members_of(groups: &[Option<Arc<Group>>]) -> Vec<Vec<ProcStat>> {
    let (mut pids, mut places) = (Vec::new(), HashMap::new());
    for (place, group) in groups.iter().enumerate() {
        let before = pids.len();
        if let Some(group) = group {
            collect_pids(&group.path, 0, &mut pids);
        }
        places.extend(pids[before..].iter().map(|pid| (*pid, place)));
    }
    let mut members = vec![Vec::new(); groups.len()];
    for stat in stats(pids) {
        if let Some(place) = places.get(&stat.pid) {
            members[*place].push(stat);
        }
    }
    members
}

/// The processes of a control group and of the groups in it.
fn members(group: &Path) -> Vec<ProcStat> {
    let mut pids = Vec::new();
    collect_pids(group, 0, &mut pids);
    stats(pids)
}

fn collect_pids(group: &Path, depth: u32, pids: &mut Vec<u32>) {
    let (path, mut first) = (group.join("cgroup.procs"), [0; 1024]);
    let all;
    let text = match head(&path, &mut first) {
        // The kernel would have gone on if there were more and one of them had room.
        Some(text) if text.len() + PID_BYTES_MAX <= 1024 => text,
        _ => {
            all = fs::read(&path).unwrap_or_default();
            &all
        }
    };
    pids.extend(lines(text).filter_map(|line| line.parse::<u32>().ok()));
    // A directory has one link of its own, one of its parent and one of each directory in it.
    let has_groups = fs::metadata(group).is_ok_and(|about| about.nlink() > 2);
    if has_groups && depth < DEPTH_MAX {
        let entries = fs::read_dir(group).into_iter().flatten().flatten();
        let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        for entry in entries.filter(is_dir) {
            collect_pids(&entry.path(), depth + 1, pids);
        }
    }
}

/// Counted since the group was made: of all its runs.
fn group_cpu_ns(group: &Path) -> Option<u64> {
    let mut first = [0; 256];
    let text = head(group.join("cpu.stat"), &mut first)?;
    let line = lines(text).find_map(|line| line.strip_prefix("usage_usec "))?;
    line.parse::<u64>().ok().map(|micros| micros * 1000)
}

fn number(path: &Path) -> Option<u64> {
    let mut first = [0; 64];
    lines(head(path, &mut first)?).next()?.parse().ok()
}

/// The lines of a file of the kernel.
fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(|line| std::str::from_utf8(line).ok())
}

/// CPU time of a process and of its children that were waited for. The clock of the process is
/// exact; /proc rounds to 10 ms.
fn process_cpu_ns(stat: &ProcStat) -> u64 {
    let ticks = |ticks: u64| ticks.saturating_mul(1_000_000_000) / ticks_per_second();
    own_cpu_ns(stat.pid).unwrap_or_else(|| ticks(stat.cpu_ticks)) + ticks(stat.children_ticks)
}

/// CPU time of a process by its clock.
fn own_cpu_ns(pid: u32) -> Option<u64> {
    let clock = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(pid.cast_signed()));
    let time = clock.and_then(nix::time::clock_gettime).ok()?;
    u64::try_from(std::time::Duration::from(time).as_nanos()).ok()
}

/// The pid that was given out last.
fn newest_pid() -> Option<u32> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().last()?.parse().ok()
}

/// Threads have numbers of the same row, and a folder of that name each.
fn is_process(number: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
    let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    leader.is_some_and(|leader| leader.trim().parse() == Ok(number))
}

fn open_files(pid: u32) -> u64 {
    let folder = format!("/proc/{pid}/fd");
    // Since Linux 6.2 its size is their number; before, or where that says nothing, they are
    // counted.
    match fs::metadata(&folder).map_or(0, |about| about.len()) {
        0 => fs::read_dir(folder).map_or(0, |dir| dir.count() as u64),
        count => count,
    }
}

/// Bytes that a process had read from and written to disks; None: another user's.
fn io_bytes(pid: u32) -> Option<u64> {
    let mut first = [0; 512];
    let text = head(format!("/proc/{pid}/io"), &mut first)?;
    let counted = lines(text).filter_map(|line| {
        let (name, bytes) = line.split_once(": ")?;
        let is_disk = matches!(name, "read_bytes" | "write_bytes");
        bytes.parse::<u64>().ok().filter(|_| is_disk)
    });
    Some(counted.sum())
}

#[cfg(test)]
mod tests {
    use super::super::machine::stat;
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    fn root(pid: u32) -> TreeRoot {
        let live = LiveProcess {
            generation: 1,
            pid,
            start_time: stat(pid).expect("it runs").start_time,
        };
        ("a".to_owned(), live)
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "no runtime is under test")]
    fn a_process_of_mainstay_is_counted_without_what_it_started() {
        let sleep = Command::new("/bin/sleep").arg("60").spawn();
        let mut sleep = sleep.expect("a child");
        let own = (String::new(), root(std::process::id()).1);
        let used = TreeSampler::default().usage(&[own]);
        sleep.kill().expect("it runs");
        sleep.wait().expect("it ends");
        let used = used[0].as_ref().expect("this process");
        assert_eq!(used.processes, 1);
        assert!(used.memory_bytes > 0 && used.cpu_ns > 0);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "no runtime is under test")]
    fn what_starts_below_a_root_is_in_the_next_sample() {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "read _; sleep 60 & echo; read _; kill $!"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (root, mut input) = (root(shell.id()), shell.stdin.take().expect("its input"));
        let roots = [root];
        let mut sampler = TreeSampler::default();
        let processes =
            |sampler: &mut TreeSampler| sampler.usage(&roots)[0].map(|usage| usage.processes);
        assert_eq!(processes(&mut sampler), Some(1));
        assert_eq!(sampler.known, [roots[0].1.pid]);
        input.write_all(b"\n").expect("it reads");
        let mut output = shell.stdout.take().expect("its output");
        output.read_exact(&mut [0]).expect("its child runs");
        assert_eq!(processes(&mut sampler), Some(2));
        assert_eq!(sampler.known.len(), 2);
        drop(input);
        shell.wait().expect("it ends");
        assert_eq!(processes(&mut sampler), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "no runtime is under test")]
    fn what_a_process_opens_between_two_samples_is_counted() {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "read _; exec 7</dev/null; echo; read _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (roots, mut input) = ([root(shell.id())], shell.stdin.take().expect("its input"));
        let mut sampler = TreeSampler::default();
        let mut files = || sampler.usage(&roots)[0].and_then(|usage| usage.file_handles);
        let before = files();
        assert_eq!(files(), before);
        input.write_all(b"\n").expect("it reads");
        let mut output = shell.stdout.take().expect("its output");
        output.read_exact(&mut [0]).expect("it has opened one");
        assert_eq!(files(), before.map(|files| files + 1));
        drop(input);
        shell.wait().expect("it ends");
    }

    #[test]
    fn a_pid_that_is_used_again_is_not_the_run() {
        let (name, mut live) = root(std::process::id());
        let mut sampler = TreeSampler::default();
        assert!(sampler.usage(&[(name.clone(), live)])[0].is_some());
        live.start_time += 1;
        assert!(sampler.usage(&[(name, live)])[0].is_none());
    }

    #[test]
    fn cpu_time_is_finer_than_a_tick() {
        let own = stat(std::process::id()).expect("it runs");
        let mut last = process_cpu_ns(&own);
        let steps: Vec<u64> = std::iter::repeat_with(|| {
            let now = process_cpu_ns(&own);
            now - std::mem::replace(&mut last, now)
        })
        .take(100)
        .collect();
        assert!(
            steps.iter().any(|step| (1..10_000_000).contains(step)),
            "{steps:?}"
        );
    }

    #[test]
    fn a_thread_is_no_process() {
        assert!(is_process(std::process::id()));
        let thread =
            std::thread::spawn(|| is_process(nix::unistd::gettid().as_raw().unsigned_abs()));
        assert!(!thread.join().expect("it looked"));
        assert!(!is_process(0));
        assert!(newest_pid() > Some(0));
    }
}

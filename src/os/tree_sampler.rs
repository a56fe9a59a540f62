//! What our process trees use, sample by sample.
//! Owns which processes were ours at the last look: the next one reads those and what began since,
//! and not every process of the machine. Never signals.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::RangeInclusive;

use super::machine::{ProcStat, every_process, page_bytes, root_of, stat, ticks_per_second};

/// With more new numbers than this a look at all processes costs less.
const NEW_MAX: u32 = 1000;

/// What a process tree uses, summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TreeUsage {
    /// CPU time in nanoseconds of the processes that live now.
    pub(crate) cpu_ns: u64,
    /// Resident bytes.
    pub(crate) memory_bytes: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Processes.
    pub(crate) processes: u64,
    /// Open descriptors.
    pub(crate) file_handles: u64,
}

/// Looks at our process trees, again and again.
#[derive(Debug, Default)]
pub(crate) struct TreeSampler {
    /// The newest number that was given out at the last look.
    newest: Option<u32>,
    /// The processes that were ours.
    ours: Vec<u32>,
}

impl TreeSampler {
    /// Sums what the trees below these roots use: everything that descends from a root or is in
    /// the session a root leads (what double-forked without leaving the session stays ours).
    pub(crate) fn trees(&mut self, roots: &[u32]) -> HashMap<u32, TreeUsage> {
        // Asked first: what begins meanwhile is new again the next time.
        let newest = newest_number();
        // Numbers are given out in rising order, until they begin anew.
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
        let mut sums: HashMap<u32, TreeUsage> = HashMap::with_capacity(roots.len());
        (self.newest, self.ours) = (newest, Vec::with_capacity(roots.len()));
        for stat in &all {
            let asked = began.is_some_and(|(before, _)| stat.pid > before);
            if let Some(root) = root_of(stat.pid, &mut parents, &wanted)
                && (!asked || is_process(stat.pid))
            {
                add(sums.entry(root).or_default(), stat);
                self.ours.push(stat.pid);
            }
        }
        sums
    }

    /// All that can be ours. A stranger never becomes that: who descends from us began below us.
    fn scan(&mut self, new: RangeInclusive<u32>, roots: &[u32]) -> Vec<ProcStat> {
        let mut pids = std::mem::take(&mut self.ours);
        pids.extend(roots);
        pids.extend(new);
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().filter_map(stat).collect()
    }
}

/// The number that was given out last.
fn newest_number() -> Option<u32> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().last()?.parse().ok()
}

/// Threads have numbers of the same row, and a folder of that name each.
fn is_process(number: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
    let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    leader.is_some_and(|leader| leader.trim().parse() == Ok(number))
}

fn add(sum: &mut TreeUsage, stat: &ProcStat) {
    sum.cpu_ns += stat.cpu_ticks.saturating_mul(1_000_000_000) / ticks_per_second();
    sum.memory_bytes += stat.rss_pages.saturating_mul(page_bytes());
    sum.threads += stat.threads;
    sum.processes += 1;
    sum.file_handles += open_files(stat.pid);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "no runtime is under test")]
    fn what_begins_below_a_root_is_seen_at_the_next_look() {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "read _; sleep 60 & echo; read _; kill $!"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (root, mut input) = (shell.id(), shell.stdin.take().expect("its input"));
        let mut census = TreeSampler::default();
        assert_eq!(census.trees(&[root])[&root].processes, 1);
        assert_eq!(census.ours, [root]);
        input.write_all(b"\n").expect("it reads");
        let mut output = shell.stdout.take().expect("its output");
        output.read_exact(&mut [0]).expect("its child runs");
        assert_eq!(census.trees(&[root])[&root].processes, 2);
        assert_eq!(census.ours.len(), 2);
        drop(input);
        shell.wait().expect("it ends");
        assert!(!census.trees(&[root]).contains_key(&root));
    }

    #[test]
    fn a_thread_is_no_process() {
        assert!(is_process(std::process::id()));
        let thread =
            std::thread::spawn(|| is_process(nix::unistd::gettid().as_raw().unsigned_abs()));
        assert!(!thread.join().expect("it looked"));
        assert!(!is_process(0));
        assert!(newest_number() > Some(0));
    }
}

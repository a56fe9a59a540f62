//! What Linux tells of the processes of a run: threads, descriptors, limits, memory, control group.
//! Owns the bounds of each part; what is cheap and cannot hang is read first.
//! Never writes, and tells of an environment or a command line no value, which may be secret.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::machine;
use super::super::tree_sampler::TreeSampler;
use super::{Bundle, CaptureRequest};

/// Processes of a run, its main process first.
const PROCESSES_MAX: usize = 16;
/// Threads of all of them.
const THREADS_MAX: usize = 500;
/// Descriptors of all of them.
const DESCRIPTORS_MAX: usize = 500;
/// Bytes of one file of `/proc`.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Directory entries that are passed, at most.
const ENTRIES_MAX: usize = 100_000;

pub(super) fn fill(bundle: &Bundle, request: &CaptureRequest) {
    let main = request.process;
    let instance = request.instance.clone();
    group(bundle, &instance, main.pid);
    // Another process may have the pid by now. One whose exec waits for a file system is not shown
    // either: this thread would read no other run any more.
    let seen = machine::stats([main.pid]).pop();
    let is_same =
        |stat: machine::ProcStat| main.start_time == 0 || stat.start_time == main.start_time;
    if !seen.is_some_and(is_same) {
        let why = "its main process has ended, or its exec waits for a file system";
        bundle.set("processes", json!(why));
        return;
    }
    threads(bundle, &[main.pid], "main_threads");
    let trees = TreeSampler::default().trees(&[(instance, main)]);
    let tree = trees.into_iter().flatten().next().unwrap_or_default();
    let others = tree.processes.iter().map(|stat| stat.pid);
    let others: Vec<u32> = others.filter(|pid| *pid != main.pid).collect();
    bundle.set("process_count", json!(others.len() + 1));
    let pids: Vec<u32> = [main.pid]
        .into_iter()
        .chain(others)
        .take(PROCESSES_MAX)
        .collect();
    bundle.set("processes", pids.iter().map(|pid| process(*pid)).collect());
    threads(bundle, &pids, "threads");
    descriptors(bundle, &pids);
    // These take a lock of the process's memory, which may never be free.
    bundle.set("limits", json!(text(main.pid, "limits")));
    bundle.set("maps", json!(text(main.pid, "smaps_rollup")));
    bundle.set("environment", names(main.pid));
    bundle.set("arguments", arguments(main.pid));
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

fn text(pid: u32, file: &str) -> Option<String> {
    let bytes = read(Path::new(&format!("/proc/{pid}/{file}")))?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// The lines of `status` that say how a process is.
fn process(pid: u32) -> Value {
    const LINES: [&str; 12] = [
        "Name", "State", "PPid", "Uid", "FDSize", "VmPeak", "VmRSS", "VmSwap", "Threads", "SigPnd",
        "SigBlk", "SigIgn",
    ];
    let status = text(pid, "status").unwrap_or_default();
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    let lines = lines.filter(|(name, _)| LINES.contains(name));
    let mut about: Map<String, Value> = lines
        .map(|(name, value)| (name.to_owned(), json!(value.trim())))
        .collect();
    about.insert("pid".to_owned(), json!(pid));
    Value::Object(about)
}

/// Each thread: what it is called, its state, and where in the kernel it waits.
fn threads(bundle: &Bundle, pids: &[u32], name: &str) {
    let (mut found, mut count) = (Vec::new(), 0_usize);
    for pid in pids {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten().take(ENTRIES_MAX) {
            count += 1;
            if found.len() < THREADS_MAX {
                found.push(thread(*pid, &task.path()));
            }
        }
    }
    bundle.set(&format!("{name}_count"), json!(count));
    bundle.set(name, Value::Array(found));
}

fn thread(pid: u32, task: &Path) -> Value {
    let line = |file: &str| {
        let bytes = read(&task.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    };
    let stat = line("stat");
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    let mut about = json!({
        "pid": pid,
        "tid": task.file_name().map(|name| name.to_string_lossy().into_owned()),
        "name": line("comm"),
        "state": state.map(String::from),
        "wchan": line("wchan"),
    });
    // Only root may read these, and not everywhere.
    for file in ["syscall", "stack"] {
        let text = line(file);
        if !text.is_empty() {
            about[file] = json!(text.lines().take(40).collect::<Vec<_>>());
        }
    }
    about
}

/// What each descriptor names. Only the link is read: nothing is opened.
fn descriptors(bundle: &Bundle, pids: &[u32]) {
    let (mut found, mut counts) = (Vec::new(), Vec::new());
    for pid in pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let mut count = 0_usize;
        for entry in entries.flatten().take(ENTRIES_MAX) {
            count += 1;
            if found.len() < DESCRIPTORS_MAX {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                let target: String = target.to_string_lossy().chars().take(200).collect();
                let fd = entry.file_name().to_string_lossy().into_owned();
                found.push(json!({ "pid": pid, "fd": fd, "target": target }));
            }
        }
        counts.push(json!({ "pid": pid, "count": count }));
    }
    bundle.set("descriptor_counts", Value::Array(counts));
    bundle.set("descriptors", Value::Array(found));
}

/// What its control group says, if it has one.
fn group(bundle: &Bundle, instance: &str, pid: u32) {
    const FILES: [&str; 9] = [
        "memory.events",
        "memory.current",
        "memory.max",
        "memory.pressure",
        "cpu.stat",
        "cpu.max",
        "pids.events",
        "pids.current",
        "cgroup.events",
    ];
    let Some(dir) = mainstay_holder::group_dir(instance, pid) else {
        return;
    };
    let file = |name: &&str| {
        let bytes = read(&dir.join(name))?;
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        Some(((*name).to_owned(), json!(text)))
    };
    bundle.set(
        "cgroup",
        Value::Object(FILES.iter().filter_map(file).collect()),
    );
}

/// The names of its variables; the values may be secret.
fn names(pid: u32) -> Value {
    let bytes = read(Path::new(&format!("/proc/{pid}/environ"))).unwrap_or_default();
    let names = bytes.split(|byte| *byte == 0).filter(|one| !one.is_empty());
    let name = |one: &[u8]| {
        let end = one.iter().position(|byte| *byte == b'=').unwrap_or(0);
        String::from_utf8_lossy(&one[..end.min(200)]).into_owned()
    };
    names
        .map(name)
        .filter(|name| !name.is_empty())
        .take(500)
        .collect()
}

/// Its program, and how many arguments it has: one may be secret.
fn arguments(pid: u32) -> Value {
    let bytes = read(Path::new(&format!("/proc/{pid}/cmdline"))).unwrap_or_default();
    let mut words = bytes.split(|byte| *byte == 0);
    // A process may write all its arguments into the first.
    let _title = words.next();
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let program: String = program.to_string_lossy().chars().take(500).collect();
    json!({ "program": program, "count": words.filter(|word| !word.is_empty()).count() })
}

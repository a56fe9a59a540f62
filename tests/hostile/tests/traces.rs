//! What processes leave to be seen in /proc: who belongs to a folder, memory, open descriptors.
//! Owns nothing. Never counts what it cannot read.

use std::fs;
use std::path::Path;

/// All living processes that were started with this folder in an argument or in a variable. What
/// the main thread does not show after its end another one does.
pub(crate) fn of_folder(folder: &Path) -> Vec<(i32, String)> {
    let mark = folder.file_name().expect("a name").as_encoded_bytes();
    let numbers = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = std::process::id().cast_signed();
    pids.filter(|pid| *pid != ours)
        .filter_map(|pid| {
            let read = |file: &str| {
                let threads = fs::read_dir(format!("/proc/{pid}/task"))
                    .into_iter()
                    .flatten();
                let texts = threads
                    .flatten()
                    .filter_map(|one| fs::read(one.path().join(file)).ok());
                texts.max_by_key(Vec::len).unwrap_or_default()
            };
            let arguments = read("cmdline");
            let has = |text: &[u8]| text.windows(mark.len()).any(|part| part == mark);
            let is = has(&arguments) || has(&read("environ"));
            let text = String::from_utf8_lossy(&arguments).replace('\0', " ");
            is.then_some((pid, text))
        })
        .collect()
}

/// The memory that a process has for itself, in bytes.
pub(crate) fn memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

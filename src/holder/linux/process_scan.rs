//! All processes that /proc shows, and by what each is known: environment, namespace, tag.
//! Reads at the moment it is called.
//! Never signals a process by a number that another may have by now.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::fcntl::OFlag;

use super::look::look_at;
use super::processes::{ProcessHandle, fields, process};
use super::{child, procfs};
use crate::process::{ProcessInfo, Tag, Unseen, printable};

/// The name of the program of a process, empty if it has exited.
pub(crate) fn command_name(pid: i32) -> String {
    let name = procfs::read(&format!("{pid}/comm")).unwrap_or_default();
    printable(&name)
}

/// No program has a larger environment.
const ENVIRONMENT_BYTES: u64 = 8 * 1024 * 1024;

/// Whether a variable of the process, as `NAME=VALUE`, is such.
pub(crate) fn has_variable(pid: i32, is: impl Fn(&[u8]) -> bool) -> Result<bool, Unseen> {
    let text = look_at(pid, environment).ok_or(Unseen::Hidden)??;
    Ok(text.split(|byte| *byte == 0).any(is))
}

fn environment(pid: i32) -> Result<Vec<u8>, Unseen> {
    match environment_of(&pid.to_string()) {
        // A main thread that has ended shows nothing: the others do.
        Ok(None) => {
            let threads = procfs::numbers(&format!("{pid}/task")).into_iter();
            let mut folders = threads.map(|thread| format!("{pid}/task/{thread}"));
            let found = folders.find_map(|folder| environment_of(&folder).ok().flatten());
            found.ok_or(Unseen::Executing)
        }
        Ok(Some(text)) => Ok(text),
        Err(_) => Ok(Vec::new()),
    }
}

/// The environment of a thread; None: it has no memory, in its end or in the moment of an exec.
fn environment_of(folder: &str) -> io::Result<Option<Vec<u8>>> {
    let file = procfs::file(&format!("{folder}/environ"), OFlag::empty())?;
    let mut text = Vec::new();
    let most = ENVIRONMENT_BYTES; // a process may show all of its memory as one
    File::from(file).take(most).read_to_end(&mut text)?;
    if !text.is_empty() {
        return Ok(Some(text));
    }
    // Where an empty one ends is told, as field 51.
    let stat = procfs::read(&format!("{folder}/stat"))?;
    let end = fields(&stat).and_then(|fields| fields.get(48)?.parse::<u64>().ok());
    Ok(end.is_some_and(|end| end > 0).then(Vec::new))
}

/// Whether a process can write to this file, which is none that has a path.
pub(crate) fn has_open_for_writing(pid: i32, file: &Path) -> bool {
    look_at(pid, written_files).is_some_and(|files| files.iter().any(|one| *one == file))
}

fn written_files(pid: i32) -> Vec<OsString> {
    let numbers = procfs::numbers(&format!("{pid}/fd")).into_iter();
    let is_written = |number: &i32| {
        let about = procfs::read_text(&format!("{pid}/fdinfo/{number}")).unwrap_or_default();
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
    };
    let written = numbers.filter(is_written);
    let links = written.filter_map(|number| procfs::read_link(&format!("{pid}/fd/{number}")));
    links.collect()
}

/// Whether a process is of the namespace of processes that this one is in.
pub(crate) fn is_in_own_namespace(pid: i32) -> bool {
    let namespace = |pid| procfs::read_link(&format!("{pid}/ns/pid"));
    let own = procfs::read_link("self/ns/pid");
    own.is_some() && look_at(pid, namespace).flatten() == own
}

/// The tag of a process: its hard limit of real-time CPU time, and what is missing to
/// [`TAG_SUM`](child::TAG_SUM) its hard limit of file locks, which the kernel does not heed. Both
/// last through forks, programs and users; a process can lower a hard limit and not raise it, so
/// that it cannot have another tag.
pub(crate) fn tag(pid: i32) -> Tag {
    let found = hard_limits(&pid.to_string());
    if found == (None, None) || found == hard_limits("self") {
        return Tag::Untouched;
    }
    match found {
        (Some(time), Some(locks)) if time.checked_add(locks) == Some(child::TAG_SUM) => {
            Tag::Of(time)
        }
        _ => Tag::Forged,
    }
}

/// Hard limits of real-time CPU time and file locks; None: there is no limit.
fn hard_limits(pid: &str) -> (Option<u64>, Option<u64>) {
    let text = procfs::read_text(&format!("{pid}/limits")).unwrap_or_default();
    let hard = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    (hard("Max realtime timeout"), hard("Max file locks"))
}

/// Signals this very process: pinned first, then its start time compared.
pub(crate) fn signal_verified(who: &ProcessInfo, signal: i32) -> bool {
    let Some(pinned) = ProcessHandle::new(who.pid) else {
        return false;
    };
    let same = process(who.pid).is_some_and(|now| now.start_time == who.start_time);
    same && pinned.signal(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_environment_is_seen_as_one() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env_clear()
            .spawn()
            .expect("a child");
        let pid = child.id().cast_signed();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while has_variable(pid, |_| true).is_err() {
            assert!(std::time::Instant::now() < end, "it cannot be told");
        }
        // Of no variables there is one without a name.
        assert_eq!(has_variable(pid, |one| !one.is_empty()), Ok(false));
        child.kill().expect("our child");
        child.wait().expect("our child");
    }
}

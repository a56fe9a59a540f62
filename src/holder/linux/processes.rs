//! What /proc says about processes, and descriptors of processes.
//! Owns nothing. Reads at the moment it is asked.
//! Never signals by a number that may mean someone else by now.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{child, procfs};
use crate::clock::nanos;
use crate::fds::own_fd;
use crate::process::{ProcessInfo, Tag, printable};

/// Nanoseconds in a clock tick: user space sees 100 ticks a second on every Linux.
const TICK_NANOS: u64 = 10_000_000;

/// Flag of a thread of the kernel in `/proc/PID/stat`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// When a birth begins, for [`start_time_since`].
pub(crate) fn start_stamp() -> u64 {
    nanos(libc::CLOCK_BOOTTIME)
}

/// The start time of a process that was born since that moment: /proc is read only if the clock's
/// tick changed meanwhile.
pub(crate) fn start_time_since(pid: i32, since: u64) -> u64 {
    let tick = since / TICK_NANOS;
    let same = start_stamp() / TICK_NANOS == tick;
    let seen = if same { None } else { process(pid) };
    seen.map_or(tick, |seen| seen.start_time)
}

/// Reads one process; None when it is gone.
pub(crate) fn process(pid: i32) -> Option<ProcessInfo> {
    let text = procfs::read(&format!("{pid}/stat")).ok()?;
    parse(pid, &text)
}

fn parse(pid: i32, text: &[u8]) -> Option<ProcessInfo> {
    let fields = fields(text)?;
    let number = |place: usize| fields.get(place).and_then(|text| text.parse::<i32>().ok());
    // Of a process whose main thread has ended the kernel says Z too: its other threads go on.
    let has_ended = matches!(fields.first(), Some(&("Z" | "X")));
    let threads = fields.get(17)?.parse::<u64>().ok()?;
    Some(ProcessInfo {
        pid,
        zombie: has_ended && threads <= 1,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        start_time: fields.get(19)?.parse().ok()?,
        kernel: fields.get(6)?.parse::<u64>().ok()? & PF_KTHREAD != 0,
    })
}

/// The fields of `/proc/PID/stat` from the third on.
fn fields(text: &[u8]) -> Option<Vec<&str>> {
    // The name in brackets may contain anything, brackets too.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    Some(rest.split_ascii_whitespace().collect())
}

/// The name of the program of a process, empty if it has exited.
pub(crate) fn command_name(pid: i32) -> String {
    let name = procfs::read(&format!("{pid}/comm")).unwrap_or_default();
    printable(&name)
}

/// Every process that can be seen.
pub(crate) fn processes() -> Vec<ProcessInfo> {
    procfs::pids().into_iter().filter_map(process).collect()
}

/// Whether a variable of the process, as `NAME=VALUE`, is such; None: none can be seen just now.
pub(crate) fn has_variable(pid: i32, is: impl Fn(&[u8]) -> bool) -> Option<bool> {
    let folder = pid.to_string();
    let text = match environment(&folder) {
        // A main thread that has ended shows nothing: the others do.
        Ok(None) => {
            let threads = procfs::numbers(&format!("{pid}/task")).into_iter();
            let mut folders = threads.map(|thread| format!("{pid}/task/{thread}"));
            folders.find_map(|folder| environment(&folder).ok().flatten())?
        }
        Ok(Some(text)) => text,
        Err(_) => return Some(false),
    };
    Some(text.split(|byte| *byte == 0).any(is))
}

/// The environment of a thread; None: it has no memory, in its end or in the moment of an exec.
fn environment(folder: &str) -> io::Result<Option<Vec<u8>>> {
    let text = procfs::read(&format!("{folder}/environ"))?;
    if !text.is_empty() {
        return Ok(Some(text));
    }
    // Where an empty one ends is told, as field 51.
    let stat = procfs::read(&format!("{folder}/stat"))?;
    let end = fields(&stat).and_then(|fields| fields.get(48)?.parse::<u64>().ok());
    Ok(end.is_some_and(|end| end > 0).then(Vec::new))
}

/// Whether a process is of the namespace of processes that this one is in.
pub(crate) fn is_in_own_namespace(pid: i32) -> bool {
    let namespace = |pid: &str| procfs::read_link(&format!("{pid}/ns/pid"));
    let own = namespace("self");
    own.is_some() && namespace(&pid.to_string()) == own
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

/// Orphans (and whatever else the main thread of this process is the parent of).
pub(crate) fn orphans() -> Option<Vec<i32>> {
    let me = std::process::id();
    let text = procfs::read_text(&format!("{me}/task/{me}/children"))?;
    Some(
        text.split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect(),
    )
}

/// A process by descriptor: readable when it has ended, whoever its parent is.
#[derive(Debug)]
pub(crate) struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    #[expect(unsafe_code, reason = "the C library here has no pidfd_open")]
    pub(crate) fn new(pid: i32) -> Option<ProcessHandle> {
        // SAFETY: numbers only; the result is checked before it is owned.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let raw = i32::try_from(raw).ok().filter(|raw| *raw >= 0);
        raw.map(own_fd).map(ProcessHandle)
    }

    /// The process of this descriptor.
    pub(super) fn from_pidfd(pidfd: OwnedFd) -> ProcessHandle {
        ProcessHandle(pidfd)
    }

    /// False when it is gone.
    #[expect(unsafe_code, reason = "the C library here has no pidfd_send_signal")]
    pub(crate) fn signal(&self, signal: i32) -> bool {
        let none = std::ptr::null::<libc::siginfo_t>();
        let fd = self.0.as_raw_fd();
        // SAFETY: a valid descriptor, no siginfo, no flags.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) == 0 }
    }

    pub(crate) fn has_ended(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut one = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut one, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// How waitid finds it, without waiting.
    pub(crate) fn waitid_target(&self) -> Option<(libc::idtype_t, libc::id_t, libc::c_int)> {
        let number = self.0.as_raw_fd().unsigned_abs();
        Some((libc::P_PIDFD, number, libc::WNOHANG))
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
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
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = b"7 (a) S (b) R 1 2 3 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let seen = parse(7, text).expect("parsed");
        assert_eq!(
            (seen.parent, seen.group, seen.session, seen.start_time),
            (1, 2, 3, 4711)
        );
    }

    #[test]
    fn an_empty_environment_is_seen_as_one() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env_clear()
            .spawn()
            .expect("a child");
        let pid = child.id().cast_signed();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while has_variable(pid, |_| true).is_none() {
            assert!(std::time::Instant::now() < end, "it cannot be told");
        }
        // Of no variables there is one without a name.
        assert_eq!(has_variable(pid, |one| !one.is_empty()), Some(false));
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    #[test]
    fn a_process_without_its_main_thread_is_no_zombie() {
        let of = |threads: u32| {
            let text = format!("7 (a) Z 1 2 3 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0 0");
            parse(7, text.as_bytes()).expect("parsed").zombie
        };
        assert_eq!([of(0), of(1), of(2)], [true, true, false]);
    }
}

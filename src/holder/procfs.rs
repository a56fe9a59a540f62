//! What /proc says about processes, and signals to those whose identity was verified.
//! Owns nothing. Reads at the moment it is asked.
//! Never signals a process whose start time is not the expected one.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use crate::frame::own;

/// Nanoseconds in a clock tick: user space sees 100 ticks a second on every Linux.
pub(crate) const TICK_NANOS: u64 = 10_000_000;

/// A process as `/proc/PID/stat` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    pub(crate) start_time: u64,
    pub(crate) zombie: bool,
}

/// Reads one process; None when it is gone.
pub(crate) fn process(pid: i32) -> Option<Process> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &text)
}

fn parse(pid: i32, text: &[u8]) -> Option<Process> {
    // The name in brackets may contain anything, brackets too.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |place: usize| fields.get(place).and_then(|text| text.parse::<i32>().ok());
    Some(Process {
        pid,
        zombie: matches!(fields.first(), Some(&("Z" | "X"))),
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

/// Every process that can be seen.
pub(crate) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

/// Whether a variable of the process, as `NAME=VALUE`, is such.
pub(crate) fn has_variable(pid: i32, is: impl Fn(&[u8]) -> bool) -> bool {
    let text = fs::read(format!("/proc/{pid}/environ"));
    text.is_ok_and(|text| text.split(|byte| *byte == 0).any(is))
}

/// The v2 control group of a process (`/` is the root of our view).
pub(crate) fn group_of(pid: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

/// Orphans (and whatever else the main thread of this process is the parent of).
pub(crate) fn children_of_main_thread() -> Option<Vec<i32>> {
    let me = std::process::id();
    let text = fs::read_to_string(format!("/proc/{me}/task/{me}/children")).ok()?;
    Some(
        text.split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect(),
    )
}

/// A descriptor of a process.
#[expect(unsafe_code, reason = "the C library here has no pidfd_open")]
pub(crate) fn pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: numbers only; the result is checked before it is owned.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    i32::try_from(raw).ok().filter(|raw| *raw >= 0).map(own)
}

/// Signals a process, or with a minus a group, whose number cannot mean anyone else.
#[expect(unsafe_code, reason = "kill, with every signal number there is")]
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: numbers only.
    unsafe { libc::kill(pid, signal) };
}

/// Starts one of our threads: small, and it leaves all signals to the others.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let small = std::thread::Builder::new()
        .name(name.into())
        .stack_size(256 * 1024);
    let started = small.spawn(move || {
        crate::spawner::block_signals();
        work();
    });
    started.map(drop)
}

/// Signals by descriptor.
#[expect(unsafe_code, reason = "the C library here has no pidfd_send_signal")]
pub(crate) fn signal_by(pidfd: &OwnedFd, signal: i32) -> bool {
    let none = std::ptr::null::<libc::siginfo_t>();
    let fd = pidfd.as_raw_fd();
    // SAFETY: a valid descriptor, no siginfo, no flags.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) == 0 }
}

/// Whether the process of a descriptor has ended, whoever its parent is.
pub(crate) fn has_ended(pidfd: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut one = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut one, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Signals this very process: pinned first, then its start time compared.
pub(crate) fn signal_verified(who: &Process, signal: i32) -> bool {
    let Some(pidfd) = pidfd(who.pid) else {
        return false;
    };
    let same = process(who.pid).is_some_and(|now| now.start_time == who.start_time);
    same && signal_by(&pidfd, signal)
}

/// Nanoseconds on a clock.
#[expect(unsafe_code, reason = "clock_gettime with the boot clock")]
pub(crate) fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the answer; these clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Writes a file that the kernel gives, in one go.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| {
            use io::Write;
            file.write_all(text.as_bytes())
        })
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
    fn a_process_with_another_start_time_is_not_signalled() {
        let me = process(i32::try_from(std::process::id()).expect("a pid")).expect("we exist");
        assert!(signal_verified(&me, 0));
        let stranger = Process {
            start_time: me.start_time + 1,
            ..me
        };
        assert!(!signal_verified(&stranger, libc::SIGKILL));
    }
}

//! What /proc says about processes, and descriptors of processes.
//! Owns a process by descriptor ([`ProcessHandle`]); all else is read at the moment of the call.
//! Never signals by a number that another process may have by now.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::look::{look_at, look_at_all, may_go_on_to};
use super::procfs;
use crate::clock::nanos;
use crate::fds::own_fd;
use crate::process::ProcessInfo;

/// Nanoseconds in a clock tick: user space sees 100 ticks a second on every Linux.
const TICK_NANOS: u64 = 10_000_000;

/// Flag of a thread of the kernel in `/proc/PID/stat`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// When a start begins, for [`start_time_since`].
pub(crate) fn start_stamp() -> u64 {
    nanos(libc::CLOCK_BOOTTIME)
}

/// The start time of a process that was made since that moment: /proc is read only if the clock's
/// tick changed meanwhile.
pub(crate) fn start_time_since(pid: i32, since: u64) -> u64 {
    let tick = since / TICK_NANOS;
    let same = start_stamp() / TICK_NANOS == tick;
    let seen = if same { None } else { process(pid) };
    seen.map_or(tick, |seen| seen.start_time)
}

/// Reads one process; None when it is gone, or is not shown in time.
pub(crate) fn process(pid: i32) -> Option<ProcessInfo> {
    look_at(pid, read)?
}

/// Reads one process in a look that comes from another.
pub(crate) fn process_on_the_way(pid: i32) -> Option<ProcessInfo> {
    may_go_on_to(pid).then(|| read(pid))?
}

/// Every process that is shown in time.
pub(crate) fn processes() -> Vec<ProcessInfo> {
    let all = look_at_all(procfs::pids(), read);
    all.into_iter().flatten().collect()
}

fn read(pid: i32) -> Option<ProcessInfo> {
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
pub(super) fn fields(text: &[u8]) -> Option<Vec<&str>> {
    // The name in brackets may contain anything, brackets too.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    Some(rest.split_ascii_whitespace().collect())
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
pub(crate) struct ProcessHandle(pub(crate) OwnedFd);

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
    fn a_process_without_its_main_thread_is_no_zombie() {
        let of = |threads: u32| {
            let text = format!("7 (a) Z 1 2 3 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0 0");
            parse(7, text.as_bytes()).expect("parsed").zombie
        };
        assert_eq!([of(0), of(1), of(2)], [true, true, false]);
    }
}

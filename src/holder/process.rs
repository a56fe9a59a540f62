//! Processes by identity, and the few things every kernel does alike for them and our threads.
//! Owns nothing. Looks at the moment it is asked.
//! Never signals a process whose start time is not the expected one.

use std::io;
use std::time::Duration;

use crate::kernel;

/// A process as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessInfo {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// In the kernel's own unit: with the pid, the identity.
    pub(crate) start_time: u64,
    pub(crate) zombie: bool,
    /// A thread of the kernel, which has no program.
    pub(crate) kernel: bool,
}

/// Returns the start time of a process, in the unit of
/// [`crate::messages::InstanceInfo::start_time`]; none if it has exited.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    let seen = kernel::process(i32::try_from(pid).ok()?)?;
    (!seen.zombie).then_some(seen.start_time)
}

/// The processes above this one, nearest first, itself included: (pid, session).
#[must_use]
pub fn ancestry(pid: u32) -> Vec<(u32, u32)> {
    let mut line = Vec::new();
    let mut at = i32::try_from(pid).unwrap_or(0);
    while at > 0 && line.len() < 64 {
        let Some(seen) = kernel::process(at) else {
            break;
        };
        line.push((seen.pid.unsigned_abs(), seen.session.unsigned_abs()));
        at = seen.parent;
    }
    line
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

/// The time of the machines: that of the monotonic clock.
pub(crate) fn monotonic() -> Duration {
    Duration::from_nanos(nanos(libc::CLOCK_MONOTONIC))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_descend_from_ourselves() {
        let own = std::process::id();
        let line = ancestry(own);
        assert_eq!(line.first().map(|(pid, _)| *pid), Some(own));
        let parent = std::os::unix::process::parent_id();
        let above = line.get(1).map(|(pid, _)| *pid);
        assert_eq!(above, (parent > 0).then_some(parent), "{line:?}");
    }

    #[test]
    fn a_process_with_another_start_time_is_not_signalled() {
        let me = i32::try_from(std::process::id()).expect("a pid");
        let me = kernel::process(me).expect("we exist");
        assert!(kernel::signal_verified(&me, 0));
        let stranger = ProcessInfo {
            start_time: me.start_time + 1,
            ..me
        };
        assert!(!kernel::signal_verified(&stranger, libc::SIGKILL));
    }
}

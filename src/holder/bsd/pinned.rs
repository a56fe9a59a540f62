//! A process by a descriptor that becomes readable when it has ended, and signals to it.
//! Owns the kqueue that waits for that end; nobody else's children are waited for.
//! Never signals a process whose start time is not the expected one.
//!
//! Between the look and the signal another process could get the number; on these kernels nothing
//! can be done about that moment. A child that nobody has reaped keeps its number.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::kqueue::{change, kqueue};
use super::process;
use crate::process::{ProcessInfo, kill};
use crate::wait::{WaitResult, WaitTarget, wait_nohang};

/// A process.
#[derive(Debug)]
pub(crate) struct ProcessHandle {
    end: OwnedFd,
    pid: i32,
    start_time: Option<u64>,
}

impl ProcessHandle {
    pub(crate) fn new(pid: i32) -> Option<ProcessHandle> {
        let start = |seen: ProcessInfo| seen.start_time;
        let start_time = process(pid).map(start);
        let end = end_of(pid).ok()?;
        // Whose end is awaited is known only if the number did not change hands meanwhile.
        let same = process(pid).map(start) == start_time;
        same.then_some(ProcessHandle {
            end,
            pid,
            start_time,
        })
    }

    /// False when it is gone.
    pub(crate) fn signal(&self, signal: i32) -> bool {
        let seen = process(self.pid);
        let same = seen.is_some_and(|seen| Some(seen.start_time) == self.start_time);
        if same {
            kill(self.pid, signal);
        }
        same
    }

    pub(crate) fn has_ended(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut one = [PollFd::new(self.end.as_fd(), PollFlags::POLLIN)];
        poll(&mut one, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// How waitid finds it; None if its number is someone else's by now. Its end may be told a
    /// moment before its status can be had: that moment is waited for.
    pub(crate) fn waitid_target(&self) -> Option<(libc::idtype_t, libc::id_t, libc::c_int)> {
        let other = |seen: ProcessInfo| Some(seen.start_time) != self.start_time;
        if self.start_time.is_some() && process(self.pid).is_some_and(other) {
            return None;
        }
        let how = if self.has_ended() { 0 } else { libc::WNOHANG };
        Some((libc::P_PID, self.pid as libc::id_t, how))
    }
}

/// What becomes readable when the process has ended.
fn end_of(pid: i32) -> io::Result<OwnedFd> {
    let end = kqueue()?;
    let what = (pid.unsigned_abs() as usize, libc::EVFILT_PROC);
    match change(&end, what, (libc::EV_ADD, libc::NOTE_EXIT), 0) {
        Ok(()) => Ok(end),
        // It has ended already and is not reaped: the end of a pipe without a writer says so.
        Err(Errno::ESRCH) if is_zombie(pid) => Ok(io::pipe()?.0.into()),
        Err(errno) => Err(errno.into()),
    }
}

fn is_zombie(pid: i32) -> bool {
    let seen = process(pid).is_some_and(|seen| seen.zombie);
    seen || matches!(
        wait_nohang(WaitTarget::Pid(pid), false),
        WaitResult::Ended(_)
    )
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// Signals this very process, after one more look.
pub(crate) fn signal_verified(who: &ProcessInfo, signal: i32) -> bool {
    let same = process(who.pid).is_some_and(|now| now.start_time == who.start_time);
    if same {
        kill(who.pid, signal);
    }
    same
}

//! A pipe whose writing end only the holder and its children before their exec have: once it hangs
//! up, no start of a holder that has died is between its fork and its exec.
//! Never kills a process after its exec: that has its mark.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::kernel;
use crate::workers::sweep::own_ancestors;

/// How long an exec usually takes, at most: processes are read only after it.
const EXEC_TIME: Duration = Duration::from_millis(20);
/// How long those that were killed may take to be gone: one whose exec waits for a file system ends
/// when that answers, and never gets to its program.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Both ends.
#[derive(Debug)]
pub(crate) struct ExecBarrier {
    pub(crate) read: OwnedFd,
    pub(crate) write: OwnedFd,
}

impl ExecBarrier {
    pub(crate) fn new() -> io::Result<ExecBarrier> {
        let (read, write) = io::pipe()?;
        let (read, write) = (read.into(), write.into());
        Ok(ExecBarrier { read, write })
    }

    /// The same pipe, of which an earlier holder had the writing end.
    pub(crate) fn reopen(read: OwnedFd) -> io::Result<ExecBarrier> {
        let path = format!("/proc/self/fd/{}", read.as_raw_fd());
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let write = open(path.as_str(), flags, Mode::empty())?;
        Ok(ExecBarrier { read, write })
    }
}

/// Ends the children of a holder that has died which have not executed their program.
pub(super) fn end_unexecuted(read: &OwnedFd) {
    let end = Instant::now() + GONE_WITHIN;
    while !hangs_up(read, EXEC_TIME) && Instant::now() < end {
        let Ok(pipe) = std::fs::read_link(format!("/proc/self/fd/{}", read.as_raw_fd())) else {
            return;
        };
        let spared = own_ancestors();
        for one in kernel::processes() {
            let may_be = !one.zombie && !one.kernel && !spared.contains(&one.pid);
            if may_be && kernel::has_open_for_writing(one.pid, &pipe) {
                kernel::signal_verified(&one, libc::SIGKILL);
            }
        }
    }
}

fn hangs_up(read: &OwnedFd, within: Duration) -> bool {
    let mut one = [PollFd::new(read.as_fd(), PollFlags::empty())];
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut one, timeout); // an interruption is no end
    one[0]
        .revents()
        .is_some_and(|seen| seen.contains(PollFlags::POLLHUP))
}

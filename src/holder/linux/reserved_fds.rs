//! Low descriptor numbers for the ends a child gets, so that it copies a short table.
//! Owns three numbers a spawner thread, kept taken for its life.
//! Never lends one number to two starts at once.
//!
//! A child that copies the holder's whole table pays for every descriptor of every module, at its
//! fork and again at its exec. One that shares the table and leaves it with `close_range` copies
//! what lies below the given number only.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};

use crate::fds::own_fd;

/// The numbers.
#[derive(Debug)]
pub(crate) struct ReservedFds {
    stdin: OwnedFd,
    stdout: OwnedFd,
    ready: OwnedFd,
    /// Lent to each start.
    barrier: Option<OwnedFd>,
}

impl ReservedFds {
    /// Takes the lowest numbers that are free; None where a table cannot be left.
    pub(crate) fn take(
        dev_null: BorrowedFd<'_>,
        barrier: Option<BorrowedFd<'_>>,
    ) -> Option<ReservedFds> {
        if !can_unshare_fds() {
            return None;
        }
        let copy_of = |fd| fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(4)).ok().map(own_fd);
        let copy = || copy_of(dev_null);
        let barrier = match barrier {
            Some(fd) => Some(copy_of(fd)?),
            None => None,
        };
        Some(ReservedFds {
            stdin: copy()?,
            stdout: copy()?,
            ready: copy()?,
            barrier,
        })
    }

    /// What stdin, stdout and the readiness pipe are called below.
    pub(crate) fn numbers(&self) -> (RawFd, RawFd, RawFd) {
        let ReservedFds {
            stdin,
            stdout,
            ready,
            ..
        } = self;
        (stdin.as_raw_fd(), stdout.as_raw_fd(), ready.as_raw_fd())
    }

    /// What is open in a child until its exec, or -1.
    pub(crate) fn barrier(&self) -> RawFd {
        self.barrier.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// The first number a child can do without.
    pub(crate) fn above(&self) -> u32 {
        let (stdin, stdout, ready) = self.numbers();
        let highest = stdin.max(stdout).max(ready).max(self.barrier());
        highest.unsigned_abs() + 1
    }

    /// Puts these on the numbers, until `clear`.
    pub(crate) fn install(&self, stdout: RawFd, ready: Option<RawFd>) -> Result<(), i32> {
        copy(stdout, self.stdout.as_raw_fd())?;
        ready.map_or(Ok(()), |ready| copy(ready, self.ready.as_raw_fd()))
    }

    /// The numbers stay taken, what they meant is let go of.
    pub(crate) fn clear(&self) {
        let nothing = self.stdin.as_raw_fd();
        for number in [self.stdout.as_raw_fd(), self.ready.as_raw_fd()] {
            let _ = copy(nothing, number); // both are open, so there is room for it
        }
    }
}

/// Whether this kernel lets a child leave a shared table: the call and its flag came together.
#[expect(unsafe_code, reason = "close_range")]
fn can_unshare_fds() -> bool {
    // SAFETY: no descriptor has this number, so nothing is closed.
    unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) == 0 }
}

#[expect(unsafe_code, reason = "dup3")]
pub(super) fn copy(from: RawFd, to: RawFd) -> Result<(), i32> {
    // SAFETY: numbers; `to` is ours alone.
    if unsafe { libc::dup3(from, to, libc::O_CLOEXEC) } < 0 {
        return Err(nix::errno::Errno::last_raw());
    }
    Ok(())
}

//! Descriptors that the next program finds under the same number.
//! Owns which they are; what they mean stands in the state.
//! Never closes one on the loop: some came from modules.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::{Deserialize, Serialize};

use crate::fds::own_fd;
use crate::workers::foreign_fd::Closer;

/// Where the numbers of duplicates begin: a child copies the numbers below those of its own ends.
const FIRST: RawFd = 100;

/// The number of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct KeptFd(RawFd);

impl KeptFd {
    pub(super) fn new(raw: RawFd) -> KeptFd {
        KeptFd(raw)
    }

    /// A duplicate: the number itself stays as it is, for the program before.
    pub(super) fn take(self) -> io::Result<OwnedFd> {
        let raw = fcntl(borrow(self.0), FcntlArg::F_DUPFD_CLOEXEC(FIRST))?;
        Ok(own_fd(raw))
    }

    /// Itself, if it is open.
    pub(super) fn own(self) -> io::Result<OwnedFd> {
        fcntl(borrow(self.0), FcntlArg::F_GETFD)?;
        Ok(own_fd(self.0))
    }

    pub(super) fn raw(self) -> RawFd {
        self.0
    }
}

/// All of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct KeptFds(Vec<RawFd>);

impl KeptFds {
    pub(super) fn keep(&mut self, fd: &impl AsRawFd) -> KeptFd {
        self.0.push(fd.as_raw_fd());
        KeptFd(fd.as_raw_fd())
    }

    /// Whether a program that is executed has them.
    pub(super) fn pass_on(&self, on: bool) -> io::Result<()> {
        let flags = if on {
            FdFlag::empty()
        } else {
            FdFlag::FD_CLOEXEC
        };
        for raw in &self.0 {
            fcntl(borrow(*raw), FcntlArg::F_SETFD(flags))?;
        }
        Ok(())
    }

    /// Closes them: whatever they mean is open under other numbers. No child gets one before.
    pub(super) fn close(mut self) {
        let _ = self.pass_on(false); // all are open: duplicates were made
        self.0.sort_unstable();
        self.0.dedup();
        let closer = Arc::<Closer>::default();
        self.0.into_iter().for_each(|raw| closer.close(own_fd(raw)));
    }
}

#[expect(unsafe_code, reason = "numbers that stand in the state")]
fn borrow<'a>(raw: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the number is passed to fcntl alone, which refuses one that is not open; -1, which
    // may not be borrowed, is never kept.
    unsafe { BorrowedFd::borrow_raw(raw.max(0)) }
}

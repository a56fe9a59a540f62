//! Descriptors that the next program finds under the same number.
//! Owns which they are; what they mean stands in the state.
//! Never closes one on the loop: some came from modules.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::fds::own_fd;
use crate::workers::foreign_fd::Closer;

/// Where the numbers of duplicates begin: a child copies the numbers below those of its own ends.
const FIRST: RawFd = 100;

/// The number of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct KeptFd(RawFd);

thread_local! {
    /// The numbers of the descriptors that came with the record that is being read: there each
    /// stands by its place among them.
    static PASSED: RefCell<Option<Vec<RawFd>>> = const { RefCell::new(None) };
}

/// Reads a record, each descriptor of which stands by its place among these.
pub(crate) fn with_passed<R>(passed: Vec<RawFd>, read: impl FnOnce() -> R) -> R {
    PASSED.set(Some(passed));
    let result = read();
    PASSED.set(None);
    result
}

impl<'de> Deserialize<'de> for KeptFd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeptFd, D::Error> {
        let number = RawFd::deserialize(deserializer)?;
        let missing = || D::Error::custom("a descriptor is missing");
        PASSED.with_borrow(|passed| match passed {
            None => Ok(KeptFd(number)),
            Some(passed) => {
                let place = usize::try_from(number).ok();
                let raw = place.and_then(|place| passed.get(place).copied());
                raw.map(KeptFd).ok_or_else(missing)
            }
        })
    }
}

impl KeptFd {
    pub(crate) fn new(raw: RawFd) -> KeptFd {
        KeptFd(raw)
    }

    /// A duplicate: the number itself stays as it is, for the program before.
    pub(crate) fn take(self) -> io::Result<OwnedFd> {
        let raw = fcntl(borrow(self.0), FcntlArg::F_DUPFD_CLOEXEC(FIRST))?;
        Ok(own_fd(raw))
    }

    /// Itself, if it is open.
    pub(crate) fn own(self) -> io::Result<OwnedFd> {
        fcntl(borrow(self.0), FcntlArg::F_GETFD)?;
        Ok(own_fd(self.0))
    }

    pub(crate) fn raw(self) -> RawFd {
        self.0
    }
}

/// All of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct KeptFds(Vec<RawFd>, #[serde(skip)] bool);

impl KeptFds {
    /// Descriptors that are passed to another process: each is named by its place.
    pub(crate) fn by_place() -> KeptFds {
        KeptFds(Vec::new(), true)
    }

    /// Descriptors that came from another process, under these numbers.
    pub(crate) fn received(raw: Vec<RawFd>) -> KeptFds {
        KeptFds(raw, false)
    }

    pub(crate) fn keep(&mut self, fd: &impl AsRawFd) -> KeptFd {
        self.0.push(fd.as_raw_fd());
        let place = RawFd::try_from(self.0.len() - 1).unwrap_or(-1);
        KeptFd(if self.1 { place } else { fd.as_raw_fd() })
    }

    pub(crate) fn raw(&self) -> &[RawFd] {
        &self.0
    }

    /// Whether a program that is executed has them.
    pub(crate) fn pass_on(&self, on: bool) -> io::Result<()> {
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
    pub(crate) fn close(mut self) {
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

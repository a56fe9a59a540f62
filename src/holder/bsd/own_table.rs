//! Threads that on Linux have a table of descriptors of their own: here all threads share one.
//! Never differs in its names from what Linux has.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::threads::thread;

/// Starts a thread; the table stays shared.
pub(crate) fn thread_with_own_table(
    name: &str,
    _keep_standard: bool,
    fd: OwnedFd,
    work: impl FnOnce(OwnedFd) + Send + 'static,
) -> io::Result<()> {
    thread(name, move || work(fd))
}

/// Runs work where it is called.
#[derive(Debug)]
pub(crate) struct TableThread;

impl TableThread {
    pub(crate) fn start(_: &str, _: bool) -> io::Result<TableThread> {
        Ok(TableThread)
    }

    /// Runs `work` with copies of these descriptors and returns its result.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        fds: &[BorrowedFd<'_>],
        work: impl FnOnce(&mut Vec<OwnedFd>) -> R + Send + 'static,
    ) -> io::Result<R> {
        let copies: io::Result<Vec<OwnedFd>> =
            fds.iter().map(BorrowedFd::try_clone_to_owned).collect();
        Ok(work(&mut copies?))
    }

    /// Everything is closed already.
    pub(crate) fn wait_until_idle(&self) {}
}

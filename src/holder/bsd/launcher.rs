//! Starts by fork alone.
//! Never lends a descriptor number: there is no table that could be shared and left.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::AtomicI32;

use crate::spawn::exec_spec::ExecSpec;
use crate::spawn::fork::{self, with_signals_blocked};

/// Makes processes, one at a time.
#[derive(Debug)]
pub(crate) struct ProcessLauncher;

impl ProcessLauncher {
    pub(crate) fn new(_plain: bool) -> ProcessLauncher {
        ProcessLauncher
    }

    /// Starts what the spec says; see `linux`.
    ///
    /// # Errors
    /// The errno of the fork.
    pub(crate) fn spawn(
        &mut self,
        spec: &ExecSpec,
        _group: Option<BorrowedFd<'_>>,
        child_pid: &AtomicI32,
    ) -> Result<i32, i32> {
        with_signals_blocked(|| fork::fork_and_exec(spec, child_pid))
    }

    /// Its children copy the one table there is.
    pub(crate) fn forks(&self) -> bool {
        true
    }

    /// There are no groups.
    pub(crate) fn needs_procs(&self, _: bool) -> bool {
        false
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) enum ReservedFds {}

impl ReservedFds {
    pub(crate) fn take(_: BorrowedFd<'_>, _: Option<BorrowedFd<'_>>) -> Option<ReservedFds> {
        None
    }

    pub(crate) fn numbers(&self) -> (RawFd, RawFd, RawFd) {
        match *self {}
    }

    pub(crate) fn barrier(&self) -> RawFd {
        match *self {}
    }

    pub(crate) fn above(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn install(&self, _: RawFd, _: Option<RawFd>) -> Result<(), i32> {
        match *self {}
    }

    pub(crate) fn clear(&self) {
        match *self {}
    }
}

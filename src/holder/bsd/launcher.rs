//! Births by fork alone.
//! Owns nothing.
//! Never lends a descriptor number: there is no table that could be shared and left.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::AtomicI32;

use super::ProcessHandle;
use crate::spawn::exec_spec::ExecSpec;
use crate::spawn::fork::{self, with_signals_blocked};

/// Makes processes, one at a time; one per spawner thread.
#[derive(Debug)]
pub(crate) struct ProcessLauncher {
    pins: bool,
    pub(crate) low: Option<ReservedFds>,
}

/// A process that was born.
#[derive(Debug)]
pub(crate) struct SpawnedChild {
    pub(crate) pid: i32,
    pub(crate) pinned: Option<ProcessHandle>,
}

impl ProcessLauncher {
    /// `pins` asks for a pin of every child.
    pub(crate) fn new(_plain: bool, pins: bool) -> ProcessLauncher {
        ProcessLauncher { pins, low: None }
    }

    /// Starts what `orders` say; see `linux`.
    ///
    /// # Errors
    /// The errno of the fork.
    pub(crate) fn spawn(
        &mut self,
        orders: &ExecSpec,
        _group: Option<BorrowedFd<'_>>,
        newborn: &AtomicI32,
    ) -> Result<SpawnedChild, i32> {
        let pid = with_signals_blocked(|| fork::fork_and_exec(orders, newborn))?;
        // Our own child that nobody has reaped: the number cannot mean anyone else.
        let pinned = if self.pins {
            ProcessHandle::new(pid)
        } else {
            None
        };
        Ok(SpawnedChild { pid, pinned })
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
    pub(crate) fn take(_: BorrowedFd<'_>) -> Option<ReservedFds> {
        None
    }

    pub(crate) fn numbers(&self) -> (RawFd, RawFd, RawFd) {
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

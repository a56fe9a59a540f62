//! Births by fork alone.
//! Owns nothing.
//! Never lends a descriptor number: there is no table that could be shared and left.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::AtomicI32;

use super::Pinned;
use crate::child::Orders;
use crate::fork::{self, masked};

/// Makes processes, one at a time; one per spawner thread.
#[derive(Debug)]
pub(crate) struct Cradle {
    pins: bool,
    pub(crate) low: Option<Low>,
}

/// A process that was born.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) pid: i32,
    pub(crate) pinned: Option<Pinned>,
}

impl Cradle {
    /// `pins` asks for a pin of every child.
    pub(crate) fn new(_plain: bool, pins: bool) -> Cradle {
        Cradle { pins, low: None }
    }

    /// Starts what `orders` say; see `linux`.
    ///
    /// # Errors
    /// The errno of the fork.
    pub(crate) fn bear(
        &mut self,
        orders: &Orders,
        _group: Option<BorrowedFd<'_>>,
        newborn: &AtomicI32,
    ) -> Result<Born, i32> {
        let pid = masked(|| fork::bear(orders, newborn))?;
        // Our own child that nobody has reaped: the number cannot mean anyone else.
        let pinned = if self.pins { Pinned::new(pid) } else { None };
        Ok(Born { pid, pinned })
    }

    /// There are no groups.
    pub(crate) fn needs_procs(&self, _: bool) -> bool {
        false
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Low {}

impl Low {
    pub(crate) fn take(_: BorrowedFd<'_>) -> Option<Low> {
        None
    }

    pub(crate) fn numbers(&self) -> (RawFd, RawFd, RawFd) {
        match *self {}
    }

    pub(crate) fn above(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn put(&self, _: RawFd, _: Option<RawFd>) -> Result<(), i32> {
        match *self {}
    }

    pub(crate) fn clear(&self) {
        match *self {}
    }
}

//! Which instances of the thread of sd_notify are to be sent to the runtime, for a successor.
//! Owns the socket. Never waits: what finds no room is sent later.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

/// What is to be sent, and where.
#[derive(Debug, Default)]
pub(crate) struct NotifyMirror {
    /// None: nobody wants it.
    pub(crate) socket: Option<OwnedFd>,
    due: RefCell<BTreeSet<u32>>,
}

impl NotifyMirror {
    pub(crate) fn changed(&self, id: Option<u32>) {
        if self.socket.is_some() {
            self.due.borrow_mut().extend(id);
        }
    }

    pub(crate) fn stored(&self, id: u32) {
        self.changed(Some(id));
    }

    pub(crate) fn take(&self) -> BTreeSet<u32> {
        std::mem::take(&mut self.due.borrow_mut())
    }

    pub(crate) fn is_due(&self) -> bool {
        !self.due.borrow().is_empty()
    }
}

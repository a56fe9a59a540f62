//! Notices that a directory was removed, renamed or emptied, or one above it: kqueue on each.
//! Owns the queue, which becomes readable then, and the open directories.
//! Never says what happened: its owner checks what is in place.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::kqueue::{change, drain, kqueue};

/// Watched directories.
#[derive(Debug)]
pub(crate) struct DirWatch {
    queue: OwnedFd,
    open: Mutex<Vec<File>>,
}

impl DirWatch {
    pub(crate) fn new() -> io::Result<DirWatch> {
        let open = Mutex::default();
        Ok(DirWatch {
            queue: kqueue()?,
            open,
        })
    }

    /// Watches this directory, its entries and the directories above it. What cannot be opened is
    /// left out.
    pub(crate) fn add(&self, path: &Path) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = libc::NOTE_DELETE | libc::NOTE_RENAME | libc::NOTE_REVOKE;
        for each in path.ancestors() {
            let Ok(folder) = File::open(each) else {
                continue;
            };
            // Creations in it are told with deletions: the check finds nothing to do.
            let entries = if each == path { libc::NOTE_WRITE } else { 0 };
            let ident = folder.as_raw_fd().unsigned_abs() as usize;
            let flags = (libc::EV_ADD | libc::EV_CLEAR, gone | entries);
            if change(&self.queue, (ident, libc::EVFILT_VNODE), flags, 0).is_ok() {
                open.push(folder);
            }
        }
    }

    /// Empties the descriptor.
    pub(crate) fn clear(&self) {
        drain(&self.queue);
    }
}

impl AsFd for DirWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

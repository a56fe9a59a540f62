//! Descriptors that a module or a stranger passed on: their last close may take for ever.
//! Owns the threads that close them: at most one of a closer, started when there is work.
//! Never closes one on the thread that drops it.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::threads::{lock, thread};

/// Descriptors of all closers that are not closed yet, those of closers that were dropped
/// included: an exec of this process would wait for the threads that close them.
static CLOSING: AtomicUsize = AtomicUsize::new(0);

/// Whether a descriptor that came from outside is being closed.
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only a holder that executes another asks")
)]
pub(crate) fn is_closing() -> bool {
    CLOSING.load(Ordering::Acquire) > 0
}

/// Closes descriptors on a thread of its own, which may hang in one of them: a socket that lingers,
/// a file of a server that does not answer. Those of other closers do not wait for it.
#[derive(Debug, Default)]
pub struct Closer(Mutex<Closing>);

#[derive(Debug, Default)]
struct Closing {
    waiting: Vec<OwnedFd>,
    /// A thread takes from `waiting`.
    running: bool,
    /// Those that wait, and the one that is being closed.
    count: usize,
}

impl Closer {
    /// How many of its descriptors are not closed yet.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.0).count
    }

    /// Closes a descriptor in the background.
    pub fn close(self: &Arc<Self>, fd: OwnedFd) {
        CLOSING.fetch_add(1, Ordering::AcqRel);
        let mut closing = lock(&self.0);
        closing.waiting.push(fd);
        closing.count += 1;
        if !closing.running {
            let closer = Arc::clone(self);
            // Without a thread it waits for the next close.
            closing.running = thread("close", move || closer.run()).is_ok();
        }
    }

    fn run(&self) {
        loop {
            let next = {
                let mut closing = lock(&self.0);
                let next = closing.waiting.pop();
                closing.running = next.is_some();
                next
            };
            let Some(fd) = next else {
                return;
            };
            drop(fd);
            lock(&self.0).count -= 1;
            CLOSING.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A descriptor that came from outside; dropped, it is closed by its closer.
#[derive(Debug)]
pub(crate) struct ForeignFd {
    fd: ManuallyDrop<OwnedFd>,
    closer: Arc<Closer>,
}

impl ForeignFd {
    pub(crate) fn new(fd: OwnedFd, closer: &Arc<Closer>) -> ForeignFd {
        ForeignFd {
            fd: ManuallyDrop::new(fd),
            closer: Arc::clone(closer),
        }
    }

    /// Has it closed by another closer.
    pub(crate) fn move_to(&mut self, closer: &Arc<Closer>) {
        self.closer = Arc::clone(closer);
    }
}

impl AsFd for ForeignFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for ForeignFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for ForeignFd {
    #[expect(
        unsafe_code,
        reason = "moves the descriptor out of a value that is dropped"
    )]
    fn drop(&mut self) {
        // SAFETY: taken once, here: nothing of `self` is used afterwards.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        self.closer.close(fd);
    }
}

/// A descriptor with its name, shared with the spawn it is passed to: a socket of the
/// configuration, which the runtime bound.
pub(crate) type NamedFd = (String, Arc<ForeignFd>);

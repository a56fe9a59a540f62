//! Threads of the holder, and the locks they share with its loop.
//! Never waits for a thread.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

/// Starts a thread with a small stack; it leaves all signals to the loop.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let small = std::thread::Builder::new()
        .name(name.into())
        .stack_size(256 * 1024);
    let started = small.spawn(move || {
        block_signals();
        work();
    });
    started.map(drop)
}

/// Leaves all signals to other threads.
pub(crate) fn block_signals() {
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
}

/// Locks in spite of a panic elsewhere: each state behind a lock of the holder is valid at any
/// time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

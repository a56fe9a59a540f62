//! Threads of the holder, and the locks they share with its loop.
//! Never waits for a thread.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// Starts a thread with a small stack.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let small = Builder::new().name(name.into()).stack_size(256 * 1024);
    small.spawn(work).map(drop)
}

/// Locks in spite of a panic elsewhere: each state behind a lock of the holder is valid at any
/// time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

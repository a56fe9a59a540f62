//! Threads of the holder.
//! Owns their size.
//! Never waits for one.

use std::io;
use std::thread::Builder;

/// A thread that nobody waits for.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let small = Builder::new().name(name.into()).stack_size(256 * 1024);
    small.spawn(work).map(drop)
}

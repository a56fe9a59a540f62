//! Births by fork, with an error pipe: every Unix, and Linux where clone3 is refused.
//! Owns the pipe that tells when the child has executed or ended.
//! Never allocates in the child.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::child::{Orders, become_it};

/// Means: a child exists whose number is not known yet.
pub(crate) const UNKNOWN: i32 = -1;

/// Forks, and waits until the child has executed or ended.
///
/// # Errors
/// The errno of pipe or fork.
#[expect(unsafe_code, reason = "fork")]
pub(crate) fn bear(orders: &Orders, newborn: &AtomicI32) -> Result<i32, i32> {
    let errno = |problem: std::io::Error| problem.raw_os_error().unwrap_or(libc::EIO);
    let (mut done, held) = std::io::pipe().map_err(errno)?;
    newborn.store(UNKNOWN, Ordering::SeqCst);
    // SAFETY: the child only runs `become_it`, which is async-signal-safe. `held` is
    // close-on-exec, so the exec or the exit closes the child's copy.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::close(done.as_raw_fd());
            become_it(std::ptr::from_ref(orders));
        }
        pid
    };
    if pid < 0 {
        let failed = errno(std::io::Error::last_os_error());
        newborn.store(0, Ordering::SeqCst);
        return Err(failed);
    }
    newborn.store(pid, Ordering::SeqCst);
    drop(held);
    let _ = done.read(&mut [0]); // the end of the pipe is the news
    Ok(pid)
}

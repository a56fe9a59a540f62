//! Starts by fork, with an error pipe: every Unix, and Linux where clone3 is refused.
//! Owns the pipe that tells when the child has executed or ended.
//! Never allocates in the child.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use crate::spawn::child::exec_child;
use crate::spawn::exec_spec::ExecSpec;
use crate::threads::lock;

/// Means: a child exists whose number is not known yet.
pub(crate) const UNKNOWN: i32 = -1;

/// A child that is forked while another's pipe is open for writing has a copy of that end until its
/// own exec, which may hang: the other start would seem to hang with it.
static FORKING: Mutex<()> = Mutex::new(());

/// Does it with all signals blocked: none may run a handler of ours in a child.
///
/// # Errors
/// Those of `work`.
pub(crate) fn with_signals_blocked<T>(work: impl FnOnce() -> Result<T, i32>) -> Result<T, i32> {
    let all = SigSet::all();
    let mut before = SigSet::empty();
    let masked = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before));
    masked.map_err(|errno| errno as i32)?;
    let done = work();
    // The same mask that was read a moment ago: this cannot fail.
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    done
}

/// Forks, and waits until the child has executed or ended.
///
/// # Errors
/// The errno of pipe or fork.
#[expect(unsafe_code, reason = "fork")]
pub(crate) fn fork_and_exec(spec: &ExecSpec, child_pid: &AtomicI32) -> Result<i32, i32> {
    let errno = |problem: std::io::Error| problem.raw_os_error().unwrap_or(libc::EIO);
    let alone = lock(&FORKING);
    let (mut done, held) = std::io::pipe().map_err(errno)?;
    child_pid.store(UNKNOWN, Ordering::SeqCst);
    // SAFETY: the child only runs `exec_child`, which is async-signal-safe. `held` is
    // close-on-exec, so the exec or the exit closes the child's copy.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::close(done.as_raw_fd());
            exec_child(std::ptr::from_ref(spec));
        }
        pid
    };
    if pid < 0 {
        let failed = errno(std::io::Error::last_os_error());
        child_pid.store(0, Ordering::SeqCst);
        return Err(failed);
    }
    child_pid.store(pid, Ordering::SeqCst);
    drop((held, alone));
    let _ = done.read(&mut [0]); // the end of the pipe is the news
    Ok(pid)
}

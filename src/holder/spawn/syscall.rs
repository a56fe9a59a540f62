//! Plain system calls and their errors, for a child before its exec too.
//! Never allocates or locks.

use std::ffi::c_int;

pub(crate) fn errno() -> i32 {
    nix::errno::Errno::last_raw()
}

pub(crate) fn check(result: impl Into<i64>) -> Result<i64, i32> {
    let result = result.into();
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// The same one by one, where the kernel cannot do it at once.
#[expect(unsafe_code, reason = "getrlimit, fcntl")]
pub(crate) fn close_one_by_one(first: u32, last: u32) -> Result<(), i32> {
    // SAFETY: numbers only, and a place for the answer.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        let end = (limit.rlim_cur.min(65_536) as u32).min(last.saturating_add(1));
        for fd in first..end {
            libc::fcntl(fd as c_int, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    Ok(())
}

//! What a new process asks of Linux between its birth and its exec.
//! Owns nothing.
//! Never allocates or locks: only plain system calls.

use std::ffi::c_int;

use crate::syscall::{check, close_one_by_one};
use mainstay_process::{Credentials, StartStep};

/// The highest signal there is.
pub(crate) const SIGNALS: c_int = 64;

/// The raw call: the C library's refuses the two signals it keeps for itself, which may have
/// been inherited as ignored.
#[expect(unsafe_code, reason = "rt_sigaction")]
pub(crate) fn reset_disposition(signal: c_int) {
    let action = [0u64; 4];
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: 32 zero bytes are the kernel's SIG_DFL; its signal sets have 8 bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), none, 8) };
}

#[expect(unsafe_code, reason = "prctl")]
pub(crate) fn no_new_privileges() -> Result<(), i32> {
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Ends this process with its parent. The thread that started us lasts as long as its process.
#[expect(unsafe_code, reason = "prctl, getppid")]
pub(crate) fn die_with(parent: c_int) -> Result<(), i32> {
    // SAFETY: numbers only.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        // It may have died before we asked.
        if libc::getppid() == parent {
            Ok(())
        } else {
            Err(libc::ESRCH)
        }
    }
}

/// Marks descriptors to be closed by the exec.
#[expect(unsafe_code, reason = "close_range")]
pub(crate) fn close_from(first: u32, last: u32) -> Result<(), i32> {
    // SAFETY: numbers only.
    unsafe {
        let flag = libc::CLOSE_RANGE_CLOEXEC;
        if libc::syscall(libc::SYS_close_range, first, last, flag) == 0 {
            return Ok(());
        }
    }
    close_one_by_one(first, last)
}

/// Raw calls: the C library's would tell every thread of the parent to follow.
#[expect(unsafe_code, reason = "setgroups, setgid, setuid")]
pub(crate) fn become_user(who: &Credentials) -> Result<(), (StartStep, i32)> {
    // SAFETY: the list lives in the orders; the rest are numbers.
    let (groups, group, user) = unsafe {
        let call = |number, value: u32| check(libc::syscall(number, value, value, value));
        let list = who.groups.as_ptr();
        let groups = check(libc::syscall(libc::SYS_setgroups, who.groups.len(), list));
        (
            groups,
            call(libc::SYS_setresgid, who.gid),
            call(libc::SYS_setresuid, who.uid),
        )
    };
    groups
        .and(group)
        .map_err(|errno| (StartStep::Group, errno))?;
    user.map(drop).map_err(|errno| (StartStep::User, errno))
}

/// Tags this process and what it will start; see [`tag`](super::tag).
#[expect(unsafe_code, reason = "getrlimit, setrlimit")]
pub(crate) fn set_tag(tag: u64) {
    if tag == 0 {
        return;
    }
    // SAFETY: a zeroed limit that the first call fills. Without a tag its mark has to do.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_RTTIME, &raw mut limit) == 0 {
            limit.rlim_cur = tag;
            libc::setrlimit(libc::RLIMIT_RTTIME, &raw const limit);
        }
    }
}

/// Writes this process's `oom_score_adj`.
#[expect(unsafe_code, reason = "open, write, close")]
pub(crate) fn set_oom_score_adj(score: i32) -> Result<(), i32> {
    let mut text = [0_u8; 11];
    let mut at = text.len();
    let mut rest = score.unsigned_abs();
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if score < 0 {
        at -= 1;
        text[at] = b'-';
    }
    let text = &text[at..];
    // SAFETY: a NUL-terminated path, and bytes on this stack.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        let file = check(libc::open(c"/proc/self/oom_score_adj".as_ptr(), flags))? as c_int;
        let written = check(libc::write(file, text.as_ptr().cast(), text.len()) as i64);
        libc::close(file);
        written.map(drop)
    }
}

//! What a new process asks of these kernels between its fork and its exec.
//! Never allocates or locks: only plain system calls.

use std::ffi::c_int;
use std::ptr::null_mut;

use super::system::GROUPS_MOST;
pub(crate) use super::system::{SIGNALS, die_with, no_new_privileges};
use crate::spawn::exec_spec::ExecSpec;
use crate::spawn::syscall::{check, close_one_by_one};
use mainstay_process::{CpuSet, Credentials, StartStep};

/// Those that the C library keeps for itself, and those that cannot be changed, only fail.
#[expect(unsafe_code, reason = "sigaction")]
pub(crate) fn reset_disposition(signal: c_int) {
    // SAFETY: all zero is SIG_DFL with an empty mask; no handler is installed.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &raw const action, null_mut());
    }
}

/// Marks descriptors to be closed by the exec.
pub(crate) fn close_from(first: u32, last: u32) -> Result<(), i32> {
    close_one_by_one(first, last)
}

/// A child of a fork has one thread, so nobody else has to follow. As root all three of a kind
/// are set, the saved one too.
#[expect(unsafe_code, reason = "setgroups, setgid, setuid")]
pub(crate) fn become_user(who: &Credentials, _: Option<u64>) -> Result<(), (StartStep, i32)> {
    let count = who.groups.len().min(GROUPS_MOST) as c_int;
    // SAFETY: the list lives in the spec and is at least so long; the rest are numbers.
    unsafe {
        let groups = check(libc::setgroups(count, who.groups.as_ptr()));
        let group = groups.and_then(|_| check(libc::setgid(who.gid)));
        group.map_err(|errno| (StartStep::Group, errno))?;
        check(libc::setuid(who.uid)).map_err(|errno| (StartStep::User, errno))?;
    }
    Ok(())
}

/// Lets this process run on these processors alone: not here.
pub(crate) fn set_affinity(_: &CpuSet) -> Result<(), i32> {
    Err(libc::ENOTSUP)
}

/// There are neither capabilities nor file systems of a process here.
pub(crate) fn isolate(spec: &ExecSpec) -> Result<(), i32> {
    let is_asked = spec.private_tmp || !spec.read_only.is_empty();
    match is_asked || spec.capabilities.is_some() {
        true => Err(libc::ENOTSUP),
        false => Ok(()),
    }
}

/// There are none here.
pub(crate) fn limit_capabilities(_: u64) -> Result<(), i32> {
    Err(libc::ENOTSUP)
}

/// There is no limit here that would do for it.
pub(crate) fn set_tag(_: u64) {}

/// Writes this process's `oom_score_adj`: there is none here.
pub(crate) fn set_oom_score_adj(_: i32) -> Result<(), i32> {
    Err(libc::ENOTSUP)
}

//! What FreeBSD alone is asked: processes by sysctl, procctl.
//! Looks at the moment it is asked.
//! Never sees the processes of other users where the system hides them.

use std::ffi::c_int;
use std::ptr::null_mut;

use super::bytes_of;
use crate::process::{ProcessInfo, Unseen, printable};
use crate::spawn::syscall::check;

/// The highest signal there is.
pub(crate) const SIGNALS: c_int = 128;
/// Groups a process can be in.
pub(super) const GROUPS_MOST: usize = 1023;

/// Flag of a process of the kernel.
const P_KPROC: libc::c_long = 4;

/// One answer of the kernel about processes, as elements of this kind.
#[expect(unsafe_code, reason = "sysctl")]
fn ask<T: Copy>(what: &[c_int]) -> Vec<T> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROC, 0, 0];
    name[2..2 + what.len()].copy_from_slice(what);
    let words = 2 + what.len() as libc::c_uint;
    let mut answer: Vec<T> = Vec::new();
    let mut length = 0;
    // SAFETY: the first call only asks for the length; the second writes so many bytes at most.
    unsafe {
        let place = name.as_mut_ptr();
        if libc::sysctl(place, words, null_mut(), &raw mut length, null_mut(), 0) != 0 {
            return answer;
        }
        length += length / 4 + 4096; // more may be there a moment later
        answer.reserve_exact(length.div_ceil(size_of::<T>()));
        let old = answer.as_mut_ptr().cast();
        if libc::sysctl(place, words, old, &raw mut length, null_mut(), 0) == 0 {
            answer.set_len(length / size_of::<T>());
        }
    }
    answer
}

fn seen(info: &libc::kinfo_proc) -> ProcessInfo {
    let (seconds, micros) = (info.ki_start.tv_sec, info.ki_start.tv_usec);
    ProcessInfo {
        pid: info.ki_pid,
        parent: info.ki_ppid,
        group: info.ki_pgid,
        session: info.ki_sid,
        start_time: seconds.unsigned_abs() * 1_000_000 + micros.unsigned_abs(),
        zombie: info.ki_stat == libc::SZOMB,
        kernel: info.ki_flag & P_KPROC != 0,
    }
}

/// Reads one process, one that is not reaped yet too; None when it is gone.
pub(crate) fn process(pid: i32) -> Option<ProcessInfo> {
    ask(&[libc::KERN_PROC_PID, pid]).first().map(seen)
}

/// The name of the program of a process, empty if it has exited.
pub(crate) fn command_name(pid: i32) -> String {
    let info: Vec<libc::kinfo_proc> = ask(&[libc::KERN_PROC_PID, pid]);
    let name = info.first().map(|info| bytes_of(&info.ki_comm));
    printable(&name.unwrap_or_default())
}

/// Every process that can be seen.
pub(crate) fn processes() -> Vec<ProcessInfo> {
    ask(&[libc::KERN_PROC_PROC]).iter().map(seen).collect()
}

/// Whether a variable of the process, as `NAME=VALUE`, is such.
pub(crate) fn has_variable(pid: i32, is: impl Fn(&[u8]) -> bool) -> Result<bool, Unseen> {
    let text: Vec<u8> = ask(&[libc::KERN_PROC_ENV, pid]);
    let variables = (!text.is_empty()).then(|| text.split(|byte| *byte == 0));
    Ok(variables.ok_or(Unseen::Executing)?.any(is))
}

/// The soft limit of open files that a hard one allows.
pub(crate) fn max_open_files(hard: libc::rlim_t) -> libc::rlim_t {
    hard
}

#[expect(unsafe_code, reason = "procctl")]
fn procctl(command: c_int, mut value: c_int) -> Result<(), i32> {
    // SAFETY: these commands take null or a number, which lives through the call.
    unsafe {
        let place = if value == 0 {
            null_mut()
        } else {
            (&raw mut value).cast()
        };
        check(libc::procctl(libc::P_PID, 0, command, place)).map(drop)
    }
}

/// Makes this process the parent of what its descendants leave behind.
pub(crate) fn become_subreaper() {
    let _ = procctl(libc::PROC_REAP_ACQUIRE, 0); // without it they are found by their mark
}

pub(crate) fn no_new_privileges() -> Result<(), i32> {
    procctl(libc::PROC_NO_NEW_PRIVS_CTL, libc::PROC_NO_NEW_PRIVS_ENABLE)
}

/// Ends this process with its parent.
#[expect(unsafe_code, reason = "getppid")]
pub(crate) fn die_with(parent: c_int) -> Result<(), i32> {
    procctl(libc::PROC_PDEATHSIG_CTL, libc::SIGKILL)?;
    // SAFETY: no arguments. It may have died before we asked.
    if unsafe { libc::getppid() } == parent {
        Ok(())
    } else {
        Err(libc::ESRCH)
    }
}

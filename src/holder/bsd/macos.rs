//! What macOS alone is asked: processes by libproc, their environment, limits it does not have.
//! Looks at the moment it is asked.
//! Never sees the processes of other users, unless it is root's.

use std::ffi::{c_int, c_void};

use super::bytes_of;
use crate::process::{ProcessInfo, Unseen, printable};

/// The highest signal there is.
pub(crate) const SIGNALS: c_int = 31;
/// Groups a process can be in.
pub(super) const GROUPS_MOST: usize = 16;

/// Reads one process, one that is not reaped yet too; None when it is gone.
#[expect(unsafe_code, reason = "proc_pidinfo, getsid")]
pub(crate) fn process(pid: i32) -> Option<ProcessInfo> {
    const ZOMBIES_TOO: u64 = 1;
    let size = size_of::<libc::proc_bsdinfo>() as c_int;
    // SAFETY: all zero is a valid answer, and its size is told.
    let (info, session) = unsafe {
        let mut info: libc::proc_bsdinfo = std::mem::zeroed();
        let place = (&raw mut info).cast::<c_void>();
        if libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, ZOMBIES_TOO, place, size) != size {
            return None;
        }
        (info, libc::getsid(pid))
    };
    let number = |raw: u32| i32::try_from(raw).unwrap_or(0);
    Some(ProcessInfo {
        pid,
        parent: number(info.pbi_ppid),
        group: number(info.pbi_pgid),
        session: session.max(0),
        start_time: info.pbi_start_tvsec * 1_000_000 + info.pbi_start_tvusec,
        zombie: info.pbi_status == libc::SZOMB,
        kernel: info.pbi_pid == 0,
    })
}

/// The name of the program of a process, empty if it has exited.
#[expect(unsafe_code, reason = "proc_pidinfo")]
pub(crate) fn command_name(pid: i32) -> String {
    let size = size_of::<libc::proc_bsdinfo>() as c_int;
    // SAFETY: all zero is a valid answer, and its size is told.
    let info = unsafe {
        let mut info: libc::proc_bsdinfo = std::mem::zeroed();
        let place = (&raw mut info).cast::<c_void>();
        if libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, place, size) != size {
            return String::new();
        }
        info
    };
    printable(&bytes_of(&info.pbi_comm))
}

/// Every process that can be seen.
#[expect(unsafe_code, reason = "proc_listallpids")]
pub(crate) fn processes() -> Vec<ProcessInfo> {
    let mut pids = vec![0 as c_int; 512];
    loop {
        let bytes = size_of_val(pids.as_slice()) as c_int;
        // SAFETY: the kernel writes numbers into so many bytes at most.
        let count = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast(), bytes) };
        let count = usize::try_from(count).unwrap_or(0);
        if count < pids.len() {
            pids.truncate(count);
            break;
        }
        pids.resize(pids.len() * 2, 0);
    }
    pids.into_iter().filter_map(process).collect()
}

/// Whether a variable of the process, as `NAME=VALUE`, is such.
/// Those of Apple's own protected programs are not shown.
#[expect(unsafe_code, reason = "sysctl")]
pub(crate) fn has_variable(pid: i32, is: impl Fn(&[u8]) -> bool) -> Result<bool, Unseen> {
    const ARGUMENTS_BYTES: usize = 1024 * 1024; // ARG_MAX
    let mut text: Vec<u8> = Vec::with_capacity(ARGUMENTS_BYTES);
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid];
    let mut length = ARGUMENTS_BYTES;
    // SAFETY: the kernel writes `length` bytes at most and says how many those were.
    unsafe {
        let (old, none) = (text.as_mut_ptr().cast(), std::ptr::null_mut());
        let count = name.len() as libc::c_uint;
        if libc::sysctl(name.as_mut_ptr(), count, old, &raw mut length, none, 0) != 0 {
            return Ok(false);
        }
        text.set_len(length.min(ARGUMENTS_BYTES));
    }
    Ok(variables(&text).ok_or(Unseen::Executing)?.any(is))
}

/// Behind the number of arguments, the program's path with zeros behind it, and the arguments.
fn variables(text: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let (count, rest) = text.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
    let path = rest.iter().position(|byte| *byte == 0)?;
    let padding = rest[path..].iter().position(|byte| *byte != 0)?;
    let words = rest[path + padding..].split(|byte| *byte == 0);
    Some(words.skip(count))
}

/// The soft limit of open files that a hard one allows: none is refused, see setrlimit(2).
pub(crate) fn max_open_files(hard: libc::rlim_t) -> libc::rlim_t {
    const OPEN_MAX: libc::rlim_t = 10_240;
    hard.min(OPEN_MAX)
}

/// Nobody but launchd may.
pub(crate) fn become_subreaper() {}

/// There is no such thing, and to ignore that would be a lie.
pub(crate) fn no_new_privileges() -> Result<(), i32> {
    Err(libc::ENOTSUP)
}

/// There is no such thing: what outlives a killed application is ended by the next one's start.
#[expect(unsafe_code, reason = "getppid")]
pub(crate) fn die_with(parent: c_int) -> Result<(), i32> {
    // SAFETY: no arguments.
    if unsafe { libc::getppid() } == parent {
        Ok(())
    } else {
        Err(libc::ESRCH)
    }
}

//! What macOS alone is asked, asked of Linux: it takes the place of `src/holder/bsd/macos.rs`.
//! Owns nothing.
//! Never uses what macOS does not have: no subreaper, no death with a parent.

use std::ffi::{CStr, c_int};

use nix::unistd::Gid;

#[path = "../linux/processes.rs"]
mod processes_of_linux;
pub(crate) use processes_of_linux::{has_variable, process, processes};

pub(crate) const SIGNALS: c_int = 64;
pub(super) const GROUPS_MOST: usize = 16;

pub(crate) fn groups_of(name: &CStr, group: Gid) -> Option<Vec<u32>> {
    let groups = nix::unistd::getgrouplist(name, group).ok()?;
    Some(groups.iter().map(|group| group.as_raw()).collect())
}

pub(crate) fn max_open_files(hard: libc::rlim_t) -> libc::rlim_t {
    hard.min(10_240)
}

pub(crate) fn become_subreaper() {}

pub(crate) fn no_new_privileges() -> Result<(), i32> {
    Err(libc::ENOTSUP)
}

pub(crate) fn die_with(parent: c_int) -> Result<(), i32> {
    match unsafe { libc::getppid() } == parent {
        true => Ok(()),
        false => Err(libc::ESRCH),
    }
}

//! macOS and FreeBSD, with the names that `linux` has.
//! Owns what stands in for Linux's own: kqueue for epoll and pidfds, fork for clone3, no groups.
//! Never promises what these kernels do not keep: docs/decisions/0010 says what that is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::fds::MAX_FDS;
use crate::process::Tag;

mod cgroup;
pub(crate) mod child;
mod dir_watch;
mod kqueue;
mod launcher;
mod own_table;
mod pinned;
mod socket_flags;
#[cfg(target_os = "freebsd")]
#[path = "freebsd.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod system;
#[cfg(not(any(target_os = "macos", target_os = "freebsd")))]
compile_error!("cannot build for this system: mainstay knows Linux, macOS, FreeBSD and Windows");

pub(crate) use cgroup::{Cgroup, CgroupRoot, CgroupTree, CgroupView, find_cgroup_root};
pub(crate) use dir_watch::DirWatch;
pub(crate) use kqueue::{LoopWaker, PollEvents, Poller, Signals};
pub(crate) use launcher::{ProcessLauncher, ReservedFds};
pub(crate) use own_table::{TableThread, thread_with_own_table};
pub(crate) use pinned::{ProcessHandle, signal_verified};
pub(crate) use socket_flags::{CLOEXEC_AT_CREATION, RECEIVE, SEND, SOCKET, datagram_address};
pub(crate) use system::{
    become_subreaper, command_name, has_variable, max_open_files, process, processes,
};

/// A datagram does not say who sent it: the run's user alone may write to its socket.
pub(crate) const NOTIFY_MODE: u32 = 0o600;
pub(crate) const HAS_SENDER_CREDENTIALS: bool = false;

/// The bytes of a name that ends at its first zero.
pub(crate) fn bytes_of(name: &[libc::c_char]) -> Vec<u8> {
    let bytes = name.iter().take_while(|byte| **byte != 0);
    bytes.map(|byte| byte.cast_unsigned()).collect()
}

/// There is nothing to switch on.
pub(crate) fn enable_sender_credentials(_: &impl AsFd) -> nix::Result<()> {
    Ok(())
}

/// No descriptors are refused here.
pub fn accept_descriptors(_: &impl AsFd, _: bool) -> bool {
    false
}

/// These kernels do not say.
pub(crate) fn sender_handle(_: i32, _: i32, _: &[u8]) -> Option<SenderHandle> {
    None
}

/// The process that sent a datagram: none is ever told.
#[derive(Debug)]
pub(crate) enum SenderHandle {}

impl SenderHandle {
    pub(crate) fn has_ended(&self) -> bool {
        match *self {}
    }
}

/// Whether a descriptor is an end of a pipe, or of a fifo.
pub(crate) fn is_pipe(fd: &impl AsFd) -> bool {
    let kind = nix::sys::stat::fstat(fd).map(|seen| seen.st_mode & libc::S_IFMT);
    kind == Ok(libc::S_IFIFO)
}

/// Room for descriptors.
pub(crate) fn control_space() -> Vec<u8> {
    nix::cmsg_space!([i32; MAX_FDS])
}

/// These kernels do not say.
pub(crate) fn sender_credentials(_: i32, _: i32, _: &[u8]) -> Option<(i32, u32)> {
    None
}

/// A program by its path: a new file there is the next one that is started.
#[derive(Debug)]
pub(crate) struct Program(PathBuf);

impl Program {
    pub(crate) fn open(path: &Path) -> io::Result<Program> {
        path.canonicalize().map(Program)
    }

    /// One that another process has looked at, by its path.
    pub(crate) fn passed(path: &str, _: Option<OwnedFd>) -> io::Result<Program> {
        Ok(Program(path.into()))
    }

    /// No descriptor is needed.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    pub(crate) fn path(&self, _: Option<&BorrowedFd<'_>>) -> PathBuf {
        self.0.clone()
    }
}

/// Not told here: whether descriptors are the same is judged by their files.
pub(crate) fn is_same_file(_: &impl AsFd, _: &impl AsFd) -> Option<bool> {
    None
}

/// Not told here: what a run left behind is always looked for.
pub(crate) fn orphans() -> Option<Vec<i32>> {
    None
}

/// Nothing is tagged here.
pub(crate) fn tag(_: i32) -> Tag {
    Tag::Untouched
}

/// Asked of what is tagged.
pub(crate) fn user(_: i32) -> Option<u32> {
    None
}

pub(crate) use process as process_on_the_way;

/// No look needs a thread.
pub(crate) fn look_at<T>(pid: i32, look: fn(i32) -> T) -> Option<T> {
    Some(look(pid))
}

/// Every look returns.
pub(crate) fn is_hidden(_: i32) -> bool {
    false
}

/// There is one namespace of processes.
pub(crate) fn is_in_own_namespace(_: i32) -> bool {
    true
}

/// When a start begins; the kernel is read afterwards.
pub(crate) fn start_stamp() -> u64 {
    0
}

/// The start time of a child that nobody has reaped.
pub(crate) fn start_time_since(pid: i32, _: u64) -> u64 {
    process(pid).map_or(0, |seen| seen.start_time)
}

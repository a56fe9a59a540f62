//! Linux, where it is asked its own way; `bsd` answers the same questions elsewhere.
//! Owns what only Linux has: epoll, pidfds, clone3, /proc, control groups.
//! Never decides anything: the names are those of `bsd`, so that the rest does not differ.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::FcntlArg;
use nix::sys::socket::UnixCredentials;

use crate::fds::{MAX_FDS, own_fd};

mod cgroup;
mod cgroup_place;
mod cgroup_tree;
pub(crate) mod child;
mod clone;
mod dir_watch;
mod disks;
mod exit_info;
mod look;
mod own_table;
mod poll;
mod process_scan;
mod processes;
mod procfs;
mod reserved_fds;
mod socket_flags;

pub(crate) use cgroup::{Cgroup, CgroupView};
pub use cgroup_place::group_dir;
pub use cgroup_tree::group_controllers;
pub(crate) use cgroup_tree::{CgroupRoot, CgroupTree, find_cgroup_root};
pub(crate) use clone::ProcessLauncher;
pub(crate) use dir_watch::DirWatch;
pub(crate) use exit_info::{ExitInfo, exit_of_zombie};
pub(crate) use look::{has_lost_looks, is_hidden, prepare_looks, user};
pub use look::{look_at, look_at_all};
pub(crate) use own_table::{TableThread, thread_with_own_table};
pub(crate) use poll::{LoopWaker, PollEvents, Poller, Signals};
pub(crate) use process_scan::{
    command_name, has_open_for_writing, has_variable, is_in_own_namespace, signal_verified, tag,
};
pub(crate) use processes::{
    ProcessHandle, orphans, process, process_on_the_way, processes, start_stamp, start_time_since,
};
pub(crate) use reserved_fds::ReservedFds;
pub(crate) use socket_flags::{CLOEXEC_AT_CREATION, RECEIVE, SEND, SOCKET, datagram_address};

/// Anyone may write to a notify socket: every datagram says who sent it.
pub(crate) const NOTIFY_MODE: u32 = 0o666;
pub(crate) const HAS_SENDER_CREDENTIALS: bool = true;

/// Linux 6.16 and later: whether a socket accepts descriptors.
const SO_PASSRIGHTS: libc::c_int = 83;
/// The kind of a control message that holds a descriptor of the sending process.
const SCM_PIDFD: libc::c_int = 4;

/// Lets every datagram say who sent it: by number and, since Linux 6.5, by descriptor.
pub(crate) fn enable_sender_credentials(socket: &(impl AsFd + AsRawFd)) -> nix::Result<()> {
    set_flag(socket, libc::SO_PASSPIDFD, true);
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::PassCred, &true)
}

/// Sets whether descriptors may be sent to a socket from here on; false where the kernel cannot
/// refuse them.
pub fn accept_descriptors(socket: &impl AsRawFd, accept: bool) -> bool {
    set_flag(socket, SO_PASSRIGHTS, accept)
}

/// False where the kernel does not know this option.
#[expect(unsafe_code, reason = "setsockopt with options that nix does not know")]
fn set_flag(socket: &impl AsRawFd, option: libc::c_int, on: bool) -> bool {
    let on = libc::c_int::from(on);
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is read from a number of the stated length.
    unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, length) == 0
    }
}

/// Room for descriptors and the sender of a datagram, by number and by descriptor.
pub(crate) fn control_space() -> Vec<u8> {
    nix::cmsg_space!([i32; MAX_FDS], UnixCredentials, i32)
}

/// The process that sent a datagram.
#[derive(Debug)]
pub(crate) enum SenderHandle {
    Process(ProcessHandle),
    /// It was reaped before the datagram was received (Linux before 6.16 says so by a negative
    /// number): its number may be another's.
    Reaped,
}

impl SenderHandle {
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            SenderHandle::Process(handle) => handle.has_ended(),
            SenderHandle::Reaped => true,
        }
    }
}

/// The process that sent a datagram, if the kernel passes a descriptor of it.
pub(crate) fn sender_handle(level: i32, kind: i32, data: &[u8]) -> Option<SenderHandle> {
    let is_pidfd = (level, kind) == (libc::SOL_SOCKET, SCM_PIDFD);
    let bytes = data.first_chunk().filter(|_| is_pidfd)?;
    let raw = i32::from_ne_bytes(*bytes);
    if raw < 0 {
        return Some(SenderHandle::Reaped);
    }
    let handle = ProcessHandle::from_pidfd(own_fd(raw));
    Some(SenderHandle::Process(handle))
}

/// Process and user who sent a datagram.
pub(crate) fn sender_credentials(level: i32, kind: i32, data: &[u8]) -> Option<(i32, u32)> {
    let is_sender = (level, kind) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS);
    let (pid, rest) = data.split_first_chunk().filter(|_| is_sender)?;
    let uid = rest.first_chunk()?;
    Some((i32::from_ne_bytes(*pid), u32::from_ne_bytes(*uid)))
}

/// A program that stays what it was when its file is replaced.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl From<OwnedFd> for Program {
    fn from(program: OwnedFd) -> Program {
        Program(program)
    }
}

impl Program {
    pub(crate) fn open(path: &Path) -> io::Result<Program> {
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_PATH).open(path)?;
        // Out of the way of the low numbers that children get.
        let raw = nix::fcntl::fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(10))?;
        Ok(Program(own_fd(raw)))
    }

    /// One that was opened by another process, which knows it by this path.
    pub(crate) fn passed(_: &str, fd: Option<OwnedFd>) -> io::Result<Program> {
        let fd = fd.ok_or(io::ErrorKind::NotFound)?;
        let raw = nix::fcntl::fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(10))?;
        Ok(Program(own_fd(raw)))
    }

    /// What is to be in the table of the process that executes it.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    /// Its path in a process that has it as `fd`.
    pub(crate) fn path(&self, fd: Option<&BorrowedFd<'_>>) -> PathBuf {
        let number = fd.map_or(self.0.as_raw_fd(), AsRawFd::as_raw_fd);
        format!("/proc/self/fd/{number}").into()
    }
}

/// Makes this process the parent of what its descendants leave behind.
#[expect(unsafe_code, reason = "prctl")]
pub(crate) fn become_subreaper() {
    // SAFETY: numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
}

/// The soft limit of open files that a hard one allows.
pub(crate) fn max_open_files(hard: libc::rlim_t) -> libc::rlim_t {
    hard
}

/// Whether two descriptors are the same open file, if the kernel says.
#[expect(unsafe_code, reason = "the C library has no kcmp")]
pub(crate) fn is_same_file(one: &impl AsRawFd, other: &impl AsRawFd) -> Option<bool> {
    const KCMP_FILE: libc::c_int = 0;
    let me = nix::unistd::gettid().as_raw(); // whose table has both
    let (a, b) = (one.as_raw_fd(), other.as_raw_fd());
    // SAFETY: numbers only.
    let compared = unsafe { libc::syscall(libc::SYS_kcmp, me, me, KCMP_FILE, a, b) };
    (compared >= 0).then_some(compared == 0)
}

/// Whether a descriptor is an end of a pipe. Asks no file system.
pub(crate) fn is_pipe(fd: &impl AsFd) -> bool {
    nix::fcntl::fcntl(fd, FcntlArg::F_GETPIPE_SZ).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_was_reaped_before_its_datagram_was_read_has_ended() {
        let handle = |number: i32| {
            let data = number.to_ne_bytes();
            sender_handle(libc::SOL_SOCKET, SCM_PIDFD, &data)
        };
        assert!(handle(-libc::ESRCH).is_some_and(|sender| sender.has_ended()));
        let raw = 3_i32.to_ne_bytes();
        assert!(sender_handle(libc::SOL_SOCKET, libc::SCM_RIGHTS, &raw).is_none());
    }
}

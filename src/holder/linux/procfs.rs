//! Where the processes of this namespace are shown, whatever is mounted on /proc.
//! Owns a descriptor of that file system for each thread: not all share a table of descriptors.
//! Never shows a process by a number of another namespace.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open, openat};
use nix::sys::stat::Mode;

use crate::fds::own_fd;

thread_local! {
    static PROCFS: OnceCell<Option<OwnedFd>> = const { OnceCell::new() };
}

fn with_procfs<T>(work: impl FnOnce(&OwnedFd) -> T) -> Option<T> {
    PROCFS.with(|procfs| procfs.get_or_init(find).as_ref().map(work))
}

/// The numbers are those of this namespace if this process has its own there.
fn find() -> Option<OwnedFd> {
    let itself = fs::read_link("/proc/self").ok();
    let is_own = itself.is_some_and(|pid| pid.as_os_str() == &*std::process::id().to_string());
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let found = if is_own {
        open("/proc", flags, Mode::empty()).ok()
    } else {
        mounted_nowhere()
    };
    // Out of the way of the low numbers that children get.
    let raw = fcntl(found?, FcntlArg::F_DUPFD_CLOEXEC(10)).ok()?;
    Some(own_fd(raw))
}

/// As after `unshare --pid` without `--mount-proc`: only root can do without /proc.
#[expect(
    unsafe_code,
    reason = "the C library has no fsopen, fsconfig and fsmount"
)]
fn mounted_nowhere() -> Option<OwnedFd> {
    let number = |result: libc::c_long| i32::try_from(result).ok().filter(|raw| *raw >= 0);
    // SAFETY: a NUL-terminated name, null pointers where nothing is passed, else numbers.
    unsafe {
        let none = std::ptr::null::<libc::c_char>();
        let kind = c"proc".as_ptr();
        let context = number(libc::syscall(libc::SYS_fsopen, kind, FSOPEN_CLOEXEC)).map(own_fd)?;
        let at = context.as_raw_fd();
        let create = FSCONFIG_CMD_CREATE;
        number(libc::syscall(libc::SYS_fsconfig, at, create, none, none, 0))?;
        number(libc::syscall(libc::SYS_fsmount, at, FSMOUNT_CLOEXEC, 0)).map(own_fd)
    }
}

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

pub(super) fn file(path: &str, flags: OFlag) -> io::Result<OwnedFd> {
    let flags = flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let opened = with_procfs(|procfs| openat(procfs, path, flags, Mode::empty()));
    Ok(opened.ok_or(io::ErrorKind::NotFound)??)
}

/// The content of a file, such as `1/stat`.
pub(super) fn read(path: &str) -> io::Result<Vec<u8>> {
    // Most fit, and are read at once: such files have no length that could be asked for.
    let mut text = Vec::with_capacity(1024);
    let file = File::from(file(path, OFlag::empty())?);
    file.take(u64::MAX).read_to_end(&mut text)?;
    Ok(text)
}

pub(super) fn read_text(path: &str) -> Option<String> {
    String::from_utf8(read(path).ok()?).ok()
}

/// Where a link leads, such as `1/ns/pid`.
pub(super) fn read_link(path: &str) -> Option<std::ffi::OsString> {
    with_procfs(|procfs| nix::fcntl::readlinkat(procfs, path).ok())?
}

/// The numbers of all processes that are shown.
pub(super) fn pids() -> Vec<i32> {
    numbers(".")
}

/// The entries of a folder that are numbers, such as the threads in `1/task`.
pub(super) fn numbers(path: &str) -> Vec<i32> {
    let Ok(here) = file(path, OFlag::O_DIRECTORY) else {
        return Vec::new();
    };
    let Ok(mut entries) = nix::dir::Dir::from_fd(here) else {
        return Vec::new();
    };
    let names = entries.iter().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok())
        .collect()
}

//! How the runtime is started, in a thread that may hang in its exec, and what it does before that.
//! Never decides when the runtime is started.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::kernel::Program;
use crate::messages::CHANNEL_FD;
use crate::runtime_command::RuntimeCommand;
use crate::workers::mark::TREE_MARK_VAR;

/// Starts the runtime with the first of these as its channel. Its process group is its own: what a
/// terminal sends goes to the holder, which reports it in order.
pub(crate) fn start(
    command: &RuntimeCommand,
    program: &Program,
    fds: &[BorrowedFd<'_>],
) -> io::Result<i32> {
    let [channel, tells_pid, program_fd @ ..] = fds else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let tells_pid = tells_pid.as_raw_fd();
    forget_runtime();
    let mut child = Command::new(program.path(program_fd.first()));
    child
        .arg0(&command.program)
        .args(&command.args)
        .process_group(0);
    child.env_remove(TREE_MARK_VAR); // of an earlier holder, whose leftovers are swept
    child.envs(command.env.iter().map(|(name, value)| (name, value)));
    let channel = channel.as_raw_fd();
    #[expect(unsafe_code, reason = "descriptor 3 is set between fork and exec")]
    // SAFETY: only system calls, which are async-signal-safe.
    unsafe {
        child.pre_exec(move || {
            // The holder may have given up.
            let number = libc::getpid().to_ne_bytes();
            libc::write(tells_pid, number.as_ptr().cast(), number.len());
            install_channel(channel)
        });
    }
    let started = child.spawn()?;
    Ok(i32::try_from(started.id()).unwrap_or(i32::MAX))
}

/// The file that names the runtime to systemd may be of one whose number is another process's now:
/// systemd would take that for the main process at the end of this one.
fn forget_runtime() {
    let own = std::process::id().to_string();
    let is_main = std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == own);
    if let Some(file) = std::env::var_os("PIDFILE").filter(|_| is_main) {
        let _there_is_none = std::fs::remove_file(file);
    }
}

#[expect(unsafe_code, reason = "dup2, fcntl, sigprocmask")]
fn install_channel(end: RawFd) -> io::Result<()> {
    // SAFETY: numbers and a local mask; called in the child alone.
    let failed = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        if end == CHANNEL_FD {
            libc::fcntl(end, libc::F_SETFD, 0) < 0
        } else {
            libc::dup2(end, CHANNEL_FD) < 0
        }
    };
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

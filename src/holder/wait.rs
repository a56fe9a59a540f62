//! waitid, with every signal number there is.
//! Never blocks.

use mainstay_process::{Exit, Signal};

/// Whom to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WaitTarget {
    Anyone,
    Pid(i32),
    /// Kind, number and flags of a process handle; None: the number is of another process.
    Process(Option<(libc::idtype_t, libc::id_t, libc::c_int)>),
}

impl WaitTarget {
    /// Kind, number and flags.
    fn waitid(self) -> Option<(libc::idtype_t, libc::id_t, libc::c_int)> {
        match self {
            WaitTarget::Anyone => Some((libc::P_ALL, 0, libc::WNOHANG)),
            WaitTarget::Pid(pid) => Some((libc::P_PID, pid as libc::id_t, libc::WNOHANG)),
            WaitTarget::Process(target) => target,
        }
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReapedChild {
    pub(crate) pid: i32,
    pub(crate) exit: Exit,
}

/// What there is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitResult {
    Ended(ReapedChild),
    Alive,
    /// No such child (any more).
    NoChild,
}

/// The next child that was stopped by this signal, or continued, and was not returned before.
#[expect(unsafe_code, reason = "waitid with stops")]
pub(crate) fn next_suspension(whom: WaitTarget) -> Option<(i32, Option<i32>)> {
    let (kind, number, _) = whom.waitid()?;
    let flags = libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG;
    // SAFETY: an all-zero siginfo is valid and is filled by the call; its fields are those of a
    // child.
    let (pid, status, how) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        if libc::waitid(kind, number, &raw mut info, flags) != 0 {
            return None;
        }
        (info.si_pid(), info.si_status(), info.si_code)
    };
    (pid != 0).then_some((pid, (how != libc::CLD_CONTINUED).then_some(status)))
}

/// Looks; with `reap` the zombie goes.
#[expect(
    unsafe_code,
    reason = "waitid: the wrapper at hand refuses real-time signals"
)]
pub(crate) fn wait_nohang(whom: WaitTarget, reap: bool) -> WaitResult {
    let Some((kind, number, how)) = whom.waitid() else {
        return WaitResult::NoChild;
    };
    let mut flags = libc::WEXITED | how;
    if !reap {
        flags |= libc::WNOWAIT;
    }
    // SAFETY: an all-zero siginfo is valid and is filled by the call; its fields are those of a
    // child because only WEXITED is asked for.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        while libc::waitid(kind, number, &raw mut info, flags) != 0 {
            if nix::errno::Errno::last_raw() != libc::EINTR {
                return WaitResult::NoChild;
            }
        }
        let (pid, status) = (info.si_pid(), info.si_status());
        if pid == 0 {
            return WaitResult::Alive;
        }
        let exit = match info.si_code {
            libc::CLD_EXITED => Exit::Code(status),
            how => Exit::Signal {
                signal: Signal(status),
                core: how == libc::CLD_DUMPED,
            },
        };
        WaitResult::Ended(ReapedChild { pid, exit })
    }
}

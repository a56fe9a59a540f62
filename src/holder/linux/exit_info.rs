//! How a process ended that this one is not the parent of, by its descriptor (Linux 6.15).
//! Never waits, and never reaps.

use std::os::fd::AsRawFd;

use mainstay_process::{Exit, Signal};

use super::processes::fields;
use super::{ProcessHandle, look_at, procfs};

/// The mask for what is known once a process was reaped.
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xff, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = (3 << 30 | 64 << 16 | 0xff << 8 | 11) as libc::Ioctl;

/// The first version of the kernel's structure.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// What there is to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitInfo {
    Exited(Exit),
    /// It runs, or its parent has not reaped it.
    NotReaped,
    /// The kernel does not say.
    Unknown,
}

impl ProcessHandle {
    #[expect(unsafe_code, reason = "an ioctl that nix does not know")]
    pub(crate) fn exit_info(&self) -> ExitInfo {
        let mut info = PidfdInfo {
            mask: PIDFD_INFO_EXIT,
            ..PidfdInfo::default()
        };
        // SAFETY: the structure has the size that is a part of the request.
        let failed = unsafe { libc::ioctl(self.0.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) } != 0;
        if failed {
            return ExitInfo::Unknown;
        }
        if info.mask & PIDFD_INFO_EXIT == 0 {
            return ExitInfo::NotReaped;
        }
        ExitInfo::Exited(exit_of(info.exit_code))
    }
}

/// How a process ended that is not reaped yet, if it can be read. A first process of a system
/// or a container that reaps late does not delay the news.
pub(crate) fn exit_of_zombie(pid: i32, start_time: u64) -> Option<Exit> {
    let found = look_at(pid, |pid| {
        let text = procfs::read(&format!("{pid}/stat")).ok()?;
        let fields = fields(&text)?;
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        if fields.first() != Some(&"Z") {
            return None;
        }
        // Without the right to know it is shown as 0: what needs the same right says which it is.
        let status = i32::try_from(number(49)?).ok()?;
        let may_know = status != 0 || procfs::read(&format!("{pid}/personality")).is_ok();
        may_know.then_some((number(19)?, exit_of(status)))
    })?;
    found
        .filter(|(at, _)| *at == start_time)
        .map(|(_, exit)| exit)
}

/// What a status of wait(2) says.
fn exit_of(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) & 0xff),
        signal => Exit::Signal {
            signal: Signal(signal),
            core: status & 0x80 != 0,
        },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::process::Command;

    #[test]
    fn how_it_ended_is_known_once_it_was_reaped_and_not_before() {
        let end = |script: &str| {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let handle = ProcessHandle::new(i32::try_from(child.id()).unwrap()).unwrap();
            let before = handle.exit_info();
            child.wait().unwrap();
            (before, handle.exit_info())
        };
        let signal = |signal| Exit::Signal {
            signal: Signal(signal),
            core: false,
        };
        for (script, exit) in [("exit 7", Exit::Code(7)), ("kill -9 $$", signal(9))] {
            match end(script) {
                (ExitInfo::Unknown, after) => assert_ne!(after, ExitInfo::NotReaped), // Linux 6.14
                (before, after) => {
                    let expected = (ExitInfo::NotReaped, ExitInfo::Exited(exit));
                    assert_eq!((before, after), expected);
                }
            }
        }
    }
}

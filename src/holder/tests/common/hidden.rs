//! A process whose environment cannot be read: its exec waits for the close of a descriptor.
//! Owns that process.
//! Never leaves it behind: dropped, it is killed; its end follows when the file system is gone.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixCredentials, sendmsg};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::eventually;
use super::fuse::Fuse;

/// Above every descriptor that a command closes before.
const LAST: i32 = 500;

pub(crate) struct Hidden(Pid);

impl Hidden {
    #[expect(unsafe_code, reason = "a descriptor is opened between fork and exec")]
    pub(crate) fn start(fuse: &Fuse) -> Hidden {
        let (path, before) = (fuse.path.clone(), fuse.flushes());
        let (mut pid, tells) = std::io::pipe().unwrap();
        let mut command = Command::new("sleep");
        // SAFETY: only system calls.
        unsafe {
            command.arg("300").pre_exec(move || {
                let fd = open(&path, OFlag::O_RDONLY, Mode::empty())?;
                let copy = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(LAST))?;
                std::mem::forget((fd, OwnedFd::from_raw_fd(copy))); // the exec closes the copy
                nix::unistd::setsid()?;
                (&tells).write_all(&std::process::id().to_ne_bytes())
            });
        }
        // It learns of the exec when that is done.
        std::thread::spawn(move || command.spawn().and_then(|mut child| child.wait()));
        let mut number = [0; 4];
        pid.read_exact(&mut number).unwrap();
        eventually("the exec waits", || fuse.flushes() > before);
        Hidden(Pid::from_raw(i32::from_ne_bytes(number)))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.as_raw()
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

/// Sends to a notify socket in the name of a process, as root may.
pub(crate) fn send_as(pid: i32, socket: &Path, text: &str) {
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(socket).unwrap();
    let who = libc::ucred {
        pid,
        uid: 0,
        gid: 0,
    };
    let who = UnixCredentials::from(who);
    let (bytes, words) = (
        [std::io::IoSlice::new(text.as_bytes())],
        [ControlMessage::ScmCredentials(&who)],
    );
    sendmsg::<()>(sender.as_raw_fd(), &bytes, &words, MsgFlags::empty(), None).unwrap();
}

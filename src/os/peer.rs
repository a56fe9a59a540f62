//! The process at the other end of a local socket.
//! Owns what the system says about it, and where there is one a descriptor that pins the process.
//! Never trusts a number alone where the system offers more.

/// The process that connected, as the system recorded it at that moment.
#[derive(Debug)]
pub(crate) struct PeerCredentials {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its user.
    pub(crate) uid: u32,
    /// Its group.
    pub(crate) gid: u32,
    /// With it the process id cannot mean a later process.
    #[cfg(target_os = "linux")]
    pidfd: Option<std::os::fd::OwnedFd>,
}

impl PeerCredentials {
    /// Credentials without a descriptor of the process.
    pub(crate) fn new(pid: u32, uid: u32, gid: u32) -> PeerCredentials {
        PeerCredentials {
            pid,
            uid,
            gid,
            #[cfg(target_os = "linux")]
            pidfd: None,
        }
    }

    /// Adds the descriptor of the process, if the kernel has one to give (Linux 6.5).
    #[cfg(target_os = "linux")]
    pub(crate) fn with_pidfd(self, pidfd: Option<std::os::fd::OwnedFd>) -> PeerCredentials {
        PeerCredentials { pidfd, ..self }
    }

    /// Whether the process has exited, as far as the system says. What was read about its number
    /// before this returned false was true of the peer, if the process is pinned.
    pub(crate) fn has_exited(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
            use std::os::fd::AsFd;
            if let Some(pidfd) = &self.pidfd {
                let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
                return poll(&mut polled, PollTimeout::ZERO) != Ok(0); // readable when it has exited
            }
            super::machine::start_time(self.pid).is_none()
        }
        #[cfg(not(target_os = "linux"))]
        false
    }
}

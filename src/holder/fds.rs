//! Descriptors that the kernel has just made.
//! Owns nothing.
//! Never passes one on to a program.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::kernel::CLOEXEC_AT_CREATION;

/// Most descriptors in one message (the kernel's SCM_MAX_FD).
pub const MAX_FDS: usize = 253;

/// Takes over a descriptor the kernel just handed out.
#[expect(unsafe_code, reason = "the kernel returns plain numbers")]
pub(crate) fn own_fd(raw: RawFd) -> OwnedFd {
    // SAFETY: the kernel just created this descriptor for us and nobody else has the number.
    let owned = unsafe { OwnedFd::from_raw_fd(raw) };
    if !CLOEXEC_AT_CREATION {
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        let _ = fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)); // it is open: cannot fail
    }
    owned
}

//! Descriptors that the kernel has just made, and messages that bring some.
//! All are close-on-exec.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::kernel::{CLOEXEC_AT_CREATION, RECEIVE};

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

/// What one call of `recvmsg` brought beside its bytes.
#[derive(Debug, Default)]
pub struct ReceivedMessage {
    /// Number of bytes; 0 is the end of a stream.
    pub bytes: usize,
    /// The descriptors, close-on-exec, in their order.
    pub fds: Vec<OwnedFd>,
    /// Other control messages: level, type and data.
    pub controls: Vec<(i32, i32, Vec<u8>)>,
    /// Descriptors were cut off: there was no room for more, or the limit of open files is reached.
    pub is_cut: bool,
}

/// Receives once without blocking. All descriptors that the kernel made are in the result, also
/// when others were cut off.
///
/// # Errors
/// `WouldBlock` when nothing is there.
#[expect(
    unsafe_code,
    reason = "nix forgets the descriptors of a message that was cut off"
)]
pub fn receive_message(
    socket: &impl AsRawFd,
    bytes: &mut [u8],
    control: &mut [u8],
) -> io::Result<ReceivedMessage> {
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all fields are numbers and pointers, for which zero is a value; the buffers outlive
    // the call, and the kernel writes no more than the stated lengths.
    let (header, length) = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.len() as _;
        let length = libc::recvmsg(socket.as_raw_fd(), &raw mut header, RECEIVE.bits());
        (header, length)
    };
    let Ok(length) = usize::try_from(length) else {
        return Err(io::Error::last_os_error());
    };
    let mut received = ReceivedMessage {
        bytes: length,
        is_cut: header.msg_flags & libc::MSG_CTRUNC != 0,
        ..ReceivedMessage::default()
    };
    // SAFETY: the kernel filled `control` with whole messages up to the length in `header`; their
    // data is copied without alignment.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(message) = next.as_ref() {
            let data: *const u8 = libc::CMSG_DATA(next);
            let before = data.offset_from_unsigned(next.cast());
            // A size_t on Linux, a socklen_t elsewhere.
            let end = (message.cmsg_len as u64) as usize;
            let data = std::slice::from_raw_parts(data, end.saturating_sub(before));
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    let (numbers, _) = data.as_chunks();
                    let fds = numbers.iter().map(|one| own_fd(RawFd::from_ne_bytes(*one)));
                    received.fds.extend(fds);
                }
                (level, kind) => received.controls.push((level, kind, data.to_vec())),
            }
            next = libc::CMSG_NXTHDR(&raw const header, next);
        }
    }
    Ok(received)
}

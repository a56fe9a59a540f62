//! sd_notify datagrams: receiving them, and what of them lasts.
//! Owns nothing but the merged lines of a run.
//! Never judges a sender, never closes a descriptor that came with a datagram.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::sys::socket::{ControlMessageOwned, UnixAddr, recvmsg};

use crate::foreign_fd::{Closer, ForeignFd};
use crate::frame::own_fd;
use crate::kernel::{self, ProcessHandle, RECEIVE};

/// Of a longer datagram the beginning is taken.
pub(crate) const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// What stays true after it was said; of everything else a message is the only word.
const STICKY_KEYS: [&str; 7] = [
    "READY",
    "RELOADING",
    "STOPPING",
    "STATUS",
    "ERRNO",
    "EXIT_STATUS",
    "WATCHDOG_USEC",
];
/// Of a longer value the beginning is kept.
const VALUE_BYTES: usize = 1024;

/// One datagram.
#[derive(Debug)]
pub(crate) struct NotifyDatagram {
    pub(crate) text: String,
    pub(crate) fds: Vec<ForeignFd>,
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    /// The process itself, where the kernel names it by more than its number.
    pub(crate) sender: Option<ProcessHandle>,
}

/// The next datagram, None when there is none; its descriptors are closed by `closer`.
pub(crate) fn receive(
    socket: &ForeignFd,
    bytes: &mut [u8],
    closer: &Arc<Closer>,
) -> Option<NotifyDatagram> {
    let mut control = kernel::control_space();
    let (mut fds, mut credentials, mut sender) = (Vec::new(), None, None);
    let length = loop {
        let mut parts = [IoSliceMut::new(bytes)];
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), RECEIVE) {
            Ok(got) => {
                for message in got.cmsgs().into_iter().flatten() {
                    match message {
                        ControlMessageOwned::ScmRights(raw) => {
                            let raw = raw.into_iter().map(own_fd);
                            fds.extend(raw.map(|fd| ForeignFd::new(fd, closer)));
                        }
                        other => {
                            credentials = kernel::sender_credentials(&other).or(credentials);
                            sender = kernel::sender_handle(&other).or(sender);
                        }
                    }
                }
                break got.bytes;
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    };
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let (pid, uid) = credentials.unwrap_or((0, u32::MAX));
    Some(NotifyDatagram {
        text,
        fds,
        pid,
        uid,
        sender,
    })
}

/// What of it all stays true: kept for a runtime that was away or lost it. Bounded by its keys.
#[derive(Debug, Default)]
pub(crate) struct NotifyState(Vec<(String, String)>);

impl NotifyState {
    /// Takes the lasting lines of a message; the newest of a kind wins.
    pub(crate) fn merge(&mut self, text: &str) {
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            if !STICKY_KEYS.contains(&key) {
                continue;
            }
            let replaced = |old: &str| match key {
                "READY" => old == "READY" || old == "RELOADING",
                _ => old == key,
            };
            self.0.retain(|(old, _)| !replaced(old));
            let value = &value[..value.floor_char_boundary(VALUE_BYTES)];
            self.0.push((key.to_owned(), value.to_owned()));
        }
    }

    /// As one message; None when nothing lasting was said.
    pub(crate) fn text(&self) -> Option<String> {
        let lines: Vec<_> = self
            .0
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// Of what a run said, what is still of use when it is over: what it was doing, and its reason to
/// end.
pub(crate) fn exit_notify_state(said: &str) -> Option<String> {
    let lasts = |line: &&str| {
        let key = line.split('=').next();
        matches!(key, Some("STATUS" | "ERRNO" | "EXIT_STATUS"))
    };
    let lines: Vec<&str> = said.lines().filter(lasts).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The value of the last line with this key.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let of = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    text.lines().rev().find_map(of)
}

/// Whether a message carries this exact line.
pub(crate) fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|one| one == line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_kind_wins_and_passing_lines_are_not_kept() {
        let mut said = NotifyState::default();
        said.merge("STATUS=one\nWATCHDOG=1\nRELOADING=1");
        said.merge("READY=1\nSTATUS=two\nFDSTORE=1");
        assert_eq!(said.text().as_deref(), Some("READY=1\nSTATUS=two"));
        said.merge("RELOADING=1");
        assert_eq!(
            said.text().as_deref(),
            Some("READY=1\nSTATUS=two\nRELOADING=1")
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut said = NotifyState::default();
        said.merge("READY=1");
        for number in 0..1000 {
            said.merge(&format!("X_{number}={}", "y".repeat(100)));
        }
        assert_eq!(said.text().as_deref(), Some("READY=1"));
        // A long word does not drive out what was said before it.
        said.merge(&format!("STATUS={}", "ü".repeat(10_000)));
        let status = "ü".repeat(VALUE_BYTES / 2);
        assert_eq!(said.text(), Some(format!("READY=1\nSTATUS={status}")));
    }
}

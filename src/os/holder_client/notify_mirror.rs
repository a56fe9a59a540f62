//! What the holder's thread of sd_notify has, for a holder that goes on in its place.
//! Owns those descriptors, which came from modules and strangers.
//! Never closes one itself: that may take for ever.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use mainstay_holder::messages::MirrorRecord;
use mainstay_holder::{Closer, MAX_FDS, receive_message};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::io::Interest;

use super::lock;
use crate::os::machine;

/// Longest message in bytes.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// What it begins with is the number of the instance.
type Part = (String, Vec<OwnedFd>);

#[derive(Default)]
struct Parts {
    socket: Option<OwnedFd>,
    parts: BTreeMap<u32, Part>,
}

/// What came.
#[derive(Default)]
pub(super) struct NotifyParts {
    parts: Mutex<Parts>,
    closer: Arc<Closer>,
}

impl NotifyParts {
    /// Returns the end of a new socket that the holder is passed.
    pub(super) fn connect(self: &Arc<Self>) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let watched = machine::watch(ours.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        lock(&self.parts).socket = Some(ours);
        let parts = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok(mut ready) = watched.readable().await {
                ready.clear_ready();
                if !parts.read(watched.get_ref()) {
                    return;
                }
            }
        });
        Ok(theirs)
    }

    /// By what descriptors of strangers are closed.
    pub(super) fn closer(&self) -> &Arc<Closer> {
        &self.closer
    }

    /// What is queued in the socket of a holder that has died.
    pub(super) fn read_rest(&self) {
        let socket = lock(&self.parts).socket.take(); // what is read is put there
        if let Some(socket) = socket {
            self.read(&socket);
        }
    }

    /// False at the end.
    fn read(&self, socket: &OwnedFd) -> bool {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut control = nix::cmsg_space!([i32; MAX_FDS]);
        loop {
            match receive_message(socket, &mut bytes, &mut control) {
                Ok(received) if received.bytes == 0 => return false,
                Ok(received) => {
                    let text = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
                    self.keep(text, received.fds);
                }
                Err(problem) => return problem.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    fn keep(&self, text: String, fds: Vec<OwnedFd>) {
        #[derive(serde::Deserialize)]
        struct Named(u32, serde::de::IgnoredAny);
        let named: Result<Named, _> = serde_json::from_str(&text);
        let dropped = match named {
            Ok(Named(id, _)) if fds.is_empty() => lock(&self.parts).parts.remove(&id),
            Ok(Named(id, _)) => lock(&self.parts).parts.insert(id, (text, fds)),
            Err(_) => Some((text, fds)),
        };
        for fd in dropped.into_iter().flat_map(|(_, fds)| fds) {
            self.closer.close(fd);
        }
    }

    /// Each part, with duplicates.
    pub(super) fn records(&self) -> io::Result<Vec<(MirrorRecord, Vec<OwnedFd>)>> {
        let parts = lock(&self.parts);
        let record = |(id, (text, fds)): (&u32, &Part)| {
            let fds: Vec<OwnedFd> = fds
                .iter()
                .map(OwnedFd::try_clone)
                .collect::<Result<_, _>>()?;
            let record = MirrorRecord {
                id: *id,
                text: Some(text.clone()),
                fds: u32::try_from(fds.len()).unwrap_or(u32::MAX),
                notify: true,
            };
            Ok((record, fds))
        };
        parts.parts.iter().map(record).collect()
    }
}

//! The service manager above us: READY, STOPPING and its watchdog, when it asked for them.
//! Owns one datagram socket.
//! Never waits for the service manager.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where to tell.
#[derive(Debug)]
pub(crate) struct Service {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: bool,
}

impl Service {
    /// What the environment says; None outside a service of type notify.
    pub(crate) fn from_env() -> Option<Service> {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&path),
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        let watchdog = std::env::var_os("WATCHDOG_USEC").is_some();
        Some(Service {
            socket,
            address: address.ok()?,
            watchdog,
        })
    }

    pub(crate) fn tell(&self, text: &str) {
        let _ = self.socket.send_to_addr(text.as_bytes(), &self.address); // it may not listen
    }

    /// A live runtime is what the watchdog is about.
    pub(crate) fn beat(&self) {
        if self.watchdog {
            self.tell("WATCHDOG=1");
        }
    }
}

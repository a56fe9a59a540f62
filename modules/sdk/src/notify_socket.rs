//! sd_notify: one datagram with `NAME=value` lines to the service manager.
//! Owns the address, a path or an abstract name (`@`), and the sending.
//! Never waits longer than half a second for a receiver that does not read.

use std::ffi::OsString;
use std::io;

/// The receiver of sd_notify messages, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct NotifySocket {
    address: Option<OsString>,
}

impl NotifySocket {
    pub(crate) fn new(address: Option<OsString>) -> NotifySocket {
        NotifySocket { address }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.address.is_some()
    }

    /// Sends one message; without an address nothing is sent and the result is `Ok`.
    pub(crate) fn send(&self, text: &str) -> io::Result<()> {
        match &self.address {
            Some(address) => send(address, text),
            None => Ok(()),
        }
    }
}

#[cfg(unix)]
fn send(address: &OsString, text: &str) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixDatagram;

    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(std::time::Duration::from_millis(500)))?;
    match address.as_bytes().split_first() {
        Some((b'@', name)) => send_abstract(&socket, name, text),
        _ => socket.send_to(text.as_bytes(), address).map(drop),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn send_abstract(
    socket: &std::os::unix::net::UnixDatagram,
    name: &[u8],
    text: &str,
) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;

    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn send_abstract(_: &std::os::unix::net::UnixDatagram, _: &[u8], _: &str) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "cannot use an abstract socket: only Linux has them",
    ))
}

#[cfg(not(unix))]
fn send(_: &OsString, _: &str) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "cannot use sd_notify: this platform has no Unix datagram sockets",
    ))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::Duration;

    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn a_message_reaches_a_path_and_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        NotifySocket::new(Some(path.into()))
            .send("READY=1")
            .unwrap();
        assert_eq!(received(&listening), "READY=1");

        let name = format!("mainstay-sdk-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listening = UnixDatagram::bind_addr(&address).unwrap();
        let notify = NotifySocket::new(Some(format!("@{name}").into()));
        notify.send("STATUS=well").unwrap();
        assert_eq!(received(&listening), "STATUS=well");
    }

    #[test]
    fn a_missing_receiver_is_an_error_and_a_missing_address_is_none() {
        NotifySocket::new(None).send("READY=1").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        NotifySocket::new(Some(gone.into()))
            .send("READY=1")
            .unwrap_err();
    }
}

//! The socket itself, per platform: a Unix socket here, a named pipe in `pipe.rs`.
//! Owns connecting.
//! Never interprets a byte.

#[cfg(unix)]
mod platform {
    use std::io::Result;
    use std::path::Path;
    use std::time::Duration;

    pub(crate) use std::os::unix::net::UnixStream as Blocking;
    #[cfg(feature = "async")]
    pub(crate) use tokio::net::UnixStream as Async;

    /// Connects within `timeout`: a listener whose queue is full makes everyone wait.
    pub(crate) fn connect(path: &Path, timeout: Duration) -> Result<Blocking> {
        use std::os::fd::OwnedFd;
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_write_timeout(Some(timeout))?;
        socket.connect(&socket2::SockAddr::unix(path)?)?;
        Ok(Blocking::from(OwnedFd::from(socket)))
    }

    /// As [`connect`], on tokio, where a full queue is an error that has to be tried again.
    #[cfg(feature = "async")]
    pub(crate) async fn connect_async(path: &Path, timeout: Duration) -> Result<Async> {
        const PAUSE: Duration = Duration::from_millis(10);
        let connected = tokio::time::timeout(timeout, async {
            loop {
                match Async::connect(path).await {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(PAUSE).await;
                    }
                    connected => return connected,
                }
            }
        });
        connected
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(windows)]
#[path = "pipe.rs"]
mod platform;

#[cfg(feature = "async")]
pub(crate) use platform::{Async, connect_async};
pub(crate) use platform::{Blocking, connect};

//! The socket itself, per platform.
//! Owns connecting; where the control socket is not there yet, nothing can be connected.
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

#[cfg(not(unix))]
mod platform {
    use std::io::{ErrorKind, Read, Result, Write};
    use std::path::Path;
    use std::time::Duration;

    /// Cannot exist.
    #[derive(Debug)]
    pub(crate) enum Blocking {}

    pub(crate) fn connect(_path: &Path, _timeout: Duration) -> Result<Blocking> {
        Err(ErrorKind::Unsupported.into())
    }

    impl Blocking {
        pub(crate) fn set_read_timeout(&self, _timeout: Option<Duration>) -> Result<()> {
            match *self {}
        }

        pub(crate) fn set_write_timeout(&self, _timeout: Option<Duration>) -> Result<()> {
            match *self {}
        }
    }

    impl Read for Blocking {
        fn read(&mut self, _into: &mut [u8]) -> Result<usize> {
            match *self {}
        }
    }

    impl Write for Blocking {
        fn write(&mut self, _from: &[u8]) -> Result<usize> {
            match *self {}
        }

        fn flush(&mut self) -> Result<()> {
            match *self {}
        }
    }

    /// Cannot exist.
    #[cfg(feature = "async")]
    #[derive(Debug)]
    pub(crate) enum Async {}

    #[cfg(feature = "async")]
    pub(crate) async fn connect_async(_path: &Path, _timeout: Duration) -> Result<Async> {
        Err(ErrorKind::Unsupported.into())
    }

    #[cfg(feature = "async")]
    impl Async {
        pub(crate) async fn read(&mut self, _into: &mut [u8]) -> Result<usize> {
            match *self {}
        }

        pub(crate) async fn write(&mut self, _from: &[u8]) -> Result<usize> {
            match *self {}
        }
    }
}

#[cfg(feature = "async")]
pub(crate) use platform::{Async, connect_async};
pub(crate) use platform::{Blocking, connect};

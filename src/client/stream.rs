//! The socket itself, per platform.
//! Owns connecting; where the control socket is not there yet, nothing can be connected.
//! Never interprets a byte.

#[cfg(unix)]
mod platform {
    pub(crate) use std::os::unix::net::UnixStream as Blocking;
    #[cfg(feature = "async")]
    pub(crate) use tokio::net::UnixStream as Async;
}

#[cfg(not(unix))]
mod platform {
    use std::io::{ErrorKind, Read, Result, Write};
    use std::path::Path;
    use std::time::Duration;

    /// Cannot exist.
    #[derive(Debug)]
    pub(crate) enum Blocking {}

    impl Blocking {
        pub(crate) fn connect(_path: &Path) -> Result<Blocking> {
            Err(ErrorKind::Unsupported.into())
        }

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
    impl Async {
        pub(crate) async fn connect(_path: &Path) -> Result<Async> {
            Err(ErrorKind::Unsupported.into())
        }

        pub(crate) async fn read(&mut self, _into: &mut [u8]) -> Result<usize> {
            match *self {}
        }

        pub(crate) async fn write(&mut self, _from: &[u8]) -> Result<usize> {
            match *self {}
        }
    }
}

#[cfg(feature = "async")]
pub(crate) use platform::Async;
pub(crate) use platform::Blocking;

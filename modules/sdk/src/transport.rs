//! The stream a connection runs over: a Unix socket here, a named pipe in `pipe.rs`.
//! Owns the difference between platforms.
//! Never knows what is written on it.

#[cfg(unix)]
mod platform {
    use std::io;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::time::Duration;

    /// A connection, readable and writable through a shared reference.
    #[derive(Debug)]
    pub(crate) struct Stream(UnixStream);

    impl Stream {
        pub(crate) fn connect(path: &Path) -> io::Result<Stream> {
            UnixStream::connect(path).map(Stream)
        }

        /// Bounds each read and write, or lets them wait.
        pub(crate) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
            self.0.set_read_timeout(timeout)?;
            self.0.set_write_timeout(timeout)
        }

        /// Wakes whoever reads or writes.
        pub(crate) fn close(&self) {
            // A socket that is closed already is what was wanted.
            let _ = self.0.shutdown(Shutdown::Both);
        }
    }

    impl io::Read for &Stream {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            (&self.0).read(into)
        }
    }

    impl io::Write for &Stream {
        fn write(&mut self, from: &[u8]) -> io::Result<usize> {
            (&self.0).write(from)
        }
        fn flush(&mut self) -> io::Result<()> {
            (&self.0).flush()
        }
    }
}

#[cfg(windows)]
#[path = "pipe.rs"]
mod platform;

pub(crate) use platform::Stream;

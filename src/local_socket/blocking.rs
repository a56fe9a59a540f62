//! Connections for threads: shared by one that reads and one that writes.
//! Owns the waiting until a listener has room, and the timeouts of reads and writes.
//! Never starts a thread on Unix.

use std::io::{ErrorKind, Read, Result, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::connecting::RETRY_INTERVAL;
#[cfg(unix)]
use crate::connecting::{connected, options};
#[cfg(windows)]
use crate::windows_blocking as platform;

/// A connection, readable and writable through a shared reference.
#[derive(Debug)]
pub struct Stream(platform::Stream);

/// Connects to the socket file at `path`. While the queue of the listener is full, or the runtime
/// is being started again, it waits for at most `timeout`.
///
/// # Errors
/// `NotFound` and `ConnectionRefused`: nothing listens there. `TimedOut`. `InvalidInput`: the path
/// is longer than the system allows.
#[expect(
    clippy::disallowed_methods,
    reason = "a client waits on its own clock and thread"
)]
pub fn connect(path: &Path, timeout: Duration) -> Result<Stream> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(stream) = platform::connect_once(path)? {
            return Ok(Stream(stream));
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}

impl Stream {
    /// Bounds each read; None: it waits as long as it takes.
    ///
    /// # Errors
    /// The connection is closed, or the timeout is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.0.set_read_timeout(timeout)
    }

    /// Bounds each write; None: it waits as long as it takes.
    ///
    /// # Errors
    /// The connection is closed, or the timeout is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.0.set_write_timeout(timeout)
    }

    /// Closes the connection in both directions and wakes the threads that wait on it.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Read for &Stream {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        (&self.0).read(into)
    }
}

impl Write for &Stream {
    fn write(&mut self, from: &[u8]) -> Result<usize> {
        (&self.0).write(from)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
mod platform {
    use super::{Duration, Path, Read, Result, Write, connected, options};
    use interprocess::local_socket::{Stream as Local, prelude::*};
    use std::net::Shutdown;

    #[derive(Debug)]
    pub(super) struct Stream(Local);

    pub(super) fn connect_once(path: &Path) -> Result<Option<Stream>> {
        let stream = connected(path, options(path)?.connect_sync())?;
        Ok(stream.map(Stream))
    }

    impl Stream {
        pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
            self.0.set_recv_timeout(timeout)
        }

        pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
            self.0.set_send_timeout(timeout)
        }

        pub(super) fn close(&self) {
            let Local::UdSocket(socket) = &self.0;
            let _closed_already = socket.inner().shutdown(Shutdown::Both);
        }
    }

    impl Read for &Stream {
        fn read(&mut self, into: &mut [u8]) -> Result<usize> {
            (&self.0).read(into)
        }
    }

    impl Write for &Stream {
        fn write(&mut self, from: &[u8]) -> Result<usize> {
            (&self.0).write(from)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::sync_channel;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_listener_whose_queue_is_full_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).expect("it listens");
        let backlog = nix::sys::socket::Backlog::new(1).expect("a small queue");
        nix::sys::socket::listen(&listener, backlog).expect("it listens");
        let mut queued = Vec::new();
        let late = loop {
            match connect(&path, RETRY_INTERVAL) {
                Ok(stream) => queued.push(stream),
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(late, ErrorKind::TimedOut);
        let waiting = std::thread::spawn(move || connect(&path, LONG).map(drop));
        for _ in queued {
            listener.accept().expect("one of the queue");
        }
        let (_stream, _) = listener.accept().expect("the one that waited");
        waiting.join().expect("it ends").expect("it is connected");
    }

    #[test]
    fn nothing_that_listens_is_an_error_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("s");
        let kind = |path: &Path| connect(path, LONG).map(drop).map_err(|error| error.kind());
        assert_eq!(kind(&path), Err(ErrorKind::NotFound));
        drop(UnixListener::bind(&path).expect("it listens"));
        assert_eq!(kind(&path), Err(ErrorKind::ConnectionRefused));
        let long = dir.path().join("s".repeat(200));
        assert_eq!(kind(&long), Err(ErrorKind::InvalidInput));
    }

    #[test]
    fn close_wakes_a_reader_and_a_timeout_ends_a_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).expect("it listens");
        let stream = connect(&path, LONG).expect("it is connected");
        let (_peer, _) = listener.accept().expect("it came");
        stream.set_read_timeout(Some(RETRY_INTERVAL)).expect("set");
        let late = (&stream).read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(late, Err(ErrorKind::WouldBlock));
        stream.set_read_timeout(None).expect("set");
        let stream = std::sync::Arc::new(stream);
        let (reads, reading) = sync_channel(1);
        let reader = std::thread::spawn({
            let stream = std::sync::Arc::clone(&stream);
            move || {
                reads.send(()).expect("the test waits");
                (&*stream).read(&mut [0])
            }
        });
        reading.recv().expect("it reads");
        stream.close();
        assert_eq!(reader.join().expect("it ends").expect("the end"), 0);
    }
}

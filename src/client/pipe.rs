//! The control socket on Windows: a named pipe, whose name stands in the file `control.sock`.
//! Owns finding it, connecting, and waiting with a limit for an answer.
//! Never interprets a byte.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient};
use tokio::runtime::{Builder, Runtime};

/// A connection on tokio.
#[cfg(feature = "async")]
pub(crate) type Async = NamedPipeClient;

/// Between two looks whether there is room.
const PAUSE: Duration = Duration::from_millis(10);
/// What Windows says when another process has the file open and does not share it.
const SHARING_VIOLATION: i32 = 32;
/// What Windows says when all instances of a pipe are taken.
const PIPE_BUSY: i32 = 231;

/// A connection for one thread at a time; not for use inside of a tokio runtime.
#[derive(Debug)]
pub(crate) struct Blocking {
    // Before the runtime it belongs to.
    pipe: NamedPipeClient,
    runtime: Runtime,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

/// Connects within `timeout`: while the runtime is being started again everyone waits.
pub(crate) fn connect(path: &Path, timeout: Duration) -> Result<Blocking> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let pipe = runtime.block_on(connect_async(path, timeout))?;
    Ok(Blocking {
        pipe,
        runtime,
        read_timeout: None,
        write_timeout: None,
    })
}

/// As [`connect`], on tokio.
pub(crate) async fn connect_async(path: &Path, timeout: Duration) -> Result<NamedPipeClient> {
    let connected = tokio::time::timeout(timeout, async {
        loop {
            let name = std::fs::read_to_string(path)?;
            match ClientOptions::new().open(name.trim()) {
                Err(error) if error.raw_os_error() == Some(PIPE_BUSY) => {}
                // Nobody listens; its holder, while it lives, has the file open and starts a
                // runtime again.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if !is_held(path) {
                        return Err(ErrorKind::ConnectionRefused.into());
                    }
                }
                connected => return connected,
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    connected.await.unwrap_or_else(|_| Err(late()))
}

fn is_held(path: &Path) -> bool {
    let opened = OpenOptions::new().append(true).open(path);
    opened.is_err_and(|error| error.raw_os_error() == Some(SHARING_VIOLATION))
}

fn late() -> Error {
    ErrorKind::TimedOut.into()
}

impl Blocking {
    pub(crate) fn set_read_timeout(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.read_timeout = timeout;
        Ok(())
    }

    pub(crate) fn set_write_timeout(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.write_timeout = timeout;
        Ok(())
    }
}

impl Read for Blocking {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let read = self.pipe.read(into);
        let read = self.runtime.block_on(within(self.read_timeout, read));
        match read {
            // The other side is gone: on a socket that is the end.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
            read => read,
        }
    }
}

impl Write for Blocking {
    fn write(&mut self, from: &[u8]) -> Result<usize> {
        let write = self.pipe.write(from);
        self.runtime.block_on(within(self.write_timeout, write))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(late())),
        None => work.await,
    }
}

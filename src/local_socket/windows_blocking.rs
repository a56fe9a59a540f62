//! Windows: a pipe for threads. Windows has no timeouts for pipes, and interprocess offers none.
//! Owns a small tokio runtime whose clock bounds each read and write.
//! Never shared by two readers or two writers.

use std::io::{ErrorKind, Read, Result, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use interprocess::local_socket::tokio::Stream as Pipe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::connecting::{connected, options};

/// See [`crate::blocking::Stream`].
#[derive(Debug)]
pub(crate) struct Stream {
    pipe: Pipe,
    runtime: Option<Runtime>,
    read_timeout: Mutex<Option<Duration>>,
    write_timeout: Mutex<Option<Duration>>,
    closed: watch::Sender<bool>,
}

/// One attempt; None: try again.
pub(crate) fn connect_once(path: &Path) -> Result<Option<Stream>> {
    // Its one thread waits for the pipe while the caller's threads wait for each other.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("mainstay-pipe")
        .enable_all()
        .build()?;
    let attempt = options(path)?;
    let pipe = connected(path, runtime.block_on(attempt.connect_tokio()))?;
    Ok(pipe.map(|pipe| Stream {
        pipe,
        runtime: Some(runtime),
        read_timeout: Mutex::new(None),
        write_timeout: Mutex::new(None),
        closed: watch::Sender::new(false),
    }))
}

impl Stream {
    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        set(&self.read_timeout, timeout)
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        set(&self.write_timeout, timeout)
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    fn wait<T>(
        &self,
        timeout: &Mutex<Option<Duration>>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Some(runtime) = &self.runtime else {
            return Err(ErrorKind::NotConnected.into());
        };
        let timeout = *timeout.lock().unwrap_or_else(PoisonError::into_inner);
        let mut closed = self.closed.subscribe();
        let work = async {
            tokio::select! {
                done = work => done,
                _ = closed.wait_for(|closed| *closed) => Err(ErrorKind::NotConnected.into()),
            }
        };
        runtime.block_on(async {
            match timeout {
                Some(timeout) => tokio::time::timeout(timeout, work)
                    .await
                    .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())),
                None => work.await,
            }
        })
    }
}

fn set(slot: &Mutex<Option<Duration>>, timeout: Option<Duration>) -> Result<()> {
    if timeout == Some(Duration::ZERO) {
        return Err(ErrorKind::InvalidInput.into());
    }
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
    Ok(())
}

impl Read for &Stream {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let mut pipe = &self.pipe;
        match self.wait(&self.read_timeout, pipe.read(into)) {
            // The other side closed it: on a socket that is the end.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
            read => read,
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, from: &[u8]) -> Result<usize> {
        let mut pipe = &self.pipe;
        self.wait(&self.write_timeout, pipe.write(from))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Waiting for it is not allowed where a module drops this inside of its own runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

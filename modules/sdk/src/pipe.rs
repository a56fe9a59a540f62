//! The stream on Windows: a named pipe, whose name stands in the file mainstay names.
//! Owns a small tokio runtime, so that one thread can read while another writes.
//! Never knows what is written on it.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// A connection, readable and writable through a shared reference.
#[derive(Debug)]
pub(crate) struct Stream {
    pipe: NamedPipeClient,
    runtime: Option<Runtime>,
    timeout: Mutex<Option<Duration>>,
    closed: watch::Sender<bool>,
}

impl Stream {
    pub(crate) fn connect(path: &Path) -> io::Result<Stream> {
        let name = std::fs::read_to_string(path)?;
        // Its one thread waits for the pipe while ours wait for each other.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("mainstay-pipe")
            .enable_all()
            .build()?;
        let entered = runtime.enter();
        let pipe = ClientOptions::new().open(name.trim())?;
        drop(entered);
        Ok(Stream {
            pipe,
            runtime: Some(runtime),
            timeout: Mutex::new(None),
            closed: watch::Sender::new(false),
        })
    }

    /// Bounds each read and write, or lets them wait.
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        *self.timeout.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
        Ok(())
    }

    /// Wakes whoever reads or writes.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Tries when the pipe is ready for it, until it is done, late or closed.
    fn once_ready<T>(
        &self,
        interest: Interest,
        attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(runtime) = &self.runtime else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let limit = *self.timeout.lock().unwrap_or_else(PoisonError::into_inner);
        let mut closed = self.closed.subscribe();
        let work = async {
            tokio::select! {
                done = self.done(interest, attempt) => done,
                _ = closed.wait_for(|closed| *closed) => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        runtime.block_on(async {
            match limit {
                Some(limit) => match tokio::time::timeout(limit, work).await {
                    Ok(done) => done,
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                },
                None => work.await,
            }
        })
    }

    async fn done<T>(
        &self,
        interest: Interest,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            self.pipe.ready(interest).await?;
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
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

impl io::Read for &Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.once_ready(Interest::READABLE, || self.pipe.try_read(into)) {
            // The other side is gone: on a socket that is the end.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            read => read,
        }
    }
}

impl io::Write for &Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.once_ready(Interest::WRITABLE, || self.pipe.try_write(from))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! One attempt to connect, and what its failure means.
//! Owns the difference between platforms in both.
//! Never waits.

use std::io::{ErrorKind, Result};
use std::path::Path;
use std::time::Duration;

use interprocess::ConnectWaitMode;
use interprocess::local_socket::traits::StreamCommon;
use interprocess::local_socket::{ConnectOptions, GenericFilePath, prelude::*};

/// Between two attempts.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// How to connect once to the socket file at `path`, without waiting.
#[cfg(unix)]
pub(crate) fn options(path: &Path) -> Result<ConnectOptions<'_>> {
    let name = path.to_fs_name::<GenericFilePath>()?;
    Ok(ConnectOptions::new()
        .name(name)
        .wait_mode(ConnectWaitMode::Deferred))
}

/// How to connect once to the pipe whose name is in the file at `path`, without waiting.
#[cfg(windows)]
pub(crate) fn options(path: &Path) -> Result<ConnectOptions<'static>> {
    let name = std::fs::read_to_string(path)?;
    let name = name.trim().to_owned().to_fs_name::<GenericFilePath>()?;
    Ok(ConnectOptions::new()
        .name(name)
        .wait_mode(ConnectWaitMode::Timeout(Duration::ZERO)))
}

/// The stream of an attempt, if it is connected; None: try again.
///
/// interprocess returns a stream that is not connected when the queue of the listener is full.
#[cfg(unix)]
pub(crate) fn connected<S: StreamCommon>(_: &Path, attempt: Result<S>) -> Result<Option<S>> {
    match attempt {
        Ok(stream) => Ok(stream.peer_creds().is_ok().then_some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The stream of an attempt, if it is connected; None: try again.
///
/// While the runtime is being started again no process listens on the pipe, and its holder keeps
/// the file open.
#[cfg(windows)]
pub(crate) fn connected<S: StreamCommon>(path: &Path, attempt: Result<S>) -> Result<Option<S>> {
    match attempt {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => match is_open_elsewhere(path) {
            true => Ok(None),
            false => Err(ErrorKind::ConnectionRefused.into()),
        },
        Err(error) => Err(error),
    }
}

#[cfg(windows)]
fn is_open_elsewhere(path: &Path) -> bool {
    const SHARING_VIOLATION: i32 = 32;
    let opened = std::fs::OpenOptions::new().append(true).open(path);
    opened.is_err_and(|error| error.raw_os_error() == Some(SHARING_VIOLATION))
}

//! Connections on tokio.
//! Owns the waiting until a listener has room.
//! Never spawns a task.

use std::io::{ErrorKind, Result};
use std::path::Path;
use std::time::Duration;

use crate::connecting::{RETRY_INTERVAL, connected, options};

/// A connection.
pub use interprocess::local_socket::tokio::Stream;

/// Connects to the socket file at `path`. While the queue of the listener is full, or the runtime
/// is being started again, it waits for at most `timeout`.
///
/// # Errors
/// `NotFound` and `ConnectionRefused`: nothing listens there. `TimedOut`. `InvalidInput`: the path
/// is longer than the system allows.
pub async fn connect(path: &Path, timeout: Duration) -> Result<Stream> {
    let attempts = async {
        loop {
            let attempt = options(path)?.connect_tokio().await;
            if let Some(stream) = connected(path, attempt)? {
                return Ok(stream);
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    };
    tokio::time::timeout(timeout, attempts)
        .await
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

//! Errors between a client and mainstay.
//! Owns the messages: each names the object, the cause and the next step.
//! Never changes the error of a response: it is passed on as received.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_protocol::{MAX_LINE_BYTES, PROTOCOL, RequestError};

/// Why a connection or a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No process listens on the socket, or it does not exist.
    #[error(
        "cannot reach mainstay: nothing listens on {}; start it with `mainstay up`",
        path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// A process listens on the socket and accepts no connection.
    #[error("cannot reach mainstay: it accepts no connection on {}; try again", path.display())]
    NotAccepting {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused the connection for another reason.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The socket's path does not fit into a socket address.
    #[error(
        "cannot connect to {}: the path is too long for a socket; shorten `mainstay.runtime_dir`",
        path.display()
    )]
    PathTooLong {
        /// The socket.
        path: PathBuf,
    },
    /// Another user owns the folder of the socket.
    #[error(
        "cannot trust {}: another user owns it; remove it, or set XDG_RUNTIME_DIR or \
         `mainstay.runtime_dir`",
        path.display()
    )]
    NotOwner {
        /// The folder.
        path: PathBuf,
    },
    /// The connection was lost.
    #[error("cannot talk to mainstay on {}: {source}", path.display())]
    ConnectionLost {
        /// The socket.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// mainstay closed the connection.
    #[error("cannot continue: mainstay closed the connection on {}", path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// No response within the timeout.
    #[error("cannot get a result of `{method}`: mainstay sent no response within {after:?}")]
    Timeout {
        /// The method.
        method: String,
        /// The timeout.
        after: Duration,
    },
    /// mainstay refused the request.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// A line is longer than the protocol allows.
    #[error("cannot use a line of more than {MAX_LINE_BYTES} bytes; request less at a time")]
    TooLong,
    /// A received line does not fit the protocol.
    #[error("cannot read the response to `{method}`: {source}")]
    Malformed {
        /// The method, or the name of the notification.
        method: String,
        /// The error of the JSON reader.
        source: serde_json::Error,
    },
    /// Parameters cannot be written as JSON.
    #[error("cannot write the parameters of `{method}`: {source}")]
    Params {
        /// The method.
        method: String,
        /// The error of the JSON writer.
        source: serde_json::Error,
    },
    /// mainstay uses another protocol version.
    #[error(
        "cannot talk to {server}: it speaks protocol {theirs}, this client {PROTOCOL}; \
         use the client that belongs to it"
    )]
    OtherProtocol {
        /// Its name and version.
        server: String,
        /// Its protocol version.
        theirs: u32,
    },
    /// This platform has no control socket.
    #[error("cannot connect to {}: not available yet on this platform", path.display())]
    NotAvailable {
        /// The socket.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn connecting(path: &Path, source: std::io::Error) -> Error {
        use std::io::ErrorKind;
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::NotRunning { path },
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::NotAccepting { path },
            ErrorKind::InvalidInput => Error::PathTooLong { path },
            ErrorKind::Unsupported => Error::NotAvailable { path },
            _ => Error::Connect { path, source },
        }
    }
}

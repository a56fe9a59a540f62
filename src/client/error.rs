//! What can go wrong between a client and mainstay.
//! Owns the sentences; each says what, which and the next step.
//! Never hides a refusal: it is passed on as mainstay said it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_protocol::{MAX_LINE_BYTES, PROTOCOL, RequestError};

/// Why a connection or a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens on the socket, or there is none.
    #[error(
        "cannot reach mainstay: nothing listens on {}; start it with `mainstay up`",
        path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody listens, but accepts nobody.
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
        /// What the system said.
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
    /// Somebody else owns the folder the socket would be in.
    #[error(
        "cannot trust {}: another user owns it; remove it, or set XDG_RUNTIME_DIR or \
         `mainstay.runtime_dir`",
        path.display()
    )]
    NotOwner {
        /// The folder.
        path: PathBuf,
    },
    /// The connection broke.
    #[error("cannot talk to mainstay on {}: {source}", path.display())]
    ConnectionLost {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// mainstay closed the connection.
    #[error("cannot go on: mainstay closed the connection on {}", path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// No answer came in time.
    #[error("cannot wait longer for mainstay: no answer to `{method}` within {after:?}")]
    Timeout {
        /// What was called.
        method: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// mainstay said no.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// A line is longer than the protocol allows.
    #[error("cannot use a line of more than {MAX_LINE_BYTES} bytes; ask for less at a time")]
    TooLong,
    /// What arrived does not fit the protocol.
    #[error("cannot read what mainstay said to `{method}`: {source}")]
    Malformed {
        /// What was called, or the notification's name.
        method: String,
        /// Where it does not fit.
        source: serde_json::Error,
    },
    /// Parameters cannot be written as JSON.
    #[error("cannot write the parameters of `{method}`: {source}")]
    Params {
        /// What was to be called.
        method: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The other end speaks another protocol.
    #[error(
        "cannot talk to {server}: it speaks protocol {theirs}, this client {PROTOCOL}; \
         use the client that belongs to it"
    )]
    OtherProtocol {
        /// What it calls itself.
        server: String,
        /// The version it speaks.
        theirs: u32,
    },
    /// The control socket is not there on this platform.
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

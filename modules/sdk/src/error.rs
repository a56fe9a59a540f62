//! Errors between a module and mainstay that the module can act on.
//! Owns the two error enums of this crate and their messages.
//! Never reports a closed connection for a message that can wait until it is open again.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_protocol::{MAX_LINE_BYTES, RequestError};

/// An error of settings or of a published message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings file named by mainstay is not readable.
    #[error(
        "cannot read the settings file {}: {source}; check that it still exists", path.display()
    )]
    SettingsFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The settings do not fit the requested type.
    #[error("cannot read the module's settings: {0}; correct [settings] in its configuration")]
    SettingsShape(serde_json::Error),
    /// The handler refuses the settings that the module begins with.
    #[error("cannot use the module's settings: {0}; correct [settings] in its configuration")]
    SettingsRefused(String),
    /// The payload cannot be written as JSON.
    #[error("cannot publish {subject}: its payload is not JSON: {source}")]
    Payload {
        /// The subject.
        subject: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The message is longer than [`MAX_LINE_BYTES`].
    #[error(
        "cannot send {what}: it has {bytes} bytes, at most {MAX_LINE_BYTES} are allowed; \
         send less, or send the path of a file"
    )]
    TooLong {
        /// The subject of the message.
        what: String,
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Why a call to another module failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// mainstay did not start this program.
    #[error("cannot call {module}: mainstay did not start this program; run it as a module")]
    NotSupervised {
        /// The called module.
        module: String,
    },
    /// There was no connection within the timeout; the call was not sent.
    #[error(
        "cannot call {module}: not connected to mainstay for {waited:?}; the call was not sent"
    )]
    NotConnected {
        /// The called module.
        module: String,
        /// The timeout.
        waited: Duration,
    },
    /// The connection closed after the call was sent; the call may have been carried out.
    #[error(
        "cannot receive the result of {method} of {module}: the connection closed; \
         the call may have been carried out"
    )]
    Disconnected {
        /// The called module.
        module: String,
        /// The called method.
        method: String,
    },
    /// No answer within the timeout; the call may have been carried out.
    #[error(
        "cannot receive the result of {method} of {module}: no answer within {waited:?}; \
         the call may have been carried out"
    )]
    TimedOut {
        /// The called module.
        module: String,
        /// The called method.
        method: String,
        /// The timeout.
        waited: Duration,
    },
    /// mainstay or the called module refused the call.
    #[error("{0}")]
    Refused(RequestError),
    /// The call is longer than [`MAX_LINE_BYTES`].
    #[error("cannot call {module}: the call has {bytes} bytes, {MAX_LINE_BYTES} are allowed")]
    TooLong {
        /// The called module.
        module: String,
        /// Its length in bytes.
        bytes: usize,
    },
    /// Too many calls of this module wait for an answer.
    #[error("cannot call {module}: {waiting} calls already wait for an answer; try again later")]
    TooMany {
        /// The called module.
        module: String,
        /// The number of calls that wait.
        waiting: usize,
    },
}

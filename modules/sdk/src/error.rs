//! What can go wrong between a module and mainstay, as values a module can act on.
//! Owns the two error enums of this crate and their sentences.
//! Never reports that mainstay is away for something that can wait until it is back.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_protocol::{MAX_LINE_BYTES, RequestError};

/// What can be wrong with what a module hands over or asks for locally.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings file named by mainstay is not readable.
    #[error("cannot read the settings file {}: {source}; was it removed?", path.display())]
    SettingsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The settings are there and do not have the shape that was asked for.
    #[error("cannot use the module's settings: {0}; see [settings] in its configuration")]
    SettingsShape(serde_json::Error),
    /// The payload cannot be written as JSON.
    #[error("cannot publish {subject}: its payload is not JSON: {source}")]
    Payload {
        /// The subject.
        subject: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The message is longer than a line may be.
    #[error(
        "cannot send {what}: it has {bytes} bytes and a message may have {MAX_LINE_BYTES}; \
         send less, or send a path"
    )]
    TooLong {
        /// What was to be sent.
        what: String,
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Why a call to another module brought no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// This program was not started by mainstay.
    #[error("cannot call {module}: this program does not run under mainstay")]
    Outside {
        /// Who was called.
        module: String,
    },
    /// There was no connection within the timeout; the call was not sent.
    #[error("cannot call {module}: mainstay was away for {waited:?}; the call was not sent")]
    Away {
        /// Who was called.
        module: String,
        /// How long it was waited.
        waited: Duration,
    },
    /// The connection ended after the call was sent; it may or may not have been carried out.
    #[error("cannot say whether {module} carried out {method}: the connection ended meanwhile")]
    Disconnected {
        /// Who was called.
        module: String,
        /// What was called.
        method: String,
    },
    /// No answer within the timeout; it may or may not have been carried out.
    #[error("cannot wait longer for {method} of {module}: no answer within {waited:?}")]
    TimedOut {
        /// Who was called.
        module: String,
        /// What was called.
        method: String,
        /// How long it was waited.
        waited: Duration,
    },
    /// mainstay or the called module said no.
    #[error("{0}")]
    Refused(RequestError),
    /// The call is longer than a line may be.
    #[error("cannot call {module}: the call has {bytes} bytes, {MAX_LINE_BYTES} are allowed")]
    TooLong {
        /// Who was called.
        module: String,
        /// Its length in bytes.
        bytes: usize,
    },
    /// Too many calls of this module wait for an answer.
    #[error("cannot call {module}: {waiting} calls already wait for an answer; try again later")]
    TooMany {
        /// Who was called.
        module: String,
        /// How many wait.
        waiting: usize,
    },
}

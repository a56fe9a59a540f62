//! mainstay-client: talk to a running mainstay over its control socket, blocking or async.
//! Owns the client's end of a connection: framing, deadlines, typed calls, following.
//! Never starts a mainstay, never retries a change by itself.
//!
//! ```no_run
//! use mainstay_client::{blocking::Client, locate};
//!
//! let socket = locate::control_socket(&locate::runtime_dir("skelly-jelly")?);
//! let mut client = Client::connect(&socket)?;
//! println!("{}", client.status()?.status);
//! # Ok::<(), mainstay_client::Error>(())
//! ```

#[cfg(feature = "async")]
pub mod asynchronous;
pub mod blocking;
mod error;
pub mod locate;
mod sans_io;
mod typed;

pub use error::Error;
pub use mainstay_protocol as protocol;
pub use sans_io::NotificationPayload;

/// How long a call may take unless it says otherwise.
pub const CALL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// How long a change may take that answers when it has been reached (`wait`).
pub const WAIT_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(10);

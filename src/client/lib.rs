//! mainstay-client: requests to a running mainstay over its control socket, blocking or async.
//! Owns the client's side of a connection: framing, deadlines, typed calls, subscriptions.
//! Never starts mainstay and never repeats a change without a request.
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

/// Default timeout of a call.
pub const CALL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Timeout of a change that is to be reached (`wait`).
pub const WAIT_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(10);

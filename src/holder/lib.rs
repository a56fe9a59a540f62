//! mainstay-holder: the small parent process that owns the module processes.
//! Owns processes, exit statuses, log pipes, sockets and the lock; restarts the runtime.
//! Never decides anything about modules, never blocks on a disk, never uses tokio.

#[cfg(unix)]
pub mod here;
#[cfg(windows)]
#[path = "windows/here.rs"]
pub mod here;
pub mod wire;

mod codec;
mod kept;
mod shelf;
mod shown;

// The one place where a kernel is chosen: both folders have the same names in them.
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod kernel;
#[cfg(all(unix, not(target_os = "linux")))]
#[path = "bsd/mod.rs"]
mod kernel;

#[cfg(unix)]
mod alone;
#[cfg(unix)]
mod asks;
#[cfg(unix)]
mod child;
#[cfg(unix)]
mod embed;
#[cfg(unix)]
mod engine;
#[cfg(unix)]
mod exits;
#[cfg(unix)]
mod fork;
#[cfg(unix)]
mod frame;
#[cfg(unix)]
mod instance;
#[cfg(unix)]
mod listen;
#[cfg(unix)]
mod logs;
#[cfg(unix)]
mod mail;
#[cfg(unix)]
mod notify;
#[cfg(unix)]
mod places;
#[cfg(unix)]
mod prepare;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod sockets;
#[cfg(unix)]
mod spawner;
#[cfg(unix)]
mod store;
#[cfg(unix)]
mod wait;
#[cfg(unix)]
mod walk;

pub use codec::{Decoder, FrameError, encode};

#[cfg(unix)]
pub use alone::{RuntimeCommand, run};
#[cfg(unix)]
pub use embed::embed;
#[cfg(unix)]
pub use engine::Options;
#[cfg(unix)]
pub use frame::{MAX_FDS, Outbox, recv_with_fds, send_with_fds};
#[cfg(unix)]
pub use process::{ancestry, start_time};

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::{
    Options, RuntimeCommand, embed, inherited, job_of_modules, monotonic_nanos, run,
};
#[cfg(windows)]
use windows::{mail, process};

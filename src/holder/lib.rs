//! mainstay-holder: the small parent process that owns the module processes.
//! Owns processes, exit statuses, log pipes, sockets and the lock; restarts the runtime.
//! Never decides anything about modules, never blocks on a disk, never uses tokio.

pub mod here;
pub mod wire;

mod codec;
pub use codec::{Decoder, FrameError, encode};

#[cfg(unix)]
mod frame;
#[cfg(unix)]
pub use frame::{MAX_FDS, Outbox, recv_with_fds, send_with_fds};

#[cfg(target_os = "linux")]
mod alone;
#[cfg(target_os = "linux")]
mod asks;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod clone;
#[cfg(target_os = "linux")]
mod embed;
#[cfg(target_os = "linux")]
mod engine;
#[cfg(target_os = "linux")]
mod exits;
#[cfg(target_os = "linux")]
mod fork;
#[cfg(target_os = "linux")]
mod group;
#[cfg(target_os = "linux")]
mod instance;
#[cfg(target_os = "linux")]
mod listen;
#[cfg(target_os = "linux")]
mod logs;
#[cfg(target_os = "linux")]
mod low;
#[cfg(target_os = "linux")]
mod mail;
#[cfg(target_os = "linux")]
mod notify;
#[cfg(target_os = "linux")]
mod places;
#[cfg(target_os = "linux")]
mod prepare;
#[cfg(target_os = "linux")]
mod procfs;
#[cfg(target_os = "linux")]
mod shelf;
#[cfg(target_os = "linux")]
mod spawner;
#[cfg(target_os = "linux")]
mod store;
#[cfg(target_os = "linux")]
mod wait;
#[cfg(target_os = "linux")]
mod walk;

#[cfg(target_os = "linux")]
pub use alone::{RuntimeCommand, run};
#[cfg(target_os = "linux")]
pub use embed::embed;
#[cfg(target_os = "linux")]
pub use engine::Options;

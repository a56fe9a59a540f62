//! mainstay-holder: the small parent process that owns the module processes.
//! Owns processes, exit statuses, log pipes, sockets and the lock; restarts the runtime.
//! Never decides anything about modules, never blocks on a disk, never uses tokio.

pub mod machines;
pub mod messages;
#[cfg(windows)]
#[path = "windows/preflight.rs"]
pub mod preflight;

mod codec;
#[cfg(unix)]
pub mod dir;
#[cfg(windows)]
#[path = "windows/dir.rs"]
pub mod dir;
mod runtime_command;
mod status_file;
mod workers;

// The one place where a kernel is chosen: both folders have the same names in them.
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod kernel;
#[cfg(all(unix, not(target_os = "linux")))]
#[path = "bsd/mod.rs"]
mod kernel;

#[cfg(unix)]
mod activation;
#[cfg(unix)]
mod ancestry;
#[cfg(unix)]
mod channel;
#[cfg(unix)]
mod clock;
#[cfg(unix)]
mod directories;
#[cfg(unix)]
mod dispatch;
#[cfg(unix)]
mod embed;
#[cfg(unix)]
mod engine;
#[cfg(unix)]
mod engine_queue;
#[cfg(unix)]
mod exits;
#[cfg(unix)]
mod fds;
#[cfg(unix)]
mod frame;
#[cfg(unix)]
mod freeze;
#[cfg(unix)]
mod instance;
#[cfg(unix)]
mod notify_input;
#[cfg(unix)]
mod poll_key;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod random;
#[cfg(target_os = "linux")]
mod reexec;
#[cfg(all(unix, not(target_os = "linux")))]
#[path = "bsd/reexec.rs"]
mod reexec;
#[cfg(unix)]
mod runtime_process;
#[cfg(unix)]
mod spawn;
#[cfg(unix)]
mod standalone;
#[cfg(target_os = "linux")]
mod succession;
#[cfg(all(unix, not(target_os = "linux")))]
#[path = "bsd/succession.rs"]
mod succession;
#[cfg(unix)]
mod suspension;
#[cfg(unix)]
mod threads;
#[cfg(unix)]
mod tree_stop;
#[cfg(unix)]
mod wait;

pub use codec::{Decoder, FrameError, encode};
pub use runtime_command::RuntimeCommand;

#[cfg(unix)]
pub use ancestry::{ancestry, start_time};
#[cfg(unix)]
pub use embed::embed;
#[cfg(unix)]
pub use engine::EngineOptions;
#[cfg(unix)]
pub use fds::{MAX_FDS, ReceivedMessage, receive_message};
#[cfg(unix)]
pub use frame::{FrameQueue, recv_with_fds, send_with_fds};
#[cfg(unix)]
pub use kernel::accept_descriptors;
#[cfg(target_os = "linux")]
pub use kernel::{group_controllers, group_dir, look_at, look_at_all};
#[cfg(target_os = "linux")]
pub use reexec::{check_state, resume};
#[cfg(unix)]
pub use spawn::trim::release_startup_memory;
#[cfg(unix)]
pub use standalone::run;
#[cfg(target_os = "linux")]
pub use succession::succeed;
#[cfg(unix)]
pub use workers::claimed_dirs::make_dir;
#[cfg(unix)]
pub use workers::foreign_fd::Closer;
#[cfg(unix)]
pub use workers::orphan_tree::{OrphanTree, tree_mark};

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::{
    EngineOptions, embed, inherited, modules_job_name, monotonic_nanos, on_service_report,
    request_stop, run,
};
#[cfg(windows)]
use windows::{engine_queue, threads};

//! Threads that may wait for a disk, a process or a sender: the loop of the holder never does.
//! Owns one file a thread, and what only these threads use.
//! Never decides: each reports to the loop by its queue.

#[cfg(unix)]
pub(crate) mod claimed_dirs;
#[cfg(unix)]
pub(crate) mod dir_keeper;
#[cfg(unix)]
pub(crate) mod fd_store;
#[cfg(unix)]
pub(crate) mod foreign_fd;
pub(crate) mod log_files;
pub(crate) mod log_index;
pub(crate) mod log_writer;
#[cfg(unix)]
pub(crate) mod mark;
#[cfg(unix)]
pub(crate) mod membership;
#[cfg(unix)]
pub(crate) mod notify;
#[cfg(unix)]
pub(crate) mod notify_allowance;
#[cfg(unix)]
pub(crate) mod notify_command;
#[cfg(target_os = "linux")]
pub(crate) mod notify_mirror;
#[cfg(unix)]
pub(crate) mod notify_receiver;
#[cfg(unix)]
pub(crate) mod notify_source;
#[cfg(unix)]
pub(crate) mod notify_thread;
#[cfg(unix)]
pub(crate) mod orphan_tree;
#[cfg(unix)]
pub(crate) mod output;
#[cfg(unix)]
pub(crate) mod reports;
#[cfg(unix)]
pub(crate) mod service_manager;
#[cfg(unix)]
pub(crate) mod setup;
#[cfg(unix)]
pub(crate) mod sweep;
pub(crate) mod tap_replay;
#[cfg(unix)]
pub(crate) mod tree_look;

//! How a process is started: the threads that do it, and what the child does before its exec.
//! Owns the queue of spawns and the descriptors of each until the loop takes them.
//! Never decides whether a process may start: the roster did.

pub(crate) mod child;
pub(crate) mod exec_spec;
pub(crate) mod fork;
pub(crate) mod launch;
pub(crate) mod prepare;
pub(crate) mod runtime_start;
pub(crate) mod spawn_error;
pub(crate) mod spawn_job;
pub(crate) mod spawner;
pub(crate) mod syscall;
pub(crate) mod trim;

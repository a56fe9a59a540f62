//! mainstay-holder: the small parent process that owns the module processes.
//! Owns processes, exit statuses, log pipes, sockets and the lock; restarts the runtime.
//! Never decides anything about modules, never blocks on a disk, never uses tokio.

pub mod wire;

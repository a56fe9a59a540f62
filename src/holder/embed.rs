//! The same engine on a thread of an application.
//! Owns that thread; the application holds the other end of the wire.
//! Never waits for foreign children, takes no signals, is no subreaper.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::{Builder, JoinHandle};

use nix::sys::resource::{Resource, getrlimit};

use crate::clock::monotonic;
use crate::engine::{Engine, EngineOptions};
use crate::kernel::CgroupRoot;
use crate::machines::RuntimeSupervisor;
use crate::threads::block_signals;

/// Starts an engine; returns the runtime's end of the wire and the thread with its exit code.
/// Closing the wire ends every process and then the thread.
///
/// # Errors
/// No descriptors or threads are left.
pub fn embed(options: EngineOptions) -> io::Result<(OwnedFd, JoinHandle<u8>)> {
    let (ours, theirs) = UnixStream::pair()?;
    let (rlim_cur, rlim_max) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let mut engine = Engine::new(
        RuntimeSupervisor::embedded(monotonic()),
        options,
        libc::rlimit { rlim_cur, rlim_max },
    )?;
    engine.site = engine.site.filter(CgroupRoot::without_moving);
    engine.connect(ours.into())?;
    engine.supervisor.channel_opened(monotonic());
    let thread = Builder::new().name("holder".into()).spawn(move || {
        block_signals();
        engine.run()
    })?;
    Ok((theirs.into(), thread))
}

//! The holder on Windows: a job object for each run, a pipe for each output, threads that wait.
//! Owns what `engine` and its neighbours own elsewhere; speaks the same words to the runtime.
//! Never decides anything about modules.

pub(crate) mod alone;
mod birth;
mod engine;
mod exits;
mod handles;
pub(crate) mod mail;
mod output;
mod places;
pub(crate) mod process;
mod told;

use std::io::{self, PipeReader, PipeWriter};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};

pub use alone::{RuntimeCommand, inherited, run};
pub use handles::{job_of_modules, monotonic_nanos};

use engine::Engine;
use mail::{Mail, QUEUE};

/// Choices of an embedding application: there are none here.
#[derive(Debug, Clone, Default)]
pub struct Options {}

/// Starts an engine on a thread of an application; returns the runtime's end of the wire and the
/// thread with its exit code. `Leave`, or closing the wire, ends every process and then the thread.
///
/// # Errors
/// No handles or threads are left.
pub fn embed(_: Options) -> io::Result<((PipeReader, PipeWriter), JoinHandle<u8>)> {
    let (sender, news) = sync_channel(QUEUE);
    let mut engine = Engine::new(Arc::new(Mail(sender)), news)?;
    let theirs = engine.connect()?;
    let thread = Builder::new()
        .name("holder".into())
        .spawn(move || engine.run())?;
    Ok((theirs, thread))
}

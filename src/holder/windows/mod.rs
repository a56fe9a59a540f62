//! The holder on Windows: a job object for each run, a pipe for each output, threads that wait.
//! Owns what `engine` and its neighbours own elsewhere; speaks the same words to the runtime.
//! Never decides anything about modules.

mod create_process;
mod directories;
mod engine;
pub(crate) mod engine_queue;
mod exits;
mod frame_writer;
mod handles;
mod output;
pub(crate) mod runtime_process;
mod standalone;
pub(crate) mod threads;

use std::io::{self, PipeReader, PipeWriter};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};

pub use handles::{modules_job_name, monotonic_nanos};
pub use runtime_process::{inherited, on_service_report, request_stop};
pub use standalone::run;

use crate::machines::RuntimeSupervisor;
use engine::Engine;
use engine_queue::{EngineQueue, QUEUE};
use handles::monotonic;

/// Choices of an embedding application: there are none here.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {}

/// Starts an engine on a thread of an application; returns the runtime's end of the wire and the
/// thread with its exit code. `Exit`, or closing the wire, ends every process and then the thread.
///
/// # Errors
/// No handles or threads are left.
pub fn embed(_: EngineOptions) -> io::Result<((PipeReader, PipeWriter), JoinHandle<u8>)> {
    let (sender, event) = sync_channel(QUEUE);
    let supervisor = RuntimeSupervisor::embedded(monotonic());
    let mut engine = Engine::new(supervisor, Arc::new(EngineQueue(sender)), event)?;
    let theirs = engine.connect()?;
    engine.supervisor.channel_opened(monotonic());
    engine.roster.runtime_connected(monotonic());
    let thread = Builder::new()
        .name("holder".into())
        .spawn(move || engine.run())?;
    Ok((theirs, thread))
}

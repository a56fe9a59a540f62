//! News for the loop from the threads that wait.
//! Owns the bounded queue.
//! Never makes whoever tells of output wait: what does not fit is dropped and counted.

use std::sync::mpsc::SyncSender;

use mainstay_process::{Instance, ProcessEventKind, StdStream};

use crate::messages::HolderRequest;

/// News that may wait; a thread with more waits itself.
pub(crate) const QUEUE: usize = 1024;

/// One piece of event.
#[derive(Debug)]
pub(crate) enum EngineEvent {
    /// The runtime asks; which runtime, counted from the first.
    Ask { runtime: u32, ask: HolderRequest },
    /// The runtime has closed its wire, or spoke nonsense.
    WireClosed { runtime: u32 },
    /// The runtime's process has ended.
    RuntimeEnded { runtime: u32, code: u32 },
    /// A tree has ended; what its main process returned, and what of its output is to be told.
    Exited {
        name: Instance,
        generation: u64,
        code: u32,
        output: String,
    },
    /// Tapped output.
    Output {
        name: Instance,
        generation: u64,
        text: String,
        stream: StdStream,
        dropped_bytes: u64,
    },
    /// Output did not reach the disk.
    OutputDropped {
        name: Instance,
        what: ProcessEventKind,
    },
    /// What an instance wrote until this was asked is in its file.
    OutputFlushed { number: u64 },
    /// A person, or the system, wants all of it to end.
    StopAsked,
}

/// The end that event goes in by.
#[derive(Debug)]
pub(crate) struct EngineQueue(pub(crate) SyncSender<EngineEvent>);

impl EngineQueue {
    /// Waits for room, except with what is only good to know: false when that was dropped.
    pub(crate) fn send(&self, event: EngineEvent) -> bool {
        match event {
            EngineEvent::Output { .. } | EngineEvent::OutputDropped { .. } => {
                self.0.try_send(event).is_ok()
            }
            event => self.0.send(event).is_ok(),
        }
    }
}

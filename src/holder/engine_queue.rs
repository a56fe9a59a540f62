//! Events for the loop from its other threads.
//! Owns a queue and the event descriptor that wakes the loop.
//! Never blocks a sender longer than the queue's lock.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mainstay_process::{Instance, ProcessEventKind};

use crate::kernel::LoopWaker;
use crate::spawn::spawn_error::SpawnError;
use crate::threads::lock;
use crate::workers::reports::{NotifyMessage, SpawnedProcess, SweptRun, TapOutput, TreeFound};

/// Output of tapped instances that may wait for the loop, in bytes.
const TAP_LIMIT_BYTES: usize = 1024 * 1024;
/// sd_notify messages that may wait for the loop, in bytes; each counts a little beside its text.
const NOTIFY_LIMIT_BYTES: usize = 1024 * 1024;
const NOTIFY_MESSAGE_BYTES: usize = 1024;

/// One event.
#[derive(Debug)]
pub(crate) enum EngineEvent {
    /// A spawn is done.
    Spawn {
        id: u32,
        outcome: Result<Box<SpawnedProcess>, SpawnError>,
    },
    /// What a finished stream had collected.
    Collected {
        id: u32,
        generation: u64,
        output: String,
    },
    /// A sweep over these instances is done.
    Swept(Vec<SweptRun>),
    /// What is alive of trees whose main process has exited.
    TreesLooked(Vec<TreeFound>),
    /// Tapped output.
    Output(TapOutput),
    /// A message of a run by sd_notify.
    Notify(Box<NotifyMessage>),
    /// Of what a run sends by sd_notify something is not received, and why.
    NotifyRejected {
        id: u32,
        generation: u64,
        message: String,
    },
    /// Every message of the run that was queued when it was requested was sent before this.
    NotifyDrained { id: u32, generation: u64, pid: i32 },
    /// What an instance wrote until this was asked is in its file.
    OutputFlushed { number: u64 },
    /// Output did not reach the disk, or does again.
    OutputDropped {
        name: Instance,
        what: ProcessEventKind,
    },
    /// The system is set up, or cannot be.
    SetupDone,
    /// Whether a program can go on from the state of this holder; why not.
    #[cfg(target_os = "linux")]
    ReexecChecked { problem: Option<String> },
    /// The runtime is started, or cannot be.
    RuntimeStarted,
    /// Removed directories of the system are there again, or cannot be created.
    Directories(Result<Vec<OwnedFd>, String>),
}

/// The queue without its descriptor, for a thread that has another table.
#[derive(Debug, Default)]
pub(crate) struct QueueState {
    queue: Mutex<Vec<EngineEvent>>,
    tapped: AtomicUsize,
    notify: AtomicUsize,
}

impl QueueState {
    /// True if the loop has to be woken.
    pub(crate) fn push(&self, event: EngineEvent) -> bool {
        let mut queue = lock(&self.queue);
        queue.push(event);
        queue.len() == 1
    }

    /// As [`QueueState::push`].
    pub(crate) fn push_notify(&self, message: Box<NotifyMessage>) -> bool {
        self.notify.fetch_add(cost(&message), Ordering::Relaxed);
        self.push(EngineEvent::Notify(message))
    }

    /// The loop is late with what was pushed by [`QueueState::push_notify`].
    pub(crate) fn is_full_of_notify(&self) -> bool {
        self.notify.load(Ordering::Relaxed) > NOTIFY_LIMIT_BYTES
    }
}

/// The queue.
#[derive(Debug)]
pub(crate) struct EngineQueue {
    state: Arc<QueueState>,
    wake: LoopWaker,
}

impl EngineQueue {
    pub(crate) fn new() -> io::Result<EngineQueue> {
        let wake = LoopWaker::new()?;
        Ok(EngineQueue {
            state: Arc::default(),
            wake,
        })
    }

    pub(crate) fn state(&self) -> Arc<QueueState> {
        Arc::clone(&self.state)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    pub(crate) fn send(&self, event: EngineEvent) {
        if self.state.push(event) {
            self.wake.wake();
        }
    }

    /// False when the loop is behind: then the text is dropped.
    pub(crate) fn send_output(&self, output: TapOutput) -> bool {
        if self.state.tapped.load(Ordering::Relaxed) > TAP_LIMIT_BYTES {
            return false;
        }
        self.state
            .tapped
            .fetch_add(output.text.len(), Ordering::Relaxed);
        self.send(EngineEvent::Output(output));
        true
    }

    pub(crate) fn take(&self) -> Vec<EngineEvent> {
        let state = &self.state;
        let taken = {
            let mut queue = lock(&state.queue);
            self.wake.clear();
            std::mem::take(&mut *queue)
        };
        for event in &taken {
            match event {
                EngineEvent::Output(output) => {
                    state.tapped.fetch_sub(output.text.len(), Ordering::Relaxed);
                }
                EngineEvent::Notify(message) => {
                    state.notify.fetch_sub(cost(message), Ordering::Relaxed);
                }
                _ => {}
            }
        }
        taken
    }
}

fn cost(message: &NotifyMessage) -> usize {
    message.text.len() + NOTIFY_MESSAGE_BYTES
}

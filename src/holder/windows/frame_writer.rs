//! What the runtime is told: frames on their way to it.
//! Owns the buffer before its pipe and the thread that empties it.
//! Never makes the loop wait for a runtime that does not read.

use std::io::{self, PipeWriter, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::threads::{lock, thread};
use crate::codec::{FrameError, encode};
use crate::messages::HolderMessage;

#[derive(Debug, Default)]
struct FrameWriterState {
    bytes: Vec<u8>,
    /// Bytes the thread has taken and not yet written.
    taken: usize,
    closed: bool,
}

#[derive(Debug, Default)]
struct FrameWriterShared {
    state: Mutex<FrameWriterState>,
    changed: Condvar,
}

/// The end that is told into; dropped, the runtime sees the end behind what was told.
#[derive(Debug)]
pub(crate) struct FrameWriter(Arc<FrameWriterShared>);

impl FrameWriter {
    pub(crate) fn start(to: PipeWriter) -> io::Result<FrameWriter> {
        let shared = Arc::new(FrameWriterShared::default());
        let own = Arc::clone(&shared);
        thread("wire-write", move || own.write(to))?;
        Ok(FrameWriter(shared))
    }

    pub(crate) fn push(&self, tell: &HolderMessage) -> Result<(), FrameError> {
        let pushed = encode(tell, &mut lock(&self.0.state).bytes);
        self.0.changed.notify_one();
        pushed
    }

    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        let state = lock(&self.0.state);
        state.bytes.len() + state.taken
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        lock(&self.0.state).closed = true;
        self.0.changed.notify_one();
    }
}

impl FrameWriterShared {
    fn write(&self, mut to: PipeWriter) {
        loop {
            let mut state = lock(&self.state);
            state.taken = 0;
            while state.bytes.is_empty() && !state.closed {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.bytes.is_empty() {
                return;
            }
            let frames = std::mem::take(&mut state.bytes);
            state.taken = frames.len();
            drop(state);
            if to.write_all(&frames).is_err() {
                return; // whoever reads from it sees that it is gone
            }
        }
    }
}

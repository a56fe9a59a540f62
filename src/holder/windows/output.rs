//! What modules write: a thread for each pipe, which it empties whatever happens.
//! Owns the read end; hands bytes to the shelf, to a tap, or keeps a tail to be told.
//! Never lets a module wait for a disk for longer than a moment: then what comes is dropped.

use std::io::{self, PipeReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use mainstay_process::{Instance, StdStream};

use super::engine_queue::{EngineEvent, EngineQueue};
use super::threads::{lock, thread};
use crate::workers::log_writer::LogWriter;
use crate::workers::tap_replay::TapReplay;

const CHUNK_BYTES: usize = 16 * 1024;
const TOLD_BYTES: usize = 4 * 1024;
const TAP_LINE_BYTES: usize = 32 * 1024;
/// How often and how long it is looked whether the file has followed.
const PATIENCE: (u32, Duration) = (100, Duration::from_millis(10));

/// A pipe that is to be emptied.
pub(crate) struct OutputStream {
    pub(crate) from: PipeReader,
    /// [`StdStream::Stderr`]: the other pipe of the run is the first.
    pub(crate) stream: StdStream,
    pub(crate) name: Instance,
    pub(crate) generation: u64,
    /// Whether what it writes is told at its end, instead of kept in a file.
    pub(crate) told: bool,
    pub(crate) tapped: Arc<AtomicBool>,
    pub(crate) kept: Arc<Mutex<TapReplay>>,
    pub(crate) shelf: Arc<LogWriter>,
    pub(crate) mail: Arc<EngineQueue>,
}

/// Starts to empty it; the tail to be told comes when its last writer is gone.
pub(crate) fn drain(stream: OutputStream) -> io::Result<Receiver<String>> {
    let (sender, tail) = sync_channel(1);
    let work = move || {
        let told = stream.run();
        let _nobody_waits_any_more = sender.send(told);
    };
    thread("log-read", work)?;
    Ok(tail)
}

impl OutputStream {
    fn run(mut self) -> String {
        let mut chunk = vec![0; CHUNK_BYTES];
        let (mut tail, mut tap) = (Vec::new(), TapState::default());
        if !self.told && self.stream != StdStream::Stderr {
            self.shelf.start_run(&self.name, self.generation);
        }
        loop {
            let count = match self.from.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break, // its last writer is gone
            };
            let bytes = &chunk[..count];
            if self.told {
                tail.extend_from_slice(bytes);
                tail.drain(..tail.len().saturating_sub(TOLD_BYTES));
            } else {
                self.append(bytes);
            }
            if self.tapped.load(Ordering::Relaxed) {
                tap.line.extend_from_slice(bytes);
                self.forward_tap(&mut tap, false);
            } else {
                tap.line.clear();
                lock(&self.kept).clear();
            }
        }
        self.forward_tap(&mut tap, true);
        String::from_utf8_lossy(&tail).into_owned()
    }

    fn append(&self, bytes: &[u8]) {
        for _ in 0..PATIENCE.0 {
            if self.shelf.has_room(&self.name, bytes.len()) {
                break;
            }
            sleep(PATIENCE.1);
        }
        let run = (self.generation, self.stream);
        self.shelf.append(&self.name, run, bytes, false);
    }

    /// Passes whole lines on, or what there is when it is too long or `all`.
    fn forward_tap(&self, tap: &mut TapState, all: bool) {
        while !tap.line.is_empty() {
            let most = tap.line.len().min(TAP_LINE_BYTES);
            let end = tap.line[..most].iter().rposition(|byte| *byte == b'\n');
            let count = match end {
                Some(end) => end + 1,
                None if all || most == TAP_LINE_BYTES => most,
                None => return,
            };
            let text = String::from_utf8_lossy(&tap.line[..count]).into_owned();
            lock(&self.kept).push(&text);
            let sent = self.mail.send(EngineEvent::Output {
                name: self.name.clone(),
                generation: self.generation,
                text,
                stream: self.stream,
                dropped_bytes: tap.lost,
            });
            tap.lost = if sent { 0 } else { tap.lost + count as u64 };
            tap.line.drain(..count);
        }
    }
}

#[derive(Default)]
struct TapState {
    line: Vec<u8>,
    lost: u64,
}

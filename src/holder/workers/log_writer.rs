//! The bounded buffer before the log files, and the thread that writes them.
//! Owns what waits; a slow or full disk costs output, which is counted, and nothing else.
//! Never makes a reader of pipes wait.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_process::{Exit, Instance, ProcessEventKind, StdStream};

use crate::engine_queue::{EngineEvent, EngineQueue};
use crate::threads::{lock, thread};
use crate::workers::log_files::LogFiles;
use crate::workers::log_index::{LogMark, LogMarkKind, push_mark, wall_clock};

/// Output that may wait for the disk: of one instance, and in all.
const ONE_LIMIT_BYTES: usize = 256 * 1024;
const ALL_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// How long an index may hold back the time of the last bytes.
const INDEX_DELAY: Duration = Duration::from_secs(1);
/// What a pipe may still hold when its process ended, on top of both.
const LAST_BYTES: usize = 128 * 1024;

#[derive(Debug, Default)]
pub(crate) struct PendingOutput {
    bytes: Vec<u8>,
    /// What the index is to say of the bytes.
    pub(crate) marks: Vec<LogMark>,
    /// The run that wrote last.
    pub(crate) wrote: u64,
    dropped: u64,
    pub(crate) total_dropped: u64,
    told_at: Option<Instant>,
    /// Who waits for what is here, and for what is being written.
    flush_waiters: Vec<u64>,
    queued: bool,
    /// Why a write failed, if one did.
    pub(crate) errno: Option<i32>,
    pub(crate) reason: Option<String>,
    /// Bytes are being dropped, and that was sent.
    pub(crate) reported: bool,
}

impl PendingOutput {
    fn mark(&mut self, what: LogMarkKind, run: u64, stream: StdStream, time: u64) {
        let mark = LogMark {
            at: self.bytes.len(),
            time: Some(time),
            run,
            stream,
            what,
        };
        push_mark(&mut self.marks, mark);
    }

    fn dropped(&self, name: &Instance, over: bool) -> EngineEvent {
        EngineEvent::OutputDropped {
            name: name.clone(),
            what: ProcessEventKind::OutputDropped {
                total_bytes: self.total_dropped,
                errno: self.errno,
                reason: self.reason.clone(),
                over,
            },
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct LogWriterState {
    pub(crate) waiting: HashMap<Instance, PendingOutput>,
    pub(crate) order: VecDeque<Instance>,
    total: usize,
    pub(crate) max_bytes: u64,
    pub(crate) keep: u32,
    /// The folder was removed and is there again: nothing that is open is of use.
    reopen: bool,
    /// Something is being written, or held back by an index.
    pub(crate) in_work: bool,
    /// Indexes are not to hold anything back.
    pub(crate) settling: bool,
    quit: bool,
    done: bool,
}

/// The buffer between pipes and files.
#[derive(Debug)]
pub(crate) struct LogWriter {
    folder: PathBuf,
    pub(crate) state: Mutex<LogWriterState>,
    pub(crate) changed: Condvar,
    queue: Arc<EngineQueue>,
}

impl LogWriter {
    /// Starts the writer.
    pub(crate) fn start(folder: PathBuf, queue: Arc<EngineQueue>) -> io::Result<Arc<LogWriter>> {
        let state = Mutex::default();
        let shelf = Arc::new(LogWriter {
            folder,
            state,
            changed: Condvar::new(),
            queue,
        });
        let writer = Arc::clone(&shelf);
        thread("log-write", move || writer.run())?;
        Ok(shelf)
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn limits(&self) -> (u64, u32) {
        let state = lock(&self.state);
        (state.max_bytes, state.keep)
    }

    pub(crate) fn set_limits(&self, max_bytes: u64, keep: u32) {
        let mut state = lock(&self.state);
        (state.max_bytes, state.keep) = (max_bytes, keep);
    }

    /// Whether so many bytes of an instance would be taken now.
    pub(crate) fn has_room(&self, name: &str, count: usize) -> bool {
        let state = lock(&self.state);
        let taken = state.waiting.get(name);
        let fits = |waiting: &PendingOutput| {
            waiting.dropped == 0 && waiting.bytes.len() + count <= ONE_LIMIT_BYTES
        };
        state.total + count <= ALL_LIMIT_BYTES && taken.is_none_or(fits)
    }

    /// A run starts. Nothing is written before it has output.
    pub(crate) fn start_run(&self, name: &Instance, run: u64) {
        let time = wall_clock();
        let mut state = lock(&self.state);
        let waiting = state.waiting.entry(name.clone()).or_default();
        waiting.mark(LogMarkKind::Started, run, StdStream::Both, time);
    }

    /// A run ended, and all its output is here.
    pub(crate) fn end_run(&self, name: &Instance, run: u64, exit: Exit) {
        let time = wall_clock();
        let mut state = lock(&self.state);
        let waiting = state.waiting.entry(name.clone()).or_default();
        waiting.mark(LogMarkKind::Ended(exit), run, StdStream::Both, time);
        if waiting.wrote == run && !std::mem::replace(&mut waiting.queued, true) {
            state.order.push_back(name.clone());
            self.changed.notify_all();
        }
    }

    /// Takes bytes of a run, or counts them as dropped; `last`: what was left behind by a process.
    pub(crate) fn append(
        &self,
        name: &Instance,
        (run, stream): (u64, StdStream),
        bytes: &[u8],
        last: bool,
    ) {
        let time = wall_clock();
        let mut state = lock(&self.state);
        let more = if last { LAST_BYTES } else { 0 };
        let room = (ALL_LIMIT_BYTES + more).saturating_sub(state.total);
        let waiting = state.waiting.entry(name.clone()).or_default();
        let room = room.min((ONE_LIMIT_BYTES + more).saturating_sub(waiting.bytes.len()));
        // After a gap nothing is taken until the writer was there: the gap's line marks its place.
        let fits = waiting.dropped == 0 && bytes.len() <= room;
        let queue = !std::mem::replace(&mut waiting.queued, true);
        if fits {
            waiting.wrote = run;
            waiting.mark(LogMarkKind::Read, run, stream, time);
            waiting.bytes.extend_from_slice(bytes);
            state.total += bytes.len();
        } else {
            waiting.dropped += bytes.len() as u64;
            self.count_dropped(name, waiting, bytes.len() as u64);
        }
        if queue {
            state.order.push_back(name.clone());
            self.changed.notify_all();
        }
    }

    /// [`EngineEvent::OutputFlushed`] follows when what was put here so far is written, or dropped.
    pub(crate) fn notify_when_written(&self, name: &Instance, number: u64) {
        let mut state = lock(&self.state);
        let waiting = state.waiting.entry(name.clone()).or_default();
        waiting.flush_waiters.push(number);
        if !std::mem::replace(&mut waiting.queued, true) {
            state.order.push_back(name.clone());
            self.changed.notify_all();
        }
    }

    fn count_dropped(&self, name: &Instance, waiting: &mut PendingOutput, count: u64) {
        waiting.total_dropped += count;
        let now = Instant::now();
        let recent = |at: Instant| now.duration_since(at) < Duration::from_secs(1);
        if !waiting.told_at.is_some_and(recent) {
            waiting.told_at = Some(now);
            waiting.reported = true;
            self.queue.send(waiting.dropped(name, false));
        }
    }

    /// Opens the folder and its files again before the next write.
    #[cfg(unix)]
    pub(crate) fn reopen(&self) {
        lock(&self.state).reopen = true;
    }

    pub(crate) fn forget(&self, name: &str) {
        let mut state = lock(&self.state);
        if state
            .waiting
            .get(name)
            .is_some_and(|waiting| !waiting.queued)
        {
            state.waiting.remove(name);
        }
    }

    /// Writes what waits and ends the writer; waits for it for so long at most.
    pub(crate) fn finish(&self, within: Duration) {
        let mut state = lock(&self.state);
        state.quit = true;
        self.changed.notify_all();
        let waited = self
            .changed
            .wait_timeout_while(state, within, |state| !state.done);
        drop(waited);
    }

    /// Waits for output, or until what indexes hold back since `late` is due.
    fn wait_for_output(&self, late: Option<Instant>) -> MutexGuard<'_, LogWriterState> {
        let mut state = lock(&self.state);
        if !state.order.is_empty() || state.quit {
            return state;
        }
        state.in_work = late.is_some();
        let Some(since) = late else {
            let waited = self.changed.wait(state);
            return waited.unwrap_or_else(PoisonError::into_inner);
        };
        let left = INDEX_DELAY.saturating_sub(since.elapsed());
        let waited = self.changed.wait_timeout(state, left);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn run(&self) {
        let mut files = LogFiles::new(self.folder.clone());
        let mut late = None;
        loop {
            let settling = lock(&self.state).settling;
            if late.is_some_and(|since: Instant| settling || since.elapsed() >= INDEX_DELAY) {
                files.flush_indexes();
                late = None;
            }
            let mut state = self.wait_for_output(late);
            if state.order.is_empty() && !state.quit {
                continue;
            }
            let Some(name) = state.order.pop_front() else {
                state.done = true;
                self.changed.notify_all();
                files.flush_indexes();
                return;
            };
            state.in_work = true;
            let limits = (state.max_bytes, state.keep);
            let reopen = std::mem::take(&mut state.reopen);
            let Some(waiting) = state.waiting.get_mut(&name) else {
                continue;
            };
            waiting.queued = false;
            let mut bytes = std::mem::take(&mut waiting.bytes);
            let mut marks = std::mem::take(&mut waiting.marks);
            let dropped = std::mem::take(&mut waiting.dropped);
            let settles = std::mem::take(&mut waiting.flush_waiters);
            drop(state);
            let taken = bytes.len();
            if dropped > 0 {
                let newline = if bytes.last().is_none_or(|last| *last == b'\n') {
                    ""
                } else {
                    "\n"
                };
                let note = format!("{newline}[mainstay: {dropped} bytes of output dropped]\n");
                let run = marks.last().map_or(0, |mark| mark.run);
                let mark = LogMark {
                    at: bytes.len(),
                    time: Some(wall_clock()),
                    run,
                    stream: StdStream::Both,
                    what: LogMarkKind::Read,
                };
                push_mark(&mut marks, mark);
                bytes.extend_from_slice(note.as_bytes());
            }
            if reopen {
                files.close();
            }
            let written = files.append(&name, &bytes, &marks, limits);
            late = late.or_else(|| files.is_deferred(&name).then(Instant::now));
            self.account(&name, written, dropped, taken);
            for number in settles {
                self.queue.send(EngineEvent::OutputFlushed { number });
            }
        }
    }

    /// Counts what a write lost, or reports that nothing is lost any more.
    fn account(&self, name: &Instance, written: io::Result<()>, dropped: u64, taken: usize) {
        let mut state = lock(&self.state);
        state.total -= taken;
        let Some(waiting) = state.waiting.get_mut(name) else {
            return;
        };
        match written {
            Ok(()) => {
                (waiting.errno, waiting.reason) = (None, None);
                if std::mem::take(&mut waiting.reported) {
                    self.queue.send(waiting.dropped(name, true));
                }
            }
            Err(problem) => {
                waiting.errno = problem.raw_os_error();
                waiting.reason = waiting.errno.is_none().then(|| problem.to_string());
                waiting.dropped += dropped + taken as u64;
                self.count_dropped(name, waiting, taken as u64);
            }
        }
    }
}

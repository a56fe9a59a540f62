//! Log files: the bounded buffer before them, the thread that writes them, their rotation.
//! Owns the files; a slow or full disk costs output, which is counted, and nothing else.
//! Never makes a reader of pipes wait.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_process::Instance;

use crate::engine_queue::{EngineEvent, EngineQueue, lock};
use crate::process::thread;

/// Output that may wait for the disk: of one instance, and in all.
const ONE_LIMIT_BYTES: usize = 256 * 1024;
const ALL_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// What a pipe may still hold when its process ended, on top of both.
const LAST_BYTES: usize = 128 * 1024;
/// Files kept open.
const OPEN_FILES: usize = 256;

#[derive(Debug, Default)]
struct PendingOutput {
    bytes: Vec<u8>,
    dropped: u64,
    total_dropped: u64,
    told_at: Option<Instant>,
    /// Who waits for what is here, and for what is being written.
    flush_waiters: Vec<u64>,
    queued: bool,
    /// Why a write failed, if one did.
    errno: Option<i32>,
}

#[derive(Debug, Default)]
struct LogWriterState {
    waiting: HashMap<Instance, PendingOutput>,
    order: VecDeque<Instance>,
    total: usize,
    max_bytes: u64,
    keep: u32,
    quit: bool,
    done: bool,
}

/// The buffer between pipes and files.
#[derive(Debug)]
pub(crate) struct LogWriter {
    folder: PathBuf,
    state: Mutex<LogWriterState>,
    changed: Condvar,
    mail: Arc<EngineQueue>,
}

impl LogWriter {
    /// Starts the writer.
    pub(crate) fn start(folder: PathBuf, mail: Arc<EngineQueue>) -> io::Result<Arc<LogWriter>> {
        let state = Mutex::default();
        let shelf = Arc::new(LogWriter {
            folder,
            state,
            changed: Condvar::new(),
            mail,
        });
        let writer = Arc::clone(&shelf);
        thread("log-write", move || writer.run())?;
        Ok(shelf)
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

    /// Takes bytes, or counts them as dropped; `last`: what was left behind by a process.
    pub(crate) fn append(&self, name: &Instance, bytes: &[u8], last: bool) {
        let mut state = lock(&self.state);
        let more = if last { LAST_BYTES } else { 0 };
        let room = (ALL_LIMIT_BYTES + more).saturating_sub(state.total);
        let waiting = state.waiting.entry(name.clone()).or_default();
        let room = room.min((ONE_LIMIT_BYTES + more).saturating_sub(waiting.bytes.len()));
        // After a gap nothing is taken until the writer was there: the gap's line marks its place.
        let fits = waiting.dropped == 0 && bytes.len() <= room;
        let queue = !std::mem::replace(&mut waiting.queued, true);
        if fits {
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
            let total_bytes = waiting.total_dropped;
            self.mail.send(EngineEvent::OutputDropped {
                name: name.clone(),
                total_bytes,
                errno: waiting.errno,
            });
        }
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

    fn run(&self) {
        let mut files = HashMap::new();
        loop {
            let mut state = lock(&self.state);
            while state.order.is_empty() && !state.quit {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let Some(name) = state.order.pop_front() else {
                state.done = true;
                self.changed.notify_all();
                return;
            };
            let limits = (state.max_bytes, state.keep);
            let Some(waiting) = state.waiting.get_mut(&name) else {
                continue;
            };
            waiting.queued = false;
            let mut bytes = std::mem::take(&mut waiting.bytes);
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
                bytes.extend_from_slice(note.as_bytes());
            }
            if files.len() > OPEN_FILES {
                files.clear();
            }
            let path = self.folder.join(format!("{name}.log"));
            let written = write(&mut files, &name, &path, &bytes, limits);
            let mut state = lock(&self.state);
            state.total -= taken;
            if let Err(problem) = written {
                files.remove(&name);
                if let Some(waiting) = state.waiting.get_mut(&name) {
                    waiting.errno = problem.raw_os_error();
                    waiting.dropped += dropped + taken as u64;
                    self.count_dropped(&name, waiting, taken as u64);
                }
            }
            drop(state);
            for number in settles {
                self.mail.send(EngineEvent::OutputFlushed { number });
            }
        }
    }
}

type Files = HashMap<Instance, File>;

fn write(
    files: &mut Files,
    name: &Instance,
    path: &Path,
    mut bytes: &[u8],
    (max_bytes, keep): (u64, u32),
) -> io::Result<()> {
    let max = if max_bytes == 0 { u64::MAX } else { max_bytes };
    while !bytes.is_empty() {
        let size = open(files, name, path)?;
        let room = usize::try_from(max.saturating_sub(size)).unwrap_or(usize::MAX);
        let part = fitting(bytes, room, size == 0);
        if part == 0 {
            files.remove(name);
            rotate(path, keep)?;
            continue;
        }
        if let Some(file) = files.get_mut(name) {
            file.write_all(&bytes[..part])?;
        }
        bytes = &bytes[part..];
    }
    Ok(())
}

/// How much goes into the current file: whole lines, unless one line alone is too long for a file.
fn fitting(bytes: &[u8], room: usize, empty: bool) -> usize {
    if bytes.len() <= room {
        return bytes.len();
    }
    match bytes[..room].iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None if empty => room.max(1),
        None => 0,
    }
}

/// Opens the file if it is not open or was moved away; its size.
fn open(files: &mut Files, name: &Instance, path: &Path) -> io::Result<u64> {
    if let Some(file) = files.get(name) {
        let seen = file.metadata()?;
        if is_there(&seen) {
            return Ok(seen.len());
        }
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let size = file.metadata()?.len();
    files.insert(name.clone(), file);
    Ok(size)
}

#[cfg(unix)]
fn is_there(seen: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(seen) > 0
}

/// Windows does not say; who takes a log away while it is written loses what follows.
#[cfg(windows)]
fn is_there(_: &fs::Metadata) -> bool {
    true
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(format!(".{number}"));
    text.into()
}

/// NAME.log becomes .1, .1 becomes .2 and so on; what is older than `keep` goes.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    for old in keep.max(1)..keep.saturating_add(16) {
        if fs::remove_file(numbered(path, old)).is_err() {
            break;
        }
    }
    for number in (1..keep).rev() {
        match fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
            _ => {}
        }
    }
    if keep == 0 {
        fs::remove_file(path)
    } else {
        fs::rename(path, numbered(path, 1))
    }
}

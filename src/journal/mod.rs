//! The journal: the durable, ordered history of a system, and the causes in it.
//! Owns `journal.db`, `journal.seq` and `audit.head` in the state directory, and the writer thread.
//! Never blocks an appending thread: not for the disk, a reader or a subscriber.
//!
//! ```text
//! append ─► intake (number, ring of the newest 1000) ─► queue (8192) ─► writer thread ─► SQLite
//!                                                                          │ committed
//!   read, why ◄─ reader (own connection, merges the ring)                  ▼
//!                                            subscription ◄── replay ── hub (live)
//! ```
//!
//! Locks: `intake` (every append), `hub` (every commit and subscribe), `watermark` (inside of
//! `intake` or alone), and small ones, each of which is taken alone.

mod actions;
mod append_buffer;
mod audit_head;
mod chain;
mod database;
mod describe;
mod new_event;
mod offline;
mod reader;
mod replay;
mod retention;
mod sequence;
mod streak;
mod subscription;
#[cfg(test)]
mod tests;
mod verify;
mod watermark;
mod why;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{Event, Timestamp};

pub use actions::{AdminAction, admin_actions};
pub(crate) use database::schema_version;
pub use describe::describe;
pub use new_event::NewEvent;
pub use offline::OfflineJournal;
pub use reader::{EventFilter, ReadError};
pub use replay::{ReplayedModule, replay};
pub use retention::Retention;
pub use streak::Streak;
pub use subscription::{EventSubscription, SubscriptionError};
pub use verify::{ChainBroken, ChainVerified, MissingRows, verify};
pub use watermark::WatermarkKeeper;
pub use why::{Story, story};

use append_buffer::{ACTIONS_MAX, AppendBuffer};
use new_event::Entry;
use subscription::Hub;
use watermark::Watermark;
use writer::{Writer, WriterRequest};

/// How long `status` shows that administrative rows were lost, in milliseconds.
const LOSS_SHOWN_MS: u64 = 24 * 3600 * 1000;
/// Ordinary events that may be queued for the writer.
const QUEUE: usize = 8192;
/// Requests that may be queued for the writer.
const REQUESTS: usize = 16;
/// File name of the database in the state directory.
pub const DATABASE: &str = "journal.db";

/// The parameters of [`Journal::open`].
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// The boot id of the machine; with `mono_ns` it orders events across clock changes.
    pub boot: String,
    /// Now, on the wall clock.
    pub now: Timestamp,
    /// Now, in nanoseconds of the monotonic clock.
    pub mono_ns: u64,
    /// How much history is kept.
    pub retention: Retention,
    /// What the holder kept of the journal of the runtime before.
    pub kept: Option<String>,
    /// Receives what the holder is to keep of this one.
    pub keeper: Option<WatermarkKeeper>,
    /// Delay before a failed write is retried: the first one, and the longest.
    pub retry: (Duration, Duration),
}

impl JournalSettings {
    /// Returns the default settings: default retention, retries after 1 s to 30 s.
    #[must_use]
    pub fn new(boot: impl Into<String>, now: Timestamp, mono_ns: u64) -> JournalSettings {
        JournalSettings {
            boot: boot.into(),
            now,
            mono_ns,
            retention: Retention::default(),
            kept: None,
            keeper: None,
            retry: (Duration::from_secs(1), Duration::from_secs(30)),
        }
    }
}

/// Why the journal cannot be opened. A disk that cannot be written is not an error: see
/// [`Journal::problem`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused a thread.
    #[error("cannot start the writer thread of the journal: {0}; raise the limit on threads")]
    Thread(#[source] io::Error),
}

/// State that appending threads, readers and the writer share.
#[derive(Debug)]
struct JournalShared {
    database: PathBuf,
    intake: Mutex<AppendBuffer>,
    hub: Mutex<Hub>,
    problem: Mutex<Option<String>>,
    /// When administrative rows were lost last, and why.
    incomplete: Mutex<Option<(Timestamp, String)>>,
    watermark: Mutex<Watermark>,
    keeper: Option<WatermarkKeeper>,
    retention: Retention,
    opening: Mutex<Opening>,
    opening_done: Condvar,
    /// Set by a reader that met damage: the writer then checks the whole file.
    suspect: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    UnderWay,
    Opened,
    Failed,
}

/// Locks a mutex, poisoned or not: every critical section leaves its data consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl JournalShared {
    /// Waits for the first attempt to open the database; returns whether it succeeded.
    fn wait_until_opened(&self, timeout: Duration) -> bool {
        let (opening, _) = self
            .opening_done
            .wait_timeout_while(lock(&self.opening), timeout, |opening| {
                *opening == Opening::UnderWay
            })
            .unwrap_or_else(PoisonError::into_inner);
        *opening == Opening::Opened
    }

    /// Changes the watermark. The holder is told under the lock, so that it keeps the newest one.
    fn update_watermark(&self, change: impl FnOnce(&mut Watermark)) {
        let mut watermark = lock(&self.watermark);
        let before = *watermark;
        change(&mut watermark);
        if let Some(keeper) = self.keeper.as_ref().filter(|_| before != *watermark) {
            keeper.keep(&watermark);
        }
    }

    fn set_opening(&self, to: Opening) {
        *lock(&self.opening) = to;
        self.opening_done.notify_all();
    }
}

/// A handle to the journal; cheap to clone. After the last handle is dropped, the writer writes the
/// queued events and closes the file.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<JournalShared>,
    queue: Sender<Arc<Entry>>,
    control: Sender<WriterRequest>,
    /// Disconnected after the writer has exited, which does not answer requests still queued.
    ended: Receiver<()>,
}

impl Journal {
    /// Opens the journal in `directory`. The writer thread opens and migrates the database; this
    /// call waits for the database only if `journal.seq` is missing.
    ///
    /// # Errors
    /// `OpenError::Thread` if the writer thread cannot be started. A database that cannot be opened
    /// is not an error: events stay in memory, and `problem` returns the reason.
    pub fn open(directory: &Path, settings: JournalSettings) -> Result<Journal, OpenError> {
        let database = directory.join(DATABASE);
        let kept = settings.kept.as_deref().and_then(Watermark::parse);
        let kept = kept.unwrap_or_default();
        let begin = sequence::first(directory, &database, settings.now, kept.next);
        let first = begin.seq;
        // Not synced: after a power cut an older number is detected and raised.
        let reserved = match sequence::write(directory, first + sequence::BLOCK, false) {
            Ok(()) => first + sequence::BLOCK,
            Err(_) => first,
        };
        let shared = Arc::new(JournalShared {
            database,
            intake: Mutex::new(AppendBuffer::new(first)),
            hub: Mutex::new(Hub::new(first - 1)),
            problem: Mutex::new(None),
            incomplete: Mutex::new(None),
            // The rest is kept until the writer has compared the database with it.
            watermark: Mutex::new(kept),
            keeper: settings.keeper.clone(),
            retention: settings.retention,
            opening: Mutex::new(Opening::UnderWay),
            opening_done: Condvar::new(),
            suspect: AtomicBool::new(false),
        });
        shared.update_watermark(|mark| mark.next = reserved);
        let (queue, queued) = bounded(QUEUE + ACTIONS_MAX);
        let (control, requests) = bounded(REQUESTS);
        let (alive, ended) = bounded(0);
        let writer = Writer::new(
            Arc::clone(&shared),
            queued,
            requests,
            settings,
            begin,
            reserved,
            kept,
        );
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                writer.run();
                drop(alive);
            })
            .map_err(OpenError::Thread)?;
        Ok(Journal {
            shared,
            queue,
            control,
            ended,
        })
    }

    /// Appends an event and returns its sequence number. Does not block: if the writer's queue is
    /// full, the event stays in memory and a `journal.gap` event reports the loss.
    pub fn append(&self, draft: NewEvent) -> u64 {
        let mut intake = lock(&self.shared.intake);
        intake.append(draft, &self.queue, |seq| {
            // Before the event is queued: the writer subtracts it after the commit.
            self.shared.update_watermark(|mark| {
                (mark.appended, mark.waiting) = (seq, mark.waiting + 1);
            });
        })
    }

    /// Returns why events cannot be written, if so.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        lock(&self.shared.problem).clone()
    }

    /// Returns what is wrong with history, for `status`: that it cannot be written, and for a day
    /// that administrative rows were lost.
    #[must_use]
    pub fn issues(&self, now: Timestamp) -> Vec<String> {
        let mut issues = Vec::new();
        if let Some(problem) = self.problem() {
            issues.push(format!("the journal is not written: {problem}"));
        }
        if let Some((at, text)) = &*lock(&self.shared.incomplete)
            && now.0.saturating_sub(at.0) < LOSS_SHOWN_MS
        {
            issues.push(format!(
                "the administrative history is incomplete: {text}; run `mainstay audit list` to \
                 see the gap"
            ));
        }
        issues
    }

    /// Returns the newest committed sequence number; 0 if there is none.
    #[must_use]
    pub fn committed(&self) -> u64 {
        lock(&self.shared.hub).committed()
    }

    /// Subscribes to committed events: first those after `since`, if given, then live ones, without
    /// loss or repetition in between.
    #[must_use]
    pub fn subscribe(&self, filter: EventFilter, since: Option<u64>) -> EventSubscription {
        EventSubscription::new(&self.shared, filter, since)
    }

    /// Returns the newest events that match `params`, oldest first: 100 by default, at most 10 000,
    /// uncommitted ones included. Blocks; actors use `list`.
    ///
    /// # Errors
    /// The database cannot be read, and no event in memory matches.
    pub fn read(&self, params: &EventsParams) -> Result<Vec<Event>, ReadError> {
        match reader::read(&self.shared, params) {
            (events, Some(error)) if events.is_empty() => Err(error),
            (events, _) => Ok(events),
        }
    }

    /// Calls `read` on a thread of tokio's blocking pool.
    ///
    /// # Errors
    /// As `read`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn list(&self, params: EventsParams) -> Result<Vec<Event>, ReadError> {
        let journal = self.clone();
        match tokio::task::spawn_blocking(move || journal.read(&params)).await {
            Ok(result) => result,
            // The tokio runtime is shutting down.
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Returns the newest `count` readable events of `module`, oldest first. Blocks.
    #[must_use]
    pub fn last(&self, module: &str, count: usize) -> Vec<Event> {
        let params = EventsParams {
            module: Some(module.to_owned()),
            limit: Some(count),
            ..EventsParams::default()
        };
        reader::read(&self.shared, &params).0
    }

    /// Returns the event with this sequence number, if it can be read. Blocks.
    #[must_use]
    pub fn event(&self, seq: u64) -> Option<Event> {
        reader::event_by_seq(&self.shared, seq)
    }

    /// Waits until everything appended so far is committed, without waiting for a pending retry.
    /// Returns whether it is.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.request_writer(timeout, WriterRequest::Flush)
    }

    /// Writes the queued events, closes the file and stops the writer; subscriptions end. Returns
    /// whether everything was written before the timeout; false if it was closed already. Events
    /// appended later stay in memory.
    #[must_use]
    pub fn close(&self, timeout: Duration) -> bool {
        self.request_writer(timeout, WriterRequest::Close)
    }

    fn request_writer(
        &self,
        timeout: Duration,
        request: fn(Sender<bool>) -> WriterRequest,
    ) -> bool {
        let (reply, answer) = bounded(1);
        if self.control.send_timeout(request(reply), timeout).is_err() {
            return false;
        }
        select! {
            recv(answer) -> done => done.unwrap_or(false),
            // The writer may have answered just before it exited.
            recv(self.ended) -> _ => answer.try_recv().unwrap_or(false),
            default(timeout) => false,
        }
    }
}

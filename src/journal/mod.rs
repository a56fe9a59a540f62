//! The journal: what happened, in order, kept across restarts, and why.
//! Owns `journal.db` and `journal.seq` in the state directory and the thread that writes them.
//! Never holds up who appends: not for the disk, not for a reader, not for a subscriber.
//!
//! ```text
//! append ─► intake (number, ring of the newest 1000) ─► queue (8192) ─► writer thread ─► SQLite
//!                                                                          │ committed
//!   read, why ◄─ reader (own connection, merges the ring)                  ▼
//!                                            subscription ◄── replay ── hub (live)
//! ```
//!
//! Locks: `intake` (every append), `hub` (every commit and subscribe), and small ones; everyone
//! takes one at a time, so no order between them can go wrong.

mod actions;
mod audit_head;
mod chain;
mod describe;
mod draft;
mod intake;
mod past;
mod reader;
mod replay;
mod retention;
mod sequence;
mod store;
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
pub use describe::{describe, span};
pub use draft::Draft;
pub use past::Past;
pub use reader::{Filter, ReadError};
pub use replay::{Replayed, replay};
pub use retention::Retention;
pub use subscription::{Ended, Subscription};
pub use verify::{ChainBroken, ChainVerified, MissingRows, verify};
pub use watermark::WatermarkKeeper;
pub use why::why;

use draft::Entry;
use intake::{ACTIONS_MAX, Intake};
use subscription::Hub;
use watermark::Watermark;
use writer::{Control, Writer};

/// How long `status` shows that administrative rows were lost, in milliseconds.
const LOSS_SHOWN_MS: u64 = 24 * 3600 * 1000;
/// Ordinary events that may wait for the writer.
const QUEUE: usize = 8192;
/// Requests to the writer that may wait.
const REQUESTS: usize = 16;
/// The database's name in the state directory.
pub const DATABASE: &str = "journal.db";

/// What the journal has to know when it is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which boot of the machine this is; together with `mono_ns` it orders events across clock
    /// changes.
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
    /// How long to wait before a failed write is tried again, first and at most.
    pub retry: (Duration, Duration),
}

impl Settings {
    /// The shipped settings: 30 days, 64 MiB, tried again after 1 s to 30 s.
    #[must_use]
    pub fn new(boot: impl Into<String>, now: Timestamp, mono_ns: u64) -> Settings {
        Settings {
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

/// Why there is no journal at all. A disk that cannot be written is no such reason: see
/// [`Journal::problem`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system gave no thread.
    #[error("cannot start the journal's writer thread: {0}; raise the limit on threads")]
    Thread(#[source] io::Error),
}

/// State that appenders, readers and the writer have in common.
#[derive(Debug)]
struct Shared {
    database: PathBuf,
    intake: Mutex<Intake>,
    hub: Mutex<Hub>,
    problem: Mutex<Option<String>>,
    /// When administrative rows were lost last, and why.
    incomplete: Mutex<Option<(Timestamp, String)>>,
    watermark: Mutex<Watermark>,
    keeper: Option<WatermarkKeeper>,
    retention: Mutex<Retention>,
    opening: Mutex<Opening>,
    opening_done: Condvar,
    /// A reader met damage: the writer looks at the whole file before it goes on.
    suspect: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    UnderWay,
    Opened,
    Failed,
}

/// A panic elsewhere does not make history unusable: every critical section leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Whether there is a database to read; waits for the first try to open it.
    fn wait_until_opened(&self, patience: Duration) -> bool {
        let (opening, _) = self
            .opening_done
            .wait_timeout_while(lock(&self.opening), patience, |opening| {
                *opening == Opening::UnderWay
            })
            .unwrap_or_else(PoisonError::into_inner);
        *opening == Opening::Opened
    }

    /// Changes the watermark; the holder is told under the lock, so that it keeps the newest.
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

/// A handle on the journal; cheap to clone. When the last one is gone, what is queued is written
/// and the file closed.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    queue: Sender<Arc<Entry>>,
    control: Sender<Control>,
    /// Disconnected when the writer has ended: a request it did not take is never answered.
    ended: Receiver<()>,
}

impl Journal {
    /// Opens the journal in `directory`, which has to exist. The database itself is opened and
    /// migrated by the writer thread; only a lost `journal.seq` makes this call wait for it.
    ///
    /// # Errors
    /// `Error::Thread` when the writer thread cannot be started. A database that cannot be opened
    /// is no error: events stay in memory and `problem` says why.
    pub fn open(directory: &Path, settings: Settings) -> Result<Journal, Error> {
        let database = directory.join(DATABASE);
        let kept = settings.kept.as_deref().and_then(Watermark::parse);
        let kept = kept.unwrap_or_default();
        let begin = sequence::first(directory, &database, settings.now, kept.next);
        let first = begin.seq;
        // Without waiting for the disk: after a power cut an older number is noticed and raised.
        let reserved = match sequence::write(directory, first + sequence::BLOCK, false) {
            Ok(()) => first + sequence::BLOCK,
            Err(_) => first,
        };
        let shared = Arc::new(Shared {
            database,
            intake: Mutex::new(Intake::new(first)),
            hub: Mutex::new(Hub::new(first - 1)),
            problem: Mutex::new(None),
            incomplete: Mutex::new(None),
            // The rest of it stays as it was until the database was compared with it.
            watermark: Mutex::new(kept),
            keeper: settings.keeper.clone(),
            retention: Mutex::new(settings.retention),
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
            .map_err(Error::Thread)?;
        Ok(Journal {
            shared,
            queue,
            control,
            ended,
        })
    }

    /// Takes an event and answers its number. Never waits: when the writer is too far behind, the
    /// event stays in memory only and a `journal.gap` will say so.
    pub fn append(&self, draft: Draft) -> u64 {
        let mut intake = lock(&self.shared.intake);
        intake.append(draft, &self.queue, |seq| {
            // Before the writer can have it: it takes the row off again.
            self.shared.update_watermark(|mark| {
                (mark.appended, mark.waiting) = (seq, mark.waiting + 1);
            });
        })
    }

    /// What keeps events from being written, for `status`; nothing when all is well.
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

    /// The newest committed event, 0 when there is none.
    #[must_use]
    pub fn committed(&self) -> u64 {
        lock(&self.shared.hub).committed()
    }

    /// Follows committed events: those after `since` first (none when nothing is given), then live,
    /// without loss or repetition in between.
    #[must_use]
    pub fn subscribe(&self, filter: Filter, since: Option<u64>) -> Subscription {
        Subscription::new(&self.shared, filter, since)
    }

    /// The newest events that `params` asks for, oldest first: 100 unless it says, at most 10 000.
    /// Events that are not written yet are among them. Blocks; for actors there is `list`.
    ///
    /// # Errors
    /// When the database cannot be read and memory has no answer either.
    pub fn read(&self, params: &EventsParams) -> Result<Vec<Event>, ReadError> {
        match reader::read(&self.shared, params) {
            (events, Some(error)) if events.is_empty() => Err(error),
            (events, _) => Ok(events),
        }
    }

    /// `read` on a thread of tokio's blocking pool.
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
            // Only when the runtime is shutting down: nobody is there to read an answer.
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The newest `count` events of `module`, oldest first, as far as they can be read. Blocks.
    #[must_use]
    pub fn last(&self, module: &str, count: usize) -> Vec<Event> {
        let params = EventsParams {
            module: Some(module.to_owned()),
            limit: Some(count),
            ..EventsParams::default()
        };
        reader::read(&self.shared, &params).0
    }

    /// The event with this number, if it can still be read. Blocks.
    #[must_use]
    pub fn event(&self, seq: u64) -> Option<Event> {
        reader::one(&self.shared, seq)
    }

    /// Keeps more or less history from the next cleaning on.
    pub fn set_retention(&self, retention: Retention) {
        *lock(&self.shared.retention) = retention;
    }

    /// Waits until everything appended so far is committed; tries at once, whatever failed before.
    /// Answers whether it is.
    #[must_use]
    pub fn flush(&self, patience: Duration) -> bool {
        self.ask(patience, Control::Flush)
    }

    /// Writes what is queued, closes the file and ends the writer; subscriptions end. Answers
    /// whether everything was written in time; false when it was closed before. What is appended
    /// later stays in memory.
    #[must_use]
    pub fn close(&self, patience: Duration) -> bool {
        self.ask(patience, Control::Close)
    }

    fn ask(&self, patience: Duration, request: fn(Sender<bool>) -> Control) -> bool {
        let (reply, answer) = bounded(1);
        if self.control.send_timeout(request(reply), patience).is_err() {
            return false;
        }
        select! {
            recv(answer) -> done => done.unwrap_or(false),
            // The answer may have come just before the end.
            recv(self.ended) -> _ => answer.try_recv().unwrap_or(false),
            default(patience) => false,
        }
    }
}

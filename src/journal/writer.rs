//! The writer thread: commits queued events in batches, then publishes them.
//! Owns the open database, the pending events and the reserved sequence numbers.
//! Never wakes without a reason: no timer runs while nothing is pending.

mod repair;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select};
use mainstay_protocol::Timestamp;

use super::append_buffer::{ACTIONS_MAX, LostActions, LostEvents, RING};
use super::chain::ChainPosition;
use super::database::{self, Database};
use super::new_event::Entry;
use super::retention::{self, Lane};
use super::sequence::{self, FirstNumber};
use super::watermark::Watermark;
use super::{JournalSettings, JournalShared, Opening};

/// Events of one transaction.
const BATCH: usize = 1024;
/// Interval between commits under load (more than one event per batch): a commit costs more than a
/// row.
const COMMIT_INTERVAL: Duration = Duration::from_millis(2);
/// A batch of this size is committed without waiting for more events.
const LARGE: usize = 256;
/// Events between two sweeps of a lane: of ordinary events, of administrative rows.
const SWEEP_EVERY: [usize; 2] = [1000, 100];
const LANES: [Lane; 2] = [Lane::Ordinary, Lane::Actions];

/// A request to the writer.
#[derive(Debug)]
pub(super) enum WriterRequest {
    /// Write everything now; the reply says whether that succeeded.
    Flush(Sender<bool>),
    /// Write everything, close the file and exit.
    Close(Sender<bool>),
}

/// Why events cannot be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    #[error("cannot reserve sequence numbers in journal.seq: {0}")]
    Numbers(#[source] io::Error),
    #[error("cannot rename the damaged file: {0}")]
    Aside(#[source] io::Error),
}

enum WriterWake {
    Queued(Arc<Entry>),
    Asked(WriterRequest),
    Again,
    Ended,
}

pub(super) struct Writer {
    shared: Arc<JournalShared>,
    queue: Receiver<Arc<Entry>>,
    requests: Receiver<WriterRequest>,
    directory: std::path::PathBuf,
    settings: JournalSettings,
    store: Option<Database>,
    /// Whether the database was opened before in this run.
    opened_before: bool,
    /// The first number of this run.
    first: FirstNumber,
    /// Smaller numbers may be committed: no later run begins with one of them.
    reserved: u64,
    /// What the holder kept from the last runtime.
    kept: Watermark,
    /// The newest link that this runtime knows of.
    position: ChainPosition,
    pending: VecDeque<Arc<Entry>>,
    /// Events dropped from `pending`, counted for the next gap event.
    dropped: Option<LostEvents>,
    /// Losses whose number is unknown: a crash, a damaged or deleted file.
    uncounted_losses: Vec<LostEvents>,
    newest_at: Timestamp,
    newest_mono_ns: u64,
    backoff: Duration,
    retry: Option<Receiver<Instant>>,
    /// Events of each lane since its last sweep.
    unswept: [usize; 2],
    /// No row of the lane is left up to this one.
    swept_upto: [i64; 2],
    last_batch: usize,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<JournalShared>,
        queue: Receiver<Arc<Entry>>,
        requests: Receiver<WriterRequest>,
        settings: JournalSettings,
        first: FirstNumber,
        reserved: u64,
        kept: Watermark,
    ) -> Writer {
        Writer {
            directory: shared
                .database
                .parent()
                .unwrap_or(Path::new("."))
                .to_owned(),
            shared,
            queue,
            requests,
            store: None,
            opened_before: false,
            first,
            reserved,
            kept,
            position: ChainPosition::default(),
            pending: VecDeque::new(),
            dropped: None,
            uncounted_losses: Vec::new(),
            newest_at: settings.now,
            newest_mono_ns: settings.mono_ns,
            backoff: settings.retry.0,
            retry: None,
            // The first batch is followed by a sweep of what the last run left.
            unswept: SWEEP_EVERY,
            swept_upto: [0; 2],
            last_batch: 0,
            settings,
        }
    }

    pub(super) fn run(mut self) {
        let _end = WriterGuard(Arc::clone(&self.shared));
        self.write(true);
        loop {
            match self.wait() {
                WriterWake::Queued(entry) => {
                    self.pending.push_back(entry);
                    self.write(false);
                }
                WriterWake::Again => {
                    self.retry = None;
                    self.write(false);
                }
                WriterWake::Asked(WriterRequest::Flush(reply)) => {
                    let done = self.write(true);
                    let _ = reply.try_send(done);
                }
                WriterWake::Asked(WriterRequest::Close(reply)) => {
                    let done = self.finish();
                    let _ = reply.try_send(done);
                    return;
                }
                WriterWake::Ended => {
                    self.finish();
                    return;
                }
            }
        }
    }

    fn wait(&mut self) -> WriterWake {
        if self.store.is_some() && (2..LARGE).contains(&self.last_batch) {
            self.last_batch = 0;
            select! {
                recv(self.requests) -> asked => {
                    return asked.map_or(WriterWake::Ended, WriterWake::Asked);
                }
                default(COMMIT_INTERVAL) => {}
            }
        }
        let never = never();
        let retry = self.retry.as_ref().unwrap_or(&never);
        select! {
            recv(self.queue) -> entry => entry.map_or(WriterWake::Ended, WriterWake::Queued),
            recv(self.requests) -> asked => asked.map_or(WriterWake::Ended, WriterWake::Asked),
            recv(retry) -> _ => WriterWake::Again,
        }
    }

    /// Writes what is pending, unless a retry is scheduled and `now` is false. Returns whether
    /// nothing is left to write.
    fn write(&mut self, now: bool) -> bool {
        loop {
            self.fill_batch();
            if self.retry.is_some() && !now {
                break;
            }
            let mut result = self.try_to_write();
            if result.as_ref().is_err_and(WriteError::is_damage) {
                result = self.start_new_database().and_then(|()| self.try_to_write());
            }
            if let Err(failure) = result {
                self.report_error(&failure);
                break;
            }
            self.clear_problem();
            // A lost event is not in the queue and does not wake the writer.
            if !super::lock(&self.shared.intake).has_lost() {
                break;
            }
        }
        self.bound_pending();
        self.pending.is_empty() && self.dropped.is_none()
    }

    /// Takes the events that are queued at the time of the call.
    fn fill_batch(&mut self) {
        let queued = self.queue.len();
        self.pending.extend(self.queue.try_iter().take(queued));
        if let Some(newest) = self.pending.back() {
            self.newest_at = newest.event.at.max(self.newest_at);
            self.newest_mono_ns = newest.mono_ns;
        }
        let (rest, lost) = super::lock(&self.shared.intake).drain_lost(&self.queue);
        self.pending.extend(rest);
        if let Some(lost) = lost {
            LostEvents::merge(&mut self.dropped, lost);
        }
    }

    fn try_to_write(&mut self) -> Result<(), WriteError> {
        self.ensure_store()?;
        self.last_batch = self.pending.len();
        while !self.pending.is_empty() {
            let count = self.pending.len().min(BATCH);
            let batch: Vec<_> = self.pending.iter().take(count).map(Arc::clone).collect();
            self.commit(&batch)?;
            self.pending.drain(..count);
            self.sweep_when_due()?;
        }
        self.write_gaps()
    }

    fn commit(&mut self, batch: &[Arc<Entry>]) -> Result<(), WriteError> {
        if let Some(last) = batch.last() {
            self.reserve_beyond(last.event.seq)?;
        }
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let inserted = store.insert(batch, &self.settings.boot, &self.position)?;
        if !inserted.ignored.is_empty() {
            let newest = store.newest()?;
            super::lock(&self.shared.intake).advance_past(newest);
        }
        let actions = batch.iter().filter(|entry| entry.administrative).count();
        self.unswept[0] += batch.len() - actions;
        self.unswept[1] += actions;
        super::lock(&self.shared.hub).publish(batch);
        for entry in &inserted.ignored {
            LostEvents::count_in(&mut self.dropped, entry, "their numbers were taken");
        }
        if actions > 0 {
            self.chain_grew(batch, &inserted);
        }
        Ok(())
    }

    /// Reserves the block of a number that is to be committed. The next block is reserved after
    /// half of this one is used; a failure before it is used up is ignored.
    fn reserve_beyond(&mut self, seq: u64) -> Result<(), WriteError> {
        if seq + sequence::BLOCK / 2 < self.reserved {
            return Ok(());
        }
        let reserved = seq + 1 + sequence::BLOCK;
        match sequence::write(&self.directory, reserved, true) {
            Ok(()) => self.reserved = reserved,
            Err(error) if seq >= self.reserved => return Err(WriteError::Numbers(error)),
            Err(_) => {}
        }
        Ok(())
    }

    /// Writes gap events last: they are numbered after every queued event.
    fn write_gaps(&mut self) -> Result<(), WriteError> {
        while let Some(lost) = self.uncounted_losses.pop() {
            self.write_gap(&lost)
                .inspect_err(|_| self.uncounted_losses.push(lost))?;
        }
        if let Some(lost) = self.dropped.take() {
            self.write_gap(&lost)
                .inspect_err(|_| self.dropped = Some(lost))?;
        }
        Ok(())
    }

    fn write_gap(&mut self, lost: &LostEvents) -> Result<(), WriteError> {
        // Events appended since `fill_batch` have smaller numbers and are written first.
        let (mut batch, gap) = {
            let mut intake = super::lock(&self.shared.intake);
            let queued: Vec<_> = self.queue.try_iter().collect();
            (queued, intake.number(lost.draft()))
        };
        self.pending.extend(batch.iter().map(Arc::clone));
        batch.push(gap);
        self.commit(&batch)?;
        self.pending.clear();
        self.shared.update_watermark(|mark| {
            mark.waiting = mark.waiting.saturating_sub(lost.waiting);
        });
        if lost.actions != LostActions::None {
            *super::lock(&self.shared.incomplete) = Some((lost.at, lost.text.clone()));
        }
        Ok(())
    }

    fn clear_problem(&mut self) {
        self.retry = None;
        self.backoff = self.settings.retry.0;
        if let Some(problem) = super::lock(&self.shared.problem).take() {
            tracing::info!(problem, "the journal is written again");
        }
    }

    fn report_error(&mut self, failure: &WriteError) {
        // The next attempt opens a new connection: this one may hold a partial log.
        self.store = None;
        if !self.opened_before {
            self.shared.set_opening(Opening::Failed);
        }
        let text = format!(
            "cannot write the journal {}: {failure}; the newest {RING} events are kept in memory \
             and the write is retried; {}",
            self.shared.database.display(),
            failure.next_step(&self.shared.database)
        );
        let news = super::lock(&self.shared.problem)
            .replace(text.clone())
            .as_ref()
            != Some(&text);
        if news {
            tracing::warn!("{text}");
        }
        self.last_batch = 0;
        if self.pending.is_empty() && self.dropped.is_none() {
            self.retry = None;
            return;
        }
        self.retry = Some(after(self.backoff));
        self.backoff = (self.backoff * 2).min(self.settings.retry.1);
    }

    /// Bounds the pending events: keeps the newest ordinary ones, and the oldest administrative
    /// ones, so that later actions do not displace an earlier one.
    fn bound_pending(&mut self) {
        let actions = self.pending.iter().filter(|entry| entry.administrative);
        let (actions, all) = (actions.count(), self.pending.len());
        let mut ordinary_over = (all - actions).saturating_sub(RING);
        if ordinary_over == 0 && actions <= ACTIONS_MAX {
            return;
        }
        let (mut actions_left, dropped) = (ACTIONS_MAX, &mut self.dropped);
        self.pending.retain(|entry| {
            let left = match entry.administrative {
                true => &mut actions_left,
                false => &mut ordinary_over,
            };
            // Counts down: places left for actions, or ordinary events to drop.
            let counted = *left > 0;
            *left = left.saturating_sub(1);
            let kept = counted == entry.administrative;
            if !kept {
                LostEvents::count_in(dropped, entry, "the journal could not be written");
            }
            kept
        });
    }

    fn sweep_when_due(&mut self) -> Result<(), WriteError> {
        let retention = self.shared.retention;
        for (at, lane) in LANES.into_iter().enumerate() {
            let due = self.unswept[at] >= SWEEP_EVERY[at];
            let Some(store) = self.store.as_mut().filter(|_| due) else {
                continue;
            };
            let after = self.swept_upto[at];
            // One step per batch, until a step finds nothing more.
            let connection = &mut store.connection;
            let removed = retention::step(connection, lane, retention, self.newest_at, after)?;
            self.swept_upto[at] = removed.upto;
            self.unswept[at] = if removed.more { SWEEP_EVERY[at] } else { 0 };
        }
        Ok(())
    }

    /// Writes what is pending and closes the file; a clean exit releases the unused numbers.
    fn finish(&mut self) -> bool {
        let done = self.write(true);
        let closed = self.store.take().is_some();
        // Another number in the file belongs to a runtime that has taken over already.
        if done && closed && sequence::read(&self.directory) == Some(self.reserved) {
            let next = super::lock(&self.shared.intake).next();
            // If this fails, the next run begins with the next block and a gap event.
            if sequence::write(&self.directory, next, false).is_ok() {
                self.shared.update_watermark(|mark| mark.next = next);
            }
        }
        done
    }
}

fn is_full(errno: i32) -> bool {
    use std::io::{Error, ErrorKind};
    let kind = Error::from_raw_os_error(errno).kind();
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl WriteError {
    /// Returns what a person can do. SQLite hides the errno: a write attempt finds it again.
    fn next_step(&self, database: &Path) -> String {
        let said = match self {
            WriteError::Numbers(error) | WriteError::Aside(error) => error.raw_os_error(),
            WriteError::Database(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) =>
            {
                Some(crate::os_text::DISK_FULL)
            }
            WriteError::Database(_) => {
                let opened = std::fs::OpenOptions::new().append(true).open(database);
                opened.err().and_then(|error| error.raw_os_error())
            }
        };
        let disk = database.parent().unwrap_or(database).display();
        match said {
            Some(errno) if is_full(errno) => {
                let errno = crate::os_text::errno_text(errno);
                format!("the disk that holds {disk} is full: {errno}; make room on it")
            }
            Some(errno) => format!("repair {disk}: {}", crate::os_text::errno_text(errno)),
            None => format!("free space on the disk that holds {disk}, or repair the file"),
        }
    }

    fn is_damage(&self) -> bool {
        matches!(self, WriteError::Database(error) if database::is_damage(error))
    }
}

/// Releases waiting threads when the writer exits; reports a panic in `status`.
struct WriterGuard(Arc<JournalShared>);

impl Drop for WriterGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = "cannot write the journal: its writer panicked, a bug in mainstay; events \
                        stay in memory; run `mainstay upgrade` or restart the system";
            *super::lock(&self.0.problem) = Some(text.to_owned());
        }
        if *super::lock(&self.0.opening) == Opening::UnderWay {
            self.0.set_opening(Opening::Failed);
        }
        super::lock(&self.0.hub).close();
    }
}

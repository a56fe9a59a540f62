//! Opens the journal and repairs what differs from the last commit.
//! Owns the comparison with the last run and the start of a new database after damage.
//! Never hides a loss: each one becomes a gap event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mainstay_protocol::EventKind;

use super::{WriteError, Writer};
use crate::journal::append_buffer::{LostActions, LostEvents};
use crate::journal::chain::ChainPosition;
use crate::journal::database::{self, Database, Inserted};
use crate::journal::new_event::Entry;
use crate::journal::{Opening, audit_head, lock};
use crate::os::private;

impl Writer {
    pub(super) fn ensure_store(&mut self) -> Result<(), WriteError> {
        if self.store.as_ref().is_some_and(|store| !store.is_there()) {
            self.store = None;
            self.record_break("the journal was deleted; a new one was created");
        }
        if self.shared.suspect.swap(false, Ordering::Relaxed)
            && self
                .store
                .as_ref()
                .is_some_and(|store| !store.check_integrity())
        {
            return Err(damage());
        }
        if self.store.is_none() {
            // The directory may have been deleted. Opening the database reports any error.
            let _ = private::private_dir(&self.directory);
            let store = Database::open(&self.shared.database)?;
            let newest = store.newest()?;
            if !self.opened_before {
                self.compare_with_last_run(&store, newest)?;
                self.opened_before = true;
            } else if newest < lock(&self.shared.hub).committed()
                && self.uncounted_losses.is_empty()
            {
                self.record_break("the journal was deleted; a new one was created");
            }
            self.store = Some(store);
            self.shared.set_opening(Opening::Opened);
        }
        Ok(())
    }

    /// Compares the database with the number that the last run reserved, and its chain with the end
    /// that `audit.head` and the holder know; records what is missing.
    fn compare_with_last_run(&mut self, store: &Database, newest: u64) -> rusqlite::Result<()> {
        self.position = store.chain_head()?;
        *lock(&self.shared.incomplete) = store.incomplete()?;
        if newest >= self.first.seq {
            self.numbers_were_used(newest);
        }
        if !self.uncounted_losses.is_empty() {
            return Ok(()); // the damaged database was renamed just now
        }
        let lost = self.lost_actions(store, newest)?;
        if lost.is_none() && newest + 1 >= self.first.seq {
            self.chain_is_whole();
            return Ok(());
        }
        let (actions, text) = lost.unwrap_or_else(|| {
            let text = match newest {
                0 => "the journal was missing; a new one was created",
                _ => "the runtime exited unexpectedly; what it had not written is missing",
            };
            (LostActions::None, text.to_owned())
        });
        self.uncounted_losses.push(LostEvents {
            count: None,
            actions,
            waiting: self.kept.waiting,
            from: newest + 1,
            to: self.first.seq.saturating_sub(1).max(newest + 1),
            at: self.settings.now,
            mono_ns: self.settings.mono_ns,
            text,
        });
        Ok(())
    }

    /// Renumbers after `journal.seq` was older than the database: a power cut, or a copied file.
    fn numbers_were_used(&mut self, newest: u64) {
        {
            let mut intake = lock(&self.shared.intake);
            intake.advance_past(newest);
            self.pending.extend(self.queue.try_iter());
        }
        let (used, fresh) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<VecDeque<_>, _>(|entry| entry.event.seq <= newest);
        self.pending = fresh;
        for entry in &used {
            LostEvents::count_in(
                &mut self.dropped,
                entry,
                "their numbers had been used before",
            );
        }
    }

    /// Returns how many administrative rows of earlier runs are missing, and why.
    fn lost_actions(
        &self,
        store: &Database,
        newest: u64,
    ) -> rusqlite::Result<Option<(LostActions, String)>> {
        let head = self.position;
        let known = self.known_head();
        if newest == 0 && self.first.recorded && self.first.seq > 1 {
            let text = "the journal was missing; a new one was created";
            let lost = known.count + self.kept.waiting;
            return Ok(Some((some_lost(lost), text.to_owned())));
        }
        if !store.holds(&known)? {
            let text = "the end of the journal was cut off, or the journal was replaced";
            let missing = some_lost(known.count.saturating_sub(head.count));
            return Ok(Some((missing, text.to_owned())));
        }
        // Rows that were committed after the last record reached the holder are not missing.
        let since = head.count.saturating_sub(self.kept.head.count);
        let waited = self.kept.waiting.saturating_sub(since);
        if self.kept.appended > head.seq && waited > 0 {
            let text = "the runtime exited unexpectedly before it had written them";
            return Ok(Some((LostActions::Known(waited), text.to_owned())));
        }
        Ok(None)
    }

    /// Renames the damaged database, so that a new one is created.
    pub(super) fn start_new_database(&mut self) -> Result<(), WriteError> {
        self.store = None;
        let aside = database::quarantine(&self.shared.database, self.newest_at)
            .map_err(WriteError::Aside)?;
        let name = aside.file_name().unwrap_or_default().to_string_lossy();
        tracing::warn!(aside = %aside.display(), "the journal was damaged and was renamed");
        self.record_break(&format!(
            "the journal was damaged and was renamed to {name}; a new one was created"
        ));
        Ok(())
    }

    /// Returns the longest chain that is known from outside the database.
    fn known_head(&self) -> ChainPosition {
        let file = audit_head::read(&self.directory).ok().flatten();
        let kept = (!self.opened_before).then_some(self.kept.head);
        let known = file.into_iter().chain(kept).chain([self.position]);
        known.max_by_key(|known| known.count).unwrap_or_default()
    }

    fn record_break(&mut self, text: &str) {
        let committed = lock(&self.shared.hub).committed();
        let actions = some_lost(self.known_head().count);
        self.position = ChainPosition::default();
        self.swept_upto = [0; 2];
        // The newest one covers the others: everything before it is gone.
        self.uncounted_losses.clear();
        self.uncounted_losses.push(LostEvents {
            count: None,
            actions,
            waiting: 0,
            from: 1,
            to: committed,
            at: self.newest_at,
            mono_ns: self.newest_mono_ns,
            text: text.to_owned(),
        });
    }

    /// Updates what is known of the chain after a commit with administrative rows.
    pub(super) fn chain_grew(&mut self, batch: &[Arc<Entry>], inserted: &Inserted) {
        if inserted.changed {
            let was = self.position;
            self.uncounted_losses.push(LostEvents {
                count: None,
                actions: LostActions::Unknown,
                waiting: 0,
                from: was.seq,
                to: was.seq,
                at: self.newest_at,
                mono_ns: self.newest_mono_ns,
                text: "administrative rows were changed or removed while mainstay ran".to_owned(),
            });
        }
        self.position = inserted.head;
        let counted =
            |entry: &&Arc<Entry>| entry.administrative && entry.event.kind != EventKind::JournalGap;
        let written = batch.iter().filter(counted).count();
        let ignored = inserted.ignored.iter().filter(counted).count();
        let written = (written - ignored) as u64;
        let head = self.position;
        self.shared.update_watermark(|mark| {
            (mark.head, mark.waiting) = (head, mark.waiting.saturating_sub(written));
        });
        self.keep_head();
    }

    /// Updates the watermark and `audit.head` if nothing of earlier runs is missing.
    fn chain_is_whole(&mut self) {
        let (head, waited) = (self.position, self.kept.waiting);
        self.shared.update_watermark(|mark| {
            (mark.head, mark.waiting) = (head, mark.waiting.saturating_sub(waited));
        });
        self.keep_head();
    }

    /// Writes `audit.head`. After a failure it names an older link, which is still in the chain.
    fn keep_head(&self) {
        if let Err(error) = audit_head::write(&self.directory, &self.position) {
            let file = self.directory.join(audit_head::FILE);
            tracing::warn!("cannot write {}: {error}", file.display());
        }
    }
}

/// Converts a number of missing administrative rows, of which 0 means unknown.
fn some_lost(count: u64) -> LostActions {
    match count {
        0 => LostActions::Unknown,
        count => LostActions::Known(count),
    }
}

/// Returns the error for damage that a reader met and the writer did not.
fn damage() -> WriteError {
    WriteError::Database(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some("a reader found the file damaged".to_owned()),
    ))
}

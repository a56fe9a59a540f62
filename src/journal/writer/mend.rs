//! What the writer does when the file is not as the last commit left it.
//! Owns opening, the comparison with the last run, and beginning anew after damage.
//! Never lets a loss pass in silence: each one becomes a gap record.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::{Failure, Writer};
use crate::journal::intake::Lost;
use crate::journal::store::{self, Store};
use crate::journal::{Opening, lock};

impl Writer {
    pub(super) fn ensure_store(&mut self) -> Result<(), Failure> {
        if self.store.as_ref().is_some_and(|store| !store.is_there()) {
            self.store = None;
            self.broken_off("the journal was deleted; a new one was begun");
        }
        if self.shared.suspect.swap(false, Ordering::Relaxed)
            && self.store.as_ref().is_some_and(|store| !store.is_sound())
        {
            return Err(damage());
        }
        if self.store.is_none() {
            let store = Store::open(&self.shared.database)?;
            let newest = store.newest()?;
            self.store = Some(store);
            self.shared.set_opening(Opening::Opened);
            if !std::mem::replace(&mut self.opened_before, true) {
                self.compare_with_last_run(newest);
            }
        }
        Ok(())
    }

    /// The last run left either exactly the next number, or a block it did not use up.
    fn compare_with_last_run(&mut self, newest: u64) {
        if newest >= self.first {
            // `journal.seq` was older than the database: a power cut or a copied file.
            {
                let mut intake = lock(&self.shared.intake);
                intake.raise_above(newest);
                self.pending.extend(self.queue.try_iter());
            }
            let (used, fresh) = std::mem::take(&mut self.pending)
                .into_iter()
                .partition::<VecDeque<_>, _>(|entry| entry.event.seq <= newest);
            self.pending = fresh;
            for entry in &used {
                Lost::count_in(
                    &mut self.dropped,
                    entry,
                    "their numbers had been used before",
                );
            }
        } else if newest + 1 < self.first && self.breaks.is_empty() {
            self.breaks.push(Lost {
                count: None,
                from: newest + 1,
                to: self.first - 1,
                at: self.settings.now,
                mono_ns: self.settings.mono_ns,
                text: if newest == 0 {
                    "the journal was missing; a new one was begun".to_owned()
                } else {
                    "mainstay ended unexpectedly; what it had not written yet is missing".to_owned()
                },
            });
        }
    }

    /// Moves the damaged database aside.
    pub(super) fn begin_anew(&mut self) -> Result<(), Failure> {
        self.store = None;
        let aside =
            store::set_aside(&self.shared.database, self.newest_at).map_err(Failure::Aside)?;
        let name = aside.file_name().unwrap_or_default().to_string_lossy();
        tracing::warn!(aside = %aside.display(), "the journal was damaged and was moved aside");
        self.broken_off(&format!(
            "the journal was damaged and was moved to {name}; a new one was begun"
        ));
        Ok(())
    }

    fn broken_off(&mut self, text: &str) {
        let committed = lock(&self.shared.hub).committed();
        // One break is as good as many: the newest says how far nothing is left.
        self.breaks.clear();
        self.breaks.push(Lost {
            count: None,
            from: 1,
            to: committed,
            at: self.newest_at,
            mono_ns: self.newest_mono_ns,
            text: text.to_owned(),
        });
    }
}

/// What is said when a reader met damage that the writer did not meet itself.
fn damage() -> Failure {
    Failure::Database(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some("a reader found the file damaged".to_owned()),
    ))
}

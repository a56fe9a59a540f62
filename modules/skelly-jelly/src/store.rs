//! The store: samples, scores, progress and achievements in one SQLite file.
//! Owns the schema and its migration, and how long things are kept.
//! Never holds more than the days it was told to keep.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use crate::points::Progress;
use crate::sample::Sample;
use crate::scoring::Current;

const SCHEMA: i64 = 1;
const DAY_MS: u64 = 86_400_000;
/// No answer holds more samples than this.
const MOST_ROWS: u64 = 3000;

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Its folder.
    #[error("cannot make the folder of {path}: {source}")]
    Folder {
        /// The database.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite.
    #[error("cannot {doing} in the database: {source}")]
    Sqlite {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// A newer program wrote it.
    #[error(
        "cannot use the database: its schema is {found}, this program knows {SCHEMA}; update it"
    )]
    Newer {
        /// The schema found.
        found: i64,
    },
    /// A stored text is not what was stored.
    #[error("cannot read the stored progress: {0}")]
    Content(#[from] serde_json::Error),
}

fn while_doing(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Sqlite { doing, source }
}

/// The open database.
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the file, making and migrating it as needed.
    ///
    /// # Errors
    /// When it cannot be opened, is no database, or comes from a newer program.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder {
                path: path.display().to_string(),
                source,
            })?;
        }
        let connection = Connection::open(path).map_err(while_doing("open a file"))?;
        let set = || {
            connection.busy_timeout(Duration::from_millis(500))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")
        };
        set().map_err(while_doing("set options"))?;
        let mut store = Store { connection };
        store.migrate()?;
        Ok(store)
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        let doing = while_doing("migrate the schema");
        let found: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(&doing)?;
        if found > SCHEMA {
            return Err(StoreError::Newer { found });
        }
        if found == SCHEMA {
            return Ok(());
        }
        self.connection
            .execute_batch(
                "BEGIN;
                 CREATE TABLE sample (at_ms INTEGER PRIMARY KEY, cpu REAL, memory REAL,
                                      load REAL, processes INTEGER, active INTEGER);
                 CREATE TABLE score (at_ms INTEGER PRIMARY KEY, scores TEXT NOT NULL);
                 CREATE TABLE progress (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL);
                 CREATE TABLE achievement (name TEXT PRIMARY KEY, at_ms INTEGER NOT NULL);
                 PRAGMA user_version = 1;
                 COMMIT;",
            )
            .map_err(doing)
    }

    /// Keeps a sample; one that is there already stays as it is.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn keep_sample(&self, sample: &Sample) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO sample VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .and_then(|mut insert| {
                insert.execute(params![
                    signed(sample.at_ms),
                    sample.cpu_percent,
                    sample.memory_percent,
                    sample.load,
                    sample.processes,
                    sample.active
                ])
            })
            .map(drop)
            .map_err(while_doing("keep a sample"))
    }

    /// Keeps scores; those that are there already stay as they are.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn keep_scores(&self, scores: &Current) -> Result<(), StoreError> {
        let text = serde_json::to_string(scores)?;
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO score VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![signed(scores.at_ms), text]))
            .map(drop)
            .map_err(while_doing("keep scores"))
    }

    /// Samples since that time, oldest first, the newest 3000 at most.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn recent(&self, since_ms: u64) -> Result<Vec<Sample>, StoreError> {
        let read = || {
            let mut query = self.connection.prepare_cached(
                "SELECT at_ms, cpu, memory, load, processes, active FROM sample
                 WHERE at_ms >= ?1 ORDER BY at_ms DESC LIMIT ?2",
            )?;
            let rows = query.query_map(params![signed(since_ms), signed(MOST_ROWS)], |row| {
                Ok(Sample {
                    at_ms: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
                    cpu_percent: row.get(1)?,
                    memory_percent: row.get(2)?,
                    load: row.get(3)?,
                    processes: row.get(4)?,
                    active: row.get(5)?,
                })
            })?;
            rows.collect::<Result<Vec<Sample>, rusqlite::Error>>()
        };
        let mut samples = read().map_err(while_doing("read samples"))?;
        samples.reverse();
        Ok(samples)
    }

    /// The newest scores; None before the first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn newest_scores(&self) -> Result<Option<Value>, StoreError> {
        let text: Option<String> = self
            .connection
            .query_row(
                "SELECT scores FROM score ORDER BY at_ms DESC LIMIT 1",
                [],
                |row| row.get(0),
            )
            .optional()
            .map_err(while_doing("read scores"))?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Keeps the player's progress and the achievements in it.
    ///
    /// # Errors
    /// When the disk does not take it; then nothing of it is kept.
    pub fn keep_progress(&mut self, progress: &Progress) -> Result<(), StoreError> {
        let text = serde_json::to_string(progress)?;
        let mut write = || {
            let transaction = self.connection.transaction()?;
            transaction.execute("INSERT OR REPLACE INTO progress VALUES (1, ?1)", [&text])?;
            for name in &progress.achievements {
                transaction.execute(
                    "INSERT OR IGNORE INTO achievement VALUES (?1, ?2)",
                    params![name, signed(progress.at_ms)],
                )?;
            }
            transaction.commit()
        };
        write().map_err(while_doing("keep progress"))
    }

    /// The player's progress; at the beginning none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn progress(&self) -> Result<Progress, StoreError> {
        let text: Option<String> = self
            .connection
            .query_row("SELECT text FROM progress", [], |row| row.get(0))
            .optional()
            .map_err(while_doing("read progress"))?;
        Ok(text.map_or_else(
            || Ok(Progress::default()),
            |text| serde_json::from_str(&text),
        )?)
    }

    /// Names of achievements and when each was earned, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn achievements(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let read = || {
            let mut query = self
                .connection
                .prepare("SELECT name, at_ms FROM achievement ORDER BY at_ms, rowid")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<_>, rusqlite::Error>>()
        };
        read().map_err(while_doing("read achievements"))
    }

    /// Forgets samples and scores that are older than so many days; returns how many.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn forget(&self, now_ms: u64, keep_days: u32) -> Result<usize, StoreError> {
        let before = signed(now_ms.saturating_sub(u64::from(keep_days) * DAY_MS));
        let doing = while_doing("forget old rows");
        let samples = self
            .connection
            .execute("DELETE FROM sample WHERE at_ms < ?1", [before]);
        let scores = self
            .connection
            .execute("DELETE FROM score WHERE at_ms < ?1", [before]);
        Ok(samples.map_err(&doing)? + scores.map_err(&doing)?)
    }

    /// How many samples there are.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn count(&self) -> Result<u64, StoreError> {
        self.connection
            .query_row("SELECT count(*) FROM sample", [], |row| {
                row.get::<_, i64>(0)
            })
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(while_doing("count samples"))
    }
}

/// SQLite's integers are signed; a time beyond them is the end of time.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn sample(at_ms: u64) -> Sample {
        Sample {
            at_ms,
            cpu_percent: 12.5,
            memory_percent: 50.0,
            load: 0.5,
            processes: 42,
            active: true,
        }
    }

    #[test]
    fn everything_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("storage.db");
        let progress = Progress {
            points: 7,
            achievements: vec!["first_steps".to_owned()],
            at_ms: 3,
            ..Progress::default()
        };
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.progress().unwrap(), Progress::default());
        assert_eq!(store.newest_scores().unwrap(), None);
        for at in [1, 2, 2, 3] {
            store.keep_sample(&sample(at)).unwrap();
        }
        store
            .keep_scores(&Current {
                at_ms: 3,
                ..Current::default()
            })
            .unwrap();
        store.keep_progress(&progress).unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.count().unwrap(), 3);
        assert_eq!(store.recent(2).unwrap(), [sample(2), sample(3)]);
        assert_eq!(store.newest_scores().unwrap().unwrap()["at_ms"], 3);
        assert_eq!(store.progress().unwrap(), progress);
        assert_eq!(
            store.achievements().unwrap(),
            [("first_steps".to_owned(), 3)]
        );
    }

    #[test]
    fn old_samples_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db")).unwrap();
        store.keep_sample(&sample(DAY_MS)).unwrap();
        store.keep_sample(&sample(3 * DAY_MS)).unwrap();
        assert_eq!(store.forget(3 * DAY_MS + 1, 1).unwrap(), 1);
        assert_eq!(store.count().unwrap(), 1);
    }

    #[test]
    fn a_newer_or_broken_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let store = Store::open(&path).unwrap();
        store
            .connection
            .pragma_update(None, "user_version", 99)
            .unwrap();
        drop(store);
        let error = Store::open(&path).err().unwrap();
        assert!(matches!(error, StoreError::Newer { found: 99 }), "{error}");
        std::fs::write(
            folder.path().join("text"),
            "not a database, and long enough to tell",
        )
        .unwrap();
        assert!(Store::open(&folder.path().join("text")).is_err());
    }
}

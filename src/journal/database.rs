//! The SQLite file: opens, migrates and appends to it, and quarantines a damaged one.
//! Owns the writing connection and the schema.
//! Never decides when to write or how to handle a failure: the writer does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_protocol::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use serde_json::Value;

use super::chain::{self, Canonical, ChainPosition};
use super::new_event::Entry;
use crate::os::private;

/// One step per version. Steps only add, so that an older mainstay can use a newer file.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        mono INTEGER NOT NULL,
        boot TEXT NOT NULL,
        kind TEXT NOT NULL,
        module TEXT,
        generation INTEGER,
        cause_seq INTEGER,
        cause TEXT,
        actor TEXT,
        payload TEXT,
        hash BLOB
    );
    CREATE INDEX event_of_module ON event (module) WHERE module IS NOT NULL;
    CREATE INDEX event_administrative ON event (seq) WHERE hash IS NOT NULL;
    CREATE TABLE chain (name TEXT PRIMARY KEY, count INTEGER NOT NULL, hash BLOB NOT NULL);
",
    "
    CREATE INDEX event_of_system ON event (seq) WHERE module IS NULL AND hash IS NULL;
",
];

/// OR IGNORE: a number that exists already must not block the events after it.
const INSERT: &str = "INSERT OR IGNORE INTO event \
    (seq, at, mono, boot, kind, module, generation, cause_seq, cause, actor, payload, hash) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

/// Damaged files that are kept; older ones are deleted.
const QUARANTINED_MAX: usize = 2;

/// Converts to a signed integer, the only ones of SQLite; larger numbers are clamped.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts back from `integer`.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Returns whether the file itself is damaged, so that a retry cannot succeed.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// The database, opened for writing.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens or creates the database and brings its schema up to date.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Database> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // History is for observers alone, whoever may read the directory. SQLite gives its other
        // files the same mode. An error is ignored: opening the file reports it.
        let _ = private::create_private(path);
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_millis(250))?;
        // auto_vacuum has to be set before the first table exists. NORMAL: a commit does not wait
        // for the disk; a power cut can lose the newest events, never older ones.
        connection.execute_batch(
            "PRAGMA auto_vacuum = INCREMENTAL;
             PRAGMA synchronous = NORMAL;
             PRAGMA cache_size = -512;
             PRAGMA journal_size_limit = 4194304;
             PRAGMA temp_store = MEMORY;",
        )?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        migrate(&mut connection)?;
        Ok(Database {
            connection,
            path: path.to_owned(),
        })
    }

    /// Returns the newest number in the database; 0 if it is empty.
    pub(super) fn newest(&self) -> rusqlite::Result<u64> {
        newest(&self.connection)
    }

    /// Returns whether the file still exists under its name: SQLite keeps writing to a deleted one.
    pub(super) fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// Returns the newest link of the chain.
    pub(super) fn chain_head(&self) -> rusqlite::Result<ChainPosition> {
        chain::position(&self.connection, "head")
    }

    /// Returns whether the chain still holds the link `known`.
    pub(super) fn holds(&self, known: &ChainPosition) -> rusqlite::Result<bool> {
        chain::holds(&self.connection, known)
    }

    /// Writes a batch in one transaction and links its administrative rows to the chain; reports
    /// whether the chain still held the link `known`.
    pub(super) fn insert(
        &mut self,
        batch: &[Arc<Entry>],
        boot: &str,
        known: &ChainPosition,
    ) -> rusqlite::Result<Inserted> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read in each transaction: during an upgrade two runtimes write for a moment.
        let chained = batch.iter().any(|entry| entry.administrative);
        let mut inserted = Inserted::default();
        if chained {
            inserted.changed = !chain::holds(&transaction, known)?;
            inserted.head = chain::position(&transaction, "head")?;
        }
        {
            let mut statement = transaction.prepare_cached(INSERT)?;
            for entry in batch {
                insert_one(&mut statement, entry, boot, &mut inserted)?;
            }
        }
        if chained {
            chain::set_position(&transaction, "head", inserted.head)?;
        }
        transaction.commit()?;
        Ok(inserted)
    }

    /// Returns the newest gap among administrative rows: when it was recorded, and its reason.
    pub(super) fn incomplete(&self) -> rusqlite::Result<Option<(Timestamp, String)>> {
        let mut statement = self.connection.prepare(
            "SELECT at, payload FROM (SELECT * FROM event WHERE hash IS NOT NULL \
             ORDER BY seq DESC LIMIT 1000) WHERE kind = 'journal.gap'",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let payload: Option<String> = row.get(1)?;
            let payload = payload.and_then(|text| serde_json::from_str::<Value>(&text).ok());
            let payload = payload.unwrap_or_default();
            if payload.get("actions").is_some() {
                let text = payload["text"].as_str().unwrap_or_default().to_owned();
                return Ok(Some((Timestamp(unsigned(row.get(0)?)), text)));
            }
        }
        Ok(None)
    }

    /// Checks the whole file for damage. Slow: only called after a reader met damage.
    pub(super) fn check_integrity(&self) -> bool {
        self.connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
            .is_ok_and(|answer| answer == "ok")
    }
}

/// The result of writing a batch.
#[derive(Debug, Default)]
pub(super) struct Inserted {
    /// The newest link, if the batch had administrative rows.
    pub(super) head: ChainPosition,
    /// Whether the chain differed from what this runtime wrote.
    pub(super) changed: bool,
    /// Events whose sequence numbers existed already.
    pub(super) ignored: Vec<Arc<Entry>>,
}

fn insert_one(
    statement: &mut rusqlite::CachedStatement<'_>,
    entry: &Arc<Entry>,
    boot: &str,
    inserted: &mut Inserted,
) -> rusqlite::Result<()> {
    let event = &entry.event;
    let payload = (!event.payload.is_null()).then(|| event.payload.to_string());
    let row = Canonical {
        seq: integer(event.seq),
        at: integer(event.at.0),
        mono: integer(entry.mono_ns),
        boot,
        kind: event.kind.as_str(),
        module: event.module.as_deref(),
        generation: event.generation.map(integer),
        cause_seq: event.cause_seq.map(integer),
        cause: event.cause.map(mainstay_protocol::StateCause::as_str),
        actor: event.actor.as_deref(),
        payload: payload.as_deref(),
    };
    let hash = entry.administrative.then(|| row.link(&inserted.head.hash));
    let written = statement.execute((
        row.seq,
        row.at,
        row.mono,
        row.boot,
        row.kind,
        row.module,
        row.generation,
        row.cause_seq,
        row.cause,
        row.actor,
        row.payload,
        hash,
    ))?;
    match hash {
        _ if written == 0 => inserted.ignored.push(Arc::clone(entry)),
        Some(hash) => inserted.head = inserted.head.next(event.seq, hash),
        None => {}
    }
    Ok(())
}

/// The version that this mainstay writes.
pub(crate) fn schema_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = usize::try_from(version).unwrap_or(0);
    if done < MIGRATIONS.len() {
        for step in &MIGRATIONS[done..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", integer(MIGRATIONS.len() as u64))?;
    }
    transaction.commit()
}

fn newest(connection: &Connection) -> rusqlite::Result<u64> {
    let seq: Option<i64> =
        connection.query_row("SELECT max(seq) FROM event", [], |row| row.get(0))?;
    Ok(seq.map_or(0, unsigned))
}

/// Returns the newest number in the database at `path`; none if it cannot be read.
pub(super) fn newest_of(path: &Path) -> Option<u64> {
    connect_to_read(path)
        .and_then(|connection| newest(&connection))
        .ok()
}

/// Opens a read-only connection.
pub(super) fn connect_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_millis(250))?;
    Ok(connection)
}

/// Renames a damaged database and its side files; returns the new path.
pub(super) fn quarantine(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let moment: String = now.to_string().replace(['-', ':'], "");
    let aside = with_suffix(path, &format!(".corrupt-{moment}"));
    fs::rename(path, &aside)?;
    for part in ["-wal", "-shm"] {
        let part_of = with_suffix(path, part);
        if part_of.exists() {
            fs::rename(part_of, with_suffix(&aside, part))?;
        }
    }
    remove_older(path);
    Ok(aside)
}

/// Deletes older damaged files, so that a failing disk is not filled with them. Best effort.
fn remove_older(path: &Path) {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let prefix = format!("{}.corrupt-", name.to_string_lossy());
    let Ok(files) = fs::read_dir(directory) else {
        return;
    };
    let mut aside: Vec<String> = files
        .flatten()
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .filter(|file| {
            file.starts_with(&prefix) && !file.ends_with("-wal") && !file.ends_with("-shm")
        })
        .collect();
    // The names end with the time, so that sorting orders them by age.
    aside.sort_unstable();
    let too_many = aside.len().saturating_sub(QUARANTINED_MAX);
    for file in &aside[..too_many] {
        for part in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(directory.join(format!("{file}{part}")));
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_of_a_newer_mainstay_is_still_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let store = Database::open(&path).unwrap();
        store
            .connection
            .execute_batch("ALTER TABLE event ADD COLUMN later TEXT; PRAGMA user_version = 99;")
            .unwrap();
        drop(store);
        let store = Database::open(&path).unwrap();
        assert_eq!(store.newest().unwrap(), 0);
        assert!(store.check_integrity());
        let version: i64 = store
            .connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(
            version, 99,
            "an older mainstay must not claim its own version"
        );
    }

    #[test]
    fn a_file_of_an_older_mainstay_is_brought_up_to_date_with_its_history() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.execute_batch(
            "INSERT INTO event (seq, at, mono, boot, kind) VALUES (7, 1, 1, '', 'module.ready');
             PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);
        let store = Database::open(&path).unwrap();
        assert_eq!(store.newest().unwrap(), 7);
        let version: i64 = store
            .connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(version, MIGRATIONS.len() as i64);
    }

    #[test]
    fn only_the_newest_damaged_files_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        for day in 0..4_u64 {
            fs::write(&path, "damaged").unwrap();
            quarantine(&path, Timestamp(1_700_000_000_000 + day * 86_400_000)).unwrap();
        }
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "journal.db.corrupt-20231116T221320.000Z",
                "journal.db.corrupt-20231117T221320.000Z"
            ]
        );
    }
}

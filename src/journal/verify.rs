//! `audit verify`: checks every administrative row against the chain and against `audit.head`.
//! Owns the messages about a row that was changed, removed, reordered or cut off, and a known gap.
//! Never writes, and needs no running mainstay.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_protocol::EventKind;
use rusqlite::{Connection, Transaction};
use serde::Serialize;

use super::chain::{self, COLUMNS, Canonical, ChainPosition, hex};
use super::{audit_head, database};

/// How long the database may be locked, as while a runtime that returned opens it.
const LOCKED_MAX: Duration = Duration::from_secs(5);

/// A chain in which every link holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainVerified {
    /// Administrative actions that were checked.
    pub count: u64,
    /// Links that were checked: actions, their results and gaps.
    pub links: u64,
    /// Links before them that retention removed; the chain continues from there.
    pub pruned: u64,
    /// Administrative rows that the chain itself says are missing.
    pub missing: Vec<MissingRows>,
    /// Whether the end was compared with `audit.head` beside the database.
    pub end_checked: bool,
    /// The newest hash in hexadecimal, zeros when there is no link. Equal journals have equal
    /// heads.
    pub head: String,
}

impl ChainVerified {
    /// Whether no administrative row is known to be missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

/// A gap in the administrative rows that the chain records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingRows {
    /// The event that records the gap.
    pub seq: u64,
    /// How many are missing; none when it cannot be known.
    pub count: Option<u64>,
    /// Why they are missing.
    pub text: String,
}

/// A chain that does not hold, or could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot verify the journal {}: {reason}", journal.display())]
pub struct ChainBroken {
    /// The database that was checked.
    pub journal: PathBuf,
    /// The first row that does not fit; none when the end or the file itself is what is wrong.
    pub seq: Option<u64>,
    /// What does not fit, in words.
    pub reason: String,
}

/// What is found while the chain is walked.
struct Walk {
    /// The newest link so far.
    at: ChainPosition,
    /// What `audit.head` names, until the walk has passed it.
    kept: Option<ChainPosition>,
    actions: u64,
    missing: Vec<MissingRows>,
}

/// Checks every administrative row in the database at `path` against its hash, and the newest one
/// against `audit.head` in the same directory.
///
/// # Errors
/// `ChainBroken` names the first row that was changed, removed, reordered or cut off, or why
/// nothing can be read.
pub fn verify(path: &Path) -> Result<ChainVerified, ChainBroken> {
    let broken = |(seq, reason): Mismatch| ChainBroken {
        journal: path.to_owned(),
        seq,
        reason,
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    // Read before the database: the writer replaces it after each commit, so it is never ahead.
    let kept = audit_head::read(directory).map_err(|error| {
        let file = directory.join(audit_head::FILE);
        broken((None, format!("cannot read {}: {error}", file.display())))
    })?;
    if !path.exists() {
        let reason = match kept.filter(|kept| kept.count > 0) {
            None => "there is none; `mainstay up` creates one".to_owned(),
            Some(kept) => format!(
                "it is missing; {} says that it had {} administrative rows",
                audit_head::FILE,
                kept.count
            ),
        };
        return Err(broken((None, reason)));
    }
    let connection = database::connect_to_read(path).and_then(|connection| {
        connection.busy_timeout(LOCKED_MAX)?;
        Ok(connection)
    });
    let connection = connection.map_err(|error| broken(unreadable(error)))?;
    check(&connection, kept).map_err(broken)
}

/// The first row that does not fit, and what is wrong.
type Mismatch = (Option<u64>, String);

fn unreadable(source: rusqlite::Error) -> Mismatch {
    (None, format!("it cannot be read: {source}"))
}

fn check(connection: &Connection, kept: Option<ChainPosition>) -> Result<ChainVerified, Mismatch> {
    // One snapshot: rows, anchor and head belong together although the writer continues.
    let snapshot = connection.unchecked_transaction().map_err(unreadable)?;
    if is_empty(&snapshot).map_err(unreadable)? {
        let reason = "nothing is in it yet; if mainstay is starting just now, try again";
        return Err((None, reason.to_owned()));
    }
    let anchor = chain::position(&snapshot, "anchor").map_err(unreadable)?;
    let head = chain::position(&snapshot, "head").map_err(unreadable)?;
    let mut walk = Walk {
        at: anchor,
        kept,
        actions: 0,
        missing: Vec::new(),
    };
    walk.pass_kept()?;
    walk.rows(&snapshot)?;
    if (walk.at.count, walk.at.hash) != (head.count, head.hash) {
        let reason = "the newest administrative rows are missing or were added by hand";
        return Err((None, reason.to_owned()));
    }
    if let Some(kept) = walk.kept {
        return Err((None, cut_off(&kept, &walk.at)));
    }
    Ok(ChainVerified {
        count: walk.actions,
        links: walk.at.count - anchor.count,
        pruned: anchor.count,
        missing: walk.missing,
        end_checked: kept.is_some(),
        head: hex(&walk.at.hash),
    })
}

/// Whether the database was created and its tables not yet.
fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
        row.get(0)
    })
}

/// `audit.head` names a link after the newest one.
fn cut_off(kept: &ChainPosition, newest: &ChainPosition) -> String {
    let rows = match kept.count - newest.count {
        1 => "1 administrative row was".to_owned(),
        rows => format!("{rows} administrative rows were"),
    };
    format!(
        "{rows} cut off at the end: {} names event {} as the newest, the journal ends with event \
         {}",
        audit_head::FILE,
        kept.seq,
        newest.seq
    )
}

impl Walk {
    fn rows(&mut self, snapshot: &Transaction<'_>) -> Result<(), Mismatch> {
        let sql = format!("SELECT {COLUMNS} FROM event WHERE hash IS NOT NULL ORDER BY seq");
        let mut statement = snapshot.prepare(&sql).map_err(unreadable)?;
        let mut rows = statement.query([]).map_err(unreadable)?;
        while let Some(row) = rows.next().map_err(unreadable)? {
            let seq = database::unsigned(row.get(0).map_err(unreadable)?);
            let malformed = |source| (Some(seq), format!("a row is malformed: {source}"));
            let canonical = Canonical::read(row).map_err(malformed)?;
            let stored: chain::Hash = row.get(11).map_err(malformed)?;
            if canonical.link(&self.at.hash) != stored {
                let reason = "this administrative row, or one before it, was changed, removed or \
                              reordered";
                return Err((Some(seq), reason.to_owned()));
            }
            self.at = self.at.next(seq, stored);
            self.count(seq, &canonical);
            self.pass_kept()?;
        }
        Ok(())
    }

    /// Compares with what `audit.head` names, once the walk is there.
    fn pass_kept(&mut self) -> Result<(), Mismatch> {
        let Some(kept) = self.kept.filter(|kept| kept.count <= self.at.count) else {
            return Ok(());
        };
        self.kept = None;
        if kept.count == self.at.count && kept.hash != self.at.hash {
            let reason = format!(
                "the administrative rows up to this one are not those that {} names: the journal \
                 was replaced",
                audit_head::FILE
            );
            return Err((Some(self.at.seq), reason));
        }
        Ok(())
    }

    fn count(&mut self, seq: u64, row: &Canonical<'_>) {
        if row.kind == EventKind::OperationFinished.as_str() {
            return;
        }
        if row.kind != EventKind::JournalGap.as_str() {
            self.actions += 1;
            return;
        }
        let payload = row.payload.and_then(|text| serde_json::from_str(text).ok());
        let payload: serde_json::Value = payload.unwrap_or_default();
        if let Some(count) = payload.get("actions") {
            self.missing.push(MissingRows {
                seq,
                count: count.as_u64(),
                text: payload["text"].as_str().unwrap_or_default().to_owned(),
            });
        }
    }
}

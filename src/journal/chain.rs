//! The hash chain over administrative actions: each row carries sha256(previous hash, row).
//! Owns the canonical form of a row and `verify`.
//! Never proves who wrote a row: keep the head elsewhere to notice a rewritten journal.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};

use super::store;

/// A link of the chain.
pub(super) type Hash = [u8; 32];

/// A chain in which every link holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Administrative actions that were checked.
    pub count: u64,
    /// Administrative actions before them that retention removed; the chain goes on from there.
    pub pruned: u64,
    /// The newest hash in hexadecimal, zeros when there is no action. Equal journals have equal
    /// heads.
    pub head: String,
}

/// A chain that does not hold, or could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot vouch for the journal {}: {reason}", journal.display())]
pub struct Broken {
    /// The database that was checked.
    pub journal: PathBuf,
    /// The first row that does not fit; none when the end or the file itself is what is wrong.
    pub seq: Option<u64>,
    /// What does not fit, in words.
    pub reason: String,
}

/// How far the chain reaches: the part that was pruned, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reach {
    pub(super) count: u64,
    pub(super) hash: Hash,
}

/// A row as the chain sees it, exactly as it is stored.
pub(super) struct Canonical<'a> {
    pub(super) seq: i64,
    pub(super) at: i64,
    pub(super) mono: i64,
    pub(super) boot: &'a str,
    pub(super) kind: &'a str,
    pub(super) module: Option<&'a str>,
    pub(super) generation: Option<i64>,
    pub(super) cause_seq: Option<i64>,
    pub(super) cause: Option<&'a str>,
    pub(super) actor: Option<&'a str>,
    pub(super) payload: Option<&'a str>,
}

impl Canonical<'_> {
    /// The hash of this row behind `previous`. A JSON array keeps the fields apart.
    pub(super) fn link(&self, previous: &Hash) -> Hash {
        let row = serde_json::json!([
            self.seq,
            self.at,
            self.mono,
            self.boot,
            self.kind,
            self.module,
            self.generation,
            self.cause_seq,
            self.cause,
            self.actor,
            self.payload,
        ]);
        let mut hasher = Sha256::new();
        hasher.update(previous);
        hasher.update(row.to_string().as_bytes());
        hasher.finalize().into()
    }
}

/// Reads how far the chain reaches: `anchor` (pruned) or `head` (newest).
pub(super) fn reach(connection: &Connection, name: &str) -> rusqlite::Result<Reach> {
    let found = connection
        .query_row(
            "SELECT count, hash FROM chain WHERE name = ?1",
            [name],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Hash>(1)?)),
        )
        .optional()?;
    Ok(found.map_or_else(Reach::default, |(count, hash)| Reach {
        count: u64::try_from(count).unwrap_or(0),
        hash,
    }))
}

/// Writes how far the chain reaches.
pub(super) fn set_reach(connection: &Connection, name: &str, to: Reach) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO chain (name, count, hash) VALUES (?1, ?2, ?3)")?
        .execute((name, store::integer(to.count), to.hash))?;
    Ok(())
}

/// Whether the database was created and its tables not yet.
fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
        row.get(0)
    })
}

/// Checks every administrative action in the database at `path` against its hash.
///
/// # Errors
/// `Broken` names the first row that was changed, removed or moved, or why nothing can be read.
pub fn verify(path: &Path) -> Result<Verified, Broken> {
    let broken = |seq, reason: String| Broken {
        journal: path.to_owned(),
        seq,
        reason,
    };
    let unreadable = |source: rusqlite::Error| broken(None, format!("it cannot be read: {source}"));
    if !path.exists() {
        return Err(broken(
            None,
            "there is none; `mainstay up` begins one".to_owned(),
        ));
    }
    let connection = store::connect_to_read(path).map_err(unreadable)?;
    // One snapshot: rows, anchor and head belong together although the writer goes on.
    let snapshot = connection.unchecked_transaction().map_err(unreadable)?;
    if is_empty(&snapshot).map_err(unreadable)? {
        let reason = "nothing is in it yet; if mainstay is starting just now, try again";
        return Err(broken(None, reason.to_owned()));
    }
    let anchor = reach(&snapshot, "anchor").map_err(unreadable)?;
    let head = reach(&snapshot, "head").map_err(unreadable)?;
    let mut statement = snapshot
        .prepare(
            "SELECT seq, at, mono, boot, kind, module, generation, cause_seq, cause, actor, \
             payload, hash FROM event WHERE hash IS NOT NULL ORDER BY seq",
        )
        .map_err(unreadable)?;
    let mut rows = statement.query([]).map_err(unreadable)?;
    let mut reached = anchor;
    while let Some(row) = rows.next().map_err(unreadable)? {
        let seq = row
            .get::<_, i64>(0)
            .ok()
            .and_then(|n| u64::try_from(n).ok());
        let (computed, stored) = link_of(row, &reached.hash).map_err(|source| {
            broken(seq, format!("a row is not as mainstay writes it: {source}"))
        })?;
        if computed != stored {
            let reason = "this administrative action, or one before it, was changed, removed or \
                          moved";
            return Err(broken(seq, reason.to_owned()));
        }
        reached = Reach {
            count: reached.count + 1,
            hash: stored,
        };
    }
    if reached != head {
        let reason = "the newest administrative actions are missing or were added by hand";
        return Err(broken(None, reason.to_owned()));
    }
    Ok(Verified {
        count: reached.count - anchor.count,
        pruned: anchor.count,
        head: reached
            .hash
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    })
}

fn link_of(row: &Row<'_>, previous: &Hash) -> rusqlite::Result<(Hash, Hash)> {
    let text = |at: usize| {
        row.get_ref(at)?
            .as_str_or_null()
            .map_err(rusqlite::Error::from)
    };
    let boot = text(3)?;
    let kind = text(4)?;
    let canonical = Canonical {
        seq: row.get(0)?,
        at: row.get(1)?,
        mono: row.get(2)?,
        boot: boot.unwrap_or_default(),
        kind: kind.unwrap_or_default(),
        module: text(5)?,
        generation: row.get(6)?,
        cause_seq: row.get(7)?,
        cause: text(8)?,
        actor: text(9)?,
        payload: text(10)?,
    };
    Ok((canonical.link(previous), row.get(11)?))
}

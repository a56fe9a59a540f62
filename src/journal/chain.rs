//! The hash chain over administrative rows: each one carries sha256(previous hash, row).
//! Owns the canonical form of a row and the two positions stored in the database.
//! Never proves who wrote a row: `audit.head` and the holder keep the newest hash elsewhere.

use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};

use super::database;

/// A link of the chain.
pub(super) type Hash = [u8; 32];

/// A place in the chain: the end of the part that retention removed, or the newest link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ChainPosition {
    /// The row; 0 before the first.
    pub(super) seq: u64,
    /// Links up to this one.
    pub(super) count: u64,
    /// Its hash; zeros before the first.
    pub(super) hash: Hash,
}

impl ChainPosition {
    /// The position after one more link.
    pub(super) fn next(&self, seq: u64, hash: Hash) -> ChainPosition {
        ChainPosition {
            seq,
            count: self.count + 1,
            hash,
        }
    }
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

/// The columns that [`Canonical::read`] reads, and the stored hash after them.
pub(super) const COLUMNS: &str =
    "seq, at, mono, boot, kind, module, generation, cause_seq, cause, actor, payload, hash";

impl<'a> Canonical<'a> {
    /// Reads a row of [`COLUMNS`].
    pub(super) fn read(row: &'a Row<'_>) -> rusqlite::Result<Canonical<'a>> {
        let text = |at: usize| {
            row.get_ref(at)?
                .as_str_or_null()
                .map_err(rusqlite::Error::from)
        };
        Ok(Canonical {
            seq: row.get(0)?,
            at: row.get(1)?,
            mono: row.get(2)?,
            boot: text(3)?.unwrap_or_default(),
            kind: text(4)?.unwrap_or_default(),
            module: text(5)?,
            generation: row.get(6)?,
            cause_seq: row.get(7)?,
            cause: text(8)?,
            actor: text(9)?,
            payload: text(10)?,
        })
    }

    /// Returns the hash of this row after `previous`. A JSON array keeps the fields apart.
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

/// Reads a position of the chain: `anchor` (the end of what retention removed) or `head`, of which
/// alone the row is known.
pub(super) fn position(connection: &Connection, name: &str) -> rusqlite::Result<ChainPosition> {
    let found = connection
        .prepare_cached(
            "SELECT count, hash, (SELECT max(seq) FROM event WHERE hash IS NOT NULL) FROM chain \
             WHERE name = ?1",
        )?
        .query_row([name], |row| {
            Ok(ChainPosition {
                count: database::unsigned(row.get(0)?),
                hash: row.get(1)?,
                seq: database::unsigned(row.get::<_, Option<i64>>(2)?.unwrap_or(0)),
            })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Writes a position of the chain.
pub(super) fn set_position(
    connection: &Connection,
    name: &str,
    to: ChainPosition,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO chain (name, count, hash) VALUES (?1, ?2, ?3)")?
        .execute((name, database::integer(to.count), to.hash))?;
    Ok(())
}

/// Whether the chain in the database still holds the link that `known` names, or retention removed
/// it.
pub(super) fn holds(connection: &Connection, known: &ChainPosition) -> rusqlite::Result<bool> {
    let anchor = position(connection, "anchor")?;
    if known.count <= anchor.count {
        return Ok(known.count < anchor.count || known.hash == anchor.hash);
    }
    let stored: Option<Hash> = connection
        .prepare_cached("SELECT hash FROM event WHERE seq = ?1 AND hash IS NOT NULL")?
        .query_row([database::integer(known.seq)], |row| row.get(0))
        .optional()?;
    Ok(stored == Some(known.hash) && position(connection, "head")?.count >= known.count)
}

/// A hash in hexadecimal.
pub(super) fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

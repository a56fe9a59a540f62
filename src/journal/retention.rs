//! How long events are kept: by age and by size, removed in small steps from the oldest on.
//! Owns the rule and one step of it. Never reads a clock and never waits: the writer asks between
//! batches.

use std::time::Duration;

use mainstay_protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::chain::{self, Reach};
use super::store;

/// Rows removed at once; a step takes a few milliseconds.
const STEP: i64 = 500;
/// Newest rows that age alone never removes: a clock that jumped must not empty the journal.
const ALWAYS_KEPT: i64 = 1000;

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events older than this are removed, except the newest 1000.
    pub max_age: Duration,
    /// The oldest events are removed while the database is larger than this, in bytes.
    pub max_bytes: u64,
}

impl Default for Retention {
    /// 30 days, 64 MiB.
    fn default() -> Retention {
        Retention {
            max_age: Duration::from_secs(30 * 24 * 3600),
            max_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Removes at most one step of the oldest events; answers whether there may be more to remove.
pub(super) fn step(
    connection: &mut Connection,
    retention: Retention,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let too_large = bytes_in_use(&transaction)? > retention.max_bytes;
    let upto = if too_large {
        nth_oldest(&transaction, STEP)?
    } else {
        let age_ms = u64::try_from(retention.max_age.as_millis()).unwrap_or(u64::MAX);
        too_old(&transaction, now.0.saturating_sub(age_ms))?
    };
    let Some(upto) = upto else {
        return Ok(false);
    };
    move_anchor(&transaction, upto)?;
    let removed = transaction.execute("DELETE FROM event WHERE seq <= ?1", [upto])?;
    transaction.commit()?;
    connection.execute_batch("PRAGMA incremental_vacuum(128)")?;
    Ok(too_large || i64::try_from(removed).is_ok_and(|removed| removed >= STEP))
}

/// Bytes of the pages that hold something.
pub(super) fn bytes_in_use(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |name: &str| {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
    };
    let pages = number("page_count")? - number("freelist_count")?;
    Ok(u64::try_from(pages * number("page_size")?).unwrap_or(0))
}

/// The row that ends the oldest `count` rows; nothing when that would leave none.
fn nth_oldest(connection: &Connection, count: i64) -> rusqlite::Result<Option<i64>> {
    let next: Option<i64> = connection
        .prepare_cached("SELECT seq FROM event ORDER BY seq LIMIT 1 OFFSET ?1")?
        .query_row([count], |row| row.get(0))
        .optional()?;
    Ok(next.map(|next| next - 1))
}

/// The end of the run of too old rows at the beginning, at most one step long.
fn too_old(connection: &Connection, before_ms: u64) -> rusqlite::Result<Option<i64>> {
    let floor: Option<i64> = connection
        .prepare_cached("SELECT seq FROM event ORDER BY seq DESC LIMIT 1 OFFSET ?1")?
        .query_row([ALWAYS_KEPT], |row| row.get(0))
        .optional()?;
    let Some(floor) = floor else {
        return Ok(None);
    };
    let mut statement = connection
        .prepare_cached("SELECT seq, at FROM event WHERE seq <= ?1 ORDER BY seq LIMIT ?2")?;
    let mut rows = statement.query([floor, STEP])?;
    let mut upto = None;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= store::integer(before_ms) {
            break;
        }
        upto = Some(row.get(0)?);
    }
    Ok(upto)
}

/// The chain goes on from the newest administrative row that is removed.
fn move_anchor(connection: &Connection, upto: i64) -> rusqlite::Result<()> {
    let removed: i64 = connection
        .prepare_cached("SELECT count(*) FROM event WHERE hash IS NOT NULL AND seq <= ?1")?
        .query_row([upto], |row| row.get(0))?;
    if removed == 0 {
        return Ok(());
    }
    let hash: chain::Hash = connection
        .prepare_cached(
            "SELECT hash FROM event WHERE hash IS NOT NULL AND seq <= ?1 \
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([upto], |row| row.get(0))?;
    let count = chain::reach(connection, "anchor")?.count + u64::try_from(removed).unwrap_or(0);
    chain::set_reach(connection, "anchor", Reach { count, hash })
}

//! How long events are kept: by age and by size, administrative rows by limits of their own.
//! Owns the rule and one step of it. For size, the module with most rows loses its oldest first.
//! Never reads a clock and never waits: the writer calls it between batches.

use std::time::Duration;

use mainstay_protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::chain;
use super::database;

/// Rows removed at once; a step takes a few milliseconds.
const STEP: i64 = 500;
/// The same where the module with most rows has to be found first.
const LARGE_STEP: i64 = 2000;
/// Newest rows of a lane that age alone never removes: a clock that jumped must not empty the
/// journal.
const ALWAYS_KEPT: i64 = 1000;
/// What a row takes beside its payload, roughly, in bytes.
const ROW_BYTES: i64 = 200;

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Ordinary events older than this are removed, except the newest 1000.
    pub max_age: Duration,
    /// The oldest ordinary events are removed while the database is larger than this, in bytes.
    pub max_bytes: u64,
    /// Administrative rows older than this are removed, except the newest 1000.
    pub actions_max_age: Duration,
    /// The oldest administrative rows are removed while they are larger than this, in bytes.
    pub actions_max_bytes: u64,
}

impl Default for Retention {
    /// 30 days, 64 MiB; of administrative rows 366 days, 16 MiB.
    fn default() -> Retention {
        Retention {
            max_age: Duration::from_secs(30 * 24 * 3600),
            max_bytes: 64 * 1024 * 1024,
            actions_max_age: Duration::from_secs(366 * 24 * 3600),
            actions_max_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Which rows: neither lane pushes the other out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// What happened.
    Ordinary,
    /// Requests with their results, and gaps: the links of the chain.
    Actions,
}

impl Lane {
    fn rows(self) -> &'static str {
        match self {
            Lane::Ordinary => "hash IS NULL",
            Lane::Actions => "hash IS NOT NULL",
        }
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Removed {
    /// No row of the lane is left up to this one.
    pub(super) upto: i64,
    /// Whether there may be more to remove.
    pub(super) more: bool,
}

/// Removes at most one step of the oldest rows of `lane`, all after row `after`.
pub(super) fn step(
    connection: &mut Connection,
    lane: Lane,
    retention: Retention,
    now: Timestamp,
    after: i64,
) -> rusqlite::Result<Removed> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (max_age, too_large) = match lane {
        Lane::Ordinary => (
            retention.max_age,
            bytes_in_use(&transaction)? > retention.max_bytes,
        ),
        Lane::Actions => (
            retention.actions_max_age,
            bytes_of_actions(&transaction)? > retention.actions_max_bytes,
        ),
    };
    if too_large && lane == Lane::Ordinary {
        let removed = remove_of_largest(&transaction)?;
        transaction.commit()?;
        connection.execute_batch("PRAGMA incremental_vacuum(512)")?;
        let (upto, more) = (after, removed > 0);
        return Ok(Removed { upto, more });
    }
    let upto = if too_large {
        nth_oldest(&transaction, after)?
    } else {
        let age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        too_old(&transaction, lane, after, now.0.saturating_sub(age_ms))?
    };
    let Some(upto) = upto else {
        let (upto, more) = (after, false);
        return Ok(Removed { upto, more });
    };
    if lane == Lane::Actions {
        move_anchor(&transaction, upto)?;
    }
    let rows = lane.rows();
    let removed = transaction.execute(
        &format!("DELETE FROM event WHERE seq > ?1 AND seq <= ?2 AND {rows}"),
        [after, upto],
    )?;
    transaction.commit()?;
    connection.execute_batch("PRAGMA incremental_vacuum(128)")?;
    let more = too_large || i64::try_from(removed).is_ok_and(|removed| removed >= STEP);
    Ok(Removed { upto, more })
}

/// Bytes of the pages that hold something.
pub(super) fn bytes_in_use(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |name: &str| {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
    };
    let pages = number("page_count")? - number("freelist_count")?;
    Ok(database::unsigned(pages * number("page_size")?))
}

fn bytes_of_actions(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let mut statement = transaction.prepare_cached(
        "SELECT count(*), ifnull(sum(length(payload)), 0) FROM event WHERE hash IS NOT NULL",
    )?;
    statement.query_row([], |row| {
        let (rows, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(database::unsigned(rows * ROW_BYTES + bytes))
    })
}

/// Removes the oldest rows of the module that has most, at most half of them: a module that fails
/// without end pushes out its own history. What belongs to no module counts as one.
fn remove_of_largest(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    let of_modules = "SELECT module, count(*) FROM event WHERE module IS NOT NULL \
                      GROUP BY module ORDER BY count(*) DESC LIMIT 1";
    let largest: Option<(String, i64)> = transaction
        .prepare_cached(of_modules)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let of_system: i64 = transaction
        .prepare_cached("SELECT count(*) FROM event WHERE module IS NULL AND hash IS NULL")?
        .query_row([], |row| row.get(0))?;
    let step = |count: i64| (count / 2).min(LARGE_STEP);
    match largest.filter(|(_, count)| *count >= of_system) {
        Some((module, count)) => transaction.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE module = ?1 \
             AND hash IS NULL ORDER BY seq LIMIT ?2)",
            (module, step(count)),
        ),
        None => transaction.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE module IS NULL \
             AND hash IS NULL ORDER BY seq LIMIT ?1)",
            [step(of_system)],
        ),
    }
}

/// The end of the oldest step of administrative rows; nothing when that would leave none.
fn nth_oldest(transaction: &Transaction<'_>, after: i64) -> rusqlite::Result<Option<i64>> {
    let next: Option<i64> = transaction
        .prepare_cached(
            "SELECT seq FROM event WHERE seq > ?1 AND hash IS NOT NULL ORDER BY seq LIMIT 1 \
             OFFSET ?2",
        )?
        .query_row([after, STEP], |row| row.get(0))
        .optional()?;
    Ok(next.map(|next| next - 1))
}

/// The end of the run of too old rows at the beginning, at most one step long.
fn too_old(
    transaction: &Transaction<'_>,
    lane: Lane,
    after: i64,
    before_ms: u64,
) -> rusqlite::Result<Option<i64>> {
    let rows = lane.rows();
    let newest = format!("SELECT seq FROM event WHERE {rows} ORDER BY seq DESC LIMIT 1 OFFSET ?1");
    let floor: Option<i64> = transaction
        .prepare_cached(&newest)?
        .query_row([ALWAYS_KEPT], |row| row.get(0))
        .optional()?;
    let Some(floor) = floor else {
        return Ok(None);
    };
    let oldest = format!(
        "SELECT seq, at FROM event WHERE seq > ?1 AND seq <= ?2 AND {rows} ORDER BY seq LIMIT ?3"
    );
    let mut statement = transaction.prepare_cached(&oldest)?;
    let mut rows = statement.query([after, floor, STEP])?;
    let mut upto = None;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= database::integer(before_ms) {
            break;
        }
        upto = Some(row.get(0)?);
    }
    Ok(upto)
}

/// The chain continues from the newest administrative row that is removed.
fn move_anchor(transaction: &Transaction<'_>, upto: i64) -> rusqlite::Result<()> {
    let removed: i64 = transaction
        .prepare_cached("SELECT count(*) FROM event WHERE hash IS NOT NULL AND seq <= ?1")?
        .query_row([upto], |row| row.get(0))?;
    if removed == 0 {
        return Ok(());
    }
    let hash: chain::Hash = transaction
        .prepare_cached(
            "SELECT hash FROM event WHERE hash IS NOT NULL AND seq <= ?1 \
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([upto], |row| row.get(0))?;
    let mut anchor = chain::position(transaction, "anchor")?;
    (anchor.count, anchor.hash) = (anchor.count + database::unsigned(removed), hash);
    chain::set_position(transaction, "anchor", anchor)
}

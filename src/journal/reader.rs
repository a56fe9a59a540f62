//! Reads history, each time over a read-only connection of its own.
//! Owns the SQL of queries and the merge with uncommitted events.
//! Never blocks the writer; for blocking threads, not for actors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{Event, EventKind, Timestamp};
use rusqlite::types::Value as Sql;
use rusqlite::{Row, params_from_iter};

use super::JournalShared;
use super::database;
use super::new_event::Entry;

/// Events of one result by default.
pub(super) const LIMIT: usize = 100;
/// Largest number of events of one result.
pub(super) const EVENTS_MAX: usize = 10_000;
/// Time a reader waits for the writer to open the database after the runtime has started.
const OPENING: Duration = Duration::from_secs(2);

/// Why history cannot be read from the file.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read the journal {}: {source}; run `mainstay status` to see what is wrong with it",
    journal.display()
)]
pub struct ReadError {
    /// The database.
    pub journal: PathBuf,
    /// The error of SQLite.
    pub source: rusqlite::Error,
}

/// Selects events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only these kinds; all when empty.
    pub kinds: Vec<EventKind>,
    /// Only of this module.
    pub module: Option<String>,
    /// Only administrative rows.
    pub administrative: bool,
    /// Only those of this time or later.
    pub since_time: Option<Timestamp>,
}

impl EventFilter {
    /// Returns whether `entry` matches.
    pub(super) fn admits(&self, entry: &Entry) -> bool {
        let event = &entry.event;
        (entry.administrative || !self.administrative)
            && self.since_time.is_none_or(|time| event.at >= time)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self
                .module
                .as_ref()
                .is_none_or(|module| event.module.as_ref() == Some(module))
    }
}

impl From<&EventsParams> for EventFilter {
    fn from(params: &EventsParams) -> EventFilter {
        EventFilter {
            kinds: params.kinds.clone(),
            module: params.module.clone(),
            administrative: params.administrative,
            since_time: params.since_time,
        }
    }
}

/// One page of a replay.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) events: Vec<Event>,
    /// The number after which the next page begins; none at the end.
    pub(super) next: Option<u64>,
}

/// Returns the events that match, newest last: committed ones and those in memory.
pub(super) fn read(
    shared: &JournalShared,
    params: &EventsParams,
) -> (Vec<Event>, Option<ReadError>) {
    let limit = params.limit.unwrap_or(LIMIT).min(EVENTS_MAX);
    let filter = EventFilter::from(params);
    let after = params.since.unwrap_or(0);
    // Memory first: an event that is committed between the two reads is in both, never in neither.
    let ring = super::lock(&shared.intake).ring();
    let (stored, problem) = match newest_stored(shared, &filter, after, limit) {
        Ok(stored) => (stored, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let mut events: BTreeMap<u64, Event> =
        stored.into_iter().map(|event| (event.seq, event)).collect();
    for entry in ring {
        if entry.event.seq > after && filter.admits(&entry) {
            events
                .entry(entry.event.seq)
                .or_insert_with(|| entry.event.clone());
        }
    }
    while events.len() > limit {
        events.pop_first();
    }
    (events.into_values().collect(), problem)
}

/// Returns one event by its number, from memory or the database.
pub(super) fn event_by_seq(shared: &JournalShared, seq: u64) -> Option<Event> {
    let ring = super::lock(&shared.intake).ring();
    if let Some(entry) = ring.iter().find(|entry| entry.event.seq == seq) {
        return Some(entry.event.clone());
    }
    let page = page(shared, &EventFilter::default(), seq.checked_sub(1)?, seq, 1).ok()?;
    page.events.into_iter().next()
}

/// Returns up to `count` committed events after `after`, up to `upto`, oldest first.
pub(super) fn page(
    shared: &JournalShared,
    filter: &EventFilter,
    after: u64,
    upto: u64,
    count: usize,
) -> Result<Page, ReadError> {
    let (events, last, rows) = select(shared, filter, (after, upto), count, Order::OldestFirst)?;
    Ok(Page {
        events,
        // Rows of an unknown kind are skipped but count.
        next: last.filter(|_| rows == count),
    })
}

fn newest_stored(
    shared: &JournalShared,
    filter: &EventFilter,
    after: u64,
    limit: usize,
) -> Result<Vec<Event>, ReadError> {
    let (mut events, ..) = select(shared, filter, (after, u64::MAX), limit, Order::NewestFirst)?;
    events.reverse();
    Ok(events)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

/// Events, the number of the last row, and the number of rows.
pub(super) type Selected = (Vec<Event>, Option<u64>, usize);

fn select(
    shared: &JournalShared,
    filter: &EventFilter,
    (after, upto): (u64, u64),
    limit: usize,
    order: Order,
) -> Result<Selected, ReadError> {
    if !shared.wait_until_opened(OPENING) {
        // Nothing is committed, or nothing can be: all there is, is in memory.
        return Ok((Vec::new(), None, 0));
    }
    query(&shared.database, filter, (after, upto), limit, order).map_err(|source| {
        if database::is_damage(&source) {
            shared
                .suspect
                .store(true, std::sync::atomic::Ordering::Relaxed);
        }
        ReadError {
            journal: shared.database.clone(),
            source,
        }
    })
}

pub(super) fn query(
    database: &Path,
    filter: &EventFilter,
    (after, upto): (u64, u64),
    limit: usize,
    order: Order,
) -> rusqlite::Result<Selected> {
    let mut sql = String::from(
        "SELECT seq, at, kind, module, generation, cause, cause_seq, actor, payload \
         FROM event WHERE seq > ? AND seq <= ?",
    );
    let mut values = vec![
        Sql::Integer(database::integer(after)),
        Sql::Integer(database::integer(upto)),
    ];
    if let Some(module) = &filter.module {
        sql.push_str(" AND module = ?");
        values.push(Sql::Text(module.clone()));
    }
    if filter.administrative {
        sql.push_str(" AND hash IS NOT NULL");
    }
    if let Some(time) = filter.since_time {
        sql.push_str(" AND at >= ?");
        values.push(Sql::Integer(database::integer(time.0)));
    }
    if !filter.kinds.is_empty() {
        let marks = vec!["?"; filter.kinds.len()].join(", ");
        sql.push_str(&format!(" AND kind IN ({marks})"));
        values.extend(filter.kinds.iter().map(|kind| Sql::Text(kind.to_string())));
    }
    sql.push_str(match order {
        Order::OldestFirst => " ORDER BY seq LIMIT ?",
        Order::NewestFirst => " ORDER BY seq DESC LIMIT ?",
    });
    values.push(Sql::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));

    let connection = database::connect_to_read(database)?;
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut events, mut last, mut count) = (Vec::new(), None, 0);
    while let Some(row) = rows.next()? {
        count += 1;
        last = Some(unsigned(row, 0)?.unwrap_or(0));
        events.extend(event_of(row)?);
    }
    Ok((events, last, count))
}

/// Returns none for a kind that a newer mainstay wrote and this one does not know.
fn event_of(row: &Row<'_>) -> rusqlite::Result<Option<Event>> {
    let Ok(kind) = row.get_ref(2)?.as_str()?.parse::<EventKind>() else {
        return Ok(None);
    };
    let cause = row.get_ref(5)?.as_str_or_null()?;
    let payload = row.get_ref(8)?.as_str_or_null()?;
    Ok(Some(Event {
        seq: unsigned(row, 0)?.unwrap_or(0),
        at: Timestamp(unsigned(row, 1)?.unwrap_or(0)),
        kind,
        module: row.get(3)?,
        generation: unsigned(row, 4)?,
        cause: cause.and_then(|cause| cause.parse().ok()),
        cause_seq: unsigned(row, 6)?,
        actor: row.get(7)?,
        payload: payload
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
    }))
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    let number: Option<i64> = row.get(column)?;
    Ok(number.and_then(|number| u64::try_from(number).ok()))
}

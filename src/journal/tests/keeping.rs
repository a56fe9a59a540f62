//! Retention and the hash chain.

use rusqlite::Connection;

use super::*;
use crate::journal::database::Database;
use crate::journal::retention::{self, Lane};
use crate::journal::{ChainBroken, ChainVerified, Retention, verify};

const DAY_MS: u64 = 24 * 3600 * 1000;

#[test]
fn events_older_than_the_limit_go_the_newest_stay() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    // 2500 events over 40 days, 16 minutes apart: 30 days are kept.
    let at = |n: u64| n * 40 * DAY_MS / 2500;
    for n in 0..2500 {
        journal.append(draft(at(n)));
        if n % 50 == 0 {
            assert!(journal.flush(PATIENCE));
        }
    }
    // The sweep looks again after every 1000 events.
    for _ in 0..1100 {
        journal.append(draft(40 * DAY_MS));
    }
    assert!(journal.flush(PATIENCE));
    journal.append(draft(40 * DAY_MS));
    assert!(journal.flush(PATIENCE));
    assert!(journal.close(PATIENCE));
    let events = all(&open(directory.path()));
    let oldest = events[0].at.0 - NOW;
    assert!(oldest >= 10 * DAY_MS, "{oldest}");
    assert!(
        oldest <= 10 * DAY_MS + at(2),
        "nothing younger may go: {oldest}"
    );
}

#[test]
fn a_clock_that_jumps_ahead_does_not_empty_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    for n in 0..1500 {
        journal.append(draft(n));
    }
    journal.append(draft(10_000 * DAY_MS));
    for _ in 0..20 {
        journal.append(draft(10_000 * DAY_MS));
        assert!(journal.flush(PATIENCE));
    }
    assert!(journal.close(PATIENCE));
    let journal = open(directory.path());
    journal.append(draft(10_000 * DAY_MS));
    assert!(journal.close(PATIENCE));
    assert!(all(&open(directory.path())).len() >= 1000);
}

#[test]
fn a_clock_that_is_set_back_removes_nothing_and_breaks_no_chain() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let back = |n: u64| draft(n).administrative("uid 1".to_owned());
    for n in 0..1500 {
        journal.append(draft(100 * DAY_MS + n));
    }
    journal.append(back(100 * DAY_MS + 1500));
    assert!(journal.flush(PATIENCE));
    // Older than any limit, by the events before.
    for n in 0..1500 {
        journal.append(draft(n));
    }
    journal.append(back(1500));
    assert!(journal.flush(PATIENCE) && journal.close(PATIENCE));
    let journal = open(directory.path());
    journal.append(draft(1501));
    assert!(journal.flush(PATIENCE));
    let events = all(&journal);
    assert_eq!(events.len(), 3003);
    assert!(
        events.is_sorted_by_key(|event| event.seq),
        "as they happened"
    );
    let recent = EventsParams {
        since_time: Some(Timestamp(NOW + 1000)),
        limit: Some(10_000),
        ..EventsParams::default()
    };
    let recent = journal.read(&recent).unwrap();
    assert!(
        recent
            .iter()
            .filter(|event| event.at.0 < NOW + DAY_MS)
            .count()
            == 502
    );
    assert!(verify(&directory.path().join("journal.db")).is_ok());
}

#[test]
fn the_database_stays_below_its_size() {
    let directory = tempfile::tempdir().unwrap();
    let max_bytes = 512 * 1024;
    let settings = JournalSettings {
        retention: Retention {
            max_bytes,
            ..Retention::default()
        },
        ..settings()
    };
    let journal = Opened(Journal::open(directory.path(), settings).unwrap());
    let padding = "x".repeat(400);
    for n in 0..8000_u64 {
        journal.append(draft(n).payload(json!({ "text": padding })));
        if n % 100 == 0 {
            assert!(journal.flush(PATIENCE));
        }
    }
    assert!(journal.close(PATIENCE));
    let path = directory.path().join("journal.db");
    let store = Database::open(&path).unwrap();
    let bytes = retention::bytes_in_use(&store.connection).unwrap();
    // Between two looks at the size 1000 events may come.
    assert!(bytes < max_bytes + 1000 * 600, "{bytes}");
    drop(store);
    let on_disk = std::fs::metadata(&path).unwrap().len();
    assert!(on_disk < 2 * (max_bytes + 1000 * 600), "{on_disk}");
    let events = all(&open(directory.path()));
    assert_eq!(
        events.last().unwrap().seq,
        8000,
        "the newest are the ones that stay"
    );
}

fn with_actions(directory: &Path, count: u64) -> ChainVerified {
    let journal = open(directory);
    for n in 0..count {
        journal.append(draft(n));
        journal.append(draft(n).administrative(format!("uid {n}")));
        if n % 10 == 0 {
            assert!(journal.flush(PATIENCE));
        }
    }
    assert!(journal.close(PATIENCE));
    verify(&directory.join("journal.db")).unwrap()
}

fn after_meddling(sql: &str) -> Result<ChainVerified, ChainBroken> {
    let directory = tempfile::tempdir().unwrap();
    with_actions(directory.path(), 20);
    let path = directory.path().join("journal.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    verify(&path)
}

#[test]
fn the_chain_of_administrative_actions_holds_across_runs() {
    let directory = tempfile::tempdir().unwrap();
    let first = with_actions(directory.path(), 20);
    assert_eq!((first.count, first.pruned), (20, 0));
    let second = with_actions(directory.path(), 3);
    assert_eq!(second.count, 23);
    assert_ne!(first.head, second.head);
    assert_eq!(second.head.len(), 64);
}

#[test]
fn an_edit_a_removal_or_a_swap_breaks_the_chain_and_is_located() {
    let third = 6;
    for (sql, located) in [
        (
            "UPDATE event SET actor = 'nobody' WHERE seq = 6",
            Some(third),
        ),
        ("UPDATE event SET at = at + 1 WHERE seq = 6", Some(third)),
        ("UPDATE event SET payload = NULL WHERE seq = 6", Some(third)),
        ("UPDATE event SET cause_seq = 1 WHERE seq = 6", Some(third)),
        ("DELETE FROM event WHERE seq = 6", Some(8)),
        ("UPDATE event SET hash = NULL WHERE seq = 6", Some(8)),
        (
            "UPDATE event SET seq = 900 WHERE seq = 6; UPDATE event SET seq = 6 WHERE seq = 8; \
             UPDATE event SET seq = 8 WHERE seq = 900;",
            Some(third),
        ),
        ("DELETE FROM event WHERE seq = 2", Some(4)),
        ("DELETE FROM event WHERE seq = 40", None),
        ("UPDATE chain SET count = 19", None),
        (
            "INSERT INTO event SELECT 41, at, mono, boot, kind, module, generation, \
             cause_seq, cause, \
          actor, payload, hash FROM event WHERE seq = 40",
            Some(41),
        ),
    ] {
        let broken = after_meddling(sql).expect_err(sql);
        assert_eq!(broken.seq, located, "{sql}: {broken}");
        assert!(broken.to_string().starts_with("cannot verify the journal"));
    }
    // What is not administrative is not vouched for.
    assert_eq!(
        after_meddling("DELETE FROM event WHERE seq = 5")
            .unwrap()
            .count,
        20
    );
}

#[test]
fn retention_of_one_lane_leaves_the_other_alone() {
    let directory = tempfile::tempdir().unwrap();
    let before = with_actions(directory.path(), 900);
    let path = directory.path().join("journal.db");
    let mut store = Database::open(&path).unwrap();
    let count = |store: &Database, rows: &str| {
        let sql = format!("SELECT count(*) FROM event WHERE {rows}");
        let count = store
            .connection
            .query_row(&sql, [], |row| row.get::<_, i64>(0));
        count.unwrap()
    };
    let mut step = |lane, after, retention| {
        let removed = retention::step(
            &mut store.connection,
            lane,
            retention,
            Timestamp(NOW),
            after,
        );
        let removed = removed.unwrap();
        let left = (
            count(&store, "hash IS NULL"),
            count(&store, "hash IS NOT NULL"),
        );
        (removed.more, removed.upto, left)
    };
    let ordinary = Retention {
        max_bytes: 1,
        ..Retention::default()
    };
    let (more, _, left) = step(Lane::Ordinary, 0, ordinary);
    // Half of the module's rows are 900 of 1800, administrative ones included.
    assert_eq!((more, left), (true, (0, 900)));
    let (more, _, left) = step(Lane::Ordinary, 0, ordinary);
    assert_eq!((more, left), (false, (0, 900)));
    assert_eq!(verify(&path).unwrap(), before);
    let actions = Retention {
        actions_max_bytes: 1,
        ..Retention::default()
    };
    let (more, _, left) = step(Lane::Actions, 0, actions);
    assert_eq!((more, left), (true, (0, 400)));
    let after = verify(&path).unwrap();
    assert_eq!(after.head, before.head);
    assert_eq!((after.pruned, after.count), (500, 400));
}

#[test]
fn a_module_that_fails_without_end_pushes_out_its_own_history_alone() {
    let directory = tempfile::tempdir().unwrap();
    let settings = JournalSettings {
        retention: Retention {
            max_bytes: 256 * 1024,
            ..Retention::default()
        },
        ..settings()
    };
    let journal = Opened(Journal::open(directory.path(), settings).unwrap());
    let padding = "x".repeat(300);
    for n in 0..50 {
        journal.append(draft(n).module("quiet", 1));
        journal.append(NewEvent::new(
            EventKind::SystemStatusChanged,
            Timestamp(NOW),
            0,
        ));
    }
    for n in 0..6000_u64 {
        journal.append(
            draft(n)
                .module("loop", n)
                .payload(json!({ "text": padding })),
        );
        if n % 100 == 0 {
            assert!(journal.flush(PATIENCE));
        }
    }
    assert!(journal.flush(PATIENCE));
    assert_eq!(journal.last("quiet", 100).len(), 50);
    let events = all(&journal);
    let of_system = events.iter().filter(|event| event.module.is_none());
    assert_eq!(of_system.count(), 50);
    assert_eq!(events.last().unwrap().generation, Some(5999));
    assert!(events.len() < 3000, "{}", events.len());
}

#[test]
fn administrative_rows_grow_old_by_their_own_limit() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    for n in 0..1200 {
        journal.append(draft(n * DAY_MS / 100).administrative("ann"));
        journal.append(draft(n * DAY_MS / 100));
    }
    assert!(journal.close(PATIENCE));
    let path = directory.path().join("journal.db");
    let mut store = Database::open(&path).unwrap();
    let retention = Retention {
        max_age: Duration::from_secs(24 * 3600),
        actions_max_age: Duration::from_secs(11 * 24 * 3600),
        ..Retention::default()
    };
    let now = Timestamp(NOW + 12 * DAY_MS);
    for lane in [Lane::Ordinary, Lane::Actions] {
        retention::step(&mut store.connection, lane, retention, now, 0).unwrap();
    }
    drop(store);
    let verified = verify(&path).unwrap();
    assert_eq!((verified.pruned, verified.count), (100, 1100));
    let events = all(&open(directory.path()));
    let ordinary = events.iter().filter(|event| event.actor.is_none());
    assert_eq!(
        ordinary.count(),
        1000,
        "the newest of a lane stay, however old"
    );
}

#[test]
fn what_is_no_journal_cannot_be_vouched_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let broken = verify(&path).expect_err("there is none");
    assert_eq!(broken.seq, None);
    assert!(broken.reason.contains("mainstay up"), "{broken}");
    // As it is for a moment while mainstay starts for the first time.
    std::fs::write(&path, "").unwrap();
    let broken = verify(&path).expect_err("nothing in it");
    assert!(broken.reason.contains("try again"), "{broken}");
    std::fs::write(&path, "no database").unwrap();
    assert!(
        verify(&path)
            .expect_err("it is none")
            .reason
            .contains("cannot be read")
    );
}

#[test]
fn a_chain_written_by_two_runtimes_during_an_upgrade_holds() {
    let directory = tempfile::tempdir().unwrap();
    let old = open(directory.path());
    old.append(draft(1).administrative("uid 1"));
    assert!(old.flush(PATIENCE));
    let new = open(directory.path());
    new.append(draft(2).administrative("uid 2"));
    assert!(new.flush(PATIENCE));
    assert!(old.close(PATIENCE));
    let seq = new.append(draft(3).administrative("uid 3"));
    assert!(new.close(PATIENCE));
    let verified = verify(&directory.path().join("journal.db")).unwrap();
    assert_eq!(verified.count, 3);
    let next = std::fs::read_to_string(directory.path().join("journal.seq")).unwrap();
    assert_eq!(
        next.trim(),
        (seq + 1).to_string(),
        "the new one's numbers count"
    );
}

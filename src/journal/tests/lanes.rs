//! Administrative rows beside a flood of others, and on a disk that refuses them.

use std::fs;

use super::*;
use crate::journal::append_buffer::{ACTIONS_MAX, RING};
use crate::journal::{QUEUE, lock, verify};

fn action(n: u64) -> NewEvent {
    draft(n).administrative("ann")
}

#[test]
fn a_flood_of_ordinary_events_pushes_no_action_out() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    assert!(journal.flush(PATIENCE));
    // The writer takes up to two full queues before it is stalled.
    let flood = (QUEUE as u64) * 3 + 1500;
    {
        // The writer publishes under this lock: meanwhile the queue overflows.
        let _stalled = lock(&journal.shared.hub);
        for n in 0..flood {
            journal.append(draft(n));
            if n % (flood / 9) == 0 {
                journal.append(action(n));
            }
        }
    }
    assert!(journal.flush(PATIENCE));
    let verified = verify(&directory.path().join("journal.db")).unwrap();
    assert_eq!(verified.count, 10, "{verified:?}");
    assert!(verified.is_complete(), "ordinary events alone are missing");
    assert!(journal.issues(Timestamp(NOW)).is_empty());
    let events = all(&journal);
    let lost = gaps(&events)
        .into_iter()
        .map(|gap| gap.payload["lost"].as_u64().unwrap());
    assert!(lost.sum::<u64>() >= 1500);
}

/// A journal that cannot be opened, because a directory is in its way.
fn refused(directory: &Path) -> (Opened, PathBuf) {
    let database = directory.join("journal.db");
    fs::create_dir(&database).unwrap();
    crate::journal::sequence::write(directory, 1, false).unwrap();
    (open(directory), database)
}

fn written_again(journal: &Journal, database: &Path) {
    fs::remove_dir(database).unwrap();
    eventually("it is written again", || journal.problem().is_none());
    assert!(journal.flush(PATIENCE));
}

#[test]
fn actions_wait_in_memory_for_a_disk_that_refuses_them() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, database) = refused(directory.path());
    for n in 0..20 {
        journal.append(action(n));
    }
    for n in 0..3 * RING as u64 {
        journal.append(draft(n));
    }
    assert!(!journal.flush(PATIENCE));
    let params = EventsParams {
        administrative: true,
        ..EventsParams::default()
    };
    assert_eq!(
        journal.read(&params).unwrap().len(),
        20,
        "readable meanwhile"
    );
    written_again(&journal, &database);
    let verified = verify(&database).unwrap();
    assert_eq!(
        (verified.count, verified.is_complete()),
        (20, true),
        "{verified:?}"
    );
    assert!(journal.issues(Timestamp(NOW)).is_empty());
    let numbers = seqs(&journal.read(&params).unwrap());
    assert_eq!(numbers[..20], (1..=20).collect::<Vec<_>>());
}

#[test]
fn actions_beyond_what_memory_takes_are_a_link_of_the_chain_and_an_issue() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, database) = refused(directory.path());
    for n in 0..ACTIONS_MAX as u64 + 30 {
        journal.append(action(n));
        if n % 100 == 0 {
            assert!(!journal.flush(PATIENCE));
        }
    }
    assert!(!journal.flush(PATIENCE));
    written_again(&journal, &database);
    let verified = verify(&database).unwrap();
    assert_eq!(verified.count, ACTIONS_MAX as u64, "{verified:?}");
    assert_eq!(verified.missing[0].count, Some(30));
    let gap_seq = ACTIONS_MAX as u64 + 31;
    assert_eq!(verified.missing[0].seq, gap_seq);
    let issues = journal.issues(Timestamp(NOW));
    assert!(
        issues[0].contains("the journal could not be written"),
        "{issues:?}"
    );
}

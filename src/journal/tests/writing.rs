//! Appending: order, numbers, batches, loss by overflow.

use std::process::Command;
use std::sync::Arc;

use super::*;
use crate::journal::{QUEUE, lock, sequence};

#[test]
fn events_are_kept_in_order_and_complete() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let cause = journal.append(draft(1));
    let seq = journal.append(
        draft(2)
            .caused_by(cause)
            .cause(mainstay_protocol::StateCause::Requested)
            .by("uid 1000"),
    );
    assert_eq!((cause, seq), (1, 2));
    assert!(journal.flush(PATIENCE));
    assert_eq!(journal.committed(), 2);
    // Both halves of a read have to agree, so read once more what only the database has.
    assert!(journal.close(PATIENCE));
    let before = all(&journal);
    let journal = open(directory.path());
    let after = all(&journal);
    assert_eq!(after, before);
    assert_eq!(after[1].cause_seq, Some(1));
    assert_eq!(after[1].actor.as_deref(), Some("uid 1000"));
    assert_eq!(after[1].payload, json!({ "after_ms": 2 }));
    assert_eq!(
        journal.append(draft(3)),
        3,
        "a clean end gives numbers back"
    );
    assert_eq!(journal.event(2).unwrap(), after[1]);
    assert_eq!(journal.event(99), None);
}

#[test]
fn threads_append_without_loss_and_each_in_its_own_order() {
    const THREADS: u64 = 4;
    const EACH: u64 = 2500;
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let journal = Journal::clone(&journal);
            scope.spawn(move || {
                let mut last = 0;
                for n in 0..EACH {
                    // The queue is bounded: a test that wants no loss must not run ahead of it.
                    if n % 500 == 499 {
                        assert!(journal.flush(PATIENCE));
                    }
                    let seq = journal.append(draft(n).module(format!("m{thread}"), n));
                    assert!(seq > last);
                    last = seq;
                }
            });
        }
    });
    assert!(journal.flush(PATIENCE));
    assert!(journal.close(PATIENCE));
    let events = all(&open(directory.path()));
    assert_eq!(seqs(&events), (1..=THREADS * EACH).collect::<Vec<_>>());
    for thread in 0..THREADS {
        let name = Some(format!("m{thread}"));
        let runs = events.iter().filter(|event| event.module == name);
        assert!(runs.map(|event| event.generation.unwrap()).eq(0..EACH));
    }
}

#[test]
fn dropping_the_last_handle_writes_everything() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path(), settings()).unwrap();
    for n in 0..100 {
        journal.append(draft(n));
    }
    drop(journal);
    let path = directory.path().join("journal.seq");
    eventually("the numbers are given back", || {
        std::fs::read_to_string(&path).unwrap_or_default() == "101\n"
    });
    let journal = open(directory.path());
    assert_eq!(all(&journal).len(), 100);
    assert!(gaps(&all(&journal)).is_empty());
}

#[test]
fn a_killed_runtime_leaves_a_gap_record_and_no_number_comes_twice() {
    if let Some(directory) = std::env::var_os(CHILD) {
        let journal = open(Path::new(&directory));
        for n in 0..10 {
            journal.append(draft(n));
        }
        assert!(journal.flush(PATIENCE));
        // Wait to be killed; what ends this process if nobody does it is its parent's end.
        std::fs::write(Path::new(&directory).join("flushed"), "").unwrap();
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut child = again(
        Command::new(std::env::current_exe().unwrap()).stdin(std::process::Stdio::piped()),
        "journal::tests::writing::a_killed_runtime_leaves_a_gap_record_and_no_number_comes_twice",
        directory.path(),
    );
    let flushed = directory.path().join("flushed");
    eventually("the child has written", || flushed.exists());
    child.kill().unwrap();
    child.wait().unwrap();

    let journal = open(directory.path());
    let first = journal.append(draft(11));
    assert_eq!(first, 1 + sequence::BLOCK);
    assert!(journal.flush(PATIENCE));
    let events = all(&journal);
    assert_eq!(seqs(&events)[..10], (1..=10).collect::<Vec<_>>());
    let gap = gaps(&events)[0];
    assert_eq!(gap.payload["lost"], json!(null));
    assert_eq!(gap.payload["from"], json!(11));
    assert_eq!(gap.payload["to"], json!(sequence::BLOCK));
    assert_eq!(events.len(), 12);
}

#[test]
fn an_opened_and_forgotten_journal_never_repeats_a_number() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut forgotten = Vec::new();
    for _ in 0..3 {
        let journal = open(directory.path());
        for n in 0..5 {
            assert!(seen.insert(journal.append(draft(n))));
        }
        // It neither writes nor closes anything before the others were opened.
        forgotten.push(journal);
    }
}

#[test]
fn a_block_is_renewed_before_it_is_used_up() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let reserved = || {
        let text = std::fs::read_to_string(directory.path().join("journal.seq")).unwrap();
        text.trim().parse::<u64>().unwrap()
    };
    for n in 0..12_000 {
        let seq = journal.append(draft(n));
        if n % 1000 == 999 {
            assert!(journal.flush(PATIENCE));
            assert!(
                reserved() > seq,
                "{seq} is committed and could be given again"
            );
        }
    }
}

#[test]
fn a_lost_number_file_is_made_good_from_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    for n in 0..7 {
        journal.append(draft(n));
    }
    assert!(journal.close(PATIENCE));
    for content in [None, Some("nonsense")] {
        let file = directory.path().join("journal.seq");
        match content {
            None => std::fs::remove_file(&file).unwrap(),
            Some(text) => std::fs::write(&file, text).unwrap(),
        }
        let journal = open(directory.path());
        let expected = newest(&journal, 1)[0].seq + 1;
        assert_eq!(journal.append(draft(8)), expected);
        assert!(journal.close(PATIENCE));
        assert!(gaps(&all(&journal)).is_empty());
    }
}

#[test]
fn a_number_file_from_an_older_backup_never_overwrites_history() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    for n in 0..50 {
        journal.append(draft(n));
    }
    assert!(journal.close(PATIENCE));
    let history = all(&journal);
    sequence::write(directory.path(), 20, false).unwrap();

    let journal = open(directory.path());
    journal.append(draft(100));
    assert!(journal.flush(PATIENCE));
    assert!(journal.append(draft(101)) > 50);
    assert!(journal.flush(PATIENCE));
    assert!(journal.close(PATIENCE));
    let events = all(&open(directory.path()));
    assert_eq!(events[..50], history);
    assert!(
        events[50..]
            .iter()
            .any(|event| event.at == Timestamp(NOW + 101))
    );
}

#[test]
fn what_does_not_fit_the_queue_is_counted_and_stays_readable() {
    const MORE: u64 = 1500;
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    assert!(journal.flush(PATIENCE));
    let total = {
        // The writer publishes under this lock: while it is held, nothing leaves the queue twice.
        let _stalled = lock(&journal.shared.hub);
        // One that woke the writer, the queue that it took with it, the queue that was full when it
        // counted what was lost, and the one behind it.
        let total = 1 + (QUEUE as u64) * 3 + MORE;
        for n in 0..total {
            journal.append(draft(n));
        }
        total
    };
    let memory = newest(&journal, 10);
    assert_eq!(memory.last().unwrap().at, Timestamp(NOW + total - 1));
    assert!(journal.flush(PATIENCE));
    assert_eq!(journal.problem(), None);
    assert!(journal.close(PATIENCE));

    let journal = open(directory.path());
    let mut kept = 0;
    let mut since = 0;
    let mut lost = 0;
    // Page through: there are more events than one answer may have.
    let shared = Arc::clone(&journal.shared);
    loop {
        let page =
            crate::journal::reader::page(&shared, &Default::default(), since, u64::MAX, 5000)
                .unwrap();
        kept += page
            .events
            .iter()
            .filter(|event| event.kind == EventKind::ModuleReady)
            .count() as u64;
        lost += gaps(&page.events)
            .iter()
            .map(|gap| gap.payload["lost"].as_u64().unwrap())
            .sum::<u64>();
        let Some(next) = page.next else { break };
        since = next;
    }
    assert!(
        lost >= MORE,
        "the queue is bounded, so at least {MORE} had to go: {lost}"
    );
    assert_eq!(kept + lost, total);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it took")]
fn opening_does_not_wait_for_the_database() {
    let directory = tempfile::tempdir().unwrap();
    // The quickest of several: other tests run beside this one.
    let quickest = (0..20)
        .map(|_| {
            let begin = Instant::now();
            let journal = open(directory.path());
            let took = begin.elapsed();
            assert!(journal.close(PATIENCE));
            took
        })
        .min()
        .unwrap();
    assert!(quickest < Duration::from_millis(1), "{quickest:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it took")]
fn a_request_to_an_ended_writer_is_answered_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..200 {
        let journal = Journal::open(directory.path(), settings()).unwrap();
        assert!(journal.close(PATIENCE));
        let begin = Instant::now();
        // Also in the moment between the writer's last answer and its end.
        assert!(!journal.flush(PATIENCE));
        assert!(!journal.close(PATIENCE));
        assert!(begin.elapsed() < PATIENCE, "it was waited for in vain");
        journal.append(draft(1));
        assert_eq!(journal.problem(), None);
    }
}

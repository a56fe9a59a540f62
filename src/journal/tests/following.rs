//! Subscriptions: the seam between replay and live, lag, ends.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::journal::{EventFilter, EventSubscription, SubscriptionError, lock, sequence};

async fn next(subscription: &mut EventSubscription) -> Result<Event, SubscriptionError> {
    tokio::time::timeout(PATIENCE, subscription.recv())
        .await
        .expect("an event or an end comes in time")
}

#[tokio::test]
async fn a_subscriber_sees_what_was_and_what_comes() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    // More than one page of replay.
    for n in 0..700 {
        journal.append(draft(n));
    }
    assert!(journal.flush(PATIENCE));
    let mut all = journal.subscribe(EventFilter::default(), Some(0));
    let mut live = journal.subscribe(EventFilter::default(), None);
    let mut from_middle = journal.subscribe(EventFilter::default(), Some(650));
    assert_eq!(live.seq(), 700);
    journal.append(draft(700));
    for seq in 1..=701 {
        assert_eq!(next(&mut all).await.unwrap().seq, seq);
    }
    assert_eq!(next(&mut live).await.unwrap().seq, 701);
    for seq in 651..=701 {
        assert_eq!(next(&mut from_middle).await.unwrap().seq, seq);
    }
}

#[tokio::test]
async fn a_filter_holds_for_replay_and_live() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let some = |n: u64| {
        journal.append(draft(n));
        journal.append(draft(n).module("other", 1));
        journal.append(NewEvent {
            kind: EventKind::ModuleExited,
            ..draft(n)
        });
    };
    (0..300).for_each(some);
    assert!(journal.flush(PATIENCE));
    let filter = EventFilter {
        kinds: vec![EventKind::ModuleExited],
        module: Some("storage".to_owned()),
        ..EventFilter::default()
    };
    let mut subscription = journal.subscribe(filter, Some(0));
    (300..310).for_each(some);
    for n in 0..310 {
        let event = next(&mut subscription).await.unwrap();
        assert_eq!(
            (event.seq, event.kind),
            (n * 3 + 3, EventKind::ModuleExited)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_at_the_seam_while_events_come() {
    const TOTAL: u64 = 6000;
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let done = AtomicBool::new(false);
    let followers: Vec<_> = (0..6_u64)
        .map(|number| {
            let journal = Journal::clone(&journal);
            tokio::spawn(async move {
                // Each one comes at another moment of the stream.
                let begin = number * TOTAL / 8;
                while journal.committed() < begin {
                    tokio::task::yield_now().await;
                }
                let mut last = begin / 2;
                let mut subscription = journal.subscribe(EventFilter::default(), Some(last));
                while last < TOTAL {
                    match next(&mut subscription).await {
                        Ok(event) => {
                            assert_eq!(event.seq, last + 1);
                            last = event.seq;
                        }
                        // What a client does: go on after the last one it saw.
                        Err(SubscriptionError::Lagged { missed }) => {
                            assert_eq!(missed, last + 1);
                            subscription = journal.subscribe(EventFilter::default(), Some(last));
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    let appender = Journal::clone(&journal);
    tokio::task::spawn_blocking(move || {
        for n in 0..TOTAL {
            appender.append(draft(n));
            if n % 200 == 0 {
                assert!(appender.flush(PATIENCE));
            }
        }
        done.store(true, Ordering::Relaxed);
    })
    .await
    .unwrap();
    for follower in followers {
        follower.await.unwrap();
    }
}

#[tokio::test]
async fn who_is_too_slow_is_closed_and_told_what_it_missed() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let mut slow = journal.subscribe(EventFilter::default(), None);
    let mut quick = journal.subscribe(
        EventFilter {
            module: Some("other".to_owned()),
            ..EventFilter::default()
        },
        None,
    );
    for n in 0..1500 {
        journal.append(draft(n));
    }
    journal.append(draft(1500).module("other", 1));
    assert!(journal.flush(PATIENCE));
    for seq in 1..=1024 {
        assert_eq!(next(&mut slow).await.unwrap().seq, seq);
    }
    let end = next(&mut slow).await.expect_err("it was too slow");
    assert!(
        matches!(end, SubscriptionError::Lagged { missed: 1025 }),
        "{end}"
    );
    assert_eq!(next(&mut quick).await.unwrap().seq, 1501, "others go on");
    let mut resumed = journal.subscribe(EventFilter::default(), Some(1024));
    assert_eq!(next(&mut resumed).await.unwrap().seq, 1025);
}

#[tokio::test]
async fn only_committed_events_are_published() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("journal.db")).unwrap();
    sequence::write(directory.path(), 1, false).unwrap();
    let journal = open(directory.path());
    let mut subscription = journal.subscribe(EventFilter::default(), Some(0));
    journal.append(draft(1));
    assert!(!journal.flush(PATIENCE));
    assert!(subscription.live.try_recv().is_err());
    std::fs::remove_dir(directory.path().join("journal.db")).unwrap();
    assert_eq!(next(&mut subscription).await.unwrap().seq, 1);
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    for n in 0..600 {
        journal.append(draft(n));
    }
    assert!(journal.flush(PATIENCE));
    let mut subscription = journal.subscribe(EventFilter::default(), Some(0));
    let mut last = 0;
    while last < 600 {
        tokio::select! {
            biased;
            event = subscription.recv() => {
                let event = event.unwrap();
                assert_eq!(event.seq, last + 1);
                last = event.seq;
            }
            () = tokio::task::yield_now() => {}
        }
    }
}

#[tokio::test]
async fn subscriptions_end_with_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let mut subscription = journal.subscribe(EventFilter::default(), None);
    journal.append(draft(1));
    assert!(journal.close(PATIENCE));
    assert_eq!(next(&mut subscription).await.unwrap().seq, 1);
    assert!(matches!(
        next(&mut subscription).await,
        Err(SubscriptionError::Closed)
    ));
    let mut late = journal.subscribe(EventFilter::default(), Some(0));
    assert_eq!(next(&mut late).await.unwrap().seq, 1);
    assert!(matches!(
        next(&mut late).await,
        Err(SubscriptionError::Closed)
    ));
}

#[tokio::test]
async fn those_who_left_are_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    for _ in 0..100 {
        drop(journal.subscribe(EventFilter::default(), None));
    }
    let _stays = journal.subscribe(EventFilter::default(), None);
    assert_eq!(lock(&journal.shared.hub).count(), 1);
}

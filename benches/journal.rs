//! What the journal costs: one append on the hot path, events committed a second, opening, reading.
//! Owns its temporary directories. Never measures the flush between rounds of appends.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use mainstay::journal::{EventFilter, Journal, JournalSettings, NewEvent};
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{EventKind, StateCause, Timestamp};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);
/// Events between two flushes: the queue never fills.
const ROUND: u64 = 4096;

fn open(directory: &Path) -> Journal {
    let settings = JournalSettings::new("bench", Timestamp(1_795_000_000_000), 0);
    Journal::open(directory, settings).expect("the journal opens")
}

fn draft(n: u64) -> NewEvent {
    NewEvent::new(
        EventKind::ModuleStateChanged,
        Timestamp(1_795_000_000_000 + n),
        n,
    )
    .module("storage", n)
    .cause(StateCause::Exit)
    .payload(json!({ "from": "running", "to": "backoff" }))
}

fn append(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = open(directory.path());
    c.bench_function("journal/append", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let round = left.min(ROUND);
                let drafts: Vec<NewEvent> = (0..round).map(draft).collect();
                let begin = Instant::now();
                for draft in drafts {
                    journal.append(draft);
                }
                spent += begin.elapsed();
                assert!(journal.flush(PATIENCE));
                left -= round;
            }
            spent
        });
    });
}

fn commit(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = open(directory.path());
    let mut group = c.benchmark_group("journal/commit");
    group.throughput(Throughput::Elements(ROUND));
    group.bench_function("batch", |b| {
        b.iter(|| {
            for n in 0..ROUND {
                journal.append(draft(n));
            }
            assert!(journal.flush(PATIENCE));
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("one", |b| {
        b.iter(|| {
            journal.append(draft(1));
            assert!(journal.flush(PATIENCE));
        });
    });
    group.finish();
}

fn open_and_read(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = open(directory.path());
    for n in 0..ROUND {
        journal.append(draft(n));
    }
    assert!(journal.close(PATIENCE));
    c.bench_function("journal/open", |b| {
        b.iter_custom(|iterations| {
            (0..iterations)
                .map(|_| {
                    let begin = Instant::now();
                    let journal = open(directory.path());
                    let spent = begin.elapsed();
                    assert!(journal.close(PATIENCE));
                    spent
                })
                .sum()
        });
    });
    let journal = open(directory.path());
    let params = EventsParams {
        module: Some("storage".to_owned()),
        ..EventsParams::default()
    };
    c.bench_function("journal/read 100 of a module", |b| {
        b.iter(|| journal.read(&params).expect("readable"));
    });
    c.bench_function("journal/subscribe", |b| {
        b.iter(|| journal.subscribe(EventFilter::default(), None));
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    append(&mut criterion);
    commit(&mut criterion);
    open_and_read(&mut criterion);
    criterion.final_summary();
}

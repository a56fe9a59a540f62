//! Tests of the journal as a whole, against real files.
//! Owns what they have in common. Never sleeps for a fixed time: waits end with a condition.
#![expect(clippy::unwrap_used, reason = "tests")]

mod following;
mod keeping;
mod lanes;
mod replaying;
mod tampering;
mod telling;
mod trouble;
mod writing;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{Event, EventKind, Timestamp};
use serde_json::json;

use super::{Journal, JournalSettings, NewEvent};

/// Longest wait for anything; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tells a test that it is the child process of itself, and which directory to use.
const CHILD: &str = "MAINSTAY_JOURNAL_CHILD";
const NOW: u64 = 1_795_000_000_000;

fn settings() -> JournalSettings {
    JournalSettings {
        retry: (Duration::from_millis(5), Duration::from_millis(20)),
        ..JournalSettings::new("boot", Timestamp(NOW), 0)
    }
}

fn open(directory: &Path) -> Opened {
    Opened(Journal::open(directory, settings()).unwrap())
}

/// A journal that is closed when its test is over, so that nothing writes into a directory that is
/// being removed.
struct Opened(Journal);

impl std::ops::Deref for Opened {
    type Target = Journal;

    fn deref(&self) -> &Journal {
        &self.0
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = self.0.close(PATIENCE);
    }
}

/// An event with its own place in the test's time: `n` milliseconds after the beginning.
fn draft(n: u64) -> NewEvent {
    NewEvent::new(EventKind::ModuleReady, Timestamp(NOW + n), n * 1_000_000)
        .module("storage", 1)
        .payload(json!({ "after_ms": n }))
}

fn all(journal: &Journal) -> Vec<Event> {
    newest(journal, 10_000)
}

fn newest(journal: &Journal, limit: usize) -> Vec<Event> {
    journal
        .read(&EventsParams {
            limit: Some(limit),
            ..EventsParams::default()
        })
        .unwrap()
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

fn gaps(events: &[Event]) -> Vec<&Event> {
    events
        .iter()
        .filter(|event| event.kind == EventKind::JournalGap)
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "a deadline for real threads")]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// This test binary, to run `test` once more as a child with `directory`.
#[expect(
    clippy::disallowed_methods,
    reason = "the test itself, once more, to be killed"
)]
fn again(program: &mut Command, test: &str, directory: &Path) -> Child {
    program
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, directory)
        .spawn()
        .unwrap()
}

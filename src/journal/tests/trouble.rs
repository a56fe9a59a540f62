//! A disk that is full, a file that is damaged, deleted or no file: supervision continues.

use std::fs;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::*;
use crate::journal::append_buffer::RING;
use crate::journal::sequence;

/// The sum of the events in the database and of those that gap records count.
fn accounted(events: &[Event]) -> u64 {
    let lost: u64 = gaps(events)
        .iter()
        .filter_map(|gap| gap.payload["lost"].as_u64())
        .sum();
    lost + (events.len() - gaps(events).len()) as u64
}

#[test]
fn events_stay_in_memory_until_the_database_can_be_opened() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("journal.db");
    fs::create_dir(&database).unwrap();
    sequence::write(directory.path(), 1, false).unwrap();
    let journal = open(directory.path());
    let total = RING as u64 + 500;
    for n in 0..total {
        journal.append(draft(n));
    }
    assert!(!journal.flush(PATIENCE));
    let problem = journal.problem().unwrap();
    assert!(problem.starts_with("cannot write the journal"), "{problem}");
    assert!(problem.contains("journal.db"), "{problem}");
    assert_eq!(journal.committed(), 0);
    let memory = newest(&journal, 5000);
    assert_eq!(memory.len(), RING, "the newest are readable");
    assert_eq!(memory.last().unwrap().seq, total);

    fs::remove_dir(&database).unwrap();
    eventually("it is written again by itself", || {
        journal.problem().is_none()
    });
    assert!(journal.flush(PATIENCE));
    assert!(journal.close(PATIENCE));
    let events = all(&open(directory.path()));
    assert_eq!(accounted(&events), total);
    let gap = gaps(&events)[0];
    assert_eq!(gap.payload["lost"], json!(500));
    assert_eq!(
        (&gap.payload["from"], &gap.payload["to"]),
        (&json!(1), &json!(500))
    );
}

#[test]
fn a_damaged_file_is_moved_aside_and_said_so() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("journal.db");
    let journal = open(directory.path());
    journal.append(draft(1));
    assert!(journal.close(PATIENCE));
    fs::write(&database, "this was a database once".repeat(1000)).unwrap();

    let journal = open(directory.path());
    let seq = journal.append(draft(2));
    assert_eq!(seq, 2, "numbers go on although history is gone");
    assert!(journal.flush(PATIENCE));
    assert_eq!(journal.problem(), None);
    let events = all(&journal);
    let gap = gaps(&events)[0];
    let text = gap.payload["text"].as_str().unwrap();
    let aside = "journal.db.corrupt-20261118T110640.002Z";
    assert!(
        text.contains("damaged") && text.contains(".corrupt-"),
        "{text}"
    );
    let kept = fs::read_dir(directory.path()).unwrap().any(|file| {
        file.unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(&aside[..20])
    });
    assert!(kept);
}

#[test]
fn damage_that_only_a_reader_meets_is_mended_too() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("journal.db");
    let journal = open(directory.path());
    for n in 0..5000 {
        journal.append(draft(n));
    }
    assert!(journal.close(PATIENCE));
    let mut bytes = fs::read(&database).unwrap();
    // The pages of old rows: the writer only looks at the newest ones.
    let (from, to) = (bytes.len() / 3, bytes.len() / 2);
    bytes[from..to].fill(0xA5);
    fs::write(&database, bytes).unwrap();

    let journal = open(directory.path());
    let reading = journal.read(&EventsParams {
        limit: Some(10_000),
        ..EventsParams::default()
    });
    let error = reading.expect_err("the rows are gone").to_string();
    assert!(error.starts_with("cannot read the journal"), "{error}");
    journal.append(draft(1));
    assert!(journal.flush(PATIENCE));
    assert_eq!(gaps(&all(&journal)).len(), 1);
}

#[test]
fn a_deleted_file_is_noticed_and_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("journal.db");
    let journal = open(directory.path());
    journal.append(draft(1));
    assert!(journal.flush(PATIENCE));
    fs::remove_file(&database).unwrap();
    let seq = journal.append(draft(2));
    assert!(journal.flush(PATIENCE));
    assert!(database.exists());
    assert!(journal.close(PATIENCE));

    let events = all(&open(directory.path()));
    assert_eq!(events[0].seq, seq);
    let gap = gaps(&events)[0];
    assert_eq!(
        (&gap.payload["from"], &gap.payload["to"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(gap.payload["lost"], json!(null));
}

#[test]
fn a_full_disk_does_not_stop_anything() {
    if let Some(directory) = std::env::var_os(CHILD) {
        on_a_full_disk(Path::new(&directory));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // A file that grows past the limit raises a signal; ignored, the write fails as on a full disk.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap());
    let mut child = again(
        &mut shell,
        "journal::tests::trouble::a_full_disk_does_not_stop_anything",
        directory.path(),
    );
    assert!(child.wait().unwrap().success());
    let events = all(&open(directory.path()));
    assert_eq!(accounted(&events), 10 + 3000 + 1);
    assert!(!gaps(&events).is_empty());
}

fn on_a_full_disk(directory: &Path) {
    let journal = open(directory);
    for n in 0..10 {
        journal.append(draft(n));
    }
    assert!(journal.flush(PATIENCE));
    let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 64 * 1024, most).unwrap();
    for n in 0..3000 {
        journal.append(draft(n));
        if n % 500 == 0 {
            let _ = journal.flush(PATIENCE);
        }
    }
    assert!(!journal.flush(PATIENCE));
    let problem = journal.problem().unwrap();
    assert!(problem.starts_with("cannot write the journal"), "{problem}");
    assert_eq!(newest(&journal, RING).last().unwrap().seq, 3010);

    setrlimit(Resource::RLIMIT_FSIZE, most, most).unwrap();
    journal.append(draft(3000));
    eventually("it is written again by itself", || {
        journal.problem().is_none()
    });
    assert!(journal.close(PATIENCE));
}

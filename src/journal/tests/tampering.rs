//! The audit chain against a person with an SQLite shell, and against losses of its own.

use std::fs;
use std::sync::Mutex;

use rusqlite::Connection;

use super::*;
use crate::journal::{
    ChainBroken, ChainVerified, WatermarkKeeper, admin_actions, audit_head, verify,
};

/// What a holder keeps.
#[derive(Default)]
struct Kept(std::sync::Arc<Mutex<Option<String>>>);

impl Kept {
    fn open(&self, directory: &Path) -> Opened {
        let kept = std::sync::Arc::clone(&self.0);
        let settings = JournalSettings {
            kept: self.0.lock().unwrap().clone(),
            keeper: Some(WatermarkKeeper::new(move |text| {
                assert!(text.len() <= 512, "more than a holder keeps");
                *kept.lock().unwrap() = Some(text);
            })),
            ..settings()
        };
        Opened(Journal::open(directory, settings).unwrap())
    }
}

fn act(journal: &Journal, count: u64) {
    for n in 0..count {
        journal.append(draft(n));
        journal.append(draft(n).administrative(format!("uid {n}")));
    }
    assert!(journal.flush(PATIENCE));
}

fn database(directory: &Path) -> PathBuf {
    directory.join("journal.db")
}

fn edit(directory: &Path, sql: &str) {
    let connection = Connection::open(database(directory)).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn checked(directory: &Path) -> Result<ChainVerified, ChainBroken> {
    verify(&database(directory))
}

/// Cuts off the newest `count` of 20 administrative rows (2, 4, … 40) so that the database alone
/// looks whole.
fn cut_off(directory: &Path, count: u64) {
    let last = 40 - 2 * count;
    edit(
        directory,
        &format!(
            "DELETE FROM event WHERE seq > {last};
             UPDATE chain SET count = {}, hash = ifnull((SELECT hash FROM event WHERE seq = {last}), zeroblob(32))
             WHERE name = 'head'",
            20 - count
        ),
    );
}

#[test]
fn an_end_that_was_cut_off_is_noticed_by_the_file_beside_the_database() {
    for count in [1, 7, 20] {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(directory.path());
        act(&journal, 20);
        assert!(journal.close(PATIENCE));
        assert_eq!(checked(directory.path()).unwrap().count, 20);
        cut_off(directory.path(), count);
        let broken = checked(directory.path()).unwrap_err();
        let rows = format!("{count} administrative row");
        assert!(broken.reason.contains(&rows), "{broken}");
        assert!(broken.reason.contains("event 40"), "{broken}");
    }
}

#[test]
fn a_journal_that_was_replaced_by_an_older_copy_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    act(&journal, 5);
    assert!(journal.close(PATIENCE));
    let copy = fs::read(database(directory.path())).unwrap();
    let journal = open(directory.path());
    act(&journal, 1);
    assert!(journal.close(PATIENCE));
    fs::write(database(directory.path()), copy).unwrap();
    let broken = checked(directory.path()).unwrap_err();
    assert!(
        broken.reason.contains("1 administrative row was cut off"),
        "{broken}"
    );
    fs::remove_file(database(directory.path())).unwrap();
    let broken = checked(directory.path()).unwrap_err();
    assert!(
        broken.reason.contains("it had 6 administrative rows"),
        "{broken}"
    );
}

#[test]
fn a_copy_without_its_head_is_verified_and_says_that_its_end_was_not() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    act(&journal, 3);
    assert!(journal.close(PATIENCE));
    assert!(checked(directory.path()).unwrap().end_checked);
    fs::remove_file(directory.path().join(audit_head::FILE)).unwrap();
    let verified = checked(directory.path()).unwrap();
    assert_eq!((verified.count, verified.end_checked), (3, false));
    fs::write(directory.path().join(audit_head::FILE), "gibberish").unwrap();
    assert!(
        checked(directory.path())
            .unwrap_err()
            .reason
            .contains("audit.head")
    );
}

#[test]
fn a_cut_made_while_it_was_stopped_becomes_a_link_of_the_chain_that_stays() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    act(&journal, 20);
    assert!(journal.close(PATIENCE));
    cut_off(directory.path(), 3);
    for _ in 0..2 {
        let journal = open(directory.path());
        act(&journal, 1);
        let issues = journal.issues(Timestamp(NOW + 1));
        assert!(issues[0].contains("cut off"), "{issues:?}");
        assert!(
            journal
                .issues(Timestamp(NOW + 2 * 24 * 3_600_000))
                .is_empty()
        );
        assert!(journal.close(PATIENCE));
    }
    let verified = checked(directory.path()).unwrap();
    assert!(!verified.is_complete());
    assert_eq!(verified.missing[0].count, Some(3));
    assert_eq!((verified.count, verified.missing.len()), (17 + 2, 1));
}

#[test]
fn who_edits_the_file_too_is_noticed_by_what_the_holder_keeps() {
    let (directory, kept) = (tempfile::tempdir().unwrap(), Kept::default());
    let journal = kept.open(directory.path());
    act(&journal, 20);
    assert!(journal.close(PATIENCE));
    cut_off(directory.path(), 1);
    fs::remove_file(directory.path().join(audit_head::FILE)).unwrap();
    assert_eq!(
        checked(directory.path()).unwrap().count,
        19,
        "files alone cannot tell"
    );
    let journal = kept.open(directory.path());
    act(&journal, 1);
    let verified = checked(directory.path()).unwrap();
    assert_eq!(verified.missing[0].count, Some(1), "{verified:?}");
    assert!(verified.end_checked);
}

#[test]
fn a_change_while_it_runs_is_noticed_with_the_next_action() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    act(&journal, 20);
    cut_off(directory.path(), 2);
    act(&journal, 1);
    assert!(journal.issues(Timestamp(NOW))[0].contains("while mainstay ran"));
    let verified = checked(directory.path()).unwrap();
    assert_eq!(verified.missing[0].count, None, "{verified:?}");
    act(&journal, 1);
    assert_eq!(
        checked(directory.path()).unwrap().missing.len(),
        1,
        "said once"
    );
}

#[test]
fn a_row_that_takes_the_next_number_hides_no_action() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    act(&journal, 1);
    edit(
        directory.path(),
        "INSERT INTO event (seq, at, mono, boot, kind) VALUES (4, 0, 0, '', 'module.ready')",
    );
    act(&journal, 1);
    act(&journal, 1);
    let verified = checked(directory.path()).unwrap();
    assert_eq!(verified.missing[0].count, Some(1), "{verified:?}");
    assert_eq!(verified.count, 2);
}

#[test]
fn a_state_directory_that_was_deleted_restarts_no_number_and_says_what_is_missing() {
    let above = tempfile::tempdir().unwrap();
    let (directory, kept) = (above.path().join("state"), Kept::default());
    fs::create_dir(&directory).unwrap();
    let journal = kept.open(&directory);
    act(&journal, 9);
    // Its runtime is killed: nothing is closed.
    fs::remove_dir_all(&directory).unwrap();
    let again = kept.open(&directory);
    let seq = again.append(draft(1));
    assert!(seq > 18, "{seq}");
    assert!(again.flush(PATIENCE));
    let events = all(&again);
    let gap = gaps(&events)[0];
    assert_eq!(gap.payload["actions"], json!(9));
    assert_eq!(
        (&gap.payload["from"], &gap.payload["to"]),
        (&json!(1), &json!(seq - 1))
    );
    assert!(again.issues(Timestamp(NOW))[0].contains("the journal was missing"));
    let verified = checked(&directory).unwrap();
    assert_eq!(verified.missing[0].count, Some(9));
}

#[test]
fn a_state_directory_that_is_deleted_while_it_runs_is_made_again() {
    let above = tempfile::tempdir().unwrap();
    let directory = above.path().join("state");
    fs::create_dir(&directory).unwrap();
    let journal = open(&directory);
    act(&journal, 2);
    fs::remove_dir_all(&directory).unwrap();
    act(&journal, 1);
    assert_eq!(journal.problem(), None);
    assert!(journal.issues(Timestamp(NOW))[0].contains("was deleted"));
    let verified = checked(&directory).unwrap();
    assert_eq!((verified.count, verified.missing[0].count), (1, Some(2)));
    assert!(gaps(&all(&journal))[0].seq > 4);
}

#[test]
fn actions_that_waited_when_the_runtime_was_killed_are_counted() {
    let (directory, kept) = (tempfile::tempdir().unwrap(), Kept::default());
    let journal = kept.open(directory.path());
    act(&journal, 4);
    {
        // The writer publishes under this lock; what it committed before is a race of no concern.
        let _stalled = crate::journal::lock(&journal.shared.hub);
        for n in 0..3 {
            journal.append(draft(n).administrative("ann"));
        }
        // Killed here: the holder has what it kept, the database has what was committed.
        let text = kept.0.lock().unwrap().clone().unwrap();
        let copy = tempfile::tempdir().unwrap();
        copy_database(directory.path(), copy.path());
        let committed = rows(copy.path());
        let next = Kept(std::sync::Arc::new(Mutex::new(Some(text))));
        let again = next.open(copy.path());
        act(&again, 1);
        let verified = checked(copy.path()).unwrap();
        let missing: u64 = verified.missing.iter().filter_map(|gap| gap.count).sum();
        assert_eq!(missing + committed, 7, "{verified:?}");
        assert_eq!(verified.count, committed + 1);
    }
}

fn rows(directory: &Path) -> u64 {
    let connection = Connection::open(database(directory)).unwrap();
    let sql = "SELECT count(*) FROM event WHERE hash IS NOT NULL";
    connection
        .query_row(sql, [], |row| row.get::<_, u32>(0))
        .unwrap()
        .into()
}

fn copy_database(from: &Path, to: &Path) {
    let to = database(to);
    let connection = Connection::open(database(from)).unwrap();
    connection
        .execute("VACUUM INTO ?1", [to.to_str().unwrap()])
        .unwrap();
}

#[test]
fn an_old_row_of_actions_is_read_back_with_its_result() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let asks = |n, operation| {
        NewEvent::new(EventKind::OperationRequested, Timestamp(NOW + n), n)
            .module("web", 1)
            .administrative("ann")
            .payload(json!({ "operation": operation }))
    };
    let restart = journal.append(asks(1, "restart"));
    journal.append(asks(2, "stop"));
    journal.append(
        NewEvent::new(EventKind::OperationFinished, Timestamp(NOW + 3), 3)
            .module("web", 1)
            .caused_by(restart)
            .administrative("ann")
            .payload(json!({ "operation": "restart", "result": "done", "after_ms": 214 })),
    );
    assert!(journal.flush(PATIENCE));
    let verified = checked(directory.path()).unwrap();
    assert_eq!(
        (verified.count, verified.links),
        (2, 3),
        "a result is no action"
    );
    let params = EventsParams {
        administrative: true,
        ..EventsParams::default()
    };
    let actions = admin_actions(&journal.read(&params).unwrap(), 10);
    let shown: Vec<_> = actions.iter().map(|action| action.text.as_str()).collect();
    assert_eq!(shown, ["done after 214 ms", ""]);
}

//! `why` and `describe`: chains of events and messages.

use insta::assert_snapshot;
use mainstay_protocol::method::WhyLink;
use mainstay_protocol::{ModuleState, StateCause};
use serde_json::Value;

use super::*;
use crate::journal::{Story, describe, story};
use crate::os_text::millis_text;

pub(super) fn told(kind: EventKind, module: &str, at: u64, payload: Value) -> NewEvent {
    NewEvent::new(kind, Timestamp(NOW + at), at)
        .module(module, 1)
        .payload(payload)
}

pub(super) fn moved(
    module: &str,
    at: u64,
    from: ModuleState,
    to: ModuleState,
    cause: StateCause,
) -> NewEvent {
    told(
        EventKind::ModuleStateChanged,
        module,
        at,
        json!({ "from": from, "to": to }),
    )
    .cause(cause)
}

fn lines(story: &Story) -> String {
    let line = |link: &WhyLink| {
        let after = link.at.0 - NOW;
        format!("{:>3} +{after} ms: {}\n", link.seq, link.text)
    };
    story.chain.iter().map(line).collect()
}

fn told_of(journal: &Journal, module: &str) -> Story {
    story(journal, module, false)
}

/// Storage starts, runs 12 s, is killed and waits for its next start; data-capture needs it.
fn a_crash(journal: &Journal) {
    use ModuleState::{Backoff, NotStarted, Running, Starting, Stopping, Waiting};
    let up = journal.append(
        NewEvent::new(EventKind::RuntimeStarted, Timestamp(NOW), 0)
            .payload(json!({ "version": "0.1.0", "pid": 7, "plan": 1 })),
    );
    journal.append(moved("storage", 1, NotStarted, Starting, StateCause::Boot).caused_by(up));
    journal.append(told(
        EventKind::ModuleReady,
        "storage",
        30,
        json!({ "after_ms": 29 }),
    ));
    journal.append(moved("storage", 30, Starting, Running, StateCause::Startup));
    journal.append(moved(
        "data-capture",
        31,
        NotStarted,
        Running,
        StateCause::Boot,
    ));
    let exit = journal.append(told(
        EventKind::ModuleExited,
        "storage",
        12_000,
        json!({ "pid": 70, "code": null, "signal": 9, "core_dumped": false, "ran_ms": 12_000 }),
    ));
    let down = journal
        .append(moved("storage", 12_000, Running, Backoff, StateCause::Exit).caused_by(exit));
    journal.append(
        told(
            EventKind::RecoveryStarted,
            "storage",
            12_001,
            json!({ "failure": "a crash", "attempt": 1, "max_attempts": 3, "delay_ms": 214 }),
        )
        .caused_by(exit),
    );
    let mut stop = moved(
        "data-capture",
        12_002,
        Running,
        Stopping,
        StateCause::Dependency,
    );
    stop.payload["by"] = json!("storage");
    let stop = journal.append(stop.caused_by(down));
    let mut wait = moved(
        "data-capture",
        12_040,
        Stopping,
        Waiting,
        StateCause::Dependency,
    );
    wait.payload["waiting_on"] = json!(["storage"]);
    journal.append(wait.caused_by(stop));
}

#[test]
fn why_tells_the_story_of_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    a_crash(&journal);
    let story = told_of(&journal, "storage");
    assert_snapshot!(lines(&story), @r#"
      6 +12000 ms: storage was killed by SIGKILL after 12 s
      7 +12000 ms: storage failed: its process exited; a restart is scheduled
      8 +12001 ms: recovery of storage: attempt 1 of 3, after a crash, next start in 214 ms
    "#);
    let streak = story.streak.expect("a failure");
    assert_eq!(
        (streak.summary(), streak.tried().as_str()),
        (None, "restart after 214 ms (1 of 3 attempts)")
    );
}

/// A bundle is evidence of the end that it was written before.
#[test]
fn why_shows_no_bundle_of_an_earlier_end() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let path = json!({ "path": "/state/forensics/1", "cause": "a hang" });
    journal.append(told(EventKind::ForensicsWritten, "storage", 0, path));
    let exit = json!({ "pid": 70, "code": 0, "signal": null, "ran_ms": 1 });
    journal.append(told(EventKind::ModuleExited, "storage", 1, exit.clone()));
    let shown = told_of(&journal, "storage").forensics;
    assert_eq!(
        shown.map(|(_, path)| path).as_deref(),
        Some("/state/forensics/1")
    );
    journal.append(told(EventKind::ModuleExited, "storage", 2, exit));
    assert_eq!(told_of(&journal, "storage").forensics, None);
}

#[test]
fn why_says_nothing_twice() {
    use ModuleState::{Backoff, Failed, Running, Starting, Waiting};
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let step = |kind, at, payload| journal.append(told(kind, "storage", at, payload));
    let with = |text: &str, mut draft: NewEvent| {
        draft.payload["text"] = json!(text);
        journal.append(draft)
    };
    let ended = json!({ "code": 3, "ran_ms": 100 });
    step(EventKind::ModuleExited, 100, ended.clone());
    let failed = moved("storage", 100, Running, Backoff, StateCause::Exit);
    with("exit code 3; next start in 200 ms", failed);
    let attempt = json!({
        "failure": "exit code 3", "attempt": 1, "max_attempts": 1, "delay_ms": 200
    });
    step(EventKind::RecoveryStarted, 100, attempt);
    let mut turn = moved("storage", 300, Backoff, Waiting, StateCause::Exit);
    turn.payload["waiting_on"] = json!([]);
    journal.append(turn);
    journal.append(moved("storage", 300, Waiting, Starting, StateCause::Exit));
    step(EventKind::ModuleExited, 400, ended);
    let given_up = moved("storage", 400, Starting, Failed, StateCause::Exit);
    with("exit code 3", given_up);
    let last = json!({ "text": "exit code 3", "probation_ms": 30_000 });
    step(EventKind::RecoveryFailed, 400, last);
    let story = told_of(&journal, "storage");
    assert_snapshot!(lines(&story), @r#"
      2 +100 ms: storage failed: exit code 3; next start in 200 ms
      3 +100 ms: recovery of storage: attempt 1 of 1
      5 +300 ms: storage is starting: its process exited
      6 +400 ms: storage exited with code 3 after 100 ms
      7 +400 ms: storage has failed: exit code 3
      8 +400 ms: recovery of storage failed; one more try in 30 s
    "#);
}

#[test]
fn a_streak_counts_the_failures_since_recovery_began_anew() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let step = |kind, at, payload| journal.append(told(kind, "storage", at, payload));
    let fails = |at, attempt: u64| {
        let ended = json!({ "code": 17, "text": "exit code 17", "ran_ms": 3000 + attempt });
        step(EventKind::ModuleExited, at, ended);
        let next = json!({ "attempt": attempt, "max_attempts": 3, "window_ms": 300_000,
                           "delay_ms": 100 * attempt });
        step(EventKind::RecoveryStarted, at, next);
    };
    for (at, attempt) in [(0, 1), (100_000, 1), (104_000, 2), (108_000, 3)] {
        fails(at, attempt);
    }
    let streak = story(&journal, "storage", true).streak.expect("failures");
    let summary = "it ended 3 times in 8 s (always exit code 17, after about 3 s)";
    assert_eq!(streak.summary().as_deref(), Some(summary));
    assert_eq!(
        streak.tried(),
        "restart after 100 ms, 200 ms, 300 ms (3 of 3 attempts within 5 min)"
    );
}

#[test]
fn a_streak_longer_than_what_is_read_is_counted_by_its_attempts() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    for attempt in 1..=40 {
        let at = 1000 * attempt;
        let ended = json!({ "code": 3, "text": "exit code 3", "ran_ms": 500 });
        journal.append(told(EventKind::ModuleExited, "storage", at, ended));
        let next = json!({ "attempt": attempt, "max_attempts": 0, "delay_ms": 10 });
        journal.append(told(EventKind::RecoveryStarted, "storage", at, next));
    }
    let streak = told_of(&journal, "storage").streak.expect("failures");
    let summary = "it ended 40 times, the last 32 in 31 s (always exit code 3, after about 500 ms)";
    assert_eq!(streak.summary().as_deref(), Some(summary));
    assert!(streak.tried().ends_with("(40 attempts, without limit)"));
}

#[test]
fn why_follows_the_cause_into_another_module() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    a_crash(&journal);
    // The same from the database alone as from memory.
    assert!(journal.close(PATIENCE));
    let journal = open(directory.path());
    let story = told_of(&journal, "data-capture");
    assert_snapshot!(lines(&story), @r#"
      6 +12000 ms: storage was killed by SIGKILL after 12 s
      7 +12000 ms: storage failed: its process exited; a restart is scheduled
      9 +12002 ms: data-capture is stopping: its dependency storage changed
     10 +12040 ms: data-capture waits for storage to be ready
    "#);
}

#[test]
fn why_tells_of_a_module_that_was_given_up_and_of_one_nobody_knows() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    a_crash(&journal);
    let failed = journal.append(told(
        EventKind::RecoveryFailed,
        "storage",
        14_000,
        json!({ "text": "3 attempts in 60 s", "probation_ms": 300_000 }),
    ));
    let given_up = moved(
        "storage",
        14_000,
        ModuleState::Backoff,
        ModuleState::Failed,
        StateCause::Exit,
    );
    journal.append(given_up.caused_by(failed));
    let text = lines(&told_of(&journal, "storage"));
    assert_snapshot!(text, @r#"
      6 +12000 ms: storage was killed by SIGKILL after 12 s
      7 +12000 ms: storage failed: its process exited; a restart is scheduled
      8 +12001 ms: recovery of storage: attempt 1 of 3, after a crash, next start in 214 ms
     11 +14000 ms: recovery of storage failed: 3 attempts in 60 s; one more try in 5 min
     12 +14000 ms: storage has failed: its process exited
    "#);
    assert!(told_of(&journal, "ghost").chain.is_empty());
}

#[test]
fn a_chain_of_causes_is_bounded_and_a_circle_ends() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    for n in 1..=100_u64 {
        let step = moved(
            &format!("m{n}"),
            n,
            ModuleState::Running,
            ModuleState::Stopping,
            StateCause::Dependency,
        );
        journal.append(step.caused_by(n - 1));
    }
    // Says it was caused by itself and by what comes later: no such thing.
    let selfish = moved(
        "m100",
        101,
        ModuleState::Stopping,
        ModuleState::Stopped,
        StateCause::Exit,
    )
    .caused_by(500);
    journal.append(selfish);
    let story = told_of(&journal, "m100");
    assert_eq!(story.chain.len(), 2);
    let story = told_of(&journal, "m99");
    assert_eq!(story.chain.len(), 20);
    assert_eq!(story.chain[19].seq, 99);
}

#[test]
fn every_kind_has_a_sentence_whatever_its_payload() {
    let mut text = String::new();
    for &kind in EventKind::ALL {
        let event = Event {
            seq: 1,
            at: Timestamp(NOW),
            kind,
            module: Some("storage".to_owned()),
            generation: None,
            cause: None,
            cause_seq: None,
            actor: None,
            payload: Value::Null,
        };
        text += &format!("{kind}: {}\n", describe(&event));
        for odd in [
            json!([]),
            json!("text"),
            json!({ "to": 7, "signal": "x", "issues": 3 }),
        ] {
            assert!(
                !describe(&Event {
                    payload: odd,
                    ..event.clone()
                })
                .is_empty()
            );
        }
    }
    assert_snapshot!(text, @r#"
    module.added: storage was added by the configuration
    module.removed: storage was removed by the configuration
    module.renamed: storage was renamed from another name by the configuration
    module.state_changed: storage changed its state
    module.ready: storage is ready
    module.exited: storage exited, exit code unknown
    module.health_changed: storage is unknown
    module.throttled: storage is throttled
    module.released: storage is throttled less
    module.degraded: storage is degraded
    module.restored: storage is restored
    module.output_lost: output of storage is lost
    module.output_restored: output of storage is written again
    module.tree_signalled: the main process of storage exited: the stop signal was sent to the rest of its tree
    module.suspended: storage is stopped by a signal
    module.continued: storage was continued
    module.files_changed: files of storage changed; it is not restarted: it is to be down
    module.hook_failed: a command of storage failed
    forensics.written: the state of storage was written down
    chaos.injected: chaos fault of storage was requested
    config.set: somebody changed a value: not set → not set
    config.applied: the configuration was applied
    config.committed: the configuration was committed
    config.rejected: a changed configuration was rejected
    config.rolled_back: the configuration was restored
    config.problem_cleared: the configuration problem was cleared
    recovery.started: recovery of storage began
    recovery.proposed: storage failed; proposed: restart; `mainstay recover storage` accepts it
    recovery.step_completed: recovery of storage: a step is completed
    recovery.completed: recovery of storage succeeded
    recovery.failed: recovery of storage failed
    group.exceeded: group of modules used up its budget
    cascade.stopped: too many failures at once: many modules
    user.notified: notice
    system.status_changed: the system is unknown
    system.overloaded: the system is overloaded
    system.resumed: the machine slept
    actor.restarted: actor unknown died and was restarted
    runtime.started: mainstay started
    runtime.returned: the runtime returned
    runtime.upgraded: the runtime was upgraded
    runtime.upgrade_failed: the upgrade was rolled back
    holder.upgraded: the holder follows the runtime
    holder.upgrade_failed: the holder keeps its program
    holder.replaced: the holder died; another one goes on in its place, modules went on
    operation.requested: operation of storage requested
    operation.finished: operation of storage finished
    client.refused: a client was refused
    journal.gap: events may be missing
    "#);
}

fn sentences(drafts: Vec<NewEvent>) -> String {
    drafts
        .into_iter()
        .map(|draft| describe(&crate::journal::new_event::Entry::new(1, draft).event) + "\n")
        .collect()
}

#[test]
fn sentences_about_a_module_say_what_the_payload_knows() {
    use EventKind::{ModuleExited, ModuleHealthChanged, ModuleThrottled};
    use ModuleState::{Backoff, Running, Starting, Stopping, Waiting};
    let of = |kind, payload| told(kind, "storage", 0, payload);
    let step = |from, to, cause| moved("storage", 0, from, to, cause);
    let many = json!({ "to": "waiting", "waiting_on": ["a", "b", "c", "d", "e", "f", "g"] });
    let no_exec = json!({ "to": "backoff", "text": "execve /no/such: ENOENT" });
    let segv = json!({ "signal": 11, "core_dumped": true, "ran_ms": 180_000 });
    let slow =
        json!({ "from": "healthy", "to": "degraded", "issues": ["slow disk", "long queue"] });
    let text = sentences(vec![
        of(ModuleExited, json!({ "code": 1, "ran_ms": 1500 })),
        of(ModuleExited, json!({ "code": 0, "ran_ms": 214 })),
        of(ModuleExited, segv),
        of(ModuleExited, json!({ "signal": 64 })),
        of(ModuleHealthChanged, slow),
        of(
            ModuleThrottled,
            json!({ "to": "cap", "text": "180 % of one core" }),
        ),
        step(Running, Stopping, StateCause::Requested).by("uid 1000"),
        step(Waiting, Starting, StateCause::Boot),
        step(Running, Running, StateCause::Adopted),
        step(Starting, Backoff, StateCause::Exec).payload(no_exec),
        step(Starting, Waiting, StateCause::Boot).payload(many),
    ]);
    assert_snapshot!(text, @r#"
    storage exited with code 1 after 1.5 s
    storage exited with code 0 after 214 ms
    storage was killed by SIGSEGV and dumped core after 3 min
    storage was killed by signal 64
    storage is degraded, was healthy: slow disk and long queue
    storage is throttled (cap): 180 % of one core
    storage is stopping: requested by uid 1000
    storage is starting: initial startup
    storage kept running while the runtime was away
    storage failed: execve /no/such: ENOENT
    storage waits for a, b, c, d, e and 2 more to be ready
    "#);
}

#[test]
fn sentences_about_the_system_say_what_the_payload_knows() {
    use EventKind::{
        ClientRefused, JournalGap, OperationFinished, OperationRequested, RuntimeReturned,
        SystemStatusChanged,
    };
    let of = |kind, payload| NewEvent::new(kind, Timestamp(NOW), 0).payload(payload);
    let critical = json!({ "from": "healthy", "to": "critical", "reason": "storage failed" });
    let refused = json!({ "code": "not_permitted", "method": "system.stop" });
    let many = json!({ "code": "not_permitted", "method": "hello", "count": 12 });
    let overtaken = json!({ "operation": "restart", "result": "overtaken", "text": "stop by ann" });
    let fast = json!({ "lost": 3, "from": 5, "to": 9, "text": "events came too fast" });
    let text = sentences(vec![
        of(
            RuntimeReturned,
            json!({ "adopted": 20, "exits": 1, "away_ms": 140 }),
        ),
        of(JournalGap, fast),
        of(JournalGap, json!({ "lost": null, "from": 5, "to": 9 })),
        of(
            JournalGap,
            json!({ "lost": 3, "from": 5, "to": 9, "actions": 1 }),
        ),
        of(
            JournalGap,
            json!({ "lost": null, "from": 5, "to": 9, "actions": null }),
        ),
        of(OperationRequested, json!({ "operation": "stop" })),
        of(OperationRequested, json!({ "operation": "restart" })).module("web", 2),
        of(OperationFinished, overtaken).module("web", 2),
        of(SystemStatusChanged, critical),
        of(ClientRefused, refused).by("uid 1000"),
        of(ClientRefused, many),
    ]);
    assert_snapshot!(text, @r#"
    the runtime returned after 140 ms; modules adopted: 20; modules exited meanwhile: 1
    3 events between 5 and 9 are not in the journal: events came too fast
    events before event 9 may be missing
    3 events between 5 and 9 are not in the journal, 1 administrative row among it
    events before event 9 may be missing, perhaps administrative rows among it
    stop of the system requested
    restart of web requested
    restart of web overtaken: stop by ann
    the system is critical, was healthy: storage failed
    uid 1000 was refused system.stop: not_permitted
    12 clients were refused hello: not_permitted
    "#);
}

#[test]
fn spans_read_naturally() {
    let said: Vec<_> = [
        0,
        214,
        1000,
        1049,
        1500,
        12_345,
        119_999,
        120_000,
        7_200_000,
        200_000_000,
    ]
    .map(millis_text)
    .into();
    assert_eq!(
        said,
        [
            "0 ms", "214 ms", "1 s", "1 s", "1.5 s", "12 s", "119 s", "2 min", "2 h", "2 days"
        ]
    );
}

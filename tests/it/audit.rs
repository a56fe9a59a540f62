//! Who asked for what, and what came of it, in the real journal of a real system.
//! Owns the tests of `audit list` and `audit verify`. Never edits a journal that a test still needs.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use mainstay_protocol::method::{ChangeParams, EventsParams, name};
use mainstay_protocol::{Event, EventKind, ModuleState};
use serde_json::{Value, json};

use crate::daemon::{Daemon, kill, misbehave, script};
use crate::raw::{Raw, request as raw_request, token};

fn request(daemon: &Daemon, method: &str, module: &str) {
    let params = ChangeParams {
        module: module.to_owned(),
        dry_run: false,
        wait: false,
    };
    daemon
        .client()
        .change(method, &params)
        .expect("the change is granted");
}

fn administrative(daemon: &Daemon) -> Vec<Event> {
    let params = EventsParams {
        administrative: true,
        limit: Some(1000),
        ..EventsParams::default()
    };
    daemon.client().events(&params).expect("events")
}

/// `operation of module: result` of every request so far, once each has its result.
fn results(daemon: &Daemon, count: usize) -> Vec<String> {
    daemon.wait("a result of each request", || {
        let rows = administrative(daemon);
        let requests: Vec<_> = rows
            .iter()
            .filter(|row| row.kind == EventKind::OperationRequested)
            .collect();
        let result = |request: &&Event| {
            let of = |row: &&Event| {
                row.kind == EventKind::OperationFinished && row.cause_seq == Some(request.seq)
            };
            let found: Vec<_> = rows.iter().filter(of).collect();
            assert!(found.len() <= 1, "a request has one result: {found:?}");
            let [result] = found[..] else { return None };
            assert_eq!(result.actor, request.actor);
            let text = |payload: &Value, key: &str| payload[key].as_str().map(str::to_owned);
            Some(format!(
                "{} of {}: {}",
                text(&request.payload, "operation")?,
                request.module.as_deref()?,
                text(&result.payload, "result")?
            ))
        };
        let all: Option<Vec<String>> = requests.iter().map(result).collect();
        all.filter(|all| all.len() == count)
    })
}

#[test]
fn every_request_is_a_row_with_who_and_what_came_of_it_also_when_overtaken() {
    let slow = script("trap 'sleep 0.7; exit 0' TERM; while :; do sleep 0.05; done");
    let quick = misbehave("");
    let daemon = Daemon::start(&format!(
        "[module.a]\ncommand = {quick}\n[module.b]\ncommand = {slow}\nwants = [\"a\"]\n"
    ));
    request(&daemon, name::MODULE_STOP, "b");
    request(&daemon, name::MODULE_STOP, "a");
    request(&daemon, name::MODULE_START, "b");
    request(&daemon, name::MODULE_START, "a");
    daemon.until("a", ModuleState::Running);
    daemon.until("b", ModuleState::Running);
    daemon.change(name::MODULE_START, "a");
    let results = results(&daemon, 5);
    assert_eq!(results[0], "stop of b: overtaken", "{results:?}");
    assert_eq!(results[2], "start of b: done", "{results:?}");
    assert_eq!(results[4], "start of a: unchanged", "{results:?}");
    for row in administrative(&daemon) {
        assert!(
            row.actor.is_some_and(|actor| actor.contains("uid")),
            "who asked"
        );
    }
    // Also in the file, in order, with its hashes.
    let told = daemon.wait("the rows in the file", || {
        let told = daemon.cli(&["audit", "verify", "--json"]).stdout;
        let told: Value = serde_json::from_slice(&told).ok()?;
        (told["links"] == 10).then_some(told)
    });
    assert_eq!(
        (&told["ok"], &told["count"]),
        (&json!(true), &json!(5)),
        "{told}"
    );
}

#[test]
fn a_request_that_fails_says_so_and_a_stop_of_everything_is_a_row() {
    let mut daemon = Daemon::start(&format!(
        "[module.it]\ncommand = {}\nrequired = false\nrecovery = {{ max_attempts = 1 }}\n\
         start = \"lazy\"\nready = {{ settle = \"10s\" }}\n",
        script("exit 7")
    ));
    request(&daemon, name::MODULE_START, "it");
    assert_eq!(results(&daemon, 1), ["start of it: failed"]);
    let row = administrative(&daemon).pop().expect("a row");
    let text = row.payload["text"].as_str().expect("a reason").to_owned();
    assert!(text.contains("exit code 7"), "{text}");
    daemon.signal(libc::SIGINT);
    assert_eq!(daemon.ended(), Some(0));
    let list = daemon.cli(&["audit", "list"]);
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(list.status.code(), Some(0), "{list:?}");
    assert!(
        lines[0].contains("start it") && lines[0].contains("exit code 7"),
        "{text}"
    );
    assert!(
        lines[1].contains("signal") && lines[1].contains("stop"),
        "{text}"
    );
    assert!(lines[1].contains("done"), "{text}");
    let newest = daemon.cli(&["audit", "list", "-n", "1", "--json"]);
    let newest: Value = serde_json::from_slice(&newest.stdout).expect("one object");
    assert_eq!(
        (&newest["actor"], &newest["operation"]),
        (&json!("signal"), &json!("stop"))
    );
    assert_eq!(newest["result"], "done");
}

#[test]
fn an_open_request_has_its_result_from_the_next_runtime() {
    let daemon = Daemon::start(&format!(
        "[module.it]\ncommand = {}\n[module.other]\ncommand = {}\n",
        script(
            "trap 'until [ -e go ]; do sleep 0.05; done; exit 0' TERM; while :; do sleep 0.05; done"
        ),
        misbehave("")
    ));
    request(&daemon, name::MODULE_STOP, "it");
    daemon.until("it", ModuleState::Stopping);
    daemon.wait("the request in the file", || {
        let told = daemon.cli(&["audit", "verify", "--json"]).stdout;
        let told: Value = serde_json::from_slice(&told).ok()?;
        (told["links"] == 1).then_some(())
    });
    daemon.kill_runtime();
    daemon.touch("go");
    daemon.until("it", ModuleState::Stopped);
    assert_eq!(results(&daemon, 1), ["stop of it: done"]);
}

#[test]
fn a_state_directory_that_is_deleted_is_a_gap_and_an_issue_and_no_number_comes_again() {
    let daemon = Daemon::start(&format!("[module.it]\ncommand = {}\n", misbehave("")));
    daemon.change(name::MODULE_RESTART, "it");
    let before = daemon.wait("its events", || daemon.events("it").pop());
    let remove = |state: &Path| {
        daemon.wait("the directory to be gone", || {
            let _again = std::fs::remove_dir_all(state);
            (!state.join("journal.db").exists()).then_some(())
        });
    };
    remove(&daemon.path("state"));
    daemon.kill_runtime();
    let gap = daemon.wait("a gap", || {
        let gaps = EventsParams {
            kinds: vec![EventKind::JournalGap],
            ..EventsParams::default()
        };
        daemon.client().events(&gaps).ok()?.pop()
    });
    assert!(gap.seq > before.seq, "{gap:?}");
    assert!(
        gap.payload["actions"]
            .as_u64()
            .is_some_and(|rows| rows >= 1),
        "{gap:?}"
    );
    let issues = daemon.status().issues;
    assert!(
        issues
            .iter()
            .any(|issue| issue.contains("history is incomplete")),
        "{issues:?}"
    );
    daemon.change(name::MODULE_RESTART, "it");
    let events = daemon.events("it");
    assert!(
        events.iter().all(|event| event.seq > before.seq),
        "{events:?}"
    );
    let verified = daemon.cli(&["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    let text = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(text.contains("missing"), "{text}");
    let list = daemon.cli(&["audit", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("the journal was missing"));
}

#[test]
fn an_end_that_was_cut_off_while_it_was_stopped_is_noticed() {
    let mut daemon = Daemon::start(&format!("[module.it]\ncommand = {}\n", misbehave("")));
    daemon.change(name::MODULE_RESTART, "it");
    daemon.signal(libc::SIGINT);
    assert_eq!(daemon.ended(), Some(0));
    let good = daemon.cli(&["audit", "verify"]);
    let text = String::from_utf8_lossy(&good.stdout).into_owned();
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(text.contains("2 administrative actions"), "{text}");
    let journal = rusqlite::Connection::open(daemon.path("state/journal.db")).expect("a journal");
    journal
        .execute_batch(
            "DELETE FROM event WHERE seq > (SELECT min(seq) FROM event WHERE hash IS NOT NULL);
             UPDATE chain SET count = 1, hash = (SELECT hash FROM event WHERE hash IS NOT NULL)
             WHERE name = 'head';",
        )
        .expect("edited");
    drop(journal);
    let bad = daemon.cli(&["audit", "verify"]);
    let text = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!(bad.status.code(), Some(1));
    assert!(text.contains("cut off"), "{text}");
}

#[test]
fn refused_calls_of_a_module_push_no_request_out() {
    let runs = misbehave("");
    let daemon = Daemon::start(&format!(
        "[module.it]\ncommand = {runs}\n[module.noisy]\ncommand = {runs}\n"
    ));
    let token = token(&daemon, "noisy");
    let over = AtomicBool::new(false);
    let calls = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut calls = 0_u64;
            while !over.load(Ordering::Relaxed) {
                // Its connection may be closed or refused: it comes again.
                let mut module = Raw::greeting(&daemon.path("run/module.sock"), Some(&token));
                for id in 2..20 {
                    module.send(&raw_request(id, name::SYSTEM_STOP, json!({})));
                    calls += 1;
                }
                let _welcome_or_end = module.reply();
            }
            calls
        });
        for _ in 0..9 {
            daemon.change(name::MODULE_RESTART, "it");
        }
        over.store(true, Ordering::Relaxed);
        flood.join().expect("no panic")
    });
    let told = daemon.wait("nine actions in the file", || {
        let told = daemon.cli(&["audit", "verify", "--json"]).stdout;
        let told: Value = serde_json::from_slice(&told).ok()?;
        (told["links"].as_u64()? >= 18).then_some(told)
    });
    assert_eq!(
        (&told["ok"], &told["count"]),
        (&json!(true), &json!(9)),
        "{told}"
    );
    let refused = EventsParams {
        kinds: vec![EventKind::ClientRefused],
        limit: Some(10_000),
        ..EventsParams::default()
    };
    let rows = daemon.client().events(&refused).expect("events").len() as u64;
    assert!(rows <= 20, "{rows} rows of {calls} refused calls");
    assert_eq!(results(&daemon, 9), vec!["restart of it: done"; 9]);
}

/// Also what the runtime said before it was killed.
#[test]
fn a_killed_runtime_loses_no_request_that_was_answered() {
    let daemon = Daemon::start(&format!("[module.it]\ncommand = {}\n", misbehave("")));
    for round in 1..=3 {
        daemon.change(name::MODULE_RESTART, "it");
        kill(daemon.status().pid, libc::SIGKILL);
        let answered = || daemon.client().status().ok();
        daemon.wait("a runtime", answered);
        // Unreadable it may be for a moment, while the next runtime opens it, and until then what
        // was lost is not counted; broken it is not.
        daemon.wait("a chain with all requests", || {
            let told = daemon.cli(&["audit", "verify", "--json"]).stdout;
            let told = serde_json::from_slice::<Value>(&told).ok()?;
            assert!(told["seq"].is_null(), "the chain is broken: {told}");
            let missing: u64 = told["missing"].as_array().map_or(0, |gaps| {
                gaps.iter().filter_map(|gap| gap["count"].as_u64()).sum()
            });
            (told["count"].as_u64()? + missing >= round).then_some(())
        });
    }
}

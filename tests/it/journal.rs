//! The journal beside the living system: what it tells is what is, whatever its disk does.
//! Owns the tests of replay, of a state directory that cannot be written, and of the audit.
//! Never leaves a mount behind.

use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay::journal::replay;
use mainstay_protocol::method::{ChangeParams, EventsParams, name};
use mainstay_protocol::{Event, EventKind, ModuleState};

use crate::daemon::{Daemon, kill, misbehave, prepare};

fn modules() -> String {
    let run = misbehave("");
    format!(
        "[ipc]\nrequests_per_second = 1000000\n[recovery]\nmax_attempts = 0\n\
         backoff = {{ initial = \"10ms\", max = \"50ms\", floor = \"10ms\" }}\n\
         [module.base]\ncommand = {run}\n[module.top]\ncommand = {run}\nrequires = [\"base\"]\n\
         [module.side]\ncommand = {run}\nwants = [\"base\"]\n[module.alone]\ncommand = {run}\n"
    )
}

const NAMES: [&str; 4] = ["base", "top", "side", "alone"];

/// A seeded series: the same changes in every run, at whatever moments they fall.
struct Series(u64);

impl Series {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % below
    }
}

#[test]
fn replay_equals_the_living_state_after_a_series_of_changes() {
    let daemon = Daemon::start(&modules());
    let mut series = Series(2026);
    for round in 0..60 {
        // The holder waits longer and longer for a runtime that dies again and again.
        if round % 20 == 10 {
            kill(daemon.status().pid, libc::SIGKILL);
        }
        let module = NAMES[series.next(NAMES.len())];
        let methods = [name::MODULE_START, name::MODULE_STOP, name::MODULE_RESTART];
        match series.next(4) {
            0 => {
                let view = daemon.client().module(module).expect("a view");
                view.pid
                    .into_iter()
                    .for_each(|pid| kill(pid, libc::SIGKILL));
            }
            other => {
                let params = ChangeParams {
                    module: module.to_owned(),
                    dry_run: false,
                    wait: series.next(3) == 0,
                };
                // The runtime may have been killed just before: then nothing was changed.
                let _refused = daemon.client().change(methods[other - 1], &params);
            }
        }
    }
    daemon.wait("the journal and the living state to agree", || {
        let params = EventsParams {
            limit: Some(10_000),
            ..EventsParams::default()
        };
        let at_rest = |state| {
            matches!(
                state,
                ModuleState::Running | ModuleState::Stopped | ModuleState::Waiting
            )
        };
        let live = daemon.client().modules().ok()?;
        let told = replay(&daemon.client().events(&params).ok()?);
        let agree = live
            .iter()
            .filter(|view| NAMES.contains(&view.module.as_str()))
            .all(|view| {
                let told = told.get(&view.module).cloned().unwrap_or_default();
                let exit = |exit: &Option<mainstay_protocol::view::LastExit>| {
                    exit.as_ref().map(|exit| (exit.code, exit.signal))
                };
                let same = (told.state, told.generation, exit(&told.last_exit))
                    == (view.state, view.generation, exit(&view.last_exit));
                if !same {
                    eprintln!("the journal: {told:?}\nthe living: {view:?}");
                }
                same && at_rest(view.state)
            });
        agree.then_some(())
    });
}

/// A small file system of its own; None where it cannot be had.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(path: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(path).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "mainstay-test"])
            .arg(path)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("cannot mount a small disk here: not tested");
        }
        mounted.then(|| SmallDisk(path.to_owned()))
    }

    pub(crate) fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("filler")).expect("a file");
        let block = [0; 4096];
        while file.write_all(&block).is_ok() {}
    }

    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _left_to_the_system = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn problem_is_told(daemon: &Daemon) {
    daemon.wait("the problem in the status", || {
        let issues = daemon.status().issues;
        issues
            .iter()
            .any(|issue| issue.contains("the journal is not written"))
            .then_some(())
    });
    let printed = daemon.cli(&["status"]);
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(text.contains("journal"), "a person sees it too: {text}");
}

fn still_supervises(daemon: &Daemon) {
    let before = daemon.module("base");
    kill(before.pid.expect("it runs"), libc::SIGKILL);
    daemon.until_view("base to be back", "base", |view| {
        view.state == ModuleState::Running && view.generation > before.generation
    });
    daemon.event("base", EventKind::ModuleExited);
}

/// More events than memory keeps, of which the administrative ones are few enough to wait.
fn restart_often(daemon: &Daemon) {
    for _ in 0..220 {
        daemon.change(name::MODULE_RESTART, "alone");
    }
}

fn gap_is_told(daemon: &Daemon) {
    let gap = daemon.wait("a record of the gap", || {
        let params = EventsParams {
            kinds: vec![EventKind::JournalGap],
            ..EventsParams::default()
        };
        let gaps = daemon.client().events(&params).ok()?;
        let counted = |gap: &Event| gap.payload["lost"].as_u64().is_some_and(|lost| lost > 0);
        gaps.into_iter().find(counted)
    });
    assert!(gap.payload.get("actions").is_none(), "{gap:?}");
    daemon.wait("the problem to be over", || {
        daemon.status().issues.is_empty().then_some(())
    });
}

#[test]
fn a_full_disk_stops_no_supervision_and_leaves_a_gap_record() {
    let dir = prepare("", &modules());
    let Some(disk) = SmallDisk::mount(&dir.path().join("state")) else {
        return;
    };
    let daemon = Daemon::launch_in(dir);
    daemon.until("top", ModuleState::Running);
    disk.fill();
    // More than memory keeps, so that something has to be lost.
    restart_often(&daemon);
    problem_is_told(&daemon);
    still_supervises(&daemon);
    disk.make_room();
    gap_is_told(&daemon);
    drop(daemon);
}

#[test]
fn a_journal_that_cannot_be_opened_stops_no_supervision() {
    let dir = prepare("", &modules());
    let blocked = dir.path().join("state/journal.db");
    std::fs::create_dir_all(blocked.join("in the way")).expect("a folder");
    let daemon = Daemon::launch_in(dir);
    daemon.until("top", ModuleState::Running);
    problem_is_told(&daemon);
    restart_often(&daemon);
    still_supervises(&daemon);
    std::fs::remove_dir_all(&blocked).expect("it is there");
    gap_is_told(&daemon);
}

#[test]
fn the_audit_notices_a_changed_action() {
    let mut daemon = Daemon::start(&modules());
    daemon.change(name::MODULE_RESTART, "alone");
    daemon.change(name::MODULE_STOP, "side");
    // The journal opens and is written beside all else: what is told from it is in the file.
    daemon.moves("side", ModuleState::Stopped, 1);
    let good = daemon.cli(&["audit", "verify"]);
    assert_eq!(good.status.code(), Some(0), "while it runs: {good:?}");
    daemon.signal(libc::SIGINT);
    assert_eq!(daemon.ended(), Some(0));
    let good = daemon.cli(&["audit", "verify", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&good.stdout).expect("JSON");
    assert_eq!(
        (good.status.code(), &told["ok"]),
        (Some(0), &serde_json::json!(true))
    );
    assert!(
        told["count"].as_u64().is_some_and(|count| count >= 3),
        "{told}"
    );
    let path = daemon.path("state/journal.db");
    let journal = rusqlite::Connection::open(&path).expect("a journal");
    let first: i64 = journal
        .query_row(
            "SELECT min(seq) FROM event WHERE hash IS NOT NULL",
            [],
            |row| row.get(0),
        )
        .expect("an action");
    journal
        .execute(
            "UPDATE event SET actor = 'somebody else' WHERE seq = ?1",
            [first],
        )
        .expect("changed");
    drop(journal);
    let bad = daemon.cli(&["audit", "verify"]);
    let text = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!(bad.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("event {first}")), "{text}");
    let none = daemon.cli(&["audit", "verify", "/nowhere/journal.db"]);
    assert_eq!(none.status.code(), Some(1));
}

#[test]
fn a_wish_is_one_action_of_whoever_made_it_however_long_it_takes() {
    let command = misbehave("");
    let daemon = Daemon::start(&format!(
        "[module.base]\ncommand = {command}\n\
         [module.above]\nrequires = [\"base\"]\ncommand = {command}\n"
    ));
    // What is told may be on its way to the file still.
    let actions = |expected: Option<u64>| {
        daemon.wait("the actions in the file", || {
            let told = daemon.cli(&["audit", "verify", "--json"]).stdout;
            let told: serde_json::Value = serde_json::from_slice(&told).ok()?;
            let count = told["count"].as_u64()?;
            expected
                .is_none_or(|expected| expected == count)
                .then_some(count)
        })
    };
    let before = actions(None);
    // Its end comes behind that of the one above.
    daemon.change(name::MODULE_STOP, "base");
    for state in [ModuleState::Stopping, ModuleState::Stopped] {
        let moved = &daemon.moves("base", state, 1)[0];
        assert!(moved.actor.is_some(), "{moved:?}");
    }
    actions(Some(before + 1));
    daemon.change(name::MODULE_START, "above");
    let raised = daemon.moves("base", ModuleState::Waiting, 2);
    assert_eq!(raised[1].payload["by"], "above");
    let story = daemon.cli(&["why", "base"]).stdout;
    let story = String::from_utf8_lossy(&story);
    assert!(story.contains("above needs it"), "{story}");
    actions(Some(before + 2));
}

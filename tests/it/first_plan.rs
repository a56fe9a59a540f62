//! A start whose files have problems: the plan that was committed last starts, and says so.
//! Owns the ways in which files and plans are damaged between two starts.
//! Never asserts how a running system takes an edit.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{EventKind, ModuleState};

use crate::daemon::{Daemon, binary, misbehave};

fn module(name: &str) -> String {
    format!("[module.{name}]\ncommand = {}\n", misbehave(""))
}

/// Starts, stops in order, and hands the folder over.
fn ran_before(head: &str, modules: &str) -> tempfile::TempDir {
    let mut daemon = Daemon::launch(head, modules);
    daemon.until("one", ModuleState::Running);
    let down = daemon.cli(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert!(daemon.ended().is_some());
    std::mem::replace(&mut daemon.dir, tempfile::tempdir().expect("a folder"))
}

fn file(dir: &Path) -> std::path::PathBuf {
    dir.join("config/mainstay.toml")
}

fn break_line(dir: &Path, good: &str, bad: &str) -> String {
    let text = fs::read_to_string(file(dir)).expect("a text");
    assert!(text.contains(good), "{text}");
    fs::write(file(dir), text.replace(good, bad)).expect("written");
    text
}

#[test]
fn a_broken_file_starts_the_last_committed_plan_loudly_and_the_next_good_save_is_applied() {
    let dir = ran_before("reload_watch = \"0s\"", &module("one"));
    let good = break_line(dir.path(), "[module.one]", "[module.one");
    let daemon = Daemon::launch_in(dir);
    daemon.until("one", ModuleState::Running);
    let printed = daemon.printed();
    for part in [
        "WARNING: this start is not what the files say",
        "plan 1 is in force",
        "mainstay.toml:6:",
        "--strict",
    ] {
        assert!(printed.contains(part), "{part:?} is not in {printed}");
    }
    let problem = daemon.status().config_problem.expect("a problem");
    assert!(problem.contains("mainstay.toml:6:"), "{problem}");
    let rejected = || {
        let params = EventsParams {
            kinds: vec![EventKind::ConfigRejected],
            ..EventsParams::default()
        };
        daemon.client().events(&params).expect("events").len()
    };
    daemon.wait("the event", || (rejected() == 1).then_some(()));
    daemon.kill_runtime();
    daemon.wait("the problem after the runtime returned", || {
        daemon.status().config_problem
    });
    daemon.until("one", ModuleState::Running);
    fs::write(file(daemon.dir.path()), good + &module("two")).expect("written");
    daemon.until("two", ModuleState::Running);
    daemon.wait("no problem", || {
        daemon.status().config_problem.is_none().then_some(())
    });
}

/// A plan that never got up is none to go on with, and none to compare with in vain.
#[test]
fn a_start_that_failed_is_not_the_last_good_plan() {
    let dir = ran_before("reload_watch = \"0s\"", &(module("one") + &module("gone")));
    let good = fs::read_to_string(file(dir.path())).expect("a text");
    let needed = "[module.one]\nrequired = true\nrecovery = { max_attempts = 0 }\n";
    let text = good.replace(&module("gone"), "");
    let text = text.replace("[module.one]\n", needed);
    let text = text.replace(&misbehave(""), "[\"no-such-program\"]");
    fs::write(file(dir.path()), text).expect("written");
    let up = |words: &[&str]| -> (Option<i32>, String) {
        let output = Command::new(binary())
            .args(words)
            .arg("--config")
            .arg(dir.path().join("config"))
            .output()
            .expect("it runs");
        let all = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&all).into_owned();
        (output.status.code(), told)
    };
    let (code, told) = up(&["up", "-d"]);
    assert_eq!(code, Some(1), "{told}");
    fs::write(
        file(dir.path()),
        good.replace("[module.one]", "[module.one"),
    )
    .expect("written");
    let (code, told) = up(&["up", "-d"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("this start is not what the files say"),
        "{told}"
    );
    let (_, history) = up(&["config", "history"]);
    assert!(history.contains("the start failed: "), "{history}");
    // The failed plan has a module less than the one before; both are of earlier systems.
    let (code, diff) = up(&["config", "diff", "1", "2"]);
    assert_eq!(code, Some(0), "{diff}");
    assert!(diff.contains("gone"), "{diff}");
    assert_eq!(up(&["status", "one"]).0, Some(0));
    assert_eq!(up(&["down"]).0, Some(0));
}

#[test]
fn strict_refuses_and_so_does_a_start_without_a_plan_to_go_on_with() {
    let dir = ran_before("", &module("one"));
    let good = break_line(dir.path(), "command", "comand");
    let up = |words: &[&str]| -> Output {
        Command::new(binary())
            .args(words)
            .arg("--config")
            .arg(dir.path().join("config"))
            .output()
            .expect("it runs")
    };
    for words in [&["up", "--strict"][..], &["up", "-d", "--strict"]] {
        let output = up(words);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{words:?}: {told}");
        assert!(told.contains("did you mean `command`"), "{told}");
        assert!(!told.contains("WARNING"), "{told}");
    }
    // Detached it starts, and the warning is on the terminal of the person.
    let output = up(&["up", "-d"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(
        told.contains("WARNING: this start is not what the files say"),
        "{told}"
    );
    assert!(up(&["down"]).status.success());
    // A damaged file of the committed plan: its history has it too.
    fs::write(dir.path().join("state/committed.json"), "{\"number\":").expect("written");
    assert!(up(&["up", "-d"]).status.success());
    assert!(up(&["down"]).status.success());
    // Without either the file's own problem is what is said.
    fs::remove_file(dir.path().join("state/committed.json")).expect("removed");
    fs::remove_dir_all(dir.path().join("state/plans")).expect("removed");
    for words in [&["up"][..], &["up", "-d"]] {
        let output = up(words);
        assert_eq!(output.status.code(), Some(5), "{output:?}");
    }
    fs::write(file(dir.path()), good).expect("written");
    assert!(up(&["up", "-d"]).status.success());
    assert!(up(&["down"]).status.success());
}

/// With the default folders, where the name alone says which system it is.
#[test]
fn an_emptied_file_and_a_broken_name_start_what_ran_before() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("config")).expect("a folder");
    let up = |words: &[&str]| -> String {
        let output = Command::new(binary())
            .args(words)
            .arg("--config")
            .arg(dir.path().join("config"))
            .env_remove("MAINSTAY_CONFIG")
            .env("XDG_STATE_HOME", dir.path().join("s"))
            .env("XDG_RUNTIME_DIR", dir.path().join("r"))
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {told}");
        told
    };
    let text = format!("[mainstay]\nname = \"shop\"\n{}", module("one"));
    fs::write(file(dir.path()), &text).expect("written");
    up(&["up", "-d"]);
    up(&["down"]);
    for broken in [
        String::new(),
        text.replace("\"shop\"", "\"shop"),
        text.replace("name = \"shop\"", "nam = \"shop\""),
    ] {
        fs::write(file(dir.path()), &broken).expect("written");
        let told = up(&["up", "-d"]);
        assert!(
            told.contains("WARNING") && told.contains("shop is up"),
            "{told}"
        );
        up(&["down", "--name", "shop"]);
    }
    // An empty file is what a person wants who says so.
    fs::write(file(dir.path()), "# nothing\n").expect("written");
    assert!(!up(&["up", "-d"]).contains("WARNING"));
    up(&["down"]);
}

//! `start`, `stop` and `restart` from the command line: several names, and requests that meet.
//! Owns the tests of what is touched, when the command returns, and with which exit code.
//! Never asserts how long a change takes.

use std::process::{Command, Stdio};

use mainstay_protocol::method::name;
use mainstay_protocol::{DesiredState, EventKind, ModuleState};

use crate::daemon::{Daemon, binary, misbehave};

fn two(words: &str) -> String {
    format!(
        "[module.one]\ncommand = {0}\n[module.two]\ncommand = {0}\n",
        misbehave(words)
    )
}

#[test]
fn one_wrong_name_among_several_and_none_is_touched() {
    let daemon = Daemon::start(&two(""));
    let before = [daemon.module("one"), daemon.module("two")];
    for (verb, wrong) in [
        ("stop", "tow"),
        ("restart", "tow"),
        ("start", "tow"),
        ("stop", "event-bus"),
    ] {
        let output = daemon.cli(&[verb, "one", wrong, "two"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{verb} {wrong}: {text}");
        assert!(
            text.contains(wrong) && text.contains("nothing was changed"),
            "{text}"
        );
    }
    for old in before {
        let now = daemon.module(&old.module);
        assert_eq!(
            (now.pid, now.desired, now.state),
            (old.pid, DesiredState::Up, ModuleState::Running)
        );
    }
}

#[test]
fn several_modules_are_stopped_together() {
    let daemon = Daemon::start(&two("--slow-stop 700ms"));
    let output = daemon.cli(&["stop", "one", "two"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stopping = |module: &str| daemon.moves(module, ModuleState::Stopping, 1)[0].seq;
    let stopped = |module: &str| daemon.moves(module, ModuleState::Stopped, 1)[0].seq;
    assert!(stopping("two") < stopped("one") && stopping("one") < stopped("two"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("one is stopped") && text.contains("two is stopped"),
        "{text}"
    );
    let output = daemon.cli(&["start", "one", "two", "--json"]);
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).expect("results");
    let names = results.as_array().expect("a list").iter();
    let names: Vec<_> = names.map(|it| it["module"]["module"].clone()).collect();
    assert_eq!(names, ["one", "two"], "in the order of the names");
}

#[test]
fn a_start_that_is_overtaken_returns_and_says_by_whom() {
    let daemon = Daemon::start(&format!(
        "[module.need]\ncommand = {}\nrequired = false\n\
         [module.need.recovery]\nbackoff = {{ initial = \"10m\", max = \"10m\" }}\n\
         [module.user]\ncommand = {}\nrequires = [\"need\"]\nstart = \"lazy\"\nrequired = false\n",
        misbehave("--exit-code 1"),
        misbehave("")
    ));
    daemon.until("need", ModuleState::Backoff);
    let start = Command::new(binary())
        .args(["start", "user", "--config"])
        .arg(daemon.path("config"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command line runs");
    daemon.until_view("the start to be under way", "user", |view| {
        view.desired == DesiredState::Up
    });
    daemon.change(name::MODULE_STOP, "user");
    let output = start.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}{output:?}");
    assert!(
        text.contains("overtaken") && text.contains("requested stop"),
        "{text}"
    );
    assert_eq!(daemon.module("user").desired, DesiredState::Down);
    assert!(daemon.count("user", EventKind::OperationRequested) >= 2);
}

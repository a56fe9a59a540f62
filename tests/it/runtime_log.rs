//! The runtime's own log: in a file beside the modules' logs, and for the system's journal.
//! Owns the tests of its form. Never reads what a module wrote.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use mainstay_protocol::method::name;
use serde_json::Value;

use crate::daemon::{Daemon, binary, kill, misbehave, prepare};

fn one() -> String {
    format!("[module.one]\ncommand = {}\n", misbehave(""))
}

fn log(daemon: &Daemon) -> String {
    std::fs::read_to_string(daemon.path("state/logs/mainstay.log")).unwrap_or_default()
}

#[test]
fn a_change_is_logged_with_its_request_and_looking_is_not() {
    let daemon = Daemon::start(&one());
    daemon.change(name::MODULE_RESTART, "one");
    let line = daemon.wait("a line about the request", || {
        let text = log(&daemon);
        text.lines()
            .find(|line| line.contains("module.restart"))
            .map(str::to_owned)
    });
    assert!(
        line.contains("INFO") && line.contains("id=") && line.contains("connection="),
        "{line}"
    );
    assert!(!log(&daemon).contains("system.status"), "{}", log(&daemon));
    assert!(
        !daemon.printed().contains("module.restart"),
        "stderr is for what is wrong"
    );
}

#[test]
fn as_json_and_with_levels_each_line_has_its_cause() {
    let dir = prepare("", &one());
    let mut command = Command::new(binary());
    command.env("MAINSTAY_LOG_FORMAT", "json");
    command.env("MAINSTAY_LOG", "warn,mainstay::actors=debug");
    let daemon = Daemon::launch_as(dir, command);
    let pid = daemon
        .until("one", mainstay_protocol::State::Running)
        .pid
        .expect("it runs");
    kill(pid, libc::SIGKILL);
    daemon.until_view("a restart", "one", |view| view.restarts == 1);
    let lines: Vec<Value> = daemon.wait("lines with a cause", || {
        let text = log(&daemon);
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        let lines: Vec<Value> = lines.collect();
        lines
            .iter()
            .any(|line| line["cause"].is_u64())
            .then_some(lines)
    });
    let exit = lines
        .iter()
        .find(|line| line["message"] == "module.exited")
        .expect("the crash");
    assert!(exit["seq"].is_u64() && exit["module"] == "one", "{exit}");
    assert!(lines.iter().all(|line| {
        line["target"]
            .as_str()
            .is_some_and(|it| it.starts_with("mainstay::actors"))
    }));
}

#[test]
fn lines_for_the_journal_begin_with_their_priority() {
    let dir = prepare("", &one());
    let stream = std::fs::File::create(dir.path().join("journal")).expect("a file");
    let about = stream.metadata().expect("about it");
    let mut child = Command::new(binary())
        .args(["up", "--config"])
        .arg(dir.path().join("config"))
        .env("JOURNAL_STREAM", format!("{}:{}", about.dev(), about.ino()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stream)
        .spawn()
        .expect("it starts");
    let socket = dir.path().join("run/control.sock");
    let stopped = crate::daemon::wait_for("the socket", || {
        mainstay_client::blocking::Client::connect(&socket)
            .ok()?
            .stop_system(&Default::default())
            .ok()
    });
    let ended = child.wait().expect("our child");
    assert!(stopped.is_some() && ended.success(), "{ended}");
    let text = std::fs::read_to_string(dir.path().join("journal")).expect("lines");
    assert!(text.contains("system.stop"), "{text}");
    assert!(
        text.lines()
            .all(|line| line.starts_with('<') && line[2..].starts_with('>')),
        "{text}"
    );
}

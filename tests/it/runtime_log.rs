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
        line.contains("INFO") && line.contains("id=") && line.contains("requester="),
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
        .until("one", mainstay_protocol::ModuleState::Running)
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

/// A start that fails at a command before it, with stderr somewhere else than stdout or not.
fn failed(apart: bool) -> (String, String, String) {
    let modules = format!(
        "{}before_start = [[\"/bin/false\"]]\nrecovery.max_attempts = 1\n",
        one()
    );
    let dir = prepare("", &modules);
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let stdout = std::fs::File::create(&out).expect("a file");
    let stderr = match apart {
        true => std::fs::File::create(&err).expect("a file"),
        false => stdout.try_clone().expect("the same"),
    };
    let ended = Command::new(binary())
        .args(["up", "--config"])
        .arg(dir.path().join("config"))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .status()
        .expect("it starts");
    assert_eq!(ended.code(), Some(1));
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    (
        read(out),
        read(err),
        read(dir.path().join("state/logs/mainstay.log")),
    )
}

#[test]
fn a_person_reads_each_thing_once_and_the_file_has_it_all() {
    let (out, _, log) = failed(false);
    assert_eq!(out.matches("cannot start: one failed").count(), 1, "{out}");
    let level = |text: &str| text.contains("WARN") || text.contains("ERROR");
    assert!(!level(&out), "{out}");
    for line in [
        "WARN",
        "`/bin/false` failed",
        "ERROR",
        "cannot start: one failed",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    let (out, err, _) = failed(true);
    assert!(out.contains("cannot start: one failed"), "{out}");
    assert!(
        err.contains("mainstay: cannot start: one failed") && !level(&err),
        "{err}"
    );
}

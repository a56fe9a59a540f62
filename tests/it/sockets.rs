//! Sockets that are bound before a module starts: nobody who connects is ever refused.
//! Owns clients and the modules they talk to. Never looks inside.

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_protocol::method::name;
use mainstay_protocol::{EventKind, ModuleState};

use crate::daemon::{Daemon, free_address, kill, misbehave};

const DEADLINE: Duration = Duration::from_secs(60);

/// A module of this name that answers on `run/it.sock`, which mainstay keeps, with its pid.
pub(crate) fn answering(name: &str, words: &str) -> String {
    let command = misbehave(&format!("--serve {words}"));
    format!(
        "[module.{name}]\ncommand = {command}\n\
         sockets = {{ http = \"${{runtime_dir}}/it.sock\" }}\n"
    )
}

/// One that is named `it`, with more lines.
fn one(words: &str, more: &str) -> String {
    format!("{}{more}\n", answering("it", words))
}

fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.path("run/it.sock")).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream
}

/// What the module says: the name of the socket and its own pid.
fn answer(mut stream: impl Read) -> (String, u32) {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (name, pid) = text.trim_end().split_once(' ').expect("two words");
    (name.to_owned(), pid.parse().expect("a pid"))
}

/// Connects again and again until it is over: each time this process answers. Returns how often.
pub(crate) fn ask(daemon: &Daemon, pid: u32, pause: Duration, is_over: &AtomicBool) -> usize {
    let mut answers = 0;
    while !is_over.load(Ordering::Relaxed) {
        let expected = ("http".to_owned(), pid);
        assert_eq!(answer(connect(daemon)), expected, "after {answers} answers");
        answers += 1;
        std::thread::sleep(pause);
    }
    answers
}

#[test]
fn who_connects_before_the_module_accepts_waits_for_it() {
    let daemon = Daemon::start(&one("", ""));
    let view = daemon.until("it", ModuleState::Running);
    let stream = connect(&daemon);
    assert_eq!(
        answer(stream),
        ("http".to_owned(), view.pid.expect("it runs"))
    );
}

#[test]
fn nobody_is_refused_while_it_restarts() {
    let more = "[module.it.recovery]\nbackoff = { initial = \"300ms\", jitter = 0.0 }\n";
    let daemon = Daemon::start(&one("", more));
    let before = daemon
        .until("it", ModuleState::Running)
        .pid
        .expect("it runs");
    kill(before, libc::SIGKILL);
    daemon.wait("its end", || {
        daemon
            .events("it")
            .iter()
            .any(|event| event.kind == EventKind::ModuleExited)
            .then_some(())
    });
    let (name, pid) = answer(connect(&daemon));
    assert_eq!(name, "http");
    assert_ne!(pid, before, "the next run answers");
    assert_eq!(daemon.module("it").restarts, 1);
}

#[test]
fn sockets_outlive_the_runtime_and_go_with_mainstay() {
    let daemon = Daemon::start(&one("", ""));
    let pid = daemon
        .until("it", ModuleState::Running)
        .pid
        .expect("it runs");
    daemon.kill_runtime();
    assert_eq!(answer(connect(&daemon)).1, pid);
    let socket = daemon.path("run/it.sock");
    let (path, folder) = (socket.clone(), daemon.path("."));
    assert!(socket.exists() && folder.exists());
    let mut daemon = daemon;
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.ended(), Some(0));
    assert!(!path.exists(), "its name is gone with it");
}

#[test]
fn a_port_is_handed_over_with_what_it_stored_behind_it() {
    let address = free_address();
    let command = misbehave("--serve --print-env --print-fds");
    let daemon = Daemon::start(&format!(
        "[module.it]\ncommand = {command}\n\
         sockets = {{ b = \"${{runtime_dir}}/b.sock\", a = \"{address}\" }}\n"
    ));
    daemon.until("it", ModuleState::Running);
    let stream = TcpStream::connect(&address).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    assert_eq!(answer(stream).0, "a");
    let output = daemon.wait("what it was handed", || {
        let output = daemon.output("it");
        output.contains("env LISTEN_PID=").then_some(output) // they come after the descriptors
    });
    for line in ["env LISTEN_FDS=2", "env LISTEN_FDNAMES=a:b", "fd 3 socket:"] {
        assert!(output.contains(line), "{line} is not in\n{output}");
    }
    assert!(!output.contains("fd 5 "), "{output}");
}

#[test]
fn a_port_that_another_program_has_is_a_failed_start_that_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let command = misbehave("--serve");
    let daemon = Daemon::start(&format!(
        "[module.it]\nrequired = false\ncommand = {command}\nsockets = {{ http = \"{address}\" }}\n\
         [module.it.recovery]\nbackoff = {{ initial = \"10ms\" }}\nmax_attempts = 0\n"
    ));
    let exit = daemon.wait("the failure", || daemon.module("it").last_exit);
    let expected = format!("cannot listen on {address} (socket http)");
    assert!(exit.text.contains(&expected), "{}", exit.text);
    assert!(
        exit.text.contains("another program listens there"),
        "{}",
        exit.text
    );
    drop(taken);
    daemon.until("it", ModuleState::Running);
}

#[test]
fn a_lazy_module_starts_on_the_first_connection() {
    let daemon = Daemon::start(&one("", "start = \"lazy\"\n"));
    assert_eq!(daemon.module("it").state, ModuleState::NotStarted);
    let (name, pid) = answer(connect(&daemon));
    assert_eq!(name, "http");
    assert_eq!(daemon.until("it", ModuleState::Running).pid, Some(pid));
    let why = daemon.cli(&["why", "it"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("a connection to http"), "{why}");
}

#[test]
fn a_lazy_module_is_awaited_by_a_new_runtime_too() {
    let daemon = Daemon::start(&one("", "start = \"lazy\"\n"));
    daemon.kill_runtime();
    assert_eq!(daemon.module("it").state, ModuleState::NotStarted);
    assert_eq!(answer(connect(&daemon)).0, "http");
}

#[test]
fn a_lazy_module_that_ended_by_itself_is_started_by_the_next_connection() {
    // It serves for a moment and leaves with 0, as programs of inetd do.
    let more = "start = \"lazy\"\n[module.it.recovery]\nrestart = \"on_failure\"\n";
    let daemon = Daemon::start(&one("--exit-code 0 --after 100ms", more));
    let (_, first) = answer(connect(&daemon));
    daemon.until("it", ModuleState::Stopped);
    let (_, second) = answer(connect(&daemon));
    assert_ne!(first, second);
    assert_eq!(daemon.module("it").attempts, 0, "that is no failure");
}

#[test]
fn one_that_was_stopped_on_purpose_is_not_started_by_a_connection() {
    let daemon = Daemon::start(
        &(one("", "start = \"lazy\"\n")
            + &format!("[module.beside]\ncommand = {}\n", misbehave(""))),
    );
    answer(connect(&daemon));
    daemon.change(name::MODULE_STOP, "it");
    let waits = connect(&daemon);
    // What the connection brings about has happened once another wish was obeyed.
    daemon.change(name::MODULE_RESTART, "beside");
    assert_eq!(daemon.module("it").state, ModuleState::Stopped);
    daemon.change(name::MODULE_START, "it");
    assert_eq!(answer(waits).0, "http");
}

/// It stores a file with its pid in its first run; each later run prints what it was given.
#[test]
fn what_a_module_stores_is_given_to_each_later_run() {
    let command = misbehave("--ready notify --store");
    let more = "ready = { notify = true }\n[module.it.recovery]\n\
                backoff = { initial = \"10ms\", jitter = 0.0 }\n";
    let daemon = Daemon::start(&format!("[module.it]\ncommand = {command}\n{more}"));
    let first = daemon.until("it", ModuleState::Running);
    let pid = first.pid.expect("it runs");
    let given = |count: usize| {
        daemon.wait("what was stored", || {
            let output = daemon.output("it");
            let lines = output.lines().filter(|line| line.starts_with("stored "));
            let lines: Vec<&str> = lines.collect();
            assert!(
                lines.iter().all(|line| **line == format!("stored {pid}")),
                "{output}"
            );
            (lines.len() == count).then_some(())
        });
    };
    daemon.change(name::MODULE_RESTART, "it");
    given(1);
    kill(daemon.module("it").pid.expect("it runs"), libc::SIGKILL);
    given(2);
    daemon.until("it", ModuleState::Running);
    daemon.kill_runtime();
    daemon.change(name::MODULE_RESTART, "it");
    given(3);
    daemon.change(name::MODULE_STOP, "it");
    daemon.change(name::MODULE_START, "it");
    given(4);
}

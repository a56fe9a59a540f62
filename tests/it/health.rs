//! Health of real processes: probes, the confirmation before a restart, the watchdog.
//! Owns the promise that one failed look restarts nobody. Never uses a fixed port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay_protocol::{EventKind, HealthStatus, ModuleState, ModuleView, StateCause};
use mainstay_sdk::{HealthReport, Module};

use crate::daemon::{Daemon, misbehave, prepare};
use crate::raw::surroundings;

/// Quick restarts, and one module with these probes.
fn probed(command: &str, probes: &str) -> String {
    format!(
        "[recovery]\nmax_attempts = 0\nbackoff = {{ initial = \"10ms\", max = \"50ms\", floor = \"10ms\" }}\n\
         [module.one]\ncommand = {command}\n[module.one.health]\nprobes = [{probes}]\n"
    )
}

fn restarted(daemon: &Daemon, before: &ModuleView) -> ModuleView {
    daemon.until_view("a restart", "one", |view| {
        view.state == ModuleState::Running && view.generation > before.generation
    })
}

/// The cause of the first stop of a run.
fn cause(daemon: &Daemon) -> Option<StateCause> {
    let moved = daemon.events("one");
    moved
        .iter()
        .find(|event| event.payload["from"] == "running")
        .and_then(|event| event.cause)
}

#[test]
fn a_module_that_says_it_is_unhealthy_is_asked_again_before_it_is_restarted() {
    let daemon = Daemon::start(&probed(
        &misbehave(""),
        "{ sdk = true, interval = \"50ms\", timeout = \"10s\", unhealthy_threshold = 2 }",
    ));
    let before = daemon.module("one");
    let module = Module::connect_with(surroundings(&daemon, "one"));
    daemon.until_view("it to be healthy", "one", |view| {
        view.health == HealthStatus::Healthy
    });
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    module.health(move || {
        count.fetch_add(1, Ordering::Relaxed);
        HealthReport::unhealthy("the queue is stuck")
    });
    restarted(&daemon, &before);
    assert!(
        asked.load(Ordering::Relaxed) >= 4,
        "twice by schedule, twice to be sure"
    );
    assert_eq!(cause(&daemon), Some(StateCause::Probe));
    let changed = daemon.events("one");
    assert!(
        changed
            .iter()
            .any(|event| event.kind == EventKind::ModuleHealthChanged
                && event.payload["issues"][0] == "the queue is stuck")
    );
}

#[test]
fn a_module_that_hangs_when_asked_is_restarted() {
    let daemon = Daemon::start(&probed(
        &misbehave(""),
        "{ sdk = true, interval = \"50ms\", timeout = \"200ms\", initial_delay = \"1s\", unhealthy_threshold = 2 }",
    ));
    let before = daemon.module("one");
    let module = Module::connect_with(surroundings(&daemon, "one"));
    module.health(|| {
        std::thread::park_timeout(Duration::from_secs(5));
        HealthReport::healthy()
    });
    restarted(&daemon, &before);
    assert_eq!(cause(&daemon), Some(StateCause::Probe));
}

#[test]
fn a_command_that_fails_once_restarts_nobody_and_one_that_goes_on_failing_does() {
    let dir = prepare("", "");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (once, bad) = (at("once"), at("bad"));
    let script = format!("if [ -e {once} ]; then rm {once}; exit 1; fi; test ! -e {bad}");
    let probe = format!(
        "{{ exec = [\"sh\", \"-c\", {script:?}], interval = \"30ms\", timeout = \"10s\", unhealthy_threshold = 3 }}"
    );
    let file = dir.path().join("config/mainstay.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    std::fs::write(&file, text + &probed(&misbehave(""), &probe)).expect("written");
    let daemon = Daemon::launch_in(dir);
    let before = daemon.until_view("it to be healthy", "one", |view| {
        view.health == HealthStatus::Healthy
    });
    std::fs::write(&once, "").expect("a file");
    daemon.wait("the failed look", || {
        (!std::path::Path::new(&once).exists()).then_some(())
    });
    daemon.wait("word of it", || {
        daemon
            .events("one")
            .iter()
            .any(|event| event.payload["to"] == "degraded")
            .then_some(())
    });
    let after = daemon.until_view("it to be healthy again", "one", |view| {
        view.health == HealthStatus::Healthy
    });
    assert_eq!(
        (after.generation, after.pid),
        (before.generation, before.pid)
    );
    std::fs::write(&bad, "").expect("a file");
    restarted(&daemon, &before);
    let backoff = &daemon.moves("one", ModuleState::Backoff, 1)[0];
    let text = backoff.payload["text"].as_str().unwrap_or_default();
    assert!(text.starts_with("a liveness probe failed: "), "{text}");
    std::fs::remove_file(&bad).expect("a file");
    daemon.until_view("it to be healthy at last", "one", |view| {
        view.health == HealthStatus::Healthy
    });
}

/// A port that was free a moment ago.
fn port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

#[test]
fn a_port_is_probed_and_a_frozen_server_is_restarted() {
    if std::process::Command::new("python3")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("no python3 here: not tested");
        return;
    }
    let port = port();
    let daemon = Daemon::start(&probed(
        &format!(
            "[\"python3\", \"-m\", \"http.server\", \"{port}\", \"--bind\", \"127.0.0.1\", \"--directory\", \"/var/empty\"]"
        ),
        &format!(
            "{{ tcp = \"127.0.0.1:{port}\", interval = \"100ms\", initial_delay = \"5s\" }}, \
             {{ http = \"http://127.0.0.1:{port}/\", status = 404, interval = \"100ms\", timeout = \"2s\", \
             initial_delay = \"5s\", unhealthy_threshold = 1 }}"
        ),
    ));
    let before = daemon.until_view("it to be healthy", "one", |view| {
        view.health == HealthStatus::Healthy
    });
    crate::daemon::kill(before.pid.expect("it runs"), libc::SIGSTOP);
    restarted(&daemon, &before);
    assert_eq!(cause(&daemon), Some(StateCause::Probe));
}

#[test]
fn a_watchdog_that_is_not_fed_in_time_restarts() {
    let daemon = Daemon::start(&probed(
        &misbehave("--ready notify --watchdog-stop-after 1s"),
        "{ watchdog = \"500ms\" }",
    ));
    let before = daemon.module("one");
    restarted(&daemon, &before);
    assert_eq!(cause(&daemon), Some(StateCause::Watchdog));
}

#[test]
fn pings_that_waited_while_the_holder_or_the_runtime_was_stopped_are_heard() {
    let daemon = Daemon::start(&probed(
        &misbehave("--ready notify"),
        "{ watchdog = \"500ms\" }",
    ));
    let before = daemon.until_view("it to be healthy", "one", |view| {
        view.health == HealthStatus::Healthy
    });
    let long_enough = || {
        let end = std::time::Instant::now() + Duration::from_millis(1600);
        daemon.wait("three times the watchdog", || {
            (std::time::Instant::now() > end).then_some(())
        });
    };
    // The runtime answers while its holder is stopped.
    crate::daemon::kill(daemon.holder(), libc::SIGSTOP);
    long_enough();
    let output = daemon.cli(&["status"]);
    crate::daemon::kill(daemon.holder(), libc::SIGCONT);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (out, _) = crate::history::both(&output);
    assert!(out.contains(") was stopped, by Ctrl-Z perhaps"), "{out}");
    assert_eq!(daemon.status().issues, [""; 0], "it goes on");
    long_enough();
    let runtime = daemon.status().pid;
    crate::daemon::kill(runtime, libc::SIGSTOP);
    // A client that gives up: nobody was refused.
    let began = std::time::Instant::now();
    let output = daemon.cli(&["status"]);
    assert!(began.elapsed() < Duration::from_secs(15), "it ends");
    crate::daemon::kill(runtime, libc::SIGCONT);
    let (_, err) = crate::history::both(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("it is busy or stuck: try again"), "{err}");
    long_enough();
    let after = daemon.module("one");
    assert_eq!(
        (after.pid, after.restarts),
        (before.pid, 0),
        "it was left alone"
    );
    let all = mainstay_protocol::method::EventsParams {
        kinds: vec![EventKind::ClientRefused],
        ..Default::default()
    };
    let refused = daemon.client().events(&all).expect("events");
    assert!(refused.is_empty(), "{refused:?}");
}

//! What is written down of a run before it is killed.
//! Owns the promise that it is there, private, bounded, without secrets, and delays nobody.
//! Never asserts what the kernel tells of a thread: that depends on its version.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use mainstay_protocol::method::name;
use mainstay_protocol::{EventKind, ModuleState};
use serde_json::Value;

use crate::daemon::{Daemon, in_both_ways, script};

/// A module that ignores the stop signal, and has secrets.
fn stubborn(more: &str) -> String {
    format!(
        "[module.it]\ncommand = {}\nshutdown_timeout = \"1s\"\n\
         env = {{ PASSWORD = \"hunter2\" }}\n{more}",
        script(
            "trap '' TERM; echo last words; exec 7</dev/null
             while :; do sleep 0.05; done # hunter3"
        ),
    )
}

fn bundles(daemon: &Daemon) -> Vec<PathBuf> {
    let entries = fs::read_dir(daemon.path("state/forensics"));
    let entries = entries.into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn read(path: &PathBuf) -> (String, Value) {
    let text = fs::read_to_string(path).expect("a bundle");
    let value = serde_json::from_str(&text).expect("JSON");
    (text, value)
}

#[test]
fn a_stop_by_force_leaves_a_private_bundle_without_secrets_that_why_names() {
    in_both_ways(|| {
        let daemon = Daemon::start(&stubborn(""));
        daemon.wrote("it", "last words");
        daemon.change(name::MODULE_STOP, "it");
        let event = daemon.event("it", EventKind::ForensicsWritten);
        let path = PathBuf::from(event.payload["path"].as_str().expect("a path"));
        let mode = fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let (text, bundle) = read(&path);
        assert_eq!(bundle["reason"], "a stop by force");
        assert_eq!(bundle["complete"], true, "{text}");
        assert!(bundle["log"].to_string().contains("last words"), "{text}");
        if cfg!(target_os = "linux") {
            assert!(bundle["main_threads"][0]["state"].is_string(), "{text}");
            assert!(
                bundle["descriptors"].to_string().contains("/dev/null"),
                "{text}"
            );
            assert!(
                bundle["limits"].to_string().contains("Max open files"),
                "{text}"
            );
            assert!(
                bundle["environment"].to_string().contains("PASSWORD"),
                "{text}"
            );
        }
        assert!(!text.contains("hunter"), "a secret: {text}");
        let why = daemon.cli(&["why", "it"]);
        let why = String::from_utf8_lossy(&why.stdout).into_owned();
        assert!(why.contains(&path.display().to_string()), "{why}");
    });
}

#[test]
fn a_run_that_hangs_is_captured_before_its_stop_signal() {
    let probe = "health = { probes = [{ exec = [\"false\"], interval = \"50ms\", \
                 unhealthy_threshold = 1 }] }\n";
    let daemon = Daemon::start(&format!(
        "[module.it]\ncommand = {}\n{probe}",
        script("echo hangs; while :; do sleep 0.05; done"),
    ));
    let event = daemon.event("it", EventKind::ForensicsWritten);
    assert_eq!(event.payload["reason"], "a liveness probe that failed");
    let (text, bundle) = read(&PathBuf::from(
        event.payload["path"].as_str().expect("a path"),
    ));
    assert!(bundle["log"].to_string().contains("hangs"), "{text}");
    daemon.moves("it", ModuleState::Running, 2);
}

#[test]
fn a_run_that_stops_by_itself_leaves_none_and_old_ones_go() {
    let modules = format!(
        "[forensics]\nkeep = 2\n{}[module.good]\ncommand = {}\nshutdown_timeout = \"10s\"\n",
        stubborn("").replace("1s", "400ms"),
        script("trap 'sleep 0.05; exit 0' TERM; while :; do sleep 0.01; done"),
    );
    let daemon = Daemon::start(&modules);
    daemon.change(name::MODULE_STOP, "good");
    for round in 1..=4 {
        daemon.change(name::MODULE_RESTART, "it");
        daemon.wait("a bundle of each round", || {
            (daemon.count("it", EventKind::ForensicsWritten) == round).then_some(())
        });
    }
    assert_eq!(bundles(&daemon).len(), 2, "{:?}", bundles(&daemon));
    assert_eq!(daemon.count("good", EventKind::ForensicsWritten), 0);
}

#[test]
fn a_hostile_run_delays_neither_its_kill_nor_anybody_else() {
    let hostile = "import os, signal, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.mkfifo('pipe')
for n in range(700):
    os.open('pipe', os.O_RDWR)
for n in range(300):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
print('ready', flush=True)
time.sleep(1000)";
    if std::process::Command::new("python3")
        .arg("--version")
        .output()
        .is_err()
    {
        return crate::daemon::skip("there is no python3");
    }
    let argv = format!("{:?}", ["python3", "-c", hostile, &"x".repeat(100_000)]);
    let daemon = Daemon::start(&format!(
        "[module.it]\ncommand = {argv}\nshutdown_timeout = \"2s\"\n\
         ready = {{ log = \"ready\" }}\nenv = {{ LONG = \"{}\" }}\n",
        "y".repeat(100_000),
    ));
    let began = std::time::Instant::now();
    daemon.change(name::MODULE_STOP, "it");
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(8), "{took:?}");
    let event = daemon.event("it", EventKind::ForensicsWritten);
    let path = PathBuf::from(event.payload["path"].as_str().expect("a path"));
    let (text, bundle) = read(&path);
    assert!(text.len() <= 1024 * 1024, "{}", text.len());
    if cfg!(target_os = "linux") {
        assert!(
            bundle["descriptor_counts"][0]["count"].as_u64() > Some(700),
            "{text}"
        );
        assert!(bundle["main_threads_count"].as_u64() > Some(300));
    }
}

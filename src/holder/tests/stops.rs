//! A stop of a tree whose main process exits first: the rest gets the signal and the time too.
//! Never leaves a process behind.

#![cfg(unix)]

mod common;

use std::time::{Duration, Instant};

use common::{Rig, both_trees, eventually, spawn_of};
use mainstay_holder::EngineOptions;
use mainstay_process::{Signal, TreeProcess};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// A shell that does not forward the signal, and its worker, which handles it by `on_term`.
fn shell_with_worker(rig: &Rig, on_term: &str) -> String {
    let up = rig.dir.path().join("up").display().to_string();
    format!(
        "sh -c 'trap \"{on_term}\" TERM; echo > {up}; while :; do sleep 0.01; done'; echo after"
    )
}

fn start(rig: &mut Rig, generation: u64, on_term: &str) {
    let script = shell_with_worker(rig, on_term);
    let up = rig.dir.path().join("up");
    let _ = std::fs::remove_file(&up);
    rig.start(spawn_of("a", generation, &["/bin/sh", "-c", &script]));
    eventually("the worker is up", || up.exists());
}

fn was_left(processes: &[TreeProcess]) -> bool {
    processes
        .iter()
        .any(|one| one.command == "sh" && one.pid > 1)
}

#[test]
fn what_a_main_process_leaves_in_a_stop_gets_the_signal_and_the_rest_of_the_time() {
    for options in both_trees() {
        let mut rig = Rig::new(options.clone());
        start(&mut rig, 1, "sleep 0.3; echo handled; exit");
        rig.line.stop("a", 1, Duration::from_secs(20));
        let (signal, processes) = rig.line.tree_signalled("a", 1);
        assert_eq!(signal, Signal::TERMINATE);
        assert!(was_left(&processes), "{processes:?}");
        let exited = rig.line.exited("a", 1);
        assert_eq!(exited.exit.signal(), Some(Signal::TERMINATE), "{options:?}");
        assert!(!exited.timed_out);
        let log = || std::fs::read_to_string(rig.log("a")).unwrap_or_default();
        eventually("what the handler wrote is kept", || {
            log().contains("handled\n")
        });
    }
}

#[test]
fn what_a_main_process_leaves_in_a_stop_is_killed_when_its_time_has_passed() {
    for options in both_trees() {
        let mut rig = Rig::new(options.clone());
        start(&mut rig, 1, "");
        let began = Instant::now();
        rig.line.stop("a", 1, Duration::from_millis(400));
        rig.line.exited("a", 1);
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(400), "{took:?} {options:?}");
        assert!(took < Duration::from_secs(4), "{took:?} {options:?}");
    }
}

#[test]
fn a_kill_does_not_wait_for_the_rest_of_a_tree() {
    for options in both_trees() {
        let mut rig = Rig::new(options.clone());
        start(&mut rig, 1, "");
        rig.line.stop("a", 1, Duration::from_secs(100));
        rig.line.tree_signalled("a", 1);
        let began = Instant::now();
        rig.line.kill("a", 1);
        rig.line.exited("a", 1);
        assert!(began.elapsed() < Duration::from_secs(10), "{options:?}");
        // And the next run meets nothing of it.
        start(&mut rig, 2, "exit");
        rig.line.stop("a", 2, Duration::from_secs(20));
        rig.line.exited("a", 2);
    }
}

#[test]
fn a_main_process_that_ignores_the_stop_is_killed_by_its_deadline_without_a_runtime() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let script = "trap '' TERM; echo > UP; while :; do sleep 1; done";
        let up = rig.dir.path().join("up");
        let script = script.replace("UP", &up.display().to_string());
        rig.start(spawn_of("a", 1, &["/bin/sh", "-c", &script]));
        eventually("it is up", || up.exists());
        rig.line.stop("a", 1, Duration::from_millis(200));
        let exited = rig.line.exited("a", 1);
        assert_eq!(exited.exit.signal(), Some(Signal::KILL));
        assert!(!exited.timed_out, "that is for what has a timeout");
    }
}

#[test]
fn an_application_sees_that_a_main_process_is_stopped_by_a_signal() {
    let mut rig = Rig::new(EngineOptions::default());
    let pid = rig.start(spawn_of("a", 1, &["sleep", "300"]));
    let signal = |signal| kill(Pid::from_raw(pid), signal).is_ok();
    assert!(signal(nix::sys::signal::Signal::SIGSTOP));
    assert_eq!(rig.line.suspended("a"), Some(libc::SIGSTOP));
    assert!(signal(nix::sys::signal::Signal::SIGCONT));
    assert_eq!(rig.line.suspended("a"), None);
}

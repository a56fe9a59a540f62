//! Runs that are stopped for a moment: by a lease that ends by itself, and never a stop for good.
//! Never asserts how precisely a lease ends: the machine may be busy.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Rig, both_trees, eventually, lives, spawn_of};
use mainstay_holder::messages::{FreezeRequest, HolderRequest};
use mainstay_holder::start_time;
use mainstay_process::Signal;

const SPIN: &[&str] = &["/bin/sh", "-c", "while :; do :; done"];

fn freeze(rig: &mut Rig, generation: u64, pid: i32, ms: u64) {
    let start = start_time(pid.unsigned_abs()).unwrap();
    rig.line.ask(&HolderRequest::Freeze(FreezeRequest {
        instance: "a".parse().unwrap(),
        generation,
        ms,
        processes: vec![(pid.unsigned_abs(), start)],
    }));
}

/// CPU time in ticks.
fn used(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text
        .rsplit_once(") ")
        .map_or(vec![], |(_, rest)| rest.split(' ').collect());
    fields
        .get(11)
        .and_then(|ticks| ticks.parse().ok())
        .unwrap_or(0)
}

fn runs(pid: i32) {
    let before = used(pid);
    eventually("it runs", || used(pid) > before + 1);
}

/// Whether it did nothing for a while; the lease that stops it is renewed meanwhile.
fn stands_still(rig: &mut Rig, generation: u64, pid: i32) -> bool {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        freeze(rig, generation, pid, 300);
        std::thread::sleep(Duration::from_millis(50));
        let before = used(pid);
        freeze(rig, generation, pid, 300);
        std::thread::sleep(Duration::from_millis(150));
        if used(pid) == before {
            return true;
        }
    }
    false
}

#[test]
fn a_lease_ends_by_itself_and_an_order_ends_it_earlier() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let pid = rig.start(spawn_of("a", 1, SPIN));
        runs(pid);
        assert!(stands_still(&mut rig, 1, pid));
        runs(pid);
        assert!(stands_still(&mut rig, 1, pid));
        freeze(&mut rig, 1, pid, 0);
        runs(pid);
        // Another run, or one that never was, is not meant.
        freeze(&mut rig, 2, pid, 300);
        runs(pid);
    }
}

#[test]
fn a_stop_signal_reaches_a_frozen_run_and_nothing_freezes_it_again() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let script = "trap 'sleep 0.3; exit 7' TERM; while :; do :; done";
        let pid = rig.start(spawn_of("a", 1, &["/bin/sh", "-c", script]));
        runs(pid);
        assert!(stands_still(&mut rig, 1, pid));
        rig.line.ask(&HolderRequest::Signal {
            instance: "a".parse().unwrap(),
            generation: 1,
            signal: Signal::TERMINATE,
            cont: true,
            within_ms: None,
        });
        if lives(pid) {
            freeze(&mut rig, 1, pid, 300);
        }
        assert_eq!(rig.line.exited("a", 1).exit.code(), Some(7));
    }
}

#[test]
fn a_run_that_is_killed_while_frozen_leaves_nothing_frozen() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        for generation in 1..20 {
            let pid = rig.start(spawn_of("a", generation, SPIN));
            freeze(&mut rig, generation, pid, 300);
            rig.line.kill("a", generation);
            let exit = rig.line.exited("a", generation).exit;
            assert_eq!(exit.signal(), Some(Signal::KILL));
        }
        let pid = rig.start(spawn_of("a", 20, SPIN));
        runs(pid);
    }
}

#[test]
fn a_process_that_a_person_stopped_stays_stopped() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let script = "sleep 300 & echo $! > pid.n; mv pid.n pid; while :; do :; done";
        let mut spawn = spawn_of("a", 1, &["/bin/sh", "-c", script]);
        spawn.directory = rig.dir.path().display().to_string();
        let pid = rig.start(spawn);
        let file = rig.dir.path().join("pid");
        eventually("its child", || file.exists());
        let child: i32 = std::fs::read_to_string(file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let stopped = || {
            let text = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
            text.contains(") T ")
        };
        let child_pid = nix::unistd::Pid::from_raw(child);
        nix::sys::signal::kill(child_pid, nix::sys::signal::SIGSTOP).unwrap();
        eventually("the child to be stopped", stopped);
        assert!(stands_still(&mut rig, 1, pid));
        runs(pid);
        assert!(stopped(), "nothing continued it");
    }
}

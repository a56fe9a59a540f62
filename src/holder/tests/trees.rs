//! Whole trees: what escapes its parent, session or group is killed all the same.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Rig, both_trees, eventually, has_python, lives, spawn_of};
use mainstay_holder::EngineOptions;
use mainstay_process::Signal;

/// A shell script that leaves a process behind which writes its number to `pid`.
fn escape(how: &str, rig: &Rig) -> String {
    let file = rig.dir.path().join("pid").display().to_string();
    let inner = format!("echo $$ > {file}.n; mv {file}.n {file}; exec sleep 300");
    match how {
        "child" => format!("sh -c '{inner}' &"),
        "double fork" => format!("(sh -c '{inner}' &);"),
        "setsid" => format!("(setsid sh -c '{inner}' >/dev/null 2>&1 </dev/null &);"),
        _ => panic!("{how}"),
    }
}

fn escaped(rig: &Rig) -> i32 {
    let path = rig.dir.path().join("pid");
    eventually("it escapes", || path.exists());
    let pid = std::fs::read_to_string(&path)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    std::fs::remove_file(path).unwrap();
    pid
}

#[test]
fn double_fork_daemons() {
    for options in both_trees() {
        let mut rig = Rig::new(options.clone());
        for (generation, how) in (1..).zip(["child", "double fork", "setsid"]) {
            let script = format!("{} sleep 300", escape(how, &rig));
            rig.start(spawn_of("a", generation, &["/bin/sh", "-c", &script]));
            let pid = escaped(&rig);
            assert!(lives(pid));
            rig.line.kill("a", generation);
            assert_eq!(
                rig.line.exited("a", generation).exit.signal(),
                Some(Signal::KILL)
            );
            eventually(&format!("{how} is killed, {options:?}"), || !lives(pid));
        }
    }
}

#[test]
fn a_restart_never_meets_its_old_children() {
    for options in both_trees() {
        let mut rig = Rig::new(options.clone());
        for (generation, how) in (1..).zip(["child", "double fork", "setsid"]) {
            let file = rig.dir.path().join("pid");
            let wait = format!("while [ ! -s {} ]; do sleep 0.01; done", file.display());
            let script = format!("{} {wait}; exit 4", escape(how, &rig));
            rig.start(spawn_of("a", generation, &["/bin/sh", "-c", &script]));
            assert_eq!(rig.line.exited("a", generation).exit.code(), Some(4));
            let pid = escaped(&rig);
            eventually(&format!("{how} is killed, {options:?}"), || !lives(pid));
        }
    }
}

#[test]
fn tree_kill_misses_new_forks() {
    const FORKS: &str = "
import os, time
n = 0
while n < 150:
    n += 1
    if os.fork() == 0:
        if n % 3 == 0: os.setsid()
        time.sleep(300)
        os._exit(0)
    time.sleep(0.001)
time.sleep(300)";
    if !has_python() {
        return;
    }
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let state = rig.dir.path().join("state").display().to_string();
        let mut spawn = spawn_of("bomb", 1, &["python3", "-c", FORKS]);
        spawn.env = vec![("BOMB".into(), state.clone())];
        rig.start(spawn);
        let mark = format!("BOMB={state}");
        let count = || {
            let entries = std::fs::read_dir("/proc").unwrap().flatten();
            let texts = entries.filter_map(|one| std::fs::read(one.path().join("environ")).ok());
            let has = |text: &Vec<u8>| text.split(|b| *b == 0).any(|one| one == mark.as_bytes());
            texts.filter(has).count()
        };
        eventually("it forks", || count() > 40);
        rig.line.kill("bomb", 1);
        rig.line.exited("bomb", 1);
        eventually("none of it lives", || count() == 0);
    }
}

#[test]
fn what_is_not_of_the_tree_is_left_alone() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let other = rig.start(spawn_of("other", 1, &["sleep", "300"]));
        let mut stranger = std::process::Command::new("sleep")
            .arg("300")
            .spawn()
            .unwrap();
        for generation in 1..=3 {
            rig.start(spawn_of(
                "a",
                generation,
                &["/bin/sh", "-c", "sleep 300 & sleep 300"],
            ));
            rig.line.kill("a", generation);
            rig.line.exited("a", generation);
        }
        assert!(lives(other) && lives(stranger.id() as i32));
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

#[test]
fn closing_the_wire_ends_everything() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let pids: Vec<i32> = (0..20)
            .map(|n| rig.start(spawn_of(&format!("m{n}"), 1, &["sleep", "300"])))
            .collect();
        drop(rig);
        assert!(pids.into_iter().all(|pid| !lives(pid)));
    }
    assert_eq!(
        Rig::new(EngineOptions {
            no_groups: true,
            ..EngineOptions::default()
        })
        .world
        .tree,
        "walk"
    );
}

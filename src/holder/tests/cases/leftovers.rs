//! What an earlier holder, or a module, left behind.
//! Never leaves a process behind.

use std::os::unix::net::UnixListener;
use std::process::Command;

use mainstay_holder::messages::HolderRequest;

use super::{House, start_as_holder};
use crate::common::{eventually, lives, spawn_of};

pub(super) fn a_killed_holder_leaves_nothing_to_meet() {
    for (before, walk) in [(false, false), (true, true), (true, false)] {
        let mut house = House::ready(before);
        let pid = house.start("a", 1, "setsid sleep 300 & sleep 300");
        house.holder.kill().unwrap();
        house.holder.wait().unwrap();
        assert!(lives(pid));
        let dir = std::mem::replace(&mut house.dir, tempfile::tempdir().unwrap());
        drop(house);
        let mut house = House::of(dir, std::env::current_exe().unwrap(), walk);
        let setup = house.setup();
        house.configure(setup);
        eventually("what was left is killed", || !lives(pid));
        assert_eq!(house.walk, walk);
        house.leave(0);
    }
}

/// `up` typed in a shell that a module had opened and that outlived the holder.
pub(super) fn up_below_what_was_left_spares_its_own_line() {
    let mut house = House::ready(true);
    let spawn = spawn_of("a", 1, &["sleep", "300"]);
    house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
    let pid = house.line.spawned("a", 1);
    let mut mark = String::new();
    // The kernel shows it a moment after what ends the wait for an exec.
    eventually("its mark is seen", || {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let mut variables = environment.split(|byte| *byte == 0);
        let found = variables.find_map(|one| one.strip_prefix(b"MAINSTAY_MARK="));
        mark = String::from_utf8_lossy(found.unwrap_or_default()).into_owned();
        !mark.is_empty()
    });
    house.holder.kill().unwrap();
    house.holder.wait().unwrap();
    let dir = std::mem::replace(&mut house.dir, tempfile::tempdir().unwrap());
    drop(house);
    let path = dir.path().join("test.sock");
    std::fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(path).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "\"$0\"; exit $(($? + 10))"])
        .arg(&program);
    shell.env("MAINSTAY_MARK", mark);
    let shell = start_as_holder(shell, &dir, &program, true);
    let mut house = House::with(dir, listener, shell, true);
    let setup = house.setup();
    house.configure(setup);
    assert!(!lives(pid), "what else was left is killed");
    let (one, other) = (
        house.start("a", 1, "sleep 300"),
        house.start("b", 1, "sleep 300"),
    );
    house.line.kill("a", 1);
    house.line.exited("a", 1);
    assert!(!lives(one) && lives(other));
    house.line.ask(&HolderRequest::Exit { code: 5 });
    house.control = None;
    assert_eq!(house.end(), 15, "the shell lives and sees how it ended");
    assert!(!lives(other));
}

pub(super) fn escapees_are_killed_with_a_subreaper_too() {
    for walk in [false, true] {
        let mut house = House::ready(walk);
        let path = house.dir.path().join("pid");
        let file = path.display();
        let escape =
            format!("(setsid sh -c 'echo $$ > {file}.n; mv {file}.n {file}; sleep 300' &)");
        for (generation, rest) in [(1, "sleep 300"), (2, "while [ ! -s F ]; do :; done")] {
            let _ = std::fs::remove_file(&path);
            let rest = rest.replace('F', &file.to_string());
            house.start("a", generation, &format!("{escape}; {rest}"));
            eventually("it escapes", || path.exists());
            let pid: i32 = std::fs::read_to_string(&path)
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            if generation == 1 {
                house.line.kill("a", generation);
            }
            house.line.exited("a", generation);
            eventually("the escapee is killed", || !lives(pid));
        }
        house.leave(0);
    }
}

//! Processes of a run that nothing ties to it any more: no parent, session, variable or group.
//! Never leaves a process behind.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use mainstay_holder::messages::HolderRequest;
use mainstay_process::{Instance, Signal};

use super::{House, start_as_holder};
use crate::common::{eventually, lives, spawn_of};

/// A script that leaves a process behind which has nothing of its run, and writes its number.
fn escape(file: &Path, first: &str) -> String {
    let file = file.display();
    let inner = format!("{first} echo $$ > {file}.n; mv {file}.n {file}; exec sleep 300");
    format!(
        "(env -i setsid /bin/sh -c \"{}\" &)",
        inner.replace('$', "\\$")
    )
}

fn escaped(file: &Path) -> i32 {
    eventually("it escapes", || file.exists());
    let pid = std::fs::read_to_string(file).unwrap();
    pid.trim().parse().unwrap()
}

pub(super) fn what_lost_every_tie_ends_with_its_run_and_no_other() {
    for walk in [true, false] {
        let mut house = House::ready(walk);
        let (one, other) = (house.dir.path().join("one"), house.dir.path().join("other"));
        let script = format!("{}; exec sleep 300", escape(&other, ""));
        house.start("other", 1, &script);
        let other = escaped(&other);
        // One that ends by itself, one that is asked to end, and one that is killed.
        for (generation, rest) in
            (1..).zip(["while [ ! -s F ]; do :; done", "sleep 300", "sleep 300"])
        {
            let _ = std::fs::remove_file(&one);
            let rest = rest.replace('F', &one.display().to_string());
            house.start("a", generation, &format!("{}; {rest}", escape(&one, "")));
            let pid = escaped(&one);
            match generation {
                2 => house.line.ask(&HolderRequest::Signal {
                    instance: Instance::new("a", 1),
                    generation,
                    signal: Signal::TERMINATE,
                    cont: true,
                    within_ms: None,
                }),
                3 => house.line.kill("a", generation),
                _ => {}
            }
            house.line.exited("a", generation);
            eventually("the escapee is killed", || !lives(pid));
            assert!(lives(other), "that of another run lives, walk: {walk}");
        }
        house.leave(0);
        assert!(!lives(other), "nothing outlives the holder, walk: {walk}");
    }
}

pub(super) fn what_left_its_control_group_ends_too() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: not tested");
        return;
    }
    let mut house = House::ready(false);
    let file = house.dir.path().join("pid");
    let leave = "for d in /sys/fs/cgroup /sys/fs/cgroup/unified; do \
                 [ -e $d/cgroup.subtree_control ] && echo $$ > $d/cgroup.procs && break; done;";
    for generation in [1, 2] {
        let _ = std::fs::remove_file(&file);
        house.start(
            "a",
            generation,
            &format!("{}; sleep 300", escape(&file, leave)),
        );
        let pid = escaped(&file);
        if generation == 1 {
            house.line.kill("a", generation);
            house.line.exited("a", generation);
            eventually("the escapee is killed", || !lives(pid));
        } else {
            house.line.ask(&HolderRequest::Exit { code: 0 });
            house.control = None;
            house.end();
            assert!(!lives(pid), "nothing outlives the holder");
        }
    }
}

pub(super) fn children_from_before_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("test.sock")).unwrap();
    let program = std::env::current_exe().unwrap();
    let file = dir.path().join("pid");
    let mut shell = Command::new("/bin/sh");
    let script = format!("sleep 300 & echo $! > {}; exec \"$0\"", file.display());
    shell.args(["-c", &script]).arg(&program);
    let shell = start_as_holder(shell, &dir, &program, true);
    let mut house = House::with(dir, listener, shell, true);
    let setup = house.setup();
    house.configure(setup);
    let pid = escaped(&file);
    house.start("a", 1, "exit 3");
    house.line.exited("a", 1);
    house.leave(0);
    assert!(lives(pid), "it is no child of a run");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
}

/// As the second process of a namespace, and as the first.
pub(super) fn a_namespace_of_processes_changes_nothing() {
    let mut unshare = Command::new("unshare");
    unshare.args(["-pf", "--mount-proc", "true"]);
    let mut done = None;
    if let Ok(mut child) = unshare.spawn() {
        eventually("it ends", || {
            done = child.try_wait().unwrap();
            done.is_some()
        });
    }
    if !done.is_some_and(|status| status.success()) {
        eprintln!("no namespace of processes can be had here: not tested");
        return;
    }
    let scripts = ["\"$0\" & wait $!", "exec \"$0\""];
    let cases = scripts
        .iter()
        .flat_map(|script| [(script, true), (script, false)]);
    for (script, with_proc) in cases {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("test.sock")).unwrap();
        let program = std::env::current_exe().unwrap();
        let mut shell = Command::new("unshare");
        shell
            .arg("-pf")
            .args(with_proc.then_some("--mount-proc"))
            .args(["/bin/sh", "-c", script])
            .arg(&program);
        let shell = start_as_holder(shell, &dir, &program, true);
        let mut house = House::with(dir, listener, shell, true);
        let setup = house.setup();
        house.configure(setup);
        let file = house.dir.path().join("pid");
        let gone = house.dir.path().join("gone");
        let script = format!("trap '' TERM; {}; sleep 300", escape(&file, ""));
        house.start("a", 1, &script);
        let pid = escaped(&file);
        house.line.kill("a", 1);
        assert_eq!(house.line.exited("a", 1).exit.signal(), Some(Signal::KILL));
        // Asked inside: the numbers of processes mean others here.
        let ask = format!("kill -0 {pid} 2>/dev/null || echo > {}", gone.display());
        house.line.ask(&HolderRequest::Spawn(Box::new(spawn_of(
            "b",
            1,
            &["/bin/sh", "-c", &ask],
        ))));
        house.line.exited("b", 1);
        assert!(gone.exists(), "the escapee is killed: {script}");
        house.leave(0);
    }
}

//! mainstay as the first process of a PID namespace, as in a container.
//! Owns the test that it takes in orphans, reaps them, and stops in order when it is told to.
//! Never asserts who may do what there: that is with the allowances.

use std::fs;
use std::process::Command;

use crate::daemon::{Daemon, binary, kill, prepare, skip};

/// The processes whose command line has these words, seen from outside the namespace.
fn processes(words: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_words = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(words))
    };
    pids.filter(has_words).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("PPid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn namespaces() -> Option<Vec<&'static str>> {
    let mut words = vec!["--pid", "--fork", "--mount-proc", "--kill-child=TERM"];
    if !nix::unistd::geteuid().is_root() {
        words.extend(["--user", "--map-root-user"]);
    }
    let can = Command::new("unshare").args(&words).arg("true").output();
    can.is_ok_and(|output| output.status.success())
        .then_some(words)
}

#[test]
fn as_the_first_process_it_reaps_orphans_and_stops_in_order() {
    let Some(words) = namespaces() else {
        return skip("no PID namespace can be made here");
    };
    let dir = prepare("", "");
    let folder = dir.path().display().to_string();
    let orphan = format!("{folder}/orphan.sh");
    let wait = format!("until [ -e {folder}/go ]; do sleep 0.02; done\n");
    fs::write(&orphan, wait).expect("a script");
    let told = |name: &str, first: &str| {
        let script = format!(
            "trap 'echo {name} >> {folder}/order; exit 0' TERM; {first}\
             : > {folder}/{name}; while :; do sleep 0.05; done"
        );
        format!("[module.{name}]\ncommand = [\"sh\", \"-c\", {script:?}]\n")
    };
    let web = told("web", &format!("setsid --fork sh {orphan}; "));
    let modules = told("base", "") + &web + "requires = [\"base\"]\n";
    let path = dir.path().join("config/mainstay.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    fs::write(path, text + &modules).expect("written");
    let mut command = Command::new("unshare");
    command.args(words).arg(binary());
    let mut daemon = Daemon::launch_as(dir, command);

    daemon.wait("web", || daemon.path("web").exists().then_some(()));
    let children = format!("/proc/{0}/task/{0}/children", daemon.child_pid());
    let first = fs::read_to_string(children).expect("the first process");
    let first: u32 = first.trim().parse().expect("one process");
    let pids = daemon.wait("the first process to adopt the orphan", || {
        let found = processes(&format!("sh\0{orphan}"));
        Some(found).filter(|found| found.len() == 1 && parent(found[0]) == Some(first))
    });
    daemon.touch("go");
    let entry = format!("/proc/{}", pids[0]);
    daemon.wait("the orphan to be reaped", || {
        (!fs::exists(&entry).unwrap_or(true)).then_some(())
    });

    kill(first, libc::SIGTERM);
    assert_eq!(daemon.ended(), Some(0), "{}", daemon.printed());
    let order = fs::read_to_string(daemon.path("order")).expect("the order of the stops");
    assert_eq!(order, "web\nbase\n");
    assert!(processes(&folder).is_empty(), "something is left");
}

//! Two systems of the same paths in two mount and PID namespaces, which see other files there.
//! Owns both. Never signals a process that another test started.

use std::fs;
use std::process::{Command, Output};

use mainstay_protocol::ModuleState;
use mainstay_protocol::method::name;
use serde_json::Value;

use crate::daemon::{Daemon, binary, lives, misbehave, prepare, skip, without_succession};

const NAMESPACES: [&str; 4] = ["--mount", "--pid", "--fork", "--kill-child=TERM"];

/// Starts mainstay where trees are walked.
fn walking(mut command: Command) -> Command {
    command.env("MAINSTAY_CGROUP", "off");
    command
}

fn modules() -> String {
    format!("[module.a]\ncommand = {}\n", misbehave("--ignore-sigterm"))
        + "shutdown_timeout = \"200ms\"\n"
}

/// Starts a second system at the paths of the first one, in namespaces of its own.
fn start_inside(outer: &Daemon, same_secret: bool, with_proc: bool) -> Daemon {
    let dir = prepare("", &modules());
    let (inner, here) = (dir.path().display(), outer.dir.path().display());
    let path = dir.path().join("config/mainstay.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    let text = text.replace(&inner.to_string(), &here.to_string());
    let script = format!(
        "set -e; {}mount --bind {inner} {here}; exec {} up --config {here}/config",
        if with_proc {
            "mount -t proc proc /proc; "
        } else {
            ""
        },
        binary()
    );
    fs::write(path, text).expect("written");
    if same_secret {
        // As from one image of a container: the secret by which processes are known is the same.
        let (from, to) = (outer.path("state"), dir.path().join("state"));
        fs::create_dir(&to).expect("a directory");
        fs::copy(from.join("mark"), to.join("mark")).expect("a secret");
    }
    let mut command = Command::new("unshare");
    command.args(NAMESPACES).args(["sh", "-c", &script]);
    Daemon::launch_as(dir, walking(command))
}

/// The run of the module: its process, and how often it was started again.
fn run_of(outer: &Daemon) -> (Option<u64>, u64) {
    let module = outer.until("a", ModuleState::Running);
    (module.pid.map(u64::from), module.restarts)
}

/// Runs a command in the namespaces of the inner system.
fn inside(inner: &Daemon, outer: &Daemon, words: &[&str]) -> Output {
    let children = format!("/proc/{0}/task/{0}/children", inner.child_pid());
    let first = inner.wait("the first process inside", || {
        fs::read_to_string(&children)
            .ok()
            .filter(|pid| !pid.is_empty())
    });
    let mut command = Command::new("nsenter");
    command.args(["--target", first.trim(), "--mount", "--pid", binary()]);
    command.args(words).arg("--socket");
    let command = command.arg(outer.path("run/control.sock"));
    command.output().expect("nsenter runs")
}

/// As `run_of`, of the inner system: its clients are inside.
fn inner_run(inner: &Daemon, outer: &Daemon) -> (Option<u64>, u64) {
    inner.wait("the module inside", || {
        let status = inside(inner, outer, &["status", "a", "--json"]).stdout;
        let status: Value = serde_json::from_slice(&status).ok()?;
        let runs = status["state"] == "running";
        runs.then(|| {
            (
                status["pid"].as_u64(),
                status["restarts"].as_u64().unwrap_or(0),
            )
        })
    })
}

fn start_outside(dir: tempfile::TempDir) -> Daemon {
    let outer = Daemon::launch_as(dir, walking(Command::new(binary())));
    outer.until("a", ModuleState::Running);
    outer
}

#[test]
fn two_systems_of_one_path_in_two_namespaces_leave_each_other_alone() {
    let can = Command::new("unshare")
        .args(NAMESPACES)
        .arg("true")
        .output();
    if !can.is_ok_and(|output| output.status.success()) {
        return skip("no mount and PID namespace can be made here (it needs root and unshare)");
    }
    without_succession(); // what holds where no other one can go on
    for (same_secret, with_proc) in [(false, true), (true, true), (true, false)] {
        let mut outer = start_outside(prepare("", &modules()));
        let before = run_of(&outer);
        // The inner one starts, sweeps after a run that ended, and stops.
        let mut inner = start_inside(&outer, same_secret, with_proc);
        let first = inner_run(&inner, &outer);
        inside(&inner, &outer, &["restart", "a"]);
        assert_ne!(inner_run(&inner, &outer), first);
        inside(&inner, &outer, &["down"]);
        inner.ended();
        assert_eq!(run_of(&outer), before);
        // So does the outer one, which sees the processes of the inner one; and one that comes
        // after a holder that was killed sweeps what that left behind.
        let mut inner = start_inside(&outer, same_secret, with_proc);
        let before = inner_run(&inner, &outer);
        outer.change(name::MODULE_RESTART, "a");
        let left = outer.until("a", ModuleState::Running);
        let left = left.pid.expect("it runs");
        outer.signal(libc::SIGKILL);
        outer.ended();
        let empty = tempfile::tempdir().expect("a directory");
        let outer = start_outside(std::mem::replace(&mut outer.dir, empty));
        assert!(!lives(left), "what was left is killed");
        assert_eq!(inner_run(&inner, &outer), before);
        outer.cli(&["down"]);
        assert_eq!(inner_run(&inner, &outer), before);
        inside(&inner, &outer, &["down"]);
        inner.ended();
    }
}

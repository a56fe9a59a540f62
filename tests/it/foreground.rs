//! What becomes of the lines that `up` prints: a reader that stops, a pipe that closes, a file.
//! Owns the pipes. Never reads a log.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_client::blocking::Client;
#[cfg(target_os = "linux")]
use mainstay_protocol::ModuleState;
use mainstay_protocol::method::StopParams;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

#[cfg(target_os = "linux")]
use crate::daemon::lives;
use crate::daemon::{Daemon, binary, kill, misbehave, prepare, script, wait_for};

/// Crashes at once and again and again, each time with a line on the terminal.
const CRASHES: &str = "[module.crash]\ncommand = [\"/bin/sh\", \"-c\", \"exit 3\"]\nrequired = false\n\
    recovery.max_attempts = 0\nrecovery.backoff = { initial = \"0s\", floor = \"0s\", max = \"1ms\" }\n";

/// A pipe that is full, whose reader does not read.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("non-blocking");
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).expect("blocking again");
    (reader, writer)
}

#[test]
fn a_reader_that_does_not_read_holds_nothing_up() {
    let modules = format!("{CRASHES}[module.one]\ncommand = {}\n", misbehave(""));
    let dir = prepare("shutdown_timeout = \"20s\"", &modules);
    let (reader, writer) = full_pipe();
    let errors = writer.try_clone().expect("the same pipe");
    let up = Command::new(binary())
        .args(["up", "--config"])
        .arg(dir.path().join("config"))
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .spawn()
        .expect("it starts");
    let up = RefCell::new(up);
    let socket = dir.path().join("run/control.sock");
    let status = || Client::connect(&socket).ok()?.status().ok();
    let restarts = || {
        let view = Client::connect(&socket).ok()?.module("crash").ok()?;
        (view.restarts > 500).then_some(())
    };
    let crashed = wait_for("hundreds of restarts", restarts);
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let asked = Instant::now();
        let answered = status();
        slowest = slowest.max(asked.elapsed());
        assert!(
            answered.is_some() || crashed.is_none(),
            "status is answered"
        );
    }
    let stopped = Instant::now();
    let asked = wait_for("the stop to be taken", || {
        let mut client = Client::connect(&socket).ok()?;
        client.stop_system(&StopParams::default()).ok()
    });
    let ended = wait_for("its end", || up.borrow_mut().try_wait().expect("our child"));
    if ended.is_none() {
        kill(up.borrow().id(), libc::SIGKILL);
        let _reaped = up.borrow_mut().wait();
    }
    drop(reader);
    assert!(crashed.is_some() && asked.is_some());
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(stopped.elapsed() < Duration::from_secs(15), "not by force");
}

/// Sets the soft limit of the files that a process may open; false where there is no `prlimit`.
#[cfg(target_os = "linux")]
fn limit_files(pid: u32, soft: &str) -> bool {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")]);
    prlimit.status().is_ok_and(|status| status.success())
}

/// The soft limit of the files that a process may open.
#[cfg(target_os = "linux")]
fn files_limit(pid: u32) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("a process");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    soft.expect("a limit").to_owned()
}

/// `up 2>&1 | head -1`, then a runtime that cannot be started again for a while.
#[test]
#[cfg(target_os = "linux")]
fn a_closed_pipe_does_not_end_the_holder() {
    let dir = prepare("", &format!("[module.one]\ncommand = {}\n", misbehave("")));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let errors = writer.try_clone().expect("the same pipe");
    let up = Command::new(binary())
        .args(["up", "--config"])
        .arg(dir.path().join("config"))
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .spawn()
        .expect("it starts");
    let up = RefCell::new(up);
    drop(reader);
    let socket = dir.path().join("run/control.sock");
    let status = || Client::connect(&socket).ok()?.status().ok();
    let module = wait_for("the module to run", || {
        let view = Client::connect(&socket).ok()?.module("one").ok()?;
        (view.state == ModuleState::Running).then_some(view.pid?)
    })
    .expect("it runs");
    let runtime = status().expect("a status").pid;
    // One number is free below the limit: enough for the status, not for a pair of sockets.
    let open: std::collections::BTreeSet<u64> =
        fs::read_dir(format!("/proc/{}/fd", up.borrow().id()))
            .expect("its files")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
    let limit = (0..).filter(|number| !open.contains(number)).nth(1);
    let (holder, limit): (u32, u64) = (up.borrow().id(), limit.expect("a number"));
    let before = files_limit(holder);
    if !limit_files(holder, &limit.to_string()) {
        eprintln!("skipped: there is no prlimit here");
        kill(holder, libc::SIGTERM);
        let _ended = up.borrow_mut().wait();
        return;
    }
    kill(runtime, libc::SIGKILL);
    let failed = wait_for("a failed start of the runtime", || {
        let text = fs::read_to_string(dir.path().join("run/holder.json")).ok()?;
        let gone = up.borrow_mut().try_wait().expect("our child").is_some();
        (gone || text.contains("cannot start the runtime")).then_some(gone)
    });
    assert!(limit_files(holder, &before));
    let back = wait_for("a new runtime", || {
        let gone = up.borrow_mut().try_wait().expect("our child").is_some();
        let view = status().filter(|view| view.pid != runtime);
        (gone || view.is_some()).then_some(view)
    });
    let alive = lives(module);
    kill(up.borrow().id(), libc::SIGTERM);
    let ended = up.borrow_mut().wait().expect("our child");
    assert_eq!(failed, Some(false), "the holder goes on and says so");
    assert!(alive && back.flatten().is_some());
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn the_file_of_a_detached_start_is_bounded() {
    let dir = prepare(
        "",
        &format!("[logs]\nmax_bytes = \"16KiB\"\nkeep = 2\n{CRASHES}"),
    );
    let mainstay = |words: &[&str]| {
        let mut command = Command::new(binary());
        command
            .args(words)
            .arg("--config")
            .arg(dir.path().join("config"));
        command.output().expect("it runs")
    };
    let up = mainstay(&["up", "-d"]);
    let socket = dir.path().join("run/control.sock");
    let logs = dir.path().join("state/logs");
    let rotated = wait_for("the third file", || {
        let view = Client::connect(&socket).ok()?.module("crash").ok()?;
        (view.restarts > 1000 && logs.join("mainstay.out.2").exists()).then_some(())
    });
    let sizes: Vec<(String, u64)> = fs::read_dir(&logs)
        .expect("logs")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let size = entry.metadata().ok()?.len();
            name.starts_with("mainstay.out").then_some((name, size))
        })
        .collect();
    let down = mainstay(&["down"]);
    assert!(
        up.status.success() && down.status.success(),
        "{up:?} {down:?}"
    );
    assert!(rotated.is_some(), "{sizes:?}");
    assert!(sizes.len() <= 3, "{sizes:?}");
    assert!(sizes.iter().all(|(_, size)| *size <= 17 << 10), "{sizes:?}");
}

/// Waits until a line of what `up` printed passes.
fn printed_line(daemon: &Daemon, what: &str, is: impl Fn(&str) -> bool) -> String {
    daemon.wait(what, || {
        daemon
            .printed()
            .lines()
            .find(|line| is(line))
            .map(str::to_owned)
    })
}

#[test]
fn what_modules_write_is_shown_beside_what_happens_to_them() {
    let text = "printf 'name: '; until [ -e go ]; do sleep 0.02; done; echo it; echo two >&2\n\
                trap 'echo bye; exit 0' TERM; while :; do sleep 0.02; done";
    let quiet = "echo here; exec sleep 60";
    let modules = format!(
        "[module.talks]\ncommand = {}\n[module.b]\ncommand = {}\n",
        script(text),
        script(quiet)
    );
    let daemon = Daemon::start(&modules);
    let prompt = printed_line(&daemon, "a prompt", |line| {
        line.ends_with(" talks     | name: ")
    });
    assert_eq!(
        prompt.split(':').count(),
        4,
        "its time and itself: {prompt}"
    );
    printed_line(&daemon, "another", |line| {
        line.ends_with(" b         | here")
    });
    daemon.touch("go");
    printed_line(&daemon, "the rest", |line| {
        line.ends_with(" talks     | it")
    });
    printed_line(&daemon, "its errors", |line| {
        line.ends_with(" talks     | two")
    });
    // A runtime that returns shows what is written from then on.
    daemon.kill_runtime();
    daemon.change(mainstay_protocol::method::name::MODULE_RESTART, "b");
    let here = |daemon: &Daemon| daemon.printed().matches("| here\n").count();
    daemon.wait("its new run", || (here(&daemon) >= 2).then_some(()));
    let log = daemon.path("up.log");
    let socket = daemon.socket();
    let asked =
        Client::connect(socket).and_then(|mut client| client.stop_system(&StopParams::default()));
    asked.expect("the stop is taken");
    let mut daemon = daemon;
    assert_eq!(daemon.ended(), Some(0));
    let printed = fs::read_to_string(log).expect("what it printed");
    assert!(printed.contains(" talks     | bye\n"), "{printed}");
    assert!(!printed.contains("event-bus | "), "{printed}");
}

#[test]
fn a_flood_of_output_costs_a_slow_reader_lines_and_the_system_nothing() {
    let flood = "until [ -e go ]; do sleep 0.02; done; seq 1 2000000; echo end; exec sleep 60";
    let modules = format!("[module.flood]\ncommand = {}\n", script(flood));
    let dir = prepare("", &modules);
    let (reader, writer) = full_pipe();
    let errors = writer.try_clone().expect("the same pipe");
    let mut command = Command::new(binary());
    command
        .stdout(writer)
        .stderr(errors)
        .args(["up", "--config"]);
    let up = command
        .arg(dir.path().join("config"))
        .stdin(Stdio::null())
        .spawn();
    let up = RefCell::new(up.expect("it starts"));
    drop(command);
    let socket = dir.path().join("run/control.sock");
    wait_for("its start", || Client::connect(&socket).ok()?.status().ok());
    fs::write(dir.path().join("go"), "").expect("a file");
    let log = dir.path().join("state/logs/flood.log");
    let written = wait_for("all of the flood", || {
        let text = fs::read(&log).ok()?;
        text.ends_with(b"end\n").then_some(())
    });
    let status = Client::connect(&socket).and_then(|mut client| client.status());
    kill(up.borrow().id(), libc::SIGTERM);
    let ended = wait_for("its end", || up.borrow_mut().try_wait().expect("our child"));
    if ended.is_none() {
        kill(up.borrow().id(), libc::SIGKILL);
        let _reaped = up.borrow_mut().wait();
    }
    drop(reader);
    assert!(written.is_some() && status.is_ok());
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}

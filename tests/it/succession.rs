//! The holder is killed, and nothing is noticed: another one goes on in its place.
//! Owns that no module, exit, line or client is lost by it. Never looks inside.

use std::time::{Duration, Instant};

use mainstay_protocol::method::name;
use mainstay_protocol::{EventKind, ModuleState};

use crate::abandoned::leased;
use crate::daemon::{
    Daemon, in_both_ways, kill, lives, misbehave, on_go, script, wait_for, with_succession,
    without_succession,
};
use crate::upgrade_of_holder::answer;

/// A mainstay whose holder may be another one than the test has started.
pub(crate) struct Succeeded(pub(crate) Daemon);

impl Drop for Succeeded {
    fn drop(&mut self) {
        let _it_may_have_ended = self.0.cli(&["down"]);
    }
}

impl Succeeded {
    fn start(modules: &str) -> Succeeded {
        with_succession();
        Succeeded(Daemon::start(modules))
    }

    pub(crate) fn runtime(&self) -> u32 {
        self.0.status().pid
    }

    /// Kills the holder and waits for the next one.
    pub(crate) fn kill_holder(&self) -> u32 {
        let before = self.0.status().holder_pid;
        kill(before, libc::SIGKILL);
        self.next_holder(before)
    }

    pub(crate) fn next_holder(&self, before: u32) -> u32 {
        self.0.wait("another holder", || {
            let holder = self.0.status().holder_pid;
            (holder != before).then_some(holder)
        })
    }

    pub(crate) fn run_of(&self, module: &str) -> (Option<u32>, u64) {
        let view = self.0.module(module);
        (view.pid, view.generation)
    }
}

#[test]
fn three_holders_are_killed_in_a_row_and_no_module_or_client_notices() {
    in_both_ways(|| {
        let modules = format!(
            "[module.web]\nready = {{ notify = true }}\ncommand = {}\n\
             [module.top]\ncommand = {}\nrequires = [\"web\"]\n",
            misbehave("--ready notify"),
            misbehave("")
        );
        let daemon = Succeeded::start(&modules);
        let runs = || ["web", "top"].map(|name| daemon.run_of(name));
        let (before, runtime) = (runs(), daemon.runtime());
        let mut client = daemon.0.client();
        for _ in 0..3 {
            daemon.kill_holder();
            assert_eq!(before, runs());
            client.status().expect("it is still connected");
        }
        assert_eq!(daemon.runtime(), runtime);
        // What comes next is as ever.
        let again = daemon.0.change(name::MODULE_RESTART, "web");
        assert_eq!(again.state, ModuleState::Running);
        daemon.0.kill_runtime();
        assert_eq!(daemon.run_of("web").0, again.pid);
        assert_eq!(daemon.0.count("web", EventKind::ModuleExited), 1);
    });
}

#[test]
fn how_a_module_ended_is_told_once_and_right_by_a_holder_that_did_not_start_it() {
    in_both_ways(|| {
        let module = |name: &str, end: &str| {
            let command = script(&format!("until [ -e go ]; do sleep 0.02; done; {end}"));
            format!("[module.{name}]\ncommand = {command}\nrecovery.auto = false\n")
        };
        let modules = module("code", "exit 7") + &module("signal", "kill -SEGV $$");
        let daemon = Succeeded::start(&modules);
        daemon.kill_holder();
        daemon.0.touch("go");
        let exited = daemon.0.event("code", EventKind::ModuleExited);
        assert_eq!(exited.payload["code"], 7, "{exited:?}");
        let exited = daemon.0.event("signal", EventKind::ModuleExited);
        assert_eq!(exited.payload["signal"], libc::SIGSEGV, "{exited:?}");
        daemon.kill_holder();
        for name in ["code", "signal"] {
            assert_eq!(daemon.0.count(name, EventKind::ModuleExited), 1);
        }
    });
}

#[test]
fn what_ended_while_there_was_no_holder_is_told_too() {
    let command = script("until [ -e go ]; do sleep 0.02; done; exit 9");
    let modules = format!("[module.it]\ncommand = {command}\nrecovery.auto = false\n");
    let daemon = Succeeded::start(&modules);
    let (pid, holder) = (daemon.run_of("it").0.expect("it runs"), daemon.0.holder());
    kill(holder, libc::SIGSTOP);
    daemon.0.touch("go");
    let ended = wait_for("its end", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") Z ").then_some(())
    });
    kill(holder, libc::SIGKILL);
    assert!(ended.is_some(), "it ends");
    let exited = daemon.0.event("it", EventKind::ModuleExited);
    assert_eq!(exited.payload["code"], 9, "{exited:?}");
    daemon.next_holder(holder);
}

#[test]
fn what_a_module_writes_meanwhile_is_in_its_log() {
    let command = script(
        "until [ -e go ]; do sleep 0.02; done; i=0; \
         while [ $i -lt 1000 ]; do echo $i; i=$((i+1)); done; touch done; exec sleep 1000",
    );
    let daemon = Succeeded::start(&format!("[module.it]\ncommand = {command}\n"));
    let holder = daemon.0.holder();
    kill(holder, libc::SIGSTOP); // all that follows waits in the pipe
    daemon.0.touch("go");
    let path = daemon.0.path("done");
    let written = wait_for("all of it", || path.exists().then_some(()));
    kill(holder, libc::SIGKILL);
    assert!(written.is_some(), "it writes");
    let output = daemon.0.wrote("it", "999");
    let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
    daemon.next_holder(holder);
}

#[test]
fn a_stop_that_had_begun_ends_at_its_deadline() {
    in_both_ways(|| {
        let command = misbehave("--ignore-sigterm --ready log:up");
        let modules = format!("[module.it]\ncommand = {command}\nshutdown_timeout = \"2s\"\n");
        let daemon = Succeeded::start(&modules);
        daemon.0.wrote("it", "up");
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let stopping = scope.spawn(|| daemon.0.change(name::MODULE_STOP, "it"));
            daemon.0.until("it", ModuleState::Stopping);
            daemon.kill_holder();
            let view = stopping.join().expect("it stops");
            assert_eq!(view.state, ModuleState::Stopped);
        });
        let text = &daemon.0.moves("it", ModuleState::Stopped, 1)[0].payload["text"];
        assert_eq!(text, "stopped by force, killed by SIGKILL");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(1900), "{took:?}");
        assert!(took < Duration::from_secs(30), "{took:?}");
        assert_eq!(daemon.0.count("it", EventKind::ModuleExited), 1);
    });
}

#[test]
fn one_that_is_killed_while_it_takes_over_is_followed_by_another() {
    let command = misbehave("");
    let daemon = Succeeded::start(&format!("[module.it]\ncommand = {command}\n"));
    let (before, runtime) = (daemon.run_of("it"), daemon.runtime());
    let log = daemon.0.path("up.log");
    let successor = |but: u32| {
        let entries = std::fs::read_dir("/proc").ok()?.flatten();
        let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let is_one = words
                .split(|byte| *byte == 0)
                .any(|word| word == b"--succeed");
            let output = std::fs::read_link(format!("/proc/{pid}/fd/1"));
            *pid != but && is_one && output.is_ok_and(|output| output == log)
        })
    };
    let mut last = daemon.0.holder();
    kill(last, libc::SIGKILL);
    for _ in 0..4 {
        last = daemon.0.wait("another one", || successor(last));
        kill(last, libc::SIGKILL); // it has hardly begun
    }
    daemon.0.wait("one that lives", || {
        let holder = daemon.0.status().holder_pid;
        (holder != last && lives(holder)).then_some(())
    });
    assert_eq!((daemon.run_of("it"), daemon.runtime()), (before, runtime));
    let again = daemon.0.change(name::MODULE_RESTART, "it");
    assert_ne!(again.pid, before.0);
    assert!(!lives(before.0.expect("it ran")), "there are not two");
}

#[test]
fn where_it_is_off_everything_ends_with_the_holder() {
    without_succession();
    let command = misbehave("");
    let mut daemon = Daemon::start(&format!("[module.it]\ncommand = {command}\n"));
    let module = daemon.module("it").pid.expect("it runs");
    let runtime = daemon.status().pid;
    daemon.signal(libc::SIGKILL);
    daemon.ended();
    daemon.wait("the end of all", || {
        (!lives(module) && !lives(runtime)).then_some(())
    });
}

#[test]
fn a_detached_system_goes_on_and_one_in_the_foreground_ends_unless_it_is_told_otherwise() {
    let modules = format!("[module.it]\ncommand = {}\n", misbehave(""));
    let mut daemon = Succeeded(Daemon::start(&modules));
    let (before, runtime) = (daemon.run_of("it"), daemon.runtime());
    daemon.0.signal(libc::SIGKILL);
    daemon.0.ended();
    let module = before.0.expect("it runs");
    daemon.0.wait("the end of all", || {
        (!lives(module) && !lives(runtime)).then_some(())
    });
    assert!(daemon.0.cli(&["up", "-d"]).status.success());
    let (before, runtime) = (daemon.run_of("it"), daemon.runtime());
    for _ in 0..2 {
        daemon.kill_holder();
        assert_eq!((daemon.run_of("it"), daemon.runtime()), (before, runtime));
    }
    let told = daemon.0.cli(&["events"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let replaced = told.matches("another one goes on in its place").count();
    assert_eq!(replaced, 2, "{told}");
}

/// Children of the holder that have not executed their program: they are the program of the
/// holder still.
fn unexecuted(holder: u32, runtime: u32) -> Option<u32> {
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let (own, runtime) = (program(&holder.to_string())?, runtime.to_string());
    let entries = std::fs::read_dir("/proc").ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found = names.filter(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let is_child = status.contains(&format!("PPid:\t{holder}\n"));
        is_child && **pid != runtime && program(pid).as_ref() == Some(&own)
    });
    found.find_map(|pid| pid.parse().ok())
}

#[test]
fn a_start_that_has_not_executed_when_the_holder_dies_is_ended_and_made_again_once() {
    in_both_ways(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(leased) = leased::Leased::new(folder.path()) else {
            return;
        };
        let program = folder.path().join("hangs");
        with_succession();
        let daemon = Succeeded(Daemon::launch(
            "",
            &format!(
                "[module.other]\ncommand = {}\n\
                 [module.it]\ncommand = [{:?}, \"300\"]\nrequired = false\n\
                 startup_timeout = \"60s\"\nrequires = [\"other\"]\nrecovery.restart = \"never\"\n",
                misbehave(""),
                leased.program(),
            ),
        ));
        let runtime = daemon.runtime();
        let holder = daemon.0.holder();
        let child = || unexecuted(holder, runtime);
        let first = daemon.0.wait("a child that hangs", child);
        let before = daemon.0.module("it").generation;
        daemon.kill_holder();
        // It would execute its program some time.
        daemon.0.wait("its end", || (!lives(first)).then_some(()));
        let again = |view: &mainstay_protocol::ModuleView| view.generation > before;
        daemon.0.until_view("another start", "it", again);
        assert_eq!(daemon.0.module("it").attempts, 0, "it did not fail");
        drop(leased);
        daemon.0.until("it", ModuleState::Running);
        let runs = || (crate::abandoned::running(&program) == 1).then_some(());
        daemon.0.wait("one run of it", runs);
    });
}

#[test]
fn a_holder_that_is_only_stopped_is_not_doubled() {
    let command = misbehave("");
    let daemon = Succeeded::start(&format!("[module.it]\ncommand = {command}\n"));
    let (before, holder) = (daemon.run_of("it"), daemon.0.holder());
    kill(holder, libc::SIGSTOP);
    std::thread::scope(|scope| {
        let restarted = scope.spawn(|| daemon.0.change(name::MODULE_RESTART, "it"));
        daemon.0.until("it", ModuleState::Stopping);
        kill(holder, libc::SIGCONT);
        let view = restarted.join().expect("it is restarted");
        assert_eq!(view.generation, before.1 + 1);
    });
    assert_eq!(daemon.0.status().holder_pid, holder);
}

#[test]
fn kept_sockets_and_stored_descriptors_are_kept() {
    in_both_ways(|| {
        let daemon = Succeeded::start(&format!(
            "[module.it]\ncommand = {}\nsockets = {{ http = \"${{runtime_dir}}/it.sock\" }}\n\
             [module.store]\nready = {{ notify = true }}\ncommand = {}\n",
            misbehave("--serve"),
            misbehave("--store --ready notify"),
        ));
        let socket = daemon.0.path("run/it.sock");
        let first = daemon.run_of("store").0.expect("it runs");
        daemon.kill_holder();
        let pid = daemon.run_of("it").0.expect("it runs");
        assert_eq!(answer(&socket), format!("http {pid}\n"));
        let again = daemon.0.change(name::MODULE_RESTART, "it");
        let pid = again.pid.expect("it runs");
        assert_eq!(answer(&socket), format!("http {pid}\n"));
        daemon.0.change(name::MODULE_RESTART, "store");
        daemon.0.wrote("store", &format!("stored {first}"));
    });
}

#[test]
fn a_module_that_was_starting_says_ready_to_the_next_holder() {
    let modules = format!(
        "[module.it]\nready = {{ notify = true }}\ncommand = {}\n",
        on_go("--ready notify")
    );
    with_succession();
    let daemon = Succeeded(Daemon::launch("", &modules));
    let has_process = |view: &mainstay_protocol::ModuleView| view.pid.is_some();
    daemon.0.until_view("its process", "it", has_process);
    let before = daemon.run_of("it");
    daemon.kill_holder();
    daemon.0.touch("go");
    daemon.0.until("it", ModuleState::Running);
    assert_eq!(daemon.run_of("it"), before);
}

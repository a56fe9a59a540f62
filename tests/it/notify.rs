//! The sd_notify protocol against the real daemon: what a module may say, and who may say it.
//! Owns what comes of each word. Never looks inside.

use std::os::unix::net::UnixDatagram;

use mainstay_protocol::{EventKind, HealthStatus, ModuleState, ModuleView, StateCause};

use crate::daemon::{Daemon, in_both_ways, kill, lives, misbehave, script};

/// One module named `it` that is ready by notify and tried once.
fn one(command: &str, more: &str) -> String {
    format!(
        "[module.it]\nready = {{ notify = true }}\nrequired = false\nrecovery.auto = false\n\
         command = {command}\n{more}\n"
    )
}

/// A script with `say TEXT` and `wait_for FILE`.
fn says(text: &str) -> String {
    script(&format!(
        "say() {{ $misbehave --exit-code 0 --notify \"$1\"; }}\n\
         wait_for() {{ until [ -e $1 ]; do sleep 0.02; done; }}\n{text}"
    ))
}

/// A Python program with `say(text, descriptors)`, `wait_for(file)` and `barrier()`; None where
/// there is no Python.
fn python(text: &str) -> Option<String> {
    let has = std::process::Command::new("python3").arg("-V").output();
    if !has.is_ok_and(|done| done.status.success()) {
        crate::daemon::skip("no python3 here");
        return None;
    }
    let head = "
import array, os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(text, fds=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))]
    s.sendmsg([text.encode()], rights if fds else [], 0, os.environ['NOTIFY_SOCKET'])
def wait_for(path):
    while not os.path.exists(path): time.sleep(0.02)
def barrier():
    r, w = os.pipe()
    say('BARRIER=1', [w])
    os.close(w)
    os.read(r, 1)
    os.close(r)
";
    Some(format!(
        "{:?}",
        ["python3", "-uc", &format!("{head}{text}")]
    ))
}

fn status(daemon: &Daemon, text: Option<&str>) {
    daemon.until_view(&format!("its status {text:?}"), "it", |view| {
        view.status_text.as_deref() == text
    });
}

fn last_text(view: ModuleView) -> String {
    view.last_exit.expect("it ended").text
}

#[test]
fn a_daemon_that_forks_twice_is_the_module() {
    in_both_ways(|| {
        let command = misbehave("--double-fork --name-daemon --ready log:up");
        let module = one(&command, "").replace("recovery.auto = false", "");
        let daemon = Daemon::start(&module);
        // What it names and what it writes come on two ways: either may be first.
        let named = |view: &ModuleView| {
            let pid = view.pid.filter(|_| view.state == ModuleState::Running);
            pid.is_some_and(|pid| daemon.output("it").contains(&format!("daemon {pid}\n")))
        };
        let view = daemon.until_view("its daemon", "it", named);
        let pid = view.pid.expect("it runs");
        let told = || format!("{:#?}\n{}", daemon.events("it"), daemon.output("it"));
        assert_eq!(view.generation, 1, "{}", told());
        daemon.kill_runtime();
        let adopted = daemon.until("it", ModuleState::Running);
        assert_eq!((adopted.pid, adopted.generation), (Some(pid), 1));
        kill(pid, libc::SIGKILL);
        let exited = daemon.event("it", EventKind::ModuleExited);
        assert_eq!(exited.payload["pid"], pid);
        assert_eq!(exited.payload["signal"], libc::SIGKILL, "it became ours");
        let again = daemon.until_view("its second run", "it", |view| {
            view.generation == 2 && named(view)
        });
        let pid = again.pid.expect("it runs");
        daemon.wait("the second daemon to hear signals", || {
            let output = daemon.output("it");
            let up = output.lines().filter(|line| *line == "up").count() == 2;
            up.then_some(())
        });
        let stopped = daemon.change("module.stop", "it");
        assert_eq!(
            stopped.last_exit.expect("it ended").code,
            Some(0),
            "it heard SIGTERM"
        );
        assert!(!lives(pid));
    });
}

#[test]
fn a_main_process_outside_the_tree_is_refused_and_that_is_logged() {
    let command = misbehave("--notify MAINPID=1 --ready notify");
    let daemon = Daemon::start(&one(&command, ""));
    let view = daemon.until("it", ModuleState::Running);
    let pid = view.pid.expect("it runs");
    assert_ne!(pid, 1);
    let line = format!(
        "cannot make MAINPID=1 the main process of it: it does not belong to the \
                        module; it stays {pid}"
    );
    daemon.wait("a line in the log", || {
        daemon.printed().contains(&line).then_some(())
    });
}

#[test]
fn a_stranger_is_not_heard_whatever_it_says() {
    in_both_ways(|| {
        let daemon = Daemon::launch(
            "",
            &one(&says("wait_for go; say STATUS=mine; exec sleep 60"), ""),
        );
        let before = daemon.until_view("its process", "it", |view| view.pid.is_some());
        let socket = UnixDatagram::unbound().expect("a socket");
        let me = std::process::id();
        for text in [
            format!("MAINPID={me}"),
            "READY=1\nSTATUS=stranger".to_owned(),
            "STOPPING=1".to_owned(),
            "WATCHDOG=trigger".to_owned(),
            "FDSTORE=1".to_owned(),
        ] {
            let path = daemon.notify_socket();
            socket
                .send_to(text.as_bytes(), path)
                .expect("the socket takes it");
        }
        daemon.touch("go");
        let view = daemon.until_view("its own word", "it", |view| view.status_text.is_some());
        assert_eq!(view.status_text.as_deref(), Some("mine"));
        assert_eq!((view.state, view.pid), (ModuleState::Starting, before.pid));
    });
}

#[test]
fn one_that_is_gone_when_its_word_is_read_is_heard() {
    in_both_ways(|| {
        let daemon = Daemon::start(&one(&says("say READY=1; exec sleep 60"), ""));
        assert_eq!(daemon.until("it", ModuleState::Running).generation, 1);
    });
}

#[test]
fn ready_counts_when_the_runtime_dies_before_it_reads_it() {
    let text = "
wait_for('go')
say('READY=1\\nSTATUS=up')
barrier()
print('said')
time.sleep(60)";
    let Some(command) = python(text) else { return };
    let daemon = Daemon::launch("", &one(&command, ""));
    daemon.until_view("its process", "it", |view| view.pid.is_some());
    let runtime = daemon.status().pid;
    kill(runtime, libc::SIGSTOP);
    daemon.touch("go");
    daemon.wrote("it", "said"); // the holder has it, the runtime can have nothing
    kill(runtime, libc::SIGKILL);
    let view = daemon.until("it", ModuleState::Running);
    assert_eq!(
        (view.generation, view.status_text.as_deref()),
        (1, Some("up"))
    );
}

#[test]
fn stored_descriptors_outlive_the_run_and_the_runtime() {
    let text = "
say('READY=1')
given = int(os.environ.get('LISTEN_FDS', '0'))
if given == 0:
    fd = os.memfd_create('state')
    os.write(fd, b'precious')
    say('FDSTORE=1\\nFDNAME=state', [fd])
    barrier()
    print('stored')
else:
    mine = os.environ['LISTEN_PID'] == str(os.getpid())
    print(given, os.environ['LISTEN_FDNAMES'], mine, os.pread(3, 100, 0).decode())
time.sleep(60)";
    let Some(command) = python(text) else { return };
    let daemon = Daemon::start(&one(&command, ""));
    daemon.wrote("it", "stored");
    daemon.kill_runtime();
    daemon.change("module.restart", "it");
    daemon.wrote("it", "1 state True precious");
}

#[test]
fn a_reload_shows_until_it_is_ready_again() {
    let text = "say READY=1; say STATUS=serving; wait_for reload\n\
                say \"RELOADING=1\nMONOTONIC_USEC=1\"; wait_for done; say READY=1; exec sleep 60";
    let daemon = Daemon::start(&one(&says(text), ""));
    status(&daemon, Some("serving"));
    daemon.touch("reload");
    status(&daemon, Some("reloading: serving"));
    assert_eq!(daemon.module("it").state, ModuleState::Running);
    daemon.touch("done");
    status(&daemon, Some("serving"));
    assert_eq!(daemon.count("it", EventKind::ModuleReady), 1);
}

#[test]
fn the_reason_it_gives_for_its_end_is_told() {
    let text = "say READY=1; say \"ERRNO=2\nEXIT_STATUS=9\"; exit 3";
    let daemon = Daemon::start(&one(&says(text), ""));
    let view = daemon.until("it", ModuleState::Failed);
    let reason = "exit code 3; it said ERRNO=2 (No such file or directory), EXIT_STATUS=9";
    assert_eq!(last_text(view), reason);
    assert_eq!(
        daemon.event("it", EventKind::ModuleExited).payload["text"],
        reason
    );
}

#[test]
fn a_stop_may_take_longer_if_that_is_asked_for_in_time() {
    let text = "trap 'say EXTEND_TIMEOUT_USEC=20000000; sleep 1; exit 0' TERM\n\
                say READY=1; while :; do sleep 0.02; done";
    let daemon = Daemon::start(&one(&says(text), "shutdown_timeout = \"500ms\""));
    let view = daemon.change("module.stop", "it");
    assert_eq!(view.last_exit.expect("it ended").code, Some(0));
}

#[test]
fn one_that_says_it_stops_is_left_in_peace_and_ends_clean() {
    let text = "say \"READY=1\nWATCHDOG_USEC=600000\"; say STOPPING=1; wait_for go; exit 0";
    let more = "recovery.restart = \"on_failure\"\nshutdown_timeout = \"20s\"";
    let daemon = Daemon::start(&one(&says(text), more));
    status(&daemon, Some("stopping"));
    // Its watchdog would have bitten by then, twice.
    let end = std::time::Instant::now() + std::time::Duration::from_millis(1300);
    daemon.wait("the time of a watchdog", || {
        assert_eq!(daemon.module("it").state, ModuleState::Running);
        (std::time::Instant::now() > end).then_some(())
    });
    daemon.touch("go");
    let view = daemon.until("it", ModuleState::Stopped);
    assert_eq!(view.last_exit.expect("it ended").code, Some(0));
    assert_eq!(daemon.count("it", EventKind::RecoveryStarted), 0);
}

#[test]
fn a_module_may_set_and_pull_its_own_watchdog() {
    for text in ["WATCHDOG_USEC=200000", "WATCHDOG=trigger"] {
        let command = says(&format!("say READY=1; say {text}; exec sleep 60"));
        let daemon = Daemon::start(&one(&command, ""));
        let failed = daemon.moves("it", ModuleState::Failed, 1);
        assert_eq!(failed[0].cause, Some(StateCause::Watchdog), "{text}");
    }
}

#[test]
fn a_first_ping_that_comes_before_ready_is_not_lost() {
    let command = says("say \"WATCHDOG=1\nREADY=1\"; exec sleep 60");
    let more = "health.probes = [{ watchdog = \"60s\" }]";
    let daemon = Daemon::start(&one(&command, more));
    daemon.until_view("it to be healthy", "it", |view| {
        view.health == HealthStatus::Healthy
    });
}

#[test]
fn the_reason_of_an_end_that_no_runtime_saw_is_told_to_the_next() {
    let text = "say \"READY=1\nSTATUS=at work\"; wait_for go; say ERRNO=2; say STATUS=lost; exit 3";
    let daemon = Daemon::start(&one(&says(text), "recovery.restart = \"never\""));
    let view = daemon.until("it", ModuleState::Running);
    let runtime = daemon.status().pid;
    crate::daemon::kill(runtime, libc::SIGSTOP);
    daemon.touch("go");
    let pid = view.pid.expect("it runs");
    daemon.wait("its end", || (!crate::daemon::lives(pid)).then_some(()));
    crate::daemon::kill(runtime, libc::SIGKILL);
    let exited = daemon.event("it", EventKind::ModuleExited);
    let told = exited.payload["text"].as_str().expect("a text");
    assert!(told.contains("ERRNO=2"), "{told}");
    let after = daemon.until("it", ModuleState::Failed);
    assert_eq!(after.status_text.as_deref(), Some("lost"));
}

//! Pitfalls that others fell into and that need a real system to be seen.
//! Owns one test a pitfall that no other file is about. Never looks inside.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use mainstay_protocol::{EventKind, ModuleState};

use crate::daemon::{Daemon, binary, in_both_ways, kill, lives, misbehave, prepare, skip};

/// Three that need each other and write down when they start and end.
fn chain() -> String {
    let words = "--ready notify --stamp stamps --stamp-exit";
    ["a", "b", "c"]
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let needs = ["", "\"a\"", "\"b\""][at];
            format!(
                "[module.{name}]\nready = {{ notify = true }}\nrequires = [{needs}]\ncommand = {}\n",
                misbehave(words)
            )
        })
        .collect()
}

#[test]
fn ctrl_c_reaches_the_whole_group_and_is_still_an_ordered_stop() {
    let mut command = Command::new(binary());
    command.process_group(0);
    let mut daemon = Daemon::launch_as(prepare("", &chain()), command);
    daemon.until("c", ModuleState::Running);
    let (holder, runtime) = (daemon.holder(), daemon.status().pid);
    let group = |pid: u32| nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid as i32)));
    assert_ne!(
        group(holder),
        group(runtime),
        "only the holder hears a terminal"
    );
    let all = nix::unistd::Pid::from_raw(holder as i32);
    nix::sys::signal::killpg(all, nix::sys::signal::Signal::SIGINT).expect("our group");
    assert_eq!(daemon.ended(), Some(0), "{}", daemon.printed());
    let stamps = std::fs::read_to_string(daemon.path("stamps")).expect("they ran");
    let order: Vec<&str> = stamps
        .lines()
        .filter_map(|line| line.splitn(3, ' ').nth(2))
        .collect();
    assert_eq!(order, ["a", "b", "c", "c exit", "b exit", "a exit"]);
    assert!(
        !daemon.printed().contains("backoff"),
        "{}",
        daemon.printed()
    );
}

/// A Python module that becomes another user; None where there is no Python.
fn python(text: &str) -> Option<String> {
    let has = Command::new("python3").arg("-V").output();
    if !has.is_ok_and(|done| done.status.success()) {
        skip("no python3 here");
        return None;
    }
    Some(format!("{:?}", ["python3", "-uc", text]))
}

#[test]
fn one_that_changes_its_user_is_heard_counted_and_ended() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root may become another user");
    }
    let text = "
import os, signal, socket, sys, time
child = os.fork()
if child == 0:
    os.setsid()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True: time.sleep(60)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ['NOTIFY_SOCKET'])
s.send(('STATUS=%d %d\\nREADY=1' % (os.getuid(), child)).encode())
while True: time.sleep(60)
";
    let Some(command) = python(text) else { return };
    in_both_ways(|| {
        let module = format!("[module.it]\nready = {{ notify = true }}\ncommand = {command}\n");
        let daemon = Daemon::start(&module);
        let view = daemon.until_view("its word", "it", |view| view.status_text.is_some());
        let said = view.status_text.expect("it spoke");
        let (uid, child) = said.split_once(' ').expect("two numbers");
        assert_eq!(uid, "65534");
        let (pid, child) = (view.pid.expect("it runs"), child.parse().expect("a pid"));
        assert!(lives(child));
        daemon.kill_runtime();
        assert_eq!(daemon.until("it", ModuleState::Running).pid, Some(pid));
        daemon.change("module.stop", "it");
        assert!(!lives(pid) && !lives(child), "nothing of it is left");
    });
}

#[test]
fn a_storm_of_signals_loses_no_word_and_no_exit() {
    let words = misbehave("--ready notify");
    let module = format!("[module.it]\nready = {{ notify = true }}\ncommand = {words}\n");
    let daemon = Daemon::start(&module);
    let over = AtomicBool::new(false);
    let (holder, runtime) = (daemon.holder(), daemon.status().pid);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Ignored by default: what they interrupt is all they do.
            while !over.load(Ordering::Relaxed) {
                for pid in [holder, runtime] {
                    kill(pid, libc::SIGWINCH);
                    kill(pid, libc::SIGURG);
                    kill(pid, libc::SIGCONT);
                }
                std::thread::yield_now();
            }
        });
        for _ in 0..20 {
            daemon.change("module.restart", "it");
        }
        over.store(true, Ordering::Relaxed);
    });
    let view = daemon.until("it", ModuleState::Running);
    assert_eq!((view.generation, view.attempts), (21, 0));
    assert_eq!(daemon.count("it", EventKind::ModuleExited), 20);
    assert_eq!(daemon.count("it", EventKind::ModuleReady), 21);
    assert_eq!(daemon.status().pid, runtime, "the runtime lives");
}

/// As of a program on a disk that does not answer: who opens it waits until the lease on it is
/// given back.
const LEASE: &str = "
import fcntl, os, shutil, signal, sys
shutil.copy('/bin/sleep', sys.argv[1])
signal.signal(signal.SIGIO, signal.SIG_IGN)
program = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(program, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('kept', flush=True)
sys.stdin.read()
";

#[test]
fn starts_that_hang_are_late_and_others_start_meanwhile() {
    let hanging = |name| {
        format!(
            "[module.{name}]\ncommand = [\"${{project}}/hangs\", \"60\"]\nrequired = false\n\
             startup_timeout = \"500ms\"\nshutdown_timeout = \"200ms\"\nrecovery.auto = false\n"
        )
    };
    let calm = format!(
        "[module.it]\nstart = \"lazy\"\ncommand = {}\n",
        misbehave("")
    );
    in_both_ways(|| {
        let dir = prepare("", &(hanging("one") + &hanging("other") + &calm));
        let mut python = Command::new("python3");
        python.args(["-c", LEASE]).arg(dir.path().join("hangs"));
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut keeper) = python.spawn() else {
            return skip("no python3 here");
        };
        let mut said = String::new();
        let mut out = BufReader::new(keeper.stdout.take().expect("a pipe"));
        out.read_line(&mut said).expect("a line");
        if said == "kept\n" {
            let daemon = Daemon::launch_in(dir);
            for name in ["one", "other"] {
                let failed = daemon.moves(name, ModuleState::Failed, 1);
                assert_eq!(failed[0].payload["text"], "it was not ready in time");
            }
            daemon.change("module.start", "it");
            assert_eq!(daemon.stop(), Some(0));
        } else {
            skip("nobody can keep a lease here");
        }
        drop(keeper.stdin.take());
        keeper.wait().expect("it ends with its input");
    });
}

/// Refuses clone3 as older container runtimes do, then becomes mainstay.
const WITHOUT_CLONE3: &str = "
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 435), (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7fff0000)]
code = b''.join(struct.pack('=HBBI', *rule) for rule in rules)
code = ctypes.create_string_buffer(code, len(code))
program = struct.pack('=HxxxxxxQ', len(rules), ctypes.addressof(code))
program = ctypes.create_string_buffer(program, len(program))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(7)
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn modules_start_where_clone3_is_refused() {
    if python("").is_none() || !cfg!(target_pointer_width = "64") {
        return;
    }
    in_both_ways(|| {
        let dir = prepare("", &chain());
        let mut command = Command::new("python3");
        command.args(["-c", WITHOUT_CLONE3, binary()]);
        let daemon = Daemon::launch_as(dir, command);
        let view = daemon.until("c", ModuleState::Running);
        let status = format!("/proc/{}/status", view.pid.expect("it runs"));
        let status = std::fs::read_to_string(status).expect("its status");
        assert!(
            status.contains("Seccomp:\t2"),
            "the filter is there: {status}"
        );
        kill(view.pid.expect("it runs"), libc::SIGKILL);
        daemon.until_view("another run", "c", |after| {
            after.generation > view.generation && after.state == ModuleState::Running
        });
        assert_eq!(daemon.stop(), Some(0));
    });
}

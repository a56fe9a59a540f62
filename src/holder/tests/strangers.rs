//! Processes outside a run that write to its notify socket: they are neither believed nor waited
//! for.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::leased::Leased;
use common::{Rig, both_trees, eventually, has_python, notify_socket, python, spawn_of};
use mainstay_holder::messages::{HolderMessage, HolderRequest};
use mainstay_holder::{EngineOptions, send_with_fds};
use mainstay_process::{Credentials, ProcessEvent, ProcessEventKind, Stdin};

/// The longest delay that a stranger may cause.
const HOLD_UP_MAX: Duration = Duration::from_millis(500);
const WALK: EngineOptions = EngineOptions {
    no_groups: true,
    plain_fork: false,
};

fn socket_of(rig: &Rig) -> PathBuf {
    notify_socket(rig.dir.path())
}

/// Starts a Python script as another process, below this test and outside every run.
fn stranger(path: &Path, variables: &[(&str, &str)], uid: u32, script: &str) -> Child {
    let mut command = Command::new("python3");
    command
        .args(["-c", script])
        .arg(path)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(variables.iter().copied());
    if nix::unistd::geteuid().is_root() {
        command.uid(uid).gid(uid);
    }
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn connected(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::unbound().unwrap();
    eventually("the socket is there", || socket.connect(path).is_ok());
    socket
}

/// A connection whose close waits: it lingers, and the other end, which is returned, does not read.
fn lingering() -> (OwnedFd, TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    setsockopt(&listener, sockopt::RcvBuf, &2048).unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    setsockopt(&stream, sockopt::SndBuf, &2048).unwrap();
    let (other, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let chunk = [0u8; 65536];
    while stream.write(&chunk).is_ok() {}
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 3600,
    };
    setsockopt(&stream, sockopt::Linger, &linger).unwrap();
    (stream.into(), other)
}

/// How long the engine takes to start a process and to report its end.
fn round_trip(rig: &mut Rig, generation: u64) -> Duration {
    let before = Instant::now();
    rig.start(spawn_of("other", generation, &["/bin/true"]));
    rig.line.exited("other", generation);
    before.elapsed()
}

#[test]
fn a_guessed_mark_is_not_believed() {
    if !has_python() {
        return;
    }
    let mut rig = Rig::new(WALK);
    rig.start(python("n", 1, "time.sleep(300)"));
    let state = rig.dir.path().join("state");
    let hash = state
        .to_str()
        .unwrap()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    let mark = format!("{hash:016x}:n:1");
    let script = "
import os, socket, sys, array, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(sys.argv[1])
s.send(b'READY=1\\nMAINPID=%d' % os.getpid())
s.sendmsg([b'FDSTORE=1'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])
s.send(b'STATUS=end')
time.sleep(300)";
    open_to_all(&rig);
    let path = socket_of(&rig);
    let mut child = stranger(&path, &[("MAINSTAY_MARK", &mark)], 12345, script);
    let told = rig.line.until_within(HOLD_UP_MAX, |tell| match tell {
        HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::Notify { .. },
            ..
        })
        | HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::MainChanged { .. },
            ..
        }) => Some(format!("{tell:?}")),
        _ => None,
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told, None, "a stranger is not believed");
}

#[test]
fn a_copied_tag_is_not_believed() {
    if !has_python() || !nix::unistd::geteuid().is_root() {
        eprintln!("not root or no python3: not tested");
        return;
    }
    let mut rig = Rig::new(WALK);
    let pid = rig.start(python("n", 1, "time.sleep(300)"));
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let hard = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    // RLIMIT_RTTIME and RLIMIT_LOCKS.
    let tag = [(15, "Max realtime timeout"), (10, "Max file locks")];
    let tag = tag.map(|(limit, name)| format!("({limit}, {})", hard(name)));
    let script = format!(
        "
import resource, socket, sys, time
for limit, most in [{}]:
    resource.setrlimit(limit, (most, most))
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(sys.argv[1])
s.send(b'READY=1\\nSTATUS=forged')
print('sent', flush=True)
time.sleep(300)",
        tag.join(", ")
    );
    open_to_all(&rig);
    let path = socket_of(&rig);
    let mut child = stranger(&path, &[], 12345, &script);
    let mut said = String::new();
    let output = child.stdout.as_mut().unwrap();
    BufReader::new(output).read_line(&mut said).unwrap();
    let told = rig.line.until_within(HOLD_UP_MAX, |tell| match tell {
        HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::Notify { .. },
            ..
        }) => Some(format!("{tell:?}")),
        _ => None,
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((said.as_str(), told), ("sent\n", None));
}

/// Temporary directories are for their user alone.
fn open_to_all(rig: &Rig) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(rig.dir.path(), mode).unwrap();
}

#[test]
fn the_name_of_a_socket_is_known_to_its_module_alone() {
    use std::os::unix::fs::PermissionsExt;
    if !has_python() {
        return;
    }
    let mut rig = Rig::new(WALK);
    open_to_all(&rig);
    let mut spawn = python("n", 1, "say('READY=1'); time.sleep(300)");
    if nix::unistd::geteuid().is_root() {
        spawn.credentials = Some(Credentials {
            uid: 12345,
            gid: 12345,
            groups: vec![],
        });
    }
    rig.start(spawn);
    assert_eq!(rig.line.said("n"), "READY=1", "it reaches its socket");
    let path = socket_of(&rig);
    let folder = path.parent().unwrap();
    let mode = folder.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o711, "nobody else can list it");
    // What the kernel shows everybody is the name that it was bound to.
    let shown = std::fs::read_to_string("/proc/net/unix").unwrap();
    let shown = shown
        .split_whitespace()
        .filter(|word| Path::new(word).starts_with(folder));
    let shown: Vec<&str> = shown.collect();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(!Path::new(shown[0]).exists(), "{shown:?}");
    assert!(path.exists());
    rig.line.kill("n", 1);
    rig.line.exited("n", 1);
    eventually("it is removed", || !path.exists());
}

#[test]
fn descriptors_that_do_not_close_hold_up_nobody() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let mut spawn = spawn_of("n", 1, &["sleep", "300"]);
        spawn.notify = true;
        rig.start(spawn);
        let socket = connected(&socket_of(&rig));
        let mut others = Vec::new();
        for _ in 0..40 {
            let (fd, other) = lingering();
            others.push(other);
            eventually("there is room for it", || {
                send_with_fds(
                    &socket,
                    b"STATUS=x",
                    &[fd.as_fd().try_clone_to_owned().unwrap()],
                )
                .is_ok()
            });
            // The last one to close it waits: this test if the holder was quicker.
            std::thread::spawn(move || drop(fd));
        }
        for generation in 1..=5 {
            let took = round_trip(&mut rig, generation);
            assert!(took < HOLD_UP_MAX, "{took:?}");
        }
        drop(others);
    }
}

#[test]
fn a_run_whose_descriptors_do_not_close_is_still_heard() {
    if !has_python() {
        return;
    }
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let script = "
import struct
def lingering():
    l = socket.socket()
    l.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    l.bind(('127.0.0.1', 0))
    l.listen()
    c = socket.socket()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    c.connect(l.getsockname())
    o, _ = l.accept()
    c.setblocking(False)
    try:
        while True: c.send(b'x' * 65536)
    except BlockingIOError: pass
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 3600))
    return c.detach(), o
others = []
r, w = os.pipe()
refused = 0
for n in range(400):
    if n % 8 == 0: # not read until its allowance is back: the holder is the last to close them
        if refused: break
        for _ in range(2): say('P=' + 'x' * 40000)
    c, o = lingering()
    others.append(o)
    child = os.fork()
    if child == 0: # it ends without waiting for its own close
        os.read(r, 1)
        try: say('X=%d' % n, [c])
        except PermissionError: os._exit(1)
        os._exit(0)
    os.close(c)
    os.write(w, b'x')
    refused += os.waitpid(child, 0)[1] != 0
say('STATUS=%d refused' % refused)
say('READY=1')
time.sleep(300)";
        let mut spawn = python("n", 1, script);
        spawn.limits.file_handles = Some(4096);
        rig.start(spawn);
        rig.line.until(|tell| match tell {
            HolderMessage::Process(ProcessEvent {
                what: ProcessEventKind::Notify { text, .. },
                ..
            }) if text == "READY=1" => Some(()),
            _ => None,
        });
        let took = round_trip(&mut rig, 1);
        assert!(took < HOLD_UP_MAX, "{took:?}");
        rig.line.until(|tell| match tell {
            HolderMessage::Process(ProcessEvent {
                what: ProcessEventKind::NotifyRejected { message, .. },
                ..
            }) => message
                .contains("cannot take more descriptors")
                .then_some(()),
            _ => None,
        });
    }
}

#[test]
fn a_run_that_stores_descriptors_without_end_takes_a_bounded_number() {
    const TAKEN_MAX: usize = 3000;
    if !has_python() {
        return;
    }
    let mut rig = Rig::new(WALK);
    let script = "
fds = [os.open('/dev/null', os.O_RDONLY) for _ in range(253)]
say('STATUS=begins')
while True:
    try: say('FDSTORE=1\\nFDNAME=x', fds)
    except PermissionError: pass";
    let mut spawn = python("n", 1, script);
    spawn.limits.file_handles = Some(4096);
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    rig.start(spawn);
    let (began, mut generation, mut most) = (Instant::now(), 0, 0);
    while began.elapsed() < Duration::from_secs(3) {
        generation += 1;
        let took = round_trip(&mut rig, generation);
        assert!(took < HOLD_UP_MAX, "{took:?}");
        most = most.max(open());
    }
    eprintln!("{generation} others ran, {most} descriptors were open");
    assert!(most < TAKEN_MAX, "{most} descriptors are open");
    rig.line.kill("n", 1);
    rig.line.exited("n", 1);
    rig.line.ask(&HolderRequest::Forget {
        instance: "n".parse().unwrap(),
    });
    eventually("they are closed", || open() < 200);
}

#[test]
fn a_deep_ancestry_costs_nobody_else() {
    if !has_python() {
        return;
    }
    let mut rig = Rig::new(WALK);
    let mut spawn = spawn_of("n", 1, &["sleep", "300"]);
    spawn.notify = true;
    rig.start(spawn);
    open_to_all(&rig);
    let script = "
import os, socket, sys, time
for n in range(60):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(sys.argv[1])
print('deep', flush=True)
while os.getppid() != 1:
    s.send(b'READY=1')
    time.sleep(0.003)
";
    let path = socket_of(&rig);
    let mut child = stranger(&path, &[], 12345, script);
    let mut said = String::new();
    let out = child.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut said).unwrap();
    rests();
    child.kill().unwrap();
    child.wait().unwrap();
    let told = rig.line.until_within(Duration::ZERO, |tell| match tell {
        HolderMessage::Process(ProcessEvent {
            what: ProcessEventKind::Notify { text, .. },
            ..
        }) => Some(text.clone()),
        _ => None,
    });
    assert_eq!(told, None, "a stranger is not believed");
}

/// CPU time of the threads of this process that are called so.
fn cpu_time(thread: &str) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of = |path: PathBuf| {
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        let nanos = text.split_whitespace().next()?.parse().ok()?;
        (name.trim() == thread).then_some(Duration::from_nanos(nanos))
    };
    tasks.filter_map(|task| of(task.path())).sum()
}

/// Other tests of this binary run engines too: one quiet moment of all of them is enough.
fn rests() {
    eventually("a moment in which the engine rests", || {
        let spent = || cpu_time("holder") + cpu_time("notify");
        let before = spent();
        std::thread::sleep(Duration::from_millis(300));
        spent().saturating_sub(before) < Duration::from_millis(60)
    });
}

#[test]
fn a_message_during_a_start_that_hangs_does_not_spin() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let Some(leased) = Leased::new(rig.dir.path()) else {
            return;
        };
        let mut spawn = spawn_of("n", 1, &["/bin/sh", "-c", "read line"]);
        (spawn.notify, spawn.stdin) = (true, Stdin::Open);
        rig.start(spawn);
        let first = socket_of(&rig);
        rig.line.kill("n", 1);
        let old = UnixDatagram::unbound().unwrap();
        let _ = old.connect(&first); // it may have ended
        rig.line.exited("n", 1);
        let mut spawn = spawn_of("n", 2, &[leased.program(), "300"]);
        spawn.notify = true;
        rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        let new = connected(&socket_of(&rig));
        for socket in [&old, &new] {
            let _ = socket.send(b"READY=1"); // the one of the run before may be closed
        }
        rests();
        drop(leased);
        assert!(old.as_raw_fd() > 0);
    }
}

#[test]
fn a_program_that_drops_its_privileges_is_believed() {
    if !has_python() || !nix::unistd::geteuid().is_root() {
        eprintln!("not root or no python3: not tested");
        return;
    }
    for options in both_trees() {
        let mut rig = Rig::new(options);
        open_to_all(&rig);
        let scripts = [
            "os.setgid(12345); os.setuid(12345); say('READY=1'); time.sleep(300)",
            "
r, w = os.pipe()
if os.fork() == 0:
    os.setsid(); os.setgid(12345); os.setuid(12345)
    say('MAINPID=%d\\nREADY=1' % os.getpid())
    os.write(w, b'x')
    time.sleep(300)
os.read(r, 1)
os._exit(0)",
        ];
        for (generation, script) in (1..).zip(scripts) {
            rig.start(python("n", generation, script));
            rig.line.until(|tell| match tell {
                HolderMessage::Process(ProcessEvent {
                    generation: g,
                    what: ProcessEventKind::Notify { text, .. },
                    ..
                }) if *g == generation => text.contains("READY=1").then_some(()),
                _ => None,
            });
            rig.line.kill("n", generation);
            rig.line.exited("n", generation);
        }
    }
}

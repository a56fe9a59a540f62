//! Each way to misbehave, seen from the parent.
//! Owns the processes it starts: every one is killed when its test ends.
//! Never sleeps for a fixed time: it waits for a condition, with a deadline.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LONG: Duration = Duration::from_secs(30);

struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misbehave"));
    if !arguments.contains(&"--life") {
        command.args(["--life", "30s"]);
    }
    command
        .args(arguments)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn start(command: &mut Command) -> Running {
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    Running { child, out }
}

fn run(arguments: &[&str]) -> Running {
    start(&mut command(arguments))
}

fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Running {
    fn ended(&mut self) -> ExitStatus {
        eventually("the end", || self.child.try_wait().unwrap())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.out.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Ready by log, so that signals are listened to.
    fn wait_ready(&mut self) {
        while self.line() != "here I am" {}
    }
}

#[cfg(target_os = "linux")]
fn is_alive(pid: i32) -> bool {
    status(pid, "State").is_some_and(|state| !state.starts_with('Z'))
}

#[cfg(target_os = "linux")]
fn status(pid: i32, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(target_os = "linux")]
fn reap(pids: &[i32]) {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

const READY: [&str; 2] = ["--ready", "log:here I am"];

#[test]
fn without_options_it_ends_with_0_on_sigterm() {
    let mut run = run(&READY);
    run.wait_ready();
    assert!(run.child.try_wait().unwrap().is_none());
    run.signal(Signal::SIGTERM);
    assert_eq!(run.ended().code(), Some(0));
}

#[test]
fn failures_end_as_they_are_named() {
    for (argument, code, signal) in [
        ("--exit-code=42", Some(42), None),
        ("--panic", Some(101), None),
        ("--crash", None, Some(11)),
        ("--abort", None, Some(6)),
    ] {
        let ended = run(&[argument]).ended();
        assert_eq!((ended.code(), ended.signal()), (code, signal), "{argument}");
    }
}

#[test]
fn it_fails_after_its_time_and_not_before() {
    let begun = Instant::now();
    let mut run = run(&["--exit-code", "3", "--after", "150ms"]);
    assert_eq!(run.ended().code(), Some(3));
    assert!(begun.elapsed() >= Duration::from_millis(150));
}

#[test]
#[cfg(target_os = "linux")]
fn a_hanging_process_is_stopped_and_a_busy_one_hears_nothing() {
    let mut hanging = run(&["--hang"]);
    let pid = hanging.pid().as_raw();
    eventually("the stop", || {
        status(pid, "State").filter(|state| state.starts_with('T'))
    });
    hanging.signal(Signal::SIGCONT);
    hanging.signal(Signal::SIGTERM);
    assert_eq!(hanging.ended().code(), Some(0));

    let mut busy = run(&["--busy-hang", "--after", "1ms", READY[0], READY[1]]);
    busy.wait_ready();
    eventually("the signal's arrival", || {
        status(busy.pid().as_raw(), "State").filter(|state| state.starts_with('R'))
    });
    busy.signal(Signal::SIGKILL);
    assert_eq!(busy.ended().signal(), Some(9));
}

#[test]
fn sigterm_can_be_ignored_and_the_stop_slow() {
    let mut deaf = run(&["--ignore-sigterm", READY[0], READY[1]]);
    deaf.wait_ready();
    deaf.signal(Signal::SIGTERM);
    deaf.signal(Signal::SIGHUP);
    assert_eq!(deaf.line(), "reloaded", "it goes on after SIGTERM");
    deaf.signal(Signal::SIGINT);
    assert_eq!(deaf.ended().code(), Some(0));

    let mut slow = run(&["--slow-stop", "200ms", READY[0], READY[1]]);
    slow.wait_ready();
    let asked = Instant::now();
    slow.signal(Signal::SIGTERM);
    assert_eq!(slow.ended().code(), Some(0));
    assert!(asked.elapsed() >= Duration::from_millis(200));
}

#[test]
fn it_fails_only_once_or_only_when_a_file_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let once = folder.path().join("once");
    let arguments = [
        "--exit-code",
        "9",
        "--once-file",
        once.to_str().unwrap(),
        READY[0],
        READY[1],
    ];
    assert_eq!(run(&arguments).ended().code(), Some(9));
    let mut second = run(&arguments);
    second.wait_ready();
    second.signal(Signal::SIGTERM);
    assert_eq!(second.ended().code(), Some(0));

    let until = folder.path().join("until");
    let mut run = run(&[
        "--exit-code",
        "8",
        "--until-file",
        until.to_str().unwrap(),
        READY[0],
        READY[1],
    ]);
    run.wait_ready();
    assert!(run.child.try_wait().unwrap().is_none());
    std::fs::write(&until, "").unwrap();
    assert_eq!(run.ended().code(), Some(8));
}

#[test]
fn a_flood_arrives_whole_before_the_exit() {
    let mut run = run(&["--flood-stdout", "1000050", "--exit-code", "1"]);
    let bytes = run.rest();
    assert_eq!(bytes.len(), 1_000_050);
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.lines().count(), 10_001);
    assert!(
        text.lines()
            .nth(9_999)
            .unwrap()
            .starts_with("flood 0000009999 ")
    );
    assert_eq!(run.ended().code(), Some(1));
}

#[test]
fn a_flood_without_newlines_has_none() {
    let mut run = run(&[
        "--flood-stdout",
        "5000",
        "--no-newlines",
        "--exit-code",
        "0",
    ]);
    let bytes = run.rest();
    assert_eq!(bytes.len(), 5000);
    assert!(!bytes.contains(&b'\n'));
}

#[test]
fn a_closed_stdout_reads_as_its_end_while_it_lives() {
    let mut run = run(&["--close-stdout", READY[0], READY[1]]);
    assert_eq!(run.rest(), b"here I am\n");
    assert!(run.child.try_wait().unwrap().is_none());
    run.signal(Signal::SIGTERM);
    assert_eq!(run.ended().code(), Some(0));
}

#[test]
fn ready_goes_by_each_way() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ready");
    let _file_run = run(&["--ready", &format!("file:{}", file.display())]);
    eventually("the file", || file.exists().then_some(()));

    let socket = folder.path().join("socket");
    let _unix_run = run(&["--ready", &format!("unix:{}", socket.display())]);
    eventually("the socket", || UnixStream::connect(&socket).ok());

    let mut tcp = run(&["--ready", "tcp:127.0.0.1:0"]);
    let line = tcp.line();
    let address = line.strip_prefix("listening ").unwrap();
    std::net::TcpStream::connect(address).unwrap();

    // Descriptor 2 is the one a test can hand down without unsafe code.
    let mut by_fd = command(&["--ready", "fd:2", "--ready-after", "50ms"]);
    let mut child = by_fd.stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let _guard = Running {
        out: BufReader::new(child.stdout.take().unwrap()),
        child,
    };
    let mut bytes = Vec::new();
    errors.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"\n", "a newline, then the end");
}

#[test]
fn it_notifies_and_feeds_the_watchdog_as_long_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut command = command(&[
        "--notify=STATUS=pid {pid}",
        "--ready=notify",
        "--ready-twice",
        "--watchdog-stop-after=100ms",
    ]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "40000");
    let run = start(&mut command);
    let receive = || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    };
    assert_eq!(receive().unwrap(), format!("STATUS=pid {}", run.child.id()));
    assert_eq!(receive().unwrap(), "READY=1");
    assert_eq!(receive().unwrap(), "READY=1");
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut feedings = 0;
    while let Some(text) = receive() {
        assert_eq!(text, "WATCHDOG=1");
        feedings += 1;
    }
    assert!((1..=6).contains(&feedings), "{feedings}");
}

#[test]
#[cfg(target_os = "linux")]
fn children_of_every_kind_are_made() {
    let mut run = run(&[
        "--children",
        "2",
        "--escape",
        "--fork-bomb",
        "5",
        READY[0],
        READY[1],
    ]);
    let mut plain = Vec::new();
    let mut branches = Vec::new();
    let mut escaped = Vec::new();
    while plain.len() + branches.len() + escaped.len() < 2 + 5 + 1 {
        let line = run.line();
        if let Some((what, pid)) = line
            .split_once(' ')
            .filter(|word| word.1.parse::<i32>().is_ok())
        {
            let pid: i32 = pid.parse().unwrap();
            match what {
                "child" => plain.push(pid),
                "escaped" => escaped.push(pid),
                "branch" => branches.push(pid),
                other => panic!("unexpected {other}"),
            }
        }
    }
    let ours = run.pid().as_raw();
    let all = [plain.clone(), branches.clone(), escaped.clone()].concat();
    let seen = std::panic::catch_unwind(|| {
        assert_eq!((plain.len(), branches.len(), escaped.len()), (2, 5, 1));
        for pid in &plain {
            assert_eq!(status(*pid, "PPid"), Some(ours.to_string()));
        }
        let escaped = escaped[0];
        eventually("the orphan", || {
            status(escaped, "PPid").filter(|parent| *parent != ours.to_string())
        });
        eventually("closed descriptors", || {
            let open = std::fs::read_dir(format!("/proc/{escaped}/fd")).ok()?;
            let targets = open
                .flatten()
                .map(|entry| std::fs::read_link(entry.path()).ok());
            targets
                .flatten()
                .all(|target| target.as_os_str() == "/dev/null")
                .then_some(())
        });
        let session = |pid| nix::unistd::getsid(pid).unwrap();
        assert_ne!(session(Some(Pid::from_raw(escaped))), session(None));
        assert!(all.iter().all(|pid| is_alive(*pid)));
    });
    reap(&all);
    seen.unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_daemon_goes_on_when_the_first_process_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let stamp = folder.path().join("stamp");
    let mut run = run(&[
        "--double-fork",
        "--stamp",
        stamp.to_str().unwrap(),
        "--stamp-exit",
        READY[0],
        READY[1],
    ]);
    assert_eq!(run.ended().code(), Some(0));
    // The one in the middle tells the pid, the daemon that it is ready: either may be first.
    let lines = [run.line(), run.line()];
    assert!(lines.iter().any(|line| line == "here I am"), "{lines:?}");
    let pid = lines.iter().find_map(|line| line.strip_prefix("daemon "));
    let pid: i32 = pid.unwrap().parse().unwrap();
    assert!(is_alive(pid));
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let text = eventually("both stamps", || {
        let text = std::fs::read_to_string(&stamp).ok()?;
        (text.lines().count() == 2).then_some(text)
    });
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(words[0][1..], [pid.to_string().as_str(), "misbehave"]);
    assert_eq!(
        words[1][1..],
        [pid.to_string().as_str(), "misbehave", "exit"]
    );
    assert!(words[0][0].parse::<u128>().unwrap() < words[1][0].parse::<u128>().unwrap());
}

#[test]
#[cfg(target_os = "linux")]
fn a_life_is_bounded() {
    let mut run = run(&["--children", "1", "--life", "100ms", READY[0], READY[1]]);
    let line = run.line();
    let pid: i32 = line.strip_prefix("child ").unwrap().parse().unwrap();
    eventually("its end", || (!is_alive(pid)).then_some(()));
}

#[test]
#[cfg(target_os = "linux")]
fn it_shows_what_it_was_handed() {
    let mut show = command(&[
        "--print-env",
        "--print-fds",
        "--print-signals",
        "--print-uid",
        "--exit-code=0",
    ]);
    show.env_clear().env("ONE", "1").env("TWO", "2 = two");
    let text = String::from_utf8(start(&mut show).rest()).unwrap();
    let of =
        |kind: &str| -> Vec<&str> { text.lines().filter(|line| line.starts_with(kind)).collect() };
    assert_eq!(of("env "), ["env ONE=1", "env TWO=2 = two"]);
    assert_eq!(of("fd ")[..2], ["fd 0 /dev/null", of("fd ")[1]]);
    assert!(of("fd 1 ")[0].starts_with("fd 1 pipe:"), "{text}");
    let ignored = of("SigIgn:")[0].split('\t').nth(1).unwrap();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    assert_eq!(ignored & (1 << 12), 0, "SIGPIPE is as it was inherited");
    assert_eq!(of("SigCgt:"), ["SigCgt:\t0000000000000000"]);
    let uid = nix::unistd::getuid();
    assert!(
        of("uid ")[0].starts_with(&format!("uid {uid} euid {uid} gid ")),
        "{text}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn it_takes_files_threads_memory_and_cpu() {
    let mut run = run(&[
        "--open-files=20",
        "--threads=5",
        "--leak=400",
        "--leak-max=40",
        "--burn-cpu=1",
        READY[0],
        READY[1],
    ]);
    assert_eq!(run.line(), "opened 20 files");
    let pid = run.pid().as_raw();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    assert!(files >= 23, "{files}");
    eventually("memory", || {
        let kb: u64 = status(pid, "VmRSS")?.split(' ').next()?.parse().ok()?;
        (kb > 40_000).then_some(())
    });
    eventually("threads", || {
        // Main, signals, five idle, one spinning.
        (status(pid, "Threads")? == "8").then_some(())
    });
    eventually("cpu", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let ticks: u64 = stat.rsplit(") ").next()?.split(' ').nth(11)?.parse().ok()?;
        (ticks >= 5).then_some(())
    });
}

#[test]
fn a_wrong_word_is_refused_with_the_right_ones() {
    let output = command(&["--ready", "soon"])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("cannot say ready by 'soon'"), "{text}");
}

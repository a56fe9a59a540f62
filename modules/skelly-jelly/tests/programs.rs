//! The programs by themselves: outside mainstay, with sd_notify alone.
//! Owns the processes it starts: every one is killed when its test ends.
//! Never waits without a deadline.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LONG: Duration = Duration::from_secs(30);

const PROGRAMS: [(&str, &str); 5] = [
    ("skelly-storage", env!("CARGO_BIN_EXE_skelly-storage")),
    (
        "skelly-data-capture",
        env!("CARGO_BIN_EXE_skelly-data-capture"),
    ),
    (
        "skelly-analysis-engine",
        env!("CARGO_BIN_EXE_skelly-analysis-engine"),
    ),
    (
        "skelly-gamification",
        env!("CARGO_BIN_EXE_skelly-gamification"),
    ),
    (
        "skelly-ai-integration",
        env!("CARGO_BIN_EXE_skelly-ai-integration"),
    ),
];

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn ended(&mut self) -> ExitStatus {
        eventually("the end", || self.0.try_wait().unwrap())
    }

    fn terminate(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.ended()
    }
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

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "MAINSTAY_SOCKET",
        "MAINSTAY_SETTINGS",
    ] {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn arguments(program: &str, folder: &Path) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    match program {
        "skelly-storage" => vec!["--db".into(), file("storage.db")],
        "skelly-ai-integration" => vec!["--out".into(), file("companion.json")],
        _ => Vec::new(),
    }
}

struct Receiver {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Receiver {
    fn in_folder(folder: &Path) -> Receiver {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Receiver { socket, path }
    }

    /// Reads messages until one holds the text.
    fn wait_for(&self, wanted: &str) -> String {
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            let mut bytes = [0; 4096];
            let length = match self.socket.recv(&mut bytes) {
                // With a timeout a wait ends so when this process was stopped for a moment.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                length => length.unwrap(),
            };
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
        panic!("never came: {wanted}");
    }
}

#[test]
fn each_program_explains_itself() {
    for (name, program) in PROGRAMS {
        let output = command(program)
            .arg("--help")
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("Usage"),
            "{name}"
        );
    }
}

#[test]
fn each_program_becomes_ready_alone_and_ends_at_once_on_sigterm() {
    for (name, program) in PROGRAMS {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::in_folder(folder.path());
        let mut command = command(program);
        command
            .args(arguments(name, folder.path()))
            .env("NOTIFY_SOCKET", &receiver.path);
        let mut running = Running(command.spawn().unwrap());
        receiver.wait_for("READY=1");
        let asked = Instant::now();
        assert_eq!(running.terminate().code(), Some(0), "{name}");
        // 100 ms is the promise; the rest is for a machine that runs many tests at once.
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "{name}: {:?}",
            asked.elapsed()
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_stops_at_once_while_it_waits_for_a_neighbour() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_skelly-analysis-engine");
    let mut command = command(program);
    // A socket where nobody is: the calls for history wait for a second each.
    command.env("MAINSTAY_SOCKET", folder.path().join("nobody"));
    let mut running = Running(command.stdout(Stdio::null()).spawn().unwrap());
    let pid = running.0.id();
    eventually("its threads", || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.count();
        (threads >= 6).then_some(())
    });
    let asked = Instant::now();
    assert_eq!(running.terminate().code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_millis(900),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn wrong_settings_and_a_broken_database_are_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.json");
    std::fs::write(&settings, r#"{"intervall_ms": 5}"#).unwrap();
    let output = command(env!("CARGO_BIN_EXE_skelly-data-capture"))
        .env("MAINSTAY_SETTINGS", &settings)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("cannot use the module's settings"), "{text}");

    let broken = folder.path().join("storage.db");
    std::fs::write(
        &broken,
        "this is a text and not a database, whatever its name says",
    )
    .unwrap();
    let output = command(env!("CARGO_BIN_EXE_skelly-storage"))
        .arg("--db")
        .arg(&broken)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("cannot"), "{text}");
}

#[test]
fn the_figurine_draws_what_the_companion_says() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no python3 here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::in_folder(folder.path());
    let companion = folder.path().join("companion.json");
    let mut command = command("python3");
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/cute-figurine/figurine.py"
        ))
        .arg("--companion")
        .arg(&companion)
        .arg("--out")
        .arg(folder.path().join("out"))
        .env("NOTIFY_SOCKET", &receiver.path)
        .env("WATCHDOG_USEC", "100000");
    let mut running = Running(command.spawn().unwrap());
    assert!(receiver.wait_for("READY=1").contains("STATUS=dozes"));
    let drawn = |name: &str| std::fs::read_to_string(folder.path().join("out").join(name)).unwrap();
    assert!(drawn("figurine.txt").contains("Zzz."));
    receiver.wait_for("WATCHDOG=1");
    let message = r#"{"mood": "proud", "text": "1 < 2 & all is well", "points": 7, "level": 2}"#;
    skelly_jelly::atomic::write(&companion, message.as_bytes()).unwrap();
    receiver.wait_for("STATUS=is proud");
    assert!(drawn("figurine.txt").contains("1 < 2 & all is well"));
    let svg = drawn("figurine.svg");
    assert!(
        svg.contains("1 &lt; 2 &amp; all is well") && svg.contains("level 2"),
        "{svg}"
    );
    let asked = Instant::now();
    assert_eq!(running.terminate().code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    let names = std::fs::read_dir(folder.path().join("out"))
        .unwrap()
        .count();
    assert_eq!(names, 2, "no temporary file is left");
}

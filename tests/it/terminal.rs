//! In the foreground of a terminal: what happens when it goes away.
//! Owns the pseudo-terminal. Never touches the terminal the tests run in.

use std::cell::RefCell;
use std::process::{Command, Stdio};

use mainstay_client::blocking::Client;
use mainstay_protocol::ModuleState;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::daemon::{binary, kill, lives, misbehave, prepare, wait_for};

#[test]
fn closing_the_terminal_stops_in_order_what_was_started_in_it() {
    let dir = prepare("", &format!("[module.one]\ncommand = {}\n", misbehave("")));
    // Neither end may live on in a process that another test starts.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).expect("a terminal");
    grantpt(&master)
        .and_then(|()| unlockpt(&master))
        .expect("its other end");
    let slave = ptsname_r(&master).expect("the name of that");
    let slave = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(slave)
        .expect("opened");
    let shared = || Stdio::from(slave.try_clone().expect("the same terminal"));
    // Of util-linux: makes the terminal the controlling one of a new session.
    let up = Command::new("setsid")
        .args(["--ctty", binary(), "up", "--config"])
        .arg(dir.path().join("config"))
        .stdin(shared())
        .stdout(shared())
        .stderr(shared())
        .spawn()
        .expect("setsid starts it");
    let up = RefCell::new(up);
    let socket = dir.path().join("run/control.sock");
    let module = wait_for("the module to run", || {
        let view = Client::connect(&socket).ok()?.module("one").ok()?;
        (view.state == ModuleState::Running).then_some(view.pid?)
    });
    drop((slave, master));
    let ended = wait_for("the holder to end", || {
        up.borrow_mut().try_wait().expect("our child")
    });
    if ended.is_none() {
        kill(up.borrow().id(), libc::SIGTERM);
        let _reaped = up.borrow_mut().wait();
    }
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    assert!(!lives(module.expect("it ran")));
    assert!(!socket.exists(), "nothing is left behind");
}

/// `stty tostop`, and nobody who reads what the terminal shows.
#[test]
fn a_terminal_that_stops_its_writers_does_not_stop_the_runtime() {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let crash = "[module.crash]\ncommand = [\"/bin/sh\", \"-c\", \"exit 3\"]\nrequired = false\n\
        recovery.max_attempts = 0\n\
        recovery.backoff = { initial = \"0s\", floor = \"0s\", max = \"1ms\" }\n";
    let modules = format!("{crash}[module.one]\ncommand = {}\n", misbehave(""));
    let dir = prepare("", &modules);
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).expect("a terminal");
    grantpt(&master)
        .and_then(|()| unlockpt(&master))
        .expect("its other end");
    let slave = ptsname_r(&master).expect("the name of that");
    let slave = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(slave)
        .expect("opened");
    let mut modes = tcgetattr(&slave).expect("its modes");
    modes.local_flags.insert(LocalFlags::TOSTOP);
    tcsetattr(&slave, SetArg::TCSANOW, &modes).expect("set");
    let shared = || Stdio::from(slave.try_clone().expect("the same terminal"));
    let up = Command::new("setsid")
        .args(["--ctty", binary(), "up", "--config"])
        .arg(dir.path().join("config"))
        .stdin(shared())
        .stdout(shared())
        .stderr(shared())
        .spawn()
        .expect("setsid starts it");
    let up = RefCell::new(up);
    let socket = dir.path().join("run/control.sock");
    let crashed = wait_for("hundreds of restarts", || {
        let view = Client::connect(&socket).ok()?.module("crash").ok()?;
        (view.restarts > 500).then_some(())
    });
    kill(up.borrow().id(), libc::SIGTERM);
    let ended = wait_for("the holder to end", || {
        up.borrow_mut().try_wait().expect("our child")
    });
    if ended.is_none() {
        kill(up.borrow().id(), libc::SIGKILL);
        let _reaped = up.borrow_mut().wait();
    }
    drop((slave, master));
    assert!(crashed.is_some());
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}

/// What `up` writes to a terminal of its own, as it grows.
struct Shown(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Shown {
    fn has(&self, text: &str) -> bool {
        let shown = self.0.lock().expect("no panic");
        String::from_utf8_lossy(&shown).contains(text)
    }
}

#[test]
fn a_start_that_takes_long_says_how_far_it_is_on_a_terminal_alone() {
    use std::io::Read;
    let slow =
        crate::daemon::script("until [ -e go ]; do sleep 0.05; done; echo works; exec sleep 60");
    let quick = misbehave("");
    let modules = format!(
        "[module.quick]\ncommand = {quick}\n\
         [module.slow]\ncommand = {slow}\nready = {{ log = \"works\" }}\n"
    );
    let dir = prepare("", &modules);
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut master = posix_openpt(flags).expect("a terminal");
    grantpt(&master)
        .and_then(|()| unlockpt(&master))
        .expect("its other end");
    let slave = ptsname_r(&master).expect("the name of that");
    let mut options = std::fs::OpenOptions::new();
    let slave = options.read(true).write(true).open(slave).expect("opened");
    let shared = || Stdio::from(slave.try_clone().expect("the same terminal"));
    let shown = Shown(std::sync::Arc::default());
    let bytes = std::sync::Arc::clone(&shown.0);
    std::thread::spawn(move || {
        let mut piece = [0; 1024];
        while let Ok(read @ 1..) = master.read(&mut piece) {
            bytes.lock().expect("no panic").extend(&piece[..read]);
        }
    });
    let up = Command::new(binary())
        .args(["up", "--config"])
        .arg(dir.path().join("config"))
        .stdin(Stdio::null())
        .stdout(shared())
        .stderr(shared())
        .spawn()
        .expect("it starts");
    drop(slave);
    let up = RefCell::new(up);
    let line = wait_for("its progress", || {
        shown
            .has("1/2 ready, waiting for slow: a line of output that matches \"works\", ")
            .then_some(())
    });
    std::fs::write(dir.path().join("go"), "").expect("a file");
    let started = wait_for("its start", || {
        shown.has("everything is up after").then_some(())
    });
    kill(up.borrow().id(), libc::SIGTERM);
    let ended = wait_for("its end", || up.borrow_mut().try_wait().expect("our child"));
    if ended.is_none() {
        kill(up.borrow().id(), libc::SIGKILL);
        let _reaped = up.borrow_mut().wait();
    }
    assert!(line.is_some() && started.is_some());
    let shown = String::from_utf8_lossy(&shown.0.lock().expect("no panic")).into_owned();
    // It is cleared before the next line, and gone once everything has started.
    assert!(shown.contains("\r\u{1b}[K  slow "), "{shown:?}");
    let (_, after) = shown.split_once("everything is up").expect("it started");
    assert!(!after.contains("ready, waiting"), "{after:?}");
}

#[test]
fn a_pipe_gets_no_line_of_progress() {
    let slow = crate::daemon::script("sleep 1.5; echo works; exec sleep 60");
    let modules = format!("[module.slow]\ncommand = {slow}\nready = {{ log = \"works\" }}\n");
    let daemon = crate::daemon::Daemon::start(&modules);
    daemon.until("slow", ModuleState::Running);
    let printed = daemon.printed();
    assert!(
        !printed.contains("ready, waiting") && !printed.contains('\r'),
        "{printed:?}"
    );
}

/// What a command prints on a terminal of so many columns, and how it ends.
fn on_terminal(columns: u16, words: &[&str], config: &std::path::Path) -> String {
    use std::io::Read;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut master = posix_openpt(flags).expect("a terminal");
    grantpt(&master)
        .and_then(|()| unlockpt(&master))
        .expect("its other end");
    let slave = ptsname_r(&master).expect("the name of that");
    let mut options = std::fs::OpenOptions::new();
    let slave = options.read(true).write(true).open(slave).expect("opened");
    let shared = || Stdio::from(slave.try_clone().expect("the same terminal"));
    let sized = Command::new("stty")
        .args(["rows", "24", "cols", &columns.to_string()])
        .stdin(shared())
        .status();
    assert!(sized.expect("stty runs").success());
    let mut child = Command::new(binary())
        .args(words)
        .arg("--config")
        .arg(config)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(shared())
        .stderr(shared())
        .spawn()
        .expect("it starts");
    drop(slave);
    let (mut printed, mut piece) = (Vec::new(), [0; 4096]);
    // The terminal is gone, which is an error, with its last other end.
    while let Ok(read @ 1..) = master.read(&mut piece) {
        printed.extend(&piece[..read]);
    }
    child.wait().expect("our child");
    String::from_utf8_lossy(&printed).replace('\r', "")
}

#[test]
fn what_is_wider_than_the_terminal_goes_on_in_the_next_line_and_no_reason_is_cut() {
    let words = "cannot connect to the upstream at 127.0.0.1:8931 with the name of the queue";
    let crash = crate::daemon::script(&format!("sleep 0.1; echo '{words}' >&2; exit 17"));
    let modules = format!(
        "[module.flaky]\nrequired = false\ncommand = {crash}\n\
         recovery = {{ max_attempts = 1, probation = \"off\", \
         backoff = {{ initial = \"10ms\" }} }}\n\
         [module.needs-it]\nrequired = false\ncommand = {}\nrequires = [\"flaky\"]\n\
         [module.apart]\ncommand = {}\n",
        misbehave(""),
        misbehave(""),
    );
    let daemon = crate::daemon::Daemon::launch("", &modules);
    daemon.until("flaky", ModuleState::Failed);
    let config = daemon.dir.path().join("config");
    let squeezed = |text: &str| text.replace([' ', '\n'], "");
    for (verb, part) in [
        (&["why", "flaky"][..], words),
        (&["why", "needs-it"], "flaky is not tried again"),
        (&["why", "--not-started"], "which failed: exit code 17"),
        (&["what-if", "fail", "flaky"], "goes on waiting"),
        (&["events"], "exit code 17"),
        (&["config", "history"], "in force"),
        (&["start", "flaky", "--dry-run"], "would"),
        (&["status", "flaky"], "exit code 17"),
        (&["check"], "configuration ok"),
        (&["status", "--help"], "Exit codes"),
    ] {
        let printed = on_terminal(50, verb, &config);
        let wide = printed.lines().find(|line| line.chars().count() > 50);
        // A word that is longer stays whole.
        let wide = wide.filter(|line| line.trim().contains(' '));
        assert_eq!(wide, None, "{verb:?}: {printed}");
        let is_told = squeezed(&printed).contains(&squeezed(part));
        assert!(is_told || verb.contains(&"--help"), "{verb:?}: {printed}");
    }
}

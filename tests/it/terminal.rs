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

//! What the real mainstay tells the service manager that started it, over a real datagram socket.
//! Owns the other end of that socket. Never needs a service manager.
#![cfg(target_os = "linux")]

use std::cell::RefCell;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

use mainstay_protocol::ModuleState;
use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, setsockopt};
use tempfile::TempDir;

use crate::daemon::{Daemon, binary, kill, prepare, script};
use crate::succession::Succeeded;

/// The socket of a service manager, and what it has received.
struct Manager {
    socket: UnixDatagram,
    address: String,
    received: RefCell<Vec<(i32, String)>>,
}

impl Manager {
    fn at_path(dir: &TempDir) -> Manager {
        let path = dir.path().join("manager");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Manager::new(socket, path.display().to_string())
    }

    fn abstract_one(name: &str) -> Manager {
        let name = format!("mainstay-test-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        Manager::new(socket, format!("@{name}"))
    }

    fn new(socket: UnixDatagram, address: String) -> Manager {
        setsockopt(&socket, PassCred, &true).expect("senders are named");
        Manager {
            socket,
            address,
            received: RefCell::default(),
        }
    }

    /// Starts a mainstay that has this service manager.
    fn launch(&self, dir: TempDir, watchdog_usec: u64) -> Daemon {
        let mut command = Command::new(binary());
        command.env("NOTIFY_SOCKET", &self.address);
        command.env("WATCHDOG_USEC", watchdog_usec.to_string());
        Daemon::launch_as(dir, command)
    }

    /// Every assignment so far, with its sender.
    fn assignments(&self) -> Vec<(i32, String)> {
        let mut space = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
        loop {
            let mut bytes = [0; 4096];
            let mut into = [IoSliceMut::new(&mut bytes)];
            let fd = self.socket.as_raw_fd();
            let flags = MsgFlags::MSG_DONTWAIT;
            let Ok(message) = recvmsg::<UnixAddr>(fd, &mut into, Some(&mut space), flags) else {
                return self.received.borrow().clone();
            };
            let sender = message.cmsgs().expect("whole").find_map(|one| match one {
                ControlMessageOwned::ScmCredentials(sender) => Some(sender.pid()),
                _ => None,
            });
            let length = message.bytes;
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let lines = text
                .lines()
                .map(|line| (sender.expect("named"), line.to_owned()));
            self.received.borrow_mut().extend(lines);
        }
    }

    /// How often this was said.
    fn count(&self, line: &str) -> usize {
        let is = |one: &&(i32, String)| one.1 == line;
        self.assignments().iter().filter(is).count()
    }

    fn until(&self, daemon: &Daemon, what: &str, is: impl Fn(&[(i32, String)]) -> bool) {
        daemon.wait(what, || is(&self.assignments()).then_some(()));
    }

    fn until_count(&self, daemon: &Daemon, line: &str, count: usize) {
        let what = format!("{line} {count} times");
        daemon.wait(&what, || (self.count(line) >= count).then_some(()));
    }
}

fn value(lines: &[(i32, String)], key: &str) -> Option<u64> {
    let value = |line: &(i32, String)| line.1.strip_prefix(key)?.strip_prefix('=')?.parse().ok();
    lines.iter().rev().find_map(value)
}

const SLOW: &str = "[module.slow]\nready = { file = \"go\" }\nstartup_timeout = \"100s\"\n";

#[test]
fn a_start_a_reload_and_a_stop_are_reported_by_the_main_process() {
    let command = script("env > seen; exec sleep 1000");
    let modules = format!("{SLOW}command = {command}\n");
    let dir = prepare("startup_timeout = \"100s\"\n", &modules);
    let manager = Manager::at_path(&dir);
    let mut daemon = manager.launch(dir, 0);
    manager.until_count(&daemon, "STATUS=starting: 0 of 1 modules run", 1);
    manager.until(&daemon, "more time", |lines| {
        value(lines, "EXTEND_TIMEOUT_USEC").is_some_and(|time| time > 100_000_000)
    });
    assert_eq!(
        manager.count("READY=1"),
        0,
        "the first start is not completed"
    );
    daemon.touch("go");
    manager.until_count(&daemon, "READY=1", 1);
    manager.until_count(&daemon, "STATUS=healthy: 1 of 1 modules run", 1);

    // Without a change in the files a reload is completed too.
    daemon.signal(libc::SIGHUP);
    manager.until_count(&daemon, "RELOADING=1", 1);
    manager.until_count(&daemon, "READY=1", 2);
    let lines = manager.assignments();
    let at = value(&lines, "MONOTONIC_USEC").expect("the time of the reload");
    let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    let now = u64::try_from(Duration::from(clock).as_micros()).expect("fits");
    assert!(at <= now && now - at < 120_000_000, "{at} {now}");

    // A plan is applied until it is committed.
    let path = daemon.path("config/mainstay.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    std::fs::write(&path, text + "description = \"changed\"\n").expect("changed");
    let reloaded = daemon.cli(&["reload", "--wait"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    manager.until(&daemon, "the end of a reload", |lines| {
        let last = |word: &str| lines.iter().rposition(|line| line.1 == word);
        last("READY=1") > last("RELOADING=1")
    });

    let environment = std::fs::read_to_string(daemon.path("seen")).expect("what it was given");
    for name in ["NOTIFY_SOCKET=", "WATCHDOG_"] {
        assert!(!environment.contains(name), "{environment}");
    }
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.ended(), Some(0));
    let lines = manager.assignments();
    assert!(lines.iter().any(|line| line.1 == "STOPPING=1"), "{lines:?}");
    let holder = i32::try_from(daemon.holder()).expect("a pid");
    assert!(lines.iter().all(|line| line.0 == holder), "{lines:?}");
    assert!(
        !lines.iter().any(|line| line.1 == "WATCHDOG=1"),
        "{lines:?}"
    );
}

#[test]
fn the_watchdog_is_fed_while_the_runtime_is_replaced() {
    let modules = "[module.it]\ncommand = [\"sleep\", \"1000\"]\n";
    let manager = Manager::abstract_one("watchdog");
    let daemon = manager.launch(prepare("", modules), 200_000);
    manager.until_count(&daemon, "READY=1", 1);
    let before = daemon.until("it", ModuleState::Running);
    let runtime = daemon.status().pid;
    // It neither runs nor has exited: the holder goes on.
    kill(runtime, libc::SIGSTOP);
    let fed = manager.count("WATCHDOG=1");
    manager.until_count(&daemon, "WATCHDOG=1", fed + 5);
    kill(runtime, libc::SIGKILL);
    // The next runtime reports what it finds: a reload of the last one may have been cut off.
    manager.until_count(&daemon, "READY=1", 2);
    let after = daemon.until("it", ModuleState::Running);
    assert_eq!(
        (after.pid, after.generation),
        (before.pid, before.generation)
    );
    assert_eq!(manager.count("STOPPING=1"), 0);
}

/// What systemd does with the PID file of a unit: at the end of its main process it takes what the
/// file names for it, and it believes no other process.
#[test]
fn a_unit_with_a_pid_file_goes_on_with_the_next_holder() {
    let modules = "[module.it]\ncommand = [\"sh\", \"-c\", \"env > seen; exec sleep 1000\"]\n";
    let dir = prepare("", modules);
    let manager = Manager::at_path(&dir);
    let file = dir.path().join("unit.pid");
    std::fs::write(&file, "1\n").expect("one that an earlier runtime has left");
    let mut command = Command::new("/bin/sh");
    let exec = "export SYSTEMD_EXEC_PID=$$ WATCHDOG_PID=$$; exec \"$0\" \"$@\"";
    command.args(["-c", exec, binary()]);
    command.env("NOTIFY_SOCKET", &manager.address);
    command.env("WATCHDOG_USEC", "200000").env("PIDFILE", &file);
    let mut daemon = Succeeded(Daemon::launch_as(dir, command));
    manager.until_count(&daemon.0, "READY=1", 1);
    let (before, runtime) = (daemon.run_of("it"), daemon.runtime());
    let named = || std::fs::read_to_string(&file).ok()?.trim().parse().ok();
    let names = |daemon: &Daemon, pid: u32| {
        daemon.wait("the PID file", || (named() == Some(pid)).then_some(()));
    };
    names(&daemon.0, runtime);
    let environment = std::fs::read_to_string(daemon.0.path("seen")).expect("what it was given");
    for variable in ["PIDFILE=", "SYSTEMD_EXEC_PID="] {
        assert!(!environment.contains(variable), "{environment}");
    }
    // A manager that reads the file while the holder is well takes the runtime for the main process.
    let holder = daemon.0.holder();
    assert_eq!(named(), Some(runtime));
    let told = (
        i32::try_from(runtime).expect("a pid"),
        format!("MAINPID={holder}"),
    );
    manager.until(&daemon.0, "that it is not", |lines| lines.contains(&told));

    // Its parent has not taken note of the end: it would not believe the runtime yet.
    kill(holder, libc::SIGKILL);
    let next = daemon.next_holder(holder);
    let early = format!("MAINPID={next}");
    let lines = manager.assignments();
    assert!(lines.iter().all(|line| line.1 != early), "{lines:?}");
    daemon.0.ended();
    let follows = |daemon: &Daemon, runtime: u32, holder: u32| {
        let told = (
            i32::try_from(runtime).expect("a pid"),
            format!("MAINPID={holder}"),
        );
        manager.until(daemon, "the next main process", |lines| {
            let at = lines.iter().position(|line| *line == told);
            let fed = |line: &(i32, String)| {
                line.1 == "WATCHDOG=1" && i64::from(line.0) == i64::from(holder)
            };
            at.is_some_and(|at| lines[at + 1].1 == "WATCHDOG=1" && lines[at..].iter().any(fed))
        });
    };
    follows(&daemon.0, runtime, next);
    // The runtime of that one is as good, and those after it.
    let second = daemon.kill_holder();
    follows(&daemon.0, runtime, second);
    daemon.0.kill_runtime();
    let runtime = daemon.runtime();
    names(&daemon.0, runtime);
    let third = daemon.kill_holder();
    follows(&daemon.0, runtime, third);
    assert_eq!(daemon.run_of("it"), before);
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let modules = "[module.it]\ncommand = [\"/nonexistent/program\"]\n";
    let manager = Manager::abstract_one("failed");
    let mut daemon = manager.launch(prepare("", modules), 0);
    assert_eq!(daemon.ended(), Some(1));
    assert_eq!(manager.count("READY=1"), 0, "{:?}", manager.assignments());
}

#[test]
fn a_watchdog_for_another_process_and_an_address_that_is_none_are_ignored() {
    let modules = "[module.it]\ncommand = [\"sleep\", \"1000\"]\n";
    let manager = Manager::abstract_one("other");
    let mut command = Command::new(binary());
    command.env("NOTIFY_SOCKET", &manager.address);
    command
        .env("WATCHDOG_USEC", "1000")
        .env("WATCHDOG_PID", "1");
    let daemon = Daemon::launch_as(prepare("", modules), command);
    manager.until_count(&daemon, "READY=1", 1);
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(manager.count("WATCHDOG=1"), 0);
    for address in ["", "manager", "vsock:2:1"] {
        let mut command = Command::new(binary());
        command.env("NOTIFY_SOCKET", address);
        let daemon = Daemon::launch_as(prepare("", modules), command);
        daemon.until("it", ModuleState::Running);
        assert_eq!(daemon.stop(), Some(0));
    }
}

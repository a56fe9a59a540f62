//! Modules that are stopped when they are not used, and started by the next use.
//! Owns clients and the modules they talk to. Never waits for a fixed time: another module, which
//! is not used, shows that time enough has passed.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mainstay_protocol::method::name;
use mainstay_protocol::view::ModuleView;
use mainstay_protocol::{EventKind, ModuleState, StateCause, SystemStatus};
use nix::sys::socket::{setsockopt, sockopt};

use crate::daemon::{Daemon, free_address, misbehave};

const DEADLINE: Duration = Duration::from_secs(60);
const FAST: &str = "[resources]\ncheck_interval = \"50ms\"\n";

/// A lazy module that is stopped after half a second without use.
fn lazy(name: &str, words: &str, more: &str) -> String {
    let command = misbehave(&format!("--serve --keep-connections {words}"));
    format!(
        "[module.{name}]\ncommand = {command}\nstart = \"lazy\"\nidle_stop = \"500ms\"\n\
         sockets = {{ http = \"${{runtime_dir}}/{name}.sock\" }}\n{more}\n"
    )
}

/// Connects; the pid that answers, and the open connection.
fn connect(daemon: &Daemon, name: &str) -> (u32, UnixStream) {
    let stream = UnixStream::connect(daemon.path(&format!("run/{name}.sock"))).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    (answer(&stream), stream)
}

fn answer(stream: impl Read) -> u32 {
    answer_or_end(stream).expect("an answer")
}

/// The pid that answers; none when the run that took the connection ends before it answers.
fn answer_or_end(stream: impl Read) -> Option<u32> {
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line) {
        Ok(0) => return None,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
        read => read.expect("an answer in time"),
    };
    let pid = line.split_whitespace().nth(1).expect("NAME PID");
    Some(pid.parse().expect("a pid"))
}

/// Lets a module that is not used be started and stopped again.
fn a_while_passes(daemon: &Daemon) {
    drop(connect(daemon, "unused"));
    daemon.until("unused", ModuleState::Running);
    daemon.until("unused", ModuleState::Stopped);
}

fn is_unused(view: &ModuleView) {
    assert_eq!(view.cause, Some(StateCause::Idle));
    assert_eq!((view.restarts, view.attempts), (0, 0), "that is no failure");
}

#[test]
fn a_module_is_stopped_when_no_client_is_connected_and_started_by_the_next_connection() {
    let text = format!("{FAST}{}{}", lazy("it", "", ""), lazy("unused", "", ""));
    let daemon = Daemon::start(&text);
    let (first, stream) = connect(&daemon, "it");
    a_while_passes(&daemon);
    let view = daemon.module("it");
    assert_eq!((view.state, view.pid), (ModuleState::Running, Some(first)));
    drop(stream);
    is_unused(&daemon.until("it", ModuleState::Stopped));
    assert_eq!(
        daemon.status().status,
        SystemStatus::Healthy,
        "that is no trouble"
    );
    let why = daemon.cli(&["why", "it"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(
        why.contains("it is stopped until its next use: it was not used for 500 ms"),
        "{why}"
    );
    let (second, _stream) = connect(&daemon, "it");
    assert_ne!(first, second);
    let view = daemon.until("it", ModuleState::Running);
    assert_eq!((view.pid, view.generation), (Some(second), 2));
}

#[test]
fn connections_of_a_port_count_too() {
    let address = free_address();
    let sockets = format!("{{ http = \"{address}\" }}");
    let it = lazy("it", "", "").replace("{ http = \"${runtime_dir}/it.sock\" }", &sockets);
    let daemon = Daemon::start(&format!("{FAST}{it}{}", lazy("unused", "", "")));
    let stream = TcpStream::connect(&address).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let first = answer(&stream);
    a_while_passes(&daemon);
    assert_eq!(daemon.module("it").pid, Some(first), "it is connected");
    // Reset, so that no end remembers the connection.
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &linger).expect("no farewell");
    drop(stream);
    is_unused(&daemon.until("it", ModuleState::Stopped));
    let stream = TcpStream::connect(&address).expect("it listens still");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    assert_ne!(answer(&stream), first);
}

#[test]
fn who_connects_while_it_is_stopped_waits_for_the_next_run() {
    let text = format!("{FAST}{}", lazy("it", "--slow-stop 1s", ""));
    let daemon = Daemon::start(&text);
    let (first, stream) = connect(&daemon, "it");
    drop(stream);
    // Where that took so long that it has stopped, the next run serves the late one.
    daemon.until_view("its stop", "it", |view| {
        matches!(view.state, ModuleState::Stopping | ModuleState::Stopped)
    });
    let late = UnixStream::connect(daemon.path("run/it.sock")).expect("it listens");
    late.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    // Whichever of both accepts it. The first one may end between its accept and its answer.
    let served_by = answer_or_end(&late).unwrap_or(first);
    if served_by == first {
        daemon.until("it", ModuleState::Stopped);
    }
    let (second, _stream) = connect(&daemon, "it");
    assert_ne!(second, first);
}

/// It leaves with 0, and its hook is still at work when the next client comes.
#[test]
fn who_connects_while_a_hook_runs_after_its_end_is_served_too() {
    let more = "after_stop = [[\"sh\", \"-c\", \"until [ -e go ]; do sleep 0.05; done\"]]\n\
                shutdown_timeout = \"60s\"\n\
                [module.it.recovery]\nrestart = \"on_failure\"\n";
    let it = lazy("it", "--exit-code 0 --after 100ms", more);
    let daemon = Daemon::start(&it.replace("idle_stop = \"500ms\"\n", ""));
    let (first, stream) = connect(&daemon, "it");
    drop(stream);
    daemon.wait("its end", || {
        let events = daemon.events("it");
        events
            .iter()
            .any(|event| event.kind == EventKind::ModuleExited)
            .then_some(())
    });
    let late = UnixStream::connect(daemon.path("run/it.sock")).expect("it listens");
    late.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    daemon.touch("go");
    assert_ne!(answer(&late), first);
}

#[test]
fn it_rests_over_the_death_of_the_runtime_and_is_told_so() {
    let daemon = Daemon::start(&format!("{FAST}{}", lazy("it", "", "")));
    let (first, stream) = connect(&daemon, "it");
    drop(stream);
    daemon.until("it", ModuleState::Stopped);
    daemon.kill_runtime();
    assert_eq!(daemon.until("it", ModuleState::Stopped).generation, 1);
    let why = daemon.cli(&["why", "it"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("until its next use"), "{why}");
    let (second, _stream) = connect(&daemon, "it");
    assert_ne!(first, second);
    // A new runtime watches a run that it found.
    daemon.kill_runtime();
    drop(_stream);
    is_unused(&daemon.until("it", ModuleState::Stopped));
}

#[test]
fn what_a_running_module_requires_goes_on() {
    let needs = format!(
        "[module.needs]\ncommand = {}\nstart = \"lazy\"\nrequires = [\"it\"]\n",
        misbehave("")
    );
    let text = format!(
        "{FAST}{}{}{needs}",
        lazy("it", "", ""),
        lazy("unused", "", "")
    );
    let daemon = Daemon::start(&text);
    daemon.change(name::MODULE_START, "needs");
    daemon.until("needs", ModuleState::Running);
    a_while_passes(&daemon);
    assert_eq!(daemon.module("it").state, ModuleState::Running);
    daemon.change(name::MODULE_STOP, "needs");
    is_unused(&daemon.until("it", ModuleState::Stopped));
    daemon.change(name::MODULE_START, "needs");
    assert_eq!(daemon.module("it").generation, 2, "what needs it starts it");
}

#[test]
fn a_call_is_a_use_and_starts_it() {
    let it = format!(
        "[module.it]\ncommand = {}\nstart = \"lazy\"\nidle_stop = \"500ms\"\n",
        misbehave("")
    );
    let daemon = Daemon::start(&format!("{FAST}{it}"));
    let call = || {
        let words = ["bus", "call", "it", "x", "--timeout", "200ms"];
        assert!(!daemon.cli(&words).status.success(), "it does not answer");
    };
    for run in 1..=2 {
        call();
        let view = daemon.until("it", ModuleState::Stopped);
        assert_eq!(view.generation, run);
        is_unused(&view);
    }
}

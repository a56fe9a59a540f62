//! Keys of mainstay itself that are applied in place: of the socket, of logs, of requests.
//! Owns what shows that the part which has a copy of the value follows it.
//! Never restarts anything.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use mainstay_protocol::method::{ChangeParams, name};

use crate::daemon::{Daemon, script};

fn set(daemon: &Daemon, key: &str, value: &str) {
    let set = || daemon.cli(&["config", "set", key, value, "--wait"]);
    // The allowance may be used up for a moment.
    daemon.wait(&format!("{key} = {value}"), || {
        set().status.success().then_some(())
    });
}

fn mode_of_the_socket(daemon: &Daemon) -> u32 {
    let about = fs::metadata(daemon.path("run/control.sock")).expect("a socket");
    about.permissions().mode() & 0o777
}

fn launch() -> Daemon {
    let writes = script("while :; do echo some output of a module; sleep 0.01; done");
    let head = "reload = \"manual\"\nreload_watch = \"0s\"";
    let daemon = Daemon::launch(head, &format!("[module.one]\ncommand = {writes}\n"));
    daemon.until("one", mainstay_protocol::ModuleState::Running);
    daemon
}

#[test]
fn the_socket_opens_for_others_and_closes_again() {
    let daemon = launch();
    let becomes = |mode: u32| {
        daemon.wait("the mode of the socket", || {
            (mode_of_the_socket(&daemon) == mode).then_some(())
        });
    };
    assert_eq!(mode_of_the_socket(&daemon), 0o600);
    set(&daemon, "ipc.observers", "[\"any\"]");
    becomes(0o666);
    // Also one that is made again, by a holder that has not heard of it from this runtime.
    daemon.kill_runtime();
    fs::remove_file(daemon.path("run/control.sock")).expect("removed");
    daemon.wait("the socket to be there again", || {
        fs::metadata(daemon.path("run/control.sock")).ok().map(drop)
    });
    becomes(0o666);
    set(&daemon, "ipc.observers", "[\"user\"]");
    becomes(0o600);
}

#[test]
fn files_of_lines_rotate_at_another_size_without_a_restart() {
    let daemon = launch();
    let pid = daemon.module("one").pid;
    let log = |end: &str| daemon.path(&format!("state/logs/one.log{end}"));
    assert!(!log(".1").exists());
    set(&daemon, "logs.keep", "1");
    set(&daemon, "logs.max_bytes", "1000");
    daemon.wait("a rotated file", || {
        let about = fs::metadata(log(".1")).ok()?;
        (about.len() <= 1000).then_some(())
    });
    assert!(!log(".2").exists());
    assert_eq!(daemon.module("one").pid, pid);
}

#[test]
fn the_allowance_of_requests_changes_for_clients_that_are_connected() {
    let daemon = launch();
    let params = ChangeParams {
        module: "one".to_owned(),
        dry_run: true,
        wait: false,
    };
    let refused = |count: u32| {
        let mut client = daemon.client();
        (0..count)
            .filter_map(|_| client.change(name::MODULE_START, &params).err())
            .any(|error| error.to_string().contains("requests a second"))
    };
    assert!(!refused(50));
    set(&daemon, "ipc.requests_per_second", "5");
    assert!(refused(150));
    set(&daemon, "ipc.requests_per_second", "1000000");
    daemon.wait("a new allowance", || (!refused(50)).then_some(()));
}

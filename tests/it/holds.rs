//! `mainstay hold` and `release` against the real daemon: a program is replaced in peace.
//! Owns what an updater relies on. Never looks inside.

use mainstay_protocol::ModuleState;

use crate::daemon::{Daemon, kill, script};

#[test]
fn a_held_module_is_not_started_until_it_is_released() {
    let command = script("exec sleep 1000");
    let daemon = Daemon::start(&format!("[module.it]\ncommand = {command}\n"));
    let before = daemon.until("it", ModuleState::Running);
    let held = daemon.cli(&["hold", "it", "--for", "1h"]);
    assert!(held.status.success(), "{held:?}");
    let text = String::from_utf8_lossy(&held.stdout);
    assert!(text.starts_with("it is held until "), "{text}");
    assert_eq!(daemon.module("it").pid, before.pid, "it goes on");

    kill(before.pid.expect("it runs"), libc::SIGKILL);
    let view = daemon.until("it", ModuleState::Waiting);
    assert_eq!(view.attempts, 0, "no failure");
    let waits_for = view.waits_for.as_deref();
    assert_eq!(waits_for, Some("its release (`mainstay release it`)"));
    daemon.kill_runtime();
    let view = daemon.until("it", ModuleState::Waiting);
    assert!(
        view.held_until.is_some(),
        "a returning runtime holds it: {view:?}"
    );
    let issues = daemon.status().issues.join("; ");
    assert!(
        issues.contains("it is held: no run of it starts"),
        "{issues}"
    );
    assert_eq!(daemon.module("it").generation, before.generation);

    let released = daemon.cli(&["release", "it"]);
    assert!(released.status.success(), "{released:?}");
    let after = daemon.until("it", ModuleState::Running);
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!(after.held_until, None);
}

#[test]
fn a_hold_ends_by_itself() {
    let command = script("exec sleep 1000");
    let daemon = Daemon::start(&format!("[module.it]\ncommand = {command}\n"));
    let before = daemon.until("it", ModuleState::Running);
    assert!(daemon.cli(&["hold", "it", "--for", "2s"]).status.success());
    kill(before.pid.expect("it runs"), libc::SIGKILL);
    daemon.until_view("its next run", "it", |view| {
        view.state == ModuleState::Running && view.generation > before.generation
    });
    for words in [
        &["hold", "it", "--for", "0s"][..],
        &["hold", "event-bus"],
        &["hold", "none"],
    ] {
        assert!(!daemon.cli(words).status.success(), "{words:?}");
    }
}

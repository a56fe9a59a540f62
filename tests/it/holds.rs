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
        view.held_until.is_some() && view.held_by.is_some(),
        "a returning runtime holds it: {view:?}"
    );
    let issues = daemon.status().issues.join("; ");
    assert!(
        issues.contains("it is held by ") && issues.contains("no run of it starts"),
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

#[test]
fn a_reload_and_a_stop_go_on_while_a_module_is_held() {
    let (command, other) = (script("exec sleep 1000"), script("exec sleep 2000"));
    let daemon = Daemon::start(&format!(
        "[module.it]\ncommand = {command}\n[module.other]\ncommand = {other}\n\
         requires = [\"it\"]\nrecovery.on_dependency_restart = \"restart\"\n"
    ));
    let before = daemon.until("it", ModuleState::Running);
    daemon.until("other", ModuleState::Running);
    assert!(daemon.cli(&["hold", "it"]).status.success());
    let file = daemon.path("config/mainstay.toml");
    let before_it = std::fs::read_to_string(&file).expect("a configuration");
    let changed = before_it.replace("sleep 1000", "sleep 1001");
    std::fs::write(&file, changed).expect("it is writable");
    let reloaded = daemon.cli(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let view = daemon.until("it", ModuleState::Waiting);
    assert_eq!(
        view.generation, before.generation,
        "its next run has to wait"
    );
    let other = daemon.until_view("what it waits for", "other", |view| {
        view.waits_for.is_some()
    });
    let waits_for = other.waits_for.as_deref();
    assert_eq!(waits_for, Some("it to be ready; it is held"));
    assert!(daemon.cli(&["release", "it"]).status.success());
    daemon.until("other", ModuleState::Running);
    assert!(daemon.cli(&["hold", "it"]).status.success());
    assert!(daemon.cli(&["stop", "it"]).status.success());
    assert_eq!(daemon.module("it").state, ModuleState::Stopped);
    assert!(daemon.cli(&["down"]).status.success());
}

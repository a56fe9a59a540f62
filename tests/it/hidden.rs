//! A process of which the kernel shows nothing, because its exec waits for a file system.
//! Owns that it costs the other modules neither their samples nor the proof of their ports.
//! Never fails where there is no FUSE, or for a user who may not mount it: it says so.

use mainstay_protocol::method::{ChangeParams, name};
use mainstay_protocol::{EventKind, ModuleState};

use crate::daemon::{Daemon, misbehave, script, skip, wait_for};

#[expect(
    clippy::unwrap_used,
    dead_code,
    reason = "a part of the holder's tests"
)]
#[path = "../../src/holder/tests/common/fuse.rs"]
mod fuse;
#[expect(
    clippy::unwrap_used,
    dead_code,
    reason = "a part of the holder's tests"
)]
#[path = "../../src/holder/tests/common/hidden.rs"]
mod process;

fn eventually(what: &str, look: impl Fn() -> bool) {
    assert!(wait_for(what, || look().then_some(())).is_some(), "{what}");
}

#[test]
fn modules_are_measured_beside_a_process_that_is_not_shown() {
    let Some(fuse) = fuse::Fuse::mount() else {
        return;
    };
    let hidden = process::Hidden::start(&fuse);
    for way in ["on", "off"] {
        let run = misbehave("");
        let mut command = std::process::Command::new(crate::daemon::binary());
        command.env("MAINSTAY_CGROUP", way);
        let modules = format!(
            "[resources]\ncheck_interval = \"200ms\"\n[module.one]\ncommand = {run}\n\
             limits = {{ memory_mb = 500 }}\n"
        );
        let dir = crate::daemon::prepare("", &modules);
        let daemon = Daemon::launch_as(dir, command);
        daemon.until("one", ModuleState::Running);
        daemon.until_view("its usage", "one", |view| view.usage.is_some());
        // And again, with what was learned.
        daemon.change("module.restart", "one");
        daemon.until_view("the usage of the next run", "one", |view| {
            view.usage.is_some()
        });
        assert_eq!(daemon.stop(), Some(0), "MAINSTAY_CGROUP={way}");
    }
    drop(hidden);
}

/// Opens a file whose close does not return, when it is told to, and executes another program.
const HIDES: &str = "
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
print('hides', flush=True)
os.execv('/bin/sleep', ['sleep', '300'])";

#[test]
fn runs_that_are_not_shown_do_not_end_the_captures_of_others() {
    let python = std::process::Command::new("python3")
        .arg("--version")
        .output();
    if python.is_err() {
        return skip("there is no python3");
    }
    let Some(fuse) = fuse::Fuse::mount() else {
        return;
    };
    let path = fuse.path.display().to_string();
    let argv = format!("{:?}", ["python3", "-c", HIDES, &path]);
    let rest = "required = false\nshutdown_timeout = \"2s\"\n";
    let mut modules = format!(
        "[module.it]\ncommand = {}\n{rest}",
        script("trap '' TERM; while :; do sleep 0.05; done"),
    );
    let hidden = ["a", "b", "c", "d"];
    for name in hidden {
        modules += &format!("[module.{name}]\ncommand = {argv}\n{rest}");
    }
    let daemon = Daemon::start(&modules);
    for name in hidden {
        daemon.wrote(name, "hides");
        let params = ChangeParams {
            module: name.to_owned(),
            dry_run: false,
            wait: false, // it ends with the file system
        };
        let stopped = daemon.client().change(name::MODULE_STOP, &params);
        stopped.expect("the change is granted");
        daemon.event(name, EventKind::ForensicsWritten);
    }
    daemon.change(name::MODULE_STOP, "it");
    let event = daemon.event("it", EventKind::ForensicsWritten);
    let path = event.payload["path"].as_str().expect("a path");
    let text = std::fs::read_to_string(path).expect("a bundle");
    assert!(text.contains("main_threads"), "{text}");
    drop(fuse);
}

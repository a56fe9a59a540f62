//! A process of which the kernel shows nothing, because its exec waits for a file system.
//! Owns that it costs the other modules neither their samples nor the proof of their ports.
//! Never fails where there is no FUSE, or for a user who may not mount it: it says so.

use mainstay_protocol::ModuleState;

use crate::daemon::{Daemon, misbehave, wait_for};

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

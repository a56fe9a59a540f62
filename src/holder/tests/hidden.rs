//! Processes whose environment cannot be read: no other run and no end of a holder waits for them.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]

mod common;

use std::time::{Duration, Instant};

use common::fuse::Fuse;
use common::hidden::{Hidden, send_as};
use common::{Rig, lives, notify_socket, spawn_of};
use mainstay_holder::EngineOptions;
use mainstay_holder::messages::{HolderMessage, HolderRequest};
use mainstay_process::{ProcessEventKind, Signal};

/// The longest delay that such a process may cause.
const HOLD_UP_MAX: Duration = Duration::from_millis(1500);
const WALK: EngineOptions = EngineOptions {
    no_groups: true,
    plain_fork: false,
};

#[test]
fn a_stranger_that_hides_its_environment_silences_no_run() {
    let mut rig = Rig::new(WALK);
    let Some(fuse) = Fuse::mount() else {
        return;
    };
    let hidden = Hidden::start(&fuse);
    let mut spawn = spawn_of("n", 1, &["sleep", "300"]);
    spawn.notify = true;
    let pid = rig.start(spawn);
    let socket = notify_socket(rig.dir.path());
    for _ in 0..3 {
        send_as(hidden.pid(), &socket, "STATUS=of a stranger");
    }
    send_as(pid, &socket, "READY=1");
    let said = rig.line.until_within(HOLD_UP_MAX, |tell| match tell {
        HolderMessage::Process(event) => match &event.what {
            ProcessEventKind::Notify { text, .. } => Some(text.clone()),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(said.as_deref(), Some("READY=1"));
    rig.line.ask(&HolderRequest::Exit { code: 0 });
    drop(hidden);
    drop(fuse);
}

#[test]
fn a_stranger_that_hides_its_environment_holds_up_no_stop_and_no_end() {
    let mut rig = Rig::new(WALK);
    let Some(fuse) = Fuse::mount() else {
        return;
    };
    let hidden = Hidden::start(&fuse);
    // The main process exits at once, a child in a session of its own ignores the signal.
    let script = "setsid sh -c 'trap \"\" TERM; sleep 300 & wait' & exec sleep 300";
    let mut begun = Vec::new();
    for generation in 1..=3 {
        let spawn = spawn_of("s", generation, &["/bin/sh", "-c", script]);
        rig.start(spawn);
        let before = Instant::now();
        rig.line.stop("s", generation, Duration::from_millis(300));
        let exit = rig.line.exited("s", generation).exit;
        assert_eq!(exit.signal(), Some(Signal::TERMINATE));
        begun.push(before.elapsed());
    }
    assert!(begun.iter().all(|took| *took < HOLD_UP_MAX), "{begun:?}");
    let last = rig.start(spawn_of("e", 1, &["/bin/sh", "-c", "exec sleep 300"]));
    let before = Instant::now();
    rig.line.ask(&HolderRequest::Exit { code: 0 }); // that process has a copy of the socket
    drop(rig);
    let took = before.elapsed();
    assert!(took < HOLD_UP_MAX, "{took:?}");
    assert!(!lives(last));
    drop(hidden);
    drop(fuse);
}

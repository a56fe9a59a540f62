//! Descriptors that never close, of strangers and of modules: no other start waits for them.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]

mod common;

use std::time::{Duration, Instant};

use common::fuse::Fuse;
use common::{Rig, eventually, has_python, notify_socket, python, spawn_of};
use mainstay_holder::EngineOptions;
use mainstay_holder::messages::{HolderMessage, HolderRequest};
use mainstay_process::{Credentials, ProcessEventKind, SpawnRequest, Stdin};

/// The longest delay that they may cause.
const HOLD_UP_MAX: Duration = Duration::from_millis(1500);

/// Starts whose child is passed more than its output, or becomes another user.
fn starts() -> Vec<SpawnRequest> {
    let plain = spawn_of("other", 0, &["/bin/true"]);
    let stdin = SpawnRequest {
        stdin: Stdin::Open,
        ..plain.clone()
    };
    let user = SpawnRequest {
        credentials: Some(Credentials {
            uid: 12345,
            gid: 12345,
            groups: vec![],
        }),
        ..plain.clone()
    };
    vec![plain, stdin, user]
}

fn others_start(rig: &mut Rig) {
    for (generation, mut start) in (1..).zip(starts()) {
        start.generation = generation;
        let before = Instant::now();
        rig.line.ask(&HolderRequest::Spawn(Box::new(start)));
        let exited = rig.line.until_within(HOLD_UP_MAX, |message| match message {
            HolderMessage::Process(event) if event.generation == generation => {
                matches!(event.what, ProcessEventKind::Exited(_)).then_some(())
            }
            _ => None,
        });
        let took = before.elapsed();
        assert!(exited.is_some(), "start {generation} hangs");
        assert!(took < HOLD_UP_MAX, "start {generation} took {took:?}");
    }
}

fn options() -> [EngineOptions; 2] {
    [false, true].map(|plain_fork| EngineOptions {
        plain_fork,
        no_groups: true,
    })
}

#[test]
fn descriptors_of_a_stranger_that_never_close_hold_up_no_start() {
    for options in options() {
        let mut rig = Rig::new(options); // ends after the file system
        let Some(fuse) = Fuse::mount() else {
            return;
        };
        let mut spawn = spawn_of("n", 1, &["sleep", "300"]);
        spawn.notify = true;
        rig.start(spawn);
        for _ in 0..3 {
            fuse.send(notify_socket(rig.dir.path()));
        }
        eventually("the holder closes one", || fuse.flushes() > 0);
        others_start(&mut rig);
        drop(fuse);
    }
}

#[test]
fn stored_descriptors_that_never_close_hold_up_no_other_start() {
    if !has_python() {
        return;
    }
    for options in options() {
        let mut rig = Rig::new(options); // ends after the file system
        let Some(fuse) = Fuse::mount() else {
            return;
        };
        let script = format!(
            "
fd = os.open('{}', os.O_RDONLY)
for n in range(3): say('FDSTORE=1\\nFDNAME=x%d' % n, [os.dup(fd)])
say('READY=1')
time.sleep(300)",
            fuse.path.display()
        );
        rig.start(python("n", 1, &script));
        while rig.line.said("n") != "READY=1" {}
        others_start(&mut rig);
        drop(fuse);
    }
}

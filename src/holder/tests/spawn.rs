//! Starting processes: what a child finds, and how failures are named.
//! Owns nothing outside temporary directories.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Rig, both_trees, spawn_of};
use mainstay_holder::Options;
use mainstay_holder::wire::{Ask, Output, Step};

fn plain() -> Vec<Options> {
    vec![
        Options::default(),
        Options {
            plain_fork: true,
            ..Options::default()
        },
    ]
}

#[test]
fn a_process_starts_and_its_end_is_told() {
    for options in plain().into_iter().chain(both_trees()) {
        let mut rig = Rig::new(options);
        let exited = rig.told("a", 1, "echo hello; exit 7");
        assert_eq!((exited.code, exited.signal), (Some(7), None));
        assert_eq!(exited.output, "hello\n");
        let exited = rig.told("a", 2, "kill -9 $$");
        assert_eq!((exited.code, exited.signal), (None, Some(9)));
    }
}

#[test]
fn spawn_exec_error_invisible() {
    for options in plain() {
        let mut rig = Rig::new(options);
        let file = rig.dir.path().join("plain.txt");
        std::fs::write(&file, "no program").unwrap();
        let text = rig.dir.path().join("text");
        std::fs::write(&text, "echo no interpreter line").unwrap();
        std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (file, text) = (file.to_str().unwrap(), text.to_str().unwrap());
        let cases = [
            ("target/x", libc::ENOENT),
            ("no-such-command-anywhere", libc::ENOENT),
            (file, libc::EACCES),
            ("/tmp", libc::EACCES),
            (text, libc::ENOEXEC),
        ];
        for (generation, (program, errno)) in (1..).zip(cases) {
            rig.line
                .ask(&Ask::Spawn(Box::new(spawn_of("e", generation, &[program]))));
            let (step, seen, message) = rig.line.failed("e", generation);
            assert_eq!((step, seen), (Step::Exec, errno), "{message}");
            assert!(
                message.starts_with(&format!("cannot execute {program}: ")),
                "{message}"
            );
        }
        let mut spawn = spawn_of("e", 10, &["true"]);
        spawn.directory = "/no/such/directory".into();
        rig.line.ask(&Ask::Spawn(Box::new(spawn)));
        let (step, errno, _) = rig.line.failed("e", 10);
        assert_eq!((step, errno), (Step::Directory, libc::ENOENT));
        let mut spawn = spawn_of("e", 11, &["true"]);
        spawn.user = Some("no-such-user-here".into());
        rig.line.ask(&Ask::Spawn(Box::new(spawn)));
        assert_eq!(rig.line.failed("e", 11).0, Step::User);
        let mut spawn = spawn_of("e", 12, &["true"]);
        spawn.output = Output::Null;
        rig.start(spawn);
        assert_eq!(rig.line.exited("e", 12).code, Some(0));
    }
}

#[test]
fn a_group_is_used_again_over_restarts() {
    for options in both_trees() {
        let mut rig = Rig::new(options);
        for generation in 1..=30 {
            let exited = rig.told("a", generation, "exit 3");
            assert_eq!(
                (exited.code, exited.signal),
                (Some(3), None),
                "generation {generation}"
            );
        }
        for generation in 31..=50 {
            rig.start(spawn_of("a", generation, &["sleep", "100"]));
            rig.line.kill("a", generation);
            assert_eq!(rig.line.exited("a", generation).signal, Some(9));
        }
        assert_eq!(rig.told("a", 51, "exit 3").code, Some(3));
    }
}

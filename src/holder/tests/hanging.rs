//! Starts that hang before their program runs, as on a file system that does not answer.
//! Owns the processes that make others wait, and ends them.
//! Never leaves a process behind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::leased::Leased;
use common::{Rig, both_trees, eventually, spawn_of};
use mainstay_holder::EngineOptions;
use mainstay_holder::messages::{HolderMessage, HolderRequest};
use mainstay_process::{Credentials, ProcessEventKind, Signal};

/// As the runtime does: again and again, until it is over.
fn end(rig: &mut Rig, name: &str) {
    let again = Duration::from_millis(50);
    eventually(&format!("{name} is over"), || {
        rig.line.kill(name, 1);
        let over = rig.line.until_within(again, |tell| match tell {
            HolderMessage::Process(event) if &*event.instance == name => match &event.what {
                ProcessEventKind::Exited(exited) => Some(exited.exit.signal()),
                ProcessEventKind::SpawnFailed { .. } => Some(None),
                _ => None,
            },
            _ => None,
        });
        over.is_some_and(|signal| [None, Some(Signal::KILL)].contains(&signal))
    });
}

/// Processes, before their program too, whose directory this is.
fn inside(directory: &Path) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let links = entries.filter_map(|one| std::fs::read_link(one.path().join("cwd")).ok());
    links.filter(|link| link == directory).count()
}

#[test]
fn starts_that_hang_are_ended_and_others_get_their_turn() {
    let plain_fork = EngineOptions {
        plain_fork: true,
        ..EngineOptions::default()
    };
    for options in both_trees().into_iter().chain([plain_fork]) {
        let mut rig = Rig::new(options);
        let Some(leased) = Leased::new(rig.dir.path()) else {
            return;
        };
        for name in ["h1", "h2", "h3"] {
            let spawn = spawn_of(name, 1, &[leased.program(), "300"]);
            rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        }
        let behind = spawn_of("a", 1, &["/bin/sh", "-c", "exit 3"]);
        rig.line.ask(&HolderRequest::Spawn(Box::new(behind)));
        assert_eq!(
            rig.line.exited("a", 1).exit.code(),
            Some(3),
            "they hang still"
        );
        for name in ["h1", "h2", "h3"] {
            end(&mut rig, name);
        }
        // Nothing of it is in the way of the next run.
        drop(leased);
        assert_eq!(rig.told("h1", 2, "exit 4").exit.code(), Some(4));
    }
}

/// How long twenty runs of a module take: median and maximum; the generations follow `last`.
fn starts_of_another(rig: &mut Rig, last: u64) -> (Duration, Duration) {
    let generations = last + 1..=last + 20;
    let took = generations.map(|generation| {
        let begun = Instant::now();
        rig.told("a", generation, "exit 3");
        begun.elapsed()
    });
    let mut took: Vec<Duration> = took.collect();
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() - 1])
}

#[test]
fn starts_of_one_user_that_hang_delay_no_other_user() {
    use std::os::unix::fs::PermissionsExt;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: not tested");
        return;
    }
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let Some(leased) = Leased::new(rig.dir.path()) else {
            return;
        };
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(rig.dir.path(), mode).unwrap();
        let (before, _) = starts_of_another(&mut rig, 0);
        let names: Vec<String> = (0..40).map(|number| format!("h{number}")).collect();
        for name in &names {
            let mut spawn = spawn_of(name, 1, &[leased.program(), "300"]);
            let groups = vec![];
            spawn.credentials = Some(Credentials {
                uid: 12345,
                gid: 12345,
                groups,
            });
            rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        }
        let (median, most) = starts_of_another(&mut rig, 20);
        // As late as a busy machine makes them anyway, and one thread more for each that hangs.
        let allowed = before * 3 + Duration::from_millis(200);
        assert!(median < allowed, "{median:?}, before {before:?}");
        assert!(most < Duration::from_secs(10), "{most:?}");
        drop(leased);
    }
}

#[test]
fn a_fifo_is_no_program_and_holds_up_nobody() {
    use nix::sys::stat::Mode;
    for options in both_trees() {
        let mut rig = Rig::new(options);
        let fifo = rig.dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o755)).unwrap();
        for name in ["f1", "f2", "f3"] {
            let spawn = spawn_of(name, 1, &[fifo.to_str().unwrap()]);
            rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        }
        assert_eq!(rig.told("a", 1, "exit 3").exit.code(), Some(3));
        for name in ["f1", "f2", "f3"] {
            let (_, errno, message) = rig.line.failed(name, 1);
            assert_eq!(errno, libc::EACCES, "{message}");
        }
    }
}

#[test]
fn a_command_that_hangs_is_over_time() {
    let mut rig = Rig::new(EngineOptions::default());
    let Some(leased) = Leased::new(rig.dir.path()) else {
        return;
    };
    let mut spawn = spawn_of("p", 1, &[leased.program(), "300"]);
    spawn.timeout_ms = 1;
    rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
    let exited = rig.line.exited("p", 1);
    assert_eq!(
        (exited.timed_out, exited.exit.signal()),
        (true, Some(Signal::KILL))
    );
}

#[test]
fn a_start_that_hangs_does_not_outlive_the_holder() {
    for options in both_trees() {
        let directory = tempfile::tempdir().unwrap();
        let Some(leased) = Leased::new(directory.path()) else {
            return;
        };
        let mut rig = Rig::new(options);
        let mut spawn = spawn_of("h", 1, &[leased.program(), "300"]);
        spawn.directory = directory.path().to_string_lossy().into_owned();
        rig.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
        eventually("it hangs", || inside(directory.path()) == 1);
        rig.line.ask(&HolderRequest::Exit { code: 0 });
        drop(rig);
        assert_eq!(inside(directory.path()), 0);
    }
}

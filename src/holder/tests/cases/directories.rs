//! Directories that are refused, held by another holder, or removed while it runs.
//! Owns a holder for each. Never changes a directory outside of its own.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use mainstay_holder::messages::{HolderMessage, HolderRequest, HolderSetup};
use nix::sys::signal::Signal;

use super::House;
use crate::common::{eventually, lives, notify_socket, spawn_of};

/// Configures a holder that refuses; returns why.
fn refusal(mut house: House, setup: HolderSetup) -> String {
    house.line.world();
    house.line.ask(&HolderRequest::Configure(setup));
    let (message, exit) = house.line.until(|message| match message {
        HolderMessage::Refused { message, exit } => Some((message.clone(), *exit)),
        _ => None,
    });
    let _already_closed = house.control.take().unwrap().write_all(&[exit]);
    assert_eq!(house.end(), 1);
    message
}

pub(super) fn unsafe_directories_are_refused() {
    let house = House::new(false);
    let long = house.dir.path().join("x".repeat(100)).display().to_string();
    let setup = HolderSetup {
        runtime_dir: long,
        ..house.setup()
    };
    let message = refusal(house, setup);
    assert!(message.contains("the system allows"), "{message}");
    assert!(message.contains("mainstay.runtime_dir"), "{message}");

    let house = House::new(false);
    let open = house.dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let state_dir = open.join("state").display().to_string();
    let setup = HolderSetup {
        state_dir,
        ..house.setup()
    };
    let message = refusal(house, setup);
    assert!(message.contains("any user may write in"), "{message}");
    assert!(message.contains("mainstay.state_dir"), "{message}");

    let house = House::new(false);
    let setup = house.setup();
    nix::unistd::mkfifo(
        &house.dir.path().join("fifo"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    std::fs::create_dir(&setup.state_dir).unwrap();
    std::fs::rename(
        house.dir.path().join("fifo"),
        house.dir.path().join("state/lock"),
    )
    .unwrap();
    let message = refusal(house, setup);
    assert!(message.contains("lock is a fifo"), "{message}");

    let house = House::new(false);
    let setup = house.setup();
    std::fs::create_dir(&setup.runtime_dir).unwrap();
    if std::os::unix::fs::chown(&setup.runtime_dir, Some(65534), None).is_ok() {
        let message = refusal(house, setup);
        assert!(message.contains("user 65534 owns "), "{message}");
    }
}

pub(super) fn a_second_holder_is_refused() {
    let first = House::ready(false);
    let taken = first.setup();
    for what in ["state", "runtime"] {
        let second = House::new(false);
        let mut setup = second.setup();
        match what {
            "state" => setup.state_dir.clone_from(&taken.state_dir),
            _ => setup.runtime_dir.clone_from(&taken.runtime_dir),
        }
        let message = refusal(second, setup);
        for word in [
            &format!("another mainstay has the {what} directory"),
            &format!("pid {}", first.holder.id()),
            &format!("configuration {}", taken.config_dir),
            &format!("state directory {}", taken.state_dir),
            &format!("set another mainstay.{what}_dir"),
        ] {
            assert!(message.contains(word), "{word}: {message}");
        }
    }
    assert!(UnixStream::connect(format!("{}/control.sock", taken.runtime_dir)).is_ok());
    first.leave(0);
}

/// A lock whose owner has exited is awaited for a second: the loop goes on meanwhile.
pub(super) fn a_setup_does_not_hold_up_the_loop() {
    let mut house = House::new(false);
    let setup = house.setup();
    std::fs::create_dir(&setup.state_dir).unwrap();
    std::fs::set_permissions(&setup.state_dir, Permissions::from_mode(0o700)).unwrap();
    let mut gone = Command::new("true").spawn().unwrap();
    let pid = gone.id();
    gone.wait().unwrap();
    let mut lock = File::create(format!("{}/lock", setup.state_dir)).unwrap();
    let owner = serde_json::json!({
        "pid": pid, "name": "gone", "since": "", "config_dir": "", "state_dir": "",
        "runtime_dir": "",
    });
    lock.write_all(owner.to_string().as_bytes()).unwrap();
    lock.lock().unwrap();
    house.line.world();
    house.line.ask(&HolderRequest::Configure(setup.clone()));
    house.signal(Signal::SIGHUP);
    house.line.until(|message| match message {
        HolderMessage::Refused { .. } | HolderMessage::Configured { .. } => panic!("{message:?}"),
        message => (*message == HolderMessage::ReloadRequested).then_some(()),
    });
    // Asked for again, it is the same setup.
    house.line.ask(&HolderRequest::Configure(setup));
    lock.unlock().unwrap();
    let fds = house.line.until(|message| match message {
        HolderMessage::Configured { fds } => Some(*fds),
        _ => None,
    });
    assert_eq!(fds, 2);
    house.line.ask(&HolderRequest::Ready);
    house.leave(0);
}

pub(super) fn removed_directories_come_back() {
    let mut house = House::ready(false);
    let pid = house.start("a", 1, "while :; do echo tick; sleep 0.01; done");
    let mut spawn = spawn_of("n", 1, &["/bin/sleep", "300"]);
    spawn.notify = true;
    house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
    house.line.spawned("n", 1);
    let notify = notify_socket(house.dir.path());
    let setup = house.setup();
    let socket = format!("{}/control.sock", setup.runtime_dir);
    let status = format!("{}/holder.json", setup.runtime_dir);
    let log = format!("{}/a.log", setup.log_dir);
    for round in 0..3 {
        house.line.fds.clear();
        match round {
            0 => std::fs::remove_dir_all(&setup.runtime_dir).unwrap(),
            1 => std::fs::rename(&setup.runtime_dir, house.dir.path().join("away")).unwrap(),
            _ => {
                std::fs::remove_dir_all(&setup.state_dir).unwrap();
                let _not_there = std::fs::remove_dir_all(&setup.log_dir);
            }
        }
        let fds = house.line.until(|message| match message {
            HolderMessage::Directories { fds, problem } => Some((*fds, problem.clone())),
            _ => None,
        });
        assert_eq!((fds, house.line.fds.len()), ((2, None), 2));
        assert!(UnixStream::connect(&socket).is_ok());
        let sender = UnixDatagram::unbound().unwrap();
        eventually("the notify socket of a run", || {
            sender.connect(&notify).is_ok()
        });
        eventually("its status", || std::fs::exists(&status).unwrap());
        eventually("output is written again", || {
            std::fs::read(&log).is_ok_and(|text| text.ends_with(b"tick\n"))
        });
        // The locks are held again.
        let second = House::new(false);
        let other = second.setup();
        let contested = match round {
            2 => HolderSetup {
                state_dir: setup.state_dir.clone(),
                ..other
            },
            _ => HolderSetup {
                runtime_dir: setup.runtime_dir.clone(),
                ..other
            },
        };
        let message = refusal(second, contested);
        assert!(message.contains("another mainstay has the"), "{message}");
    }
    // The next runtime gets the new listeners.
    house.kill_runtime();
    house.line.world();
    assert!(lives(pid) && house.line.fds.len() == 2);
    house.line.ask(&HolderRequest::Ready);
    house.leave(0);
}

//! Sockets that a runtime has bound and the holder keeps.
//! Owns a holder for each. Never binds in it.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use mainstay_holder::messages::{BoundSocket, HolderMessage, HolderRequest};
use mainstay_process::{ActivationSocket, ProcessEventKind, StartStep};

use super::House;
use crate::common::{eventually, spawn_of};

fn bind(path: &Path) -> (BoundSocket, OwnedFd) {
    let listener = UnixListener::bind(path).unwrap();
    let found = path.symlink_metadata().unwrap();
    let socket = ActivationSocket {
        name: "http".to_owned(),
        address: path.display().to_string(),
    };
    let file = Some((found.dev(), found.ino()));
    (BoundSocket { socket, file }, listener.into())
}

pub(super) fn passed_sockets_are_kept() {
    let mut house = House::ready(false);
    let path = house.dir.path().join("a.sock");
    let (bound, fd) = bind(&path);
    let listen = |sockets, passed, activates| HolderRequest::Listen {
        instance: "a".parse().unwrap(),
        sockets,
        passed,
        activates,
    };
    // Beside other requests, so that each descriptor finds its own.
    house.line.ask(&HolderRequest::Pong);
    let first = listen(vec![bound.clone()], vec![0], true);
    house.line.ask_with(&first, vec![fd]);
    // The next runtime is told what listens, and does not pass it again.
    house.kill_runtime();
    let known = house.line.world().sockets;
    assert_eq!(known.len(), 1);
    assert_eq!(&known[0].sockets, std::slice::from_ref(&bound));
    let mut waiting = UnixStream::connect(&path).unwrap();
    house.line.until(|message| match message {
        HolderMessage::Process(event) => match &event.what {
            ProcessEventKind::SocketActivated { socket } => (socket == "http").then_some(()),
            _ => None,
        },
        _ => None,
    });
    let script = "test \"$LISTEN_FDS $LISTEN_FDNAMES\" = '1 http' && test -S /dev/fd/3; echo $?";
    let mut spawn = spawn_of("a", 1, &["/bin/sh", "-c", script]);
    spawn.output = mainstay_process::Output::Captured;
    spawn.sockets = vec![bound.socket.clone()];
    house
        .line
        .ask(&HolderRequest::Spawn(Box::new(spawn.clone())));
    house.line.spawned("a", 1);
    assert_eq!(house.line.exited("a", 1).output, "0\n");
    // Another place: the old file goes, and what was not passed is not promised to a run.
    let other = house.dir.path().join("b.sock");
    let (bound, fd) = bind(&other);
    let second = listen(vec![bound.clone()], vec![0], false);
    house.line.ask_with(&second, vec![fd]);
    eventually("its file is removed", || !path.exists());
    assert_eq!(waiting.read(&mut [0]).unwrap_or(0), 0, "it is closed");
    spawn.generation = 2;
    house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
    let (step, errno, message) = house.line.failed("a", 2);
    assert_eq!(
        (step, errno),
        (StartStep::Descriptors, libc::EBADF),
        "{message}"
    );
    // A file of another socket at its name is left alone: the link keeps the old number in use.
    std::fs::hard_link(&other, house.dir.path().join("link")).unwrap();
    std::fs::remove_file(&other).unwrap();
    let _other = UnixListener::bind(&other).unwrap();
    let dir = std::mem::replace(&mut house.dir, tempfile::tempdir().unwrap());
    house.line.ask(&HolderRequest::Exit { code: 0 });
    house.control = None;
    assert_eq!(house.end(), 0);
    assert!(other.exists());
    drop(dir);
}

pub(super) fn files_of_sockets_go_with_them() {
    let mut house = House::ready(true);
    let path = house.dir.path().join("a.sock");
    let (bound, fd) = bind(&path);
    let instance = || "a".parse().unwrap();
    let listen = HolderRequest::Listen {
        instance: instance(),
        sockets: vec![bound],
        passed: vec![0],
        activates: true,
    };
    house.line.ask_with(&listen, vec![fd]);
    let instance = instance();
    house.line.ask(&HolderRequest::Forget { instance });
    eventually("its file is removed", || !path.exists());
    // What is kept at the end goes with the holder.
    let (bound, fd) = bind(&path);
    let listen = HolderRequest::Listen {
        instance: "b".parse().unwrap(),
        sockets: vec![bound],
        passed: vec![0],
        activates: true,
    };
    house.line.ask_with(&listen, vec![fd]);
    let dir = std::mem::replace(&mut house.dir, tempfile::tempdir().unwrap());
    house.line.ask(&HolderRequest::Exit { code: 0 });
    house.control = None;
    assert_eq!(house.end(), 0);
    assert!(!path.exists());
    drop(dir);
}

//! A start that hangs, as on a file system that does not answer, while the runtime goes and comes.
//! Never leaves a process behind.

use mainstay_holder::messages::{HolderMessage, HolderRequest};
use mainstay_process::{ProcessEventKind, Signal};

use super::House;
use crate::common::fuse::Fuse;
use crate::common::leased::Leased;
use crate::common::{eventually, has_python, lives, notify_socket, python, spawn_of};

pub(super) fn a_start_that_hangs_delays_no_runtime() {
    let mut house = House::ready(false);
    let Some(leased) = Leased::new(house.dir.path()) else {
        return house.leave(0);
    };
    for name in ["h1", "h2", "h3"] {
        let spawn = spawn_of(name, 1, &[leased.program(), "300"]);
        house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
    }
    let settled = HolderRequest::FlushOutput {
        instance: "h3".parse().unwrap(),
        number: 1,
    };
    house.line.ask(&settled); // it read so far
    house
        .line
        .until(|tell| matches!(tell, HolderMessage::OutputFlushed { .. }).then_some(()));
    house.kill_runtime();
    let world = house.line.world();
    assert_eq!(world.instances.len(), 3);
    assert!(world.instances.iter().all(|known| known.pid.is_none()));
    for name in ["h1", "h2"] {
        assert_eq!(house.line.exited(name, 1).exit.signal(), Some(Signal::KILL));
    }
    for name in ["h1", "h2", "h3"] {
        house.start(name, 2, "sleep 300");
    }
    house.line.ask(&HolderRequest::Ready);
    house.leave(0);
}

/// Starts `n`, and sends it a descriptor whose close does not return; returns the process.
pub(super) fn hang_a_close(house: &mut House, fuse: &Fuse) -> i32 {
    let mut spawn = spawn_of("n", 1, &["/bin/sleep", "300"]);
    spawn.notify = true;
    house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
    let pid = house.line.spawned("n", 1);
    fuse.send(notify_socket(house.dir.path()));
    eventually("the holder closes one", || fuse.flushes() > 0);
    pid
}

pub(super) fn a_close_that_hangs_delays_no_runtime() {
    let mut house = House::ready(false);
    let Some(fuse) = Fuse::mount() else {
        return house.leave(0);
    };
    let pid = hang_a_close(&mut house, &fuse);
    for _ in 0..2 {
        house.kill_runtime();
        assert_eq!(house.line.world().instances.len(), 1);
        house.line.ask(&HolderRequest::Ready);
    }
    assert!(lives(pid));
    drop(fuse);
    house.leave(0);
}

/// Has another main process.
const NAMES_ANOTHER: &str = "
pid = os.fork()
if pid == 0:
    time.sleep(60)
say('MAINPID=%d' % pid)
os.waitpid(pid, 0)";

/// The process of a module is looked at while descriptors that a stranger sent do not close.
pub(super) fn a_close_that_hangs_hides_no_process() {
    let mut house = House::ready(false);
    let fuse = Fuse::mount().filter(|_| has_python());
    let Some(fuse) = fuse else {
        return house.leave(0);
    };
    hang_a_close(&mut house, &fuse);
    let spawn = python("mains", 1, NAMES_ANOTHER);
    house.line.ask(&HolderRequest::Spawn(Box::new(spawn)));
    house.line.until(|message| match message {
        HolderMessage::Process(event) => match &event.what {
            ProcessEventKind::MainChanged { .. } => Some(()),
            ProcessEventKind::NotifyRejected { message } => panic!("{message}"),
            _ => None,
        },
        _ => None,
    });
    drop(fuse);
    house.leave(0);
}

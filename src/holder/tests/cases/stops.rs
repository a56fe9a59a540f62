//! A stop whose main process exits first, where orphans become children of the holder.
//! Never leaves a process behind.

use std::path::Path;
use std::time::Duration;

use mainstay_holder::messages::{FreezeRequest, HolderRequest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::House;
use crate::common::eventually;

/// A script that leaves a worker with nothing of its run behind; the worker handles the signal.
fn leave_worker(dir: &Path, on_term: &str) -> String {
    let up = dir.join("up");
    let handled = dir.join("handled");
    let inner = format!(
        "trap 'echo > {}; {on_term}' TERM; echo > {}; while :; do sleep 0.01; done",
        handled.display(),
        up.display(),
    );
    format!("(env -i PATH=$PATH setsid /bin/sh -c \"{inner}\" &); exec sleep 300")
}

/// Also when the runtime dies meanwhile.
pub(super) fn the_rest_of_a_tree_is_stopped() {
    for walk in [true, false] {
        let mut house = House::ready(walk);
        house.start("other", 1, "sleep 300 & exec sleep 300");
        let script = leave_worker(house.dir.path(), "");
        let main = house.start("a", 1, &script);
        let up = house.dir.path().join("up");
        eventually("the worker is up", || up.exists());
        house.line.stop("a", 1, Duration::from_secs(2));
        house.line.tree_signalled("a", 1);
        let handled = house.dir.path().join("handled");
        eventually("the worker gets the signal", || handled.exists());
        house.kill_runtime();
        let world = house.line.world();
        let a = world.instances.iter().find(|one| &*one.instance == "a");
        let a = a.expect("it is known");
        assert_eq!(a.pid, Some(main.unsigned_abs()), "it goes on, walk: {walk}");
        assert_eq!(a.exit, None);
        // Nothing more is requested: the deadline of the stop is in force.
        house.line.exited("a", 1);
        let other = world.instances.iter().find(|one| &*one.instance == "other");
        assert!(other.is_some_and(|one| one.pid.is_some()));
        house.leave(0);
    }
}

/// Until it is continued.
pub(super) fn a_suspended_main_is_reported() {
    let mut house = House::ready(true);
    let pid = house.start("a", 1, "exec sleep 300");
    let other = house.start("b", 1, "exec sleep 300");
    let signal = |signal| kill(Pid::from_raw(pid), signal).unwrap();
    // One that lasts a moment is of no interest.
    kill(Pid::from_raw(other), Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(other), Signal::SIGCONT).unwrap();
    // A lease, however often it is renewed, is no stop from outside.
    let started = mainstay_holder::start_time(pid.unsigned_abs()).unwrap();
    let freeze = |ms| {
        HolderRequest::Freeze(FreezeRequest {
            instance: "a".parse().unwrap(),
            generation: 1,
            ms,
            processes: vec![(pid.unsigned_abs(), started)],
        })
    };
    for _ in 0..10 {
        house.line.ask(&freeze(300));
        std::thread::sleep(Duration::from_millis(100));
    }
    house.line.ask(&freeze(0));
    eventually("the lease ends", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        !stat.unwrap().contains(") T ")
    });
    signal(Signal::SIGSTOP);
    assert_eq!(house.line.suspended("a"), Some(libc::SIGSTOP));
    house.kill_runtime();
    house.line.world();
    assert_eq!(house.line.suspended("a"), Some(libc::SIGSTOP), "again");
    signal(Signal::SIGCONT);
    assert_eq!(house.line.suspended("a"), None);
    // A stop continues it: the signal is of no use otherwise.
    signal(Signal::SIGSTOP);
    assert_eq!(house.line.suspended("a"), Some(libc::SIGSTOP));
    house.line.stop("a", 1, Duration::from_secs(20));
    house.line.exited("a", 1);
    assert!(
        !house
            .line
            .seen
            .iter()
            .any(|seen| format!("{seen:?}").contains("Suspended"))
    );
    house.leave(0);
}

/// The exit of a traced process is the tracer's to see first: until then no signal ends it for its
/// parent, as in an uninterruptible wait.
pub(super) fn an_unkillable_runtime_is_left() {
    let mut house = House::ready(true);
    house.start("a", 1, "exec sleep 300");
    let runtime = Pid::from_raw(house.runtime);
    let none = std::ptr::null_mut::<libc::c_void>();
    #[expect(unsafe_code, reason = "nix has it in a feature of its own")]
    // SAFETY: a system call without memory of this process.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, runtime.as_raw(), none, none) };
    assert_eq!(seized, 0, "{}", std::io::Error::last_os_error());
    house.line.ask(&HolderRequest::Exit { code: 7 });
    assert_eq!(house.end(), 7);
    assert!(!house.dir.path().join("run/holder.json").exists());
    kill(runtime, Signal::SIGKILL).unwrap();
    nix::sys::wait::waitpid(runtime, None).unwrap();
}

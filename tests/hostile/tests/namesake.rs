//! A stranger in a session whose number was a module's process is not ended with that module.
//! Never counts on luck alone: the numbers of its namespace come round in a moment.

use std::fs;
use std::process::Command;

use mainstay_protocol::ModuleState;
use mainstay_protocol::method::name;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::setup::{BOTH, Setup, in_small_namespace, is_root};
use crate::system::System;

#[test]
fn who_is_in_a_session_of_a_number_that_was_a_module_s_is_left_alone() {
    let test = "namesake::who_is_in_a_session_of_a_number_that_was_a_module_s_is_left_alone";
    if !is_root() || !in_small_namespace(test) {
        return;
    }
    for trees in BOTH {
        let ready = "ready = { notify = true }";
        let setup = Setup::new(trees).insider_as_ours(&["resigner"], ready);
        let system = setup.start();
        use_up_numbers();
        system.let_insiders_loose();
        let first = first_process(&system);
        let stranger = system.outsider(&["namesake", &first.to_string(), "10000"]);
        let said = stranger.end();
        let namesake = Pid::from_raw(said.trim().parse().expect(&said));
        system.change(name::MODULE_STOP, "resigner");
        system.until("resigner", |view| view.state == ModuleState::Stopped);
        // Of a zombie, which nobody may have reaped here, there is no program.
        let program = fs::read_link(format!("/proc/{namesake}/exe"));
        assert!(
            program.is_ok(),
            "it was ended with a module that it is not of"
        );
        kill(namesake, Signal::SIGKILL).expect("it runs");
        system.leave();
    }
}

/// The first numbers of a namespace are not given again.
fn use_up_numbers() {
    const GIVEN_ONCE: u32 = 300;
    let mut number = 0;
    while number < GIVEN_ONCE {
        let mut child = Command::new("true").spawn().expect("a process");
        number = child.id();
        child.wait().expect("our child");
    }
}

/// The number of the process that was started, once that is gone and another is the main process.
fn first_process(system: &System) -> i32 {
    let first = system.wait("a number", || {
        let said = system.written("resigner");
        said.lines()
            .find_map(|line| line.strip_prefix("first ")?.parse().ok())
    });
    system.wait("the first process to be gone", || {
        kill(Pid::from_raw(first), None).is_err().then_some(())
    });
    let main = system.module("resigner").pid.expect("it runs");
    assert_ne!(main, first.unsigned_abs());
    first
}

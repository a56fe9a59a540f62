//! A process that leaves its module's tree, as far as one can, does not outlive the module.
//! Owns the tests. Never leaves one behind itself.

use std::fs;

use mainstay_protocol::ModuleState;
use mainstay_protocol::method::name;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::setup::{BOTH, Setup, Trees};
use crate::system::withstand;
use crate::traces;

#[test]
fn who_left_its_tree_ends_when_all_is_stopped() {
    for trees in BOTH {
        let setup = || Setup::new(trees).insider(&["escapee", "5", "60"], "");
        withstand(setup, |_| Vec::new());
    }
}

#[test]
fn who_left_its_tree_ends_when_its_module_is_stopped() {
    for trees in BOTH {
        let setup = Setup::new(trees).insider(&["escapee", "5", "60"], "");
        let system = setup.start();
        system.let_insiders_loose();
        system.change(name::MODULE_STOP, "escapee");
        system.until("escapee", |view| view.state == ModuleState::Stopped);
        system.wait("its processes to be gone", || {
            let left = traces::of_folder(system.folder());
            let mut escaped = left.iter().filter(|(_, text)| text.contains("escapee"));
            escaped.next().is_none().then_some(())
        });
        system.leave();
    }
}

#[test]
fn who_left_its_tree_ends_when_the_holder_is_killed() {
    let setup = Setup::new(Trees::Grouped).insider(&["escapee", "5", "60"], "");
    let mut system = setup.start();
    system.let_insiders_loose();
    let pid = system.module("escapee").pid.expect("it runs");
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if !group.contains("mainstay-") {
        eprintln!("skipped: only a control group knows whom nothing ties to its module");
        return;
    }
    let holder = Pid::from_raw(system.holder().cast_signed());
    kill(holder, Signal::SIGKILL).expect("it runs");
    system.wait_for_holder();
    system.wait("all processes to be gone", || {
        let left = traces::of_folder(system.folder());
        left.is_empty().then_some(())
    });
}

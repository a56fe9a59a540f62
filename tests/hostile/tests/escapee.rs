//! A process that leaves its module's tree, as far as one can, does not outlive the module.
//! Owns the tests. Never leaves one behind itself.

use mainstay_protocol::State;
use mainstay_protocol::method::name;

use crate::setup::{BOTH, Setup};
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
        system.until("escapee", |view| view.state == State::Stopped);
        system.wait("its processes to be gone", || {
            let left = traces::of_folder(system.folder());
            let mut escaped = left.iter().filter(|(_, text)| text.contains("escapee"));
            escaped.next().is_none().then_some(())
        });
        system.leave();
    }
}

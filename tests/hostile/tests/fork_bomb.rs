//! A thousand processes of one module hold nobody else up, and all of them end with it.
//! Owns the test. Never starts more than those.

use crate::setup::{BOTH, Setup};
use crate::system::withstand;

#[test]
fn a_thousand_processes_hold_nobody_up_and_end_with_their_module() {
    for trees in BOTH {
        let setup = || Setup::new(trees).insider(&["fork-bomb", "1000", "12000"], "");
        withstand(setup, |_| Vec::new());
    }
}

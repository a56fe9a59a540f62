//! A descriptor whose close blocks costs the time of nobody but who gave it.
//! Owns the tests. Never opens such a descriptor itself.

use crate::setup::{BOTH, LASTS, Setup};
use crate::system::withstand;

#[test]
fn descriptors_of_a_stranger_that_block_when_they_are_closed_block_nobody() {
    for trees in BOTH {
        withstand(
            || Setup::new(trees),
            |system| {
                let socket = system.notify_socket();
                vec![system.outsider(&["descriptor-giver", &socket, "40", LASTS])]
            },
        );
    }
}

#[test]
fn descriptors_of_a_module_that_block_when_they_are_closed_block_nobody_else() {
    for trees in BOTH {
        let words = ["descriptor-giver", "-", "40", LASTS];
        let setup = || Setup::new(trees).insider(&words, "ready = { notify = true }");
        withstand(setup, |_| Vec::new());
    }
}

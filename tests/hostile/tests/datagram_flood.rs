//! However many notify messages somebody sends, nobody else waits for them to be read.
//! Owns the tests. Never sends a message itself.

use crate::setup::{BOTH, LASTS, Setup, Trees, is_root};
use crate::system::withstand;

#[test]
fn a_flood_of_notify_messages_of_a_stranger_holds_nobody_up() {
    if !is_root() {
        return;
    }
    for trees in BOTH {
        withstand(
            || Setup::new(trees),
            |system| {
                let socket = system.notify_socket();
                vec![system.outsider(&["datagram-flood", &socket, "3", LASTS])]
            },
        );
    }
}

#[test]
fn a_flood_of_notify_messages_of_a_module_holds_nobody_else_up() {
    for trees in BOTH {
        let words = ["datagram-flood", "-", "3", LASTS];
        let setup = || Setup::new(trees).insider(&words, "ready = { notify = true }");
        withstand(setup, |_| Vec::new());
    }
}

#[test]
fn a_flood_from_below_sixty_processes_holds_nobody_up() {
    if !is_root() {
        return;
    }
    withstand(
        || Setup::new(Trees::Walked),
        |system| {
            let socket = system.notify_socket();
            vec![system.outsider(&["deep-ancestry", &socket, "2", LASTS, "60"])]
        },
    );
}

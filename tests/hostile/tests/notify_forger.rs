//! Messages in another's name are not believed, and what comes with them is not kept.
//! Owns the test. Never sends a message itself.

use crate::setup::{BOTH, LASTS, Setup, is_root};
use crate::system::withstand;

#[test]
fn who_forges_notify_messages_is_not_believed() {
    if !is_root() {
        return;
    }
    for trees in BOTH {
        withstand(
            || Setup::new(trees),
            |system| {
                let socket = system.notify_socket();
                vec![system.outsider(&["notify-forger", &socket, LASTS])]
            },
        );
    }
}

//! A process whose number was another's a moment ago is not taken for that one.
//! Owns the test, which runs itself where there are few numbers. Never counts on luck alone: the
//! numbers come round many times.

use crate::setup::{BOTH, LASTS, Setup, in_small_namespace, is_root};
use crate::system::withstand;

#[test]
fn a_number_that_was_another_s_is_not_believed_and_not_signalled() {
    let test = "pid_recycler::a_number_that_was_another_s_is_not_believed_and_not_signalled";
    if !is_root() || !in_small_namespace(test) {
        return;
    }
    for trees in BOTH {
        withstand(
            || Setup::new(trees),
            |system| {
                let socket = system.notify_socket();
                vec![system.outsider(&["pid-recycler", &socket, "2", LASTS])]
            },
        );
    }
}

//! The mark of a module's processes cannot be guessed from what everybody may know.
//! Owns the test. Never reads the mark itself.

use crate::setup::{BOTH, LASTS, Setup, is_root};
use crate::system::withstand;

#[test]
fn who_guesses_the_mark_of_a_module_is_not_believed() {
    if !is_root() {
        return;
    }
    for trees in BOTH {
        withstand(
            || Setup::new(trees),
            |system| {
                let (socket, state) = (system.notify_socket(), system.path("state"));
                let state = state.display().to_string();
                vec![system.outsider(&["mark-guesser", &socket, &state, "mute", LASTS])]
            },
        );
    }
}

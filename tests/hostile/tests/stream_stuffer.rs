//! Descriptors that are sent to a socket of requests are nobody's to close: no request waits.
//! Owns the tests. Never sends one itself.

use crate::setup::{LASTS, Setup, Trees, is_root};
use crate::system::withstand;

#[test]
fn a_stranger_that_sends_descriptors_with_its_bytes_holds_nobody_up() {
    if !is_root() {
        return;
    }
    withstand(
        || Setup::new(Trees::Grouped),
        |system| {
            let path = system.path("run/module.sock").display().to_string();
            vec![system.outsider(&["stream-stuffer", &path, "40", LASTS])]
        },
    );
}

#[test]
fn a_module_that_sends_descriptors_with_its_bytes_holds_nobody_up() {
    for socket in ["CONTROL", "MODULE"] {
        let words = ["stream-stuffer", socket, "20", LASTS];
        let setup = || Setup::new(Trees::Grouped).insider_as_ours(&words, "");
        withstand(setup, |_| Vec::new());
    }
}

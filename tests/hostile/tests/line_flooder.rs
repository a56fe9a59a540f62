//! Empty lines cost whoever writes them, and the time to read them grows with their number alone.
//! Owns the tests. Never writes one itself.

use crate::setup::{LASTS, Setup, Trees, is_root};
use crate::system::withstand;

#[test]
fn a_stranger_that_writes_empty_lines_holds_nobody_up() {
    if !is_root() {
        return;
    }
    withstand(
        || Setup::new(Trees::Grouped),
        |system| {
            let socket = system.path("run/module.sock").display().to_string();
            vec![system.outsider(&["line-flooder", &socket, "4", LASTS])]
        },
    );
}

#[test]
fn a_module_that_writes_empty_lines_holds_nobody_up() {
    for socket in ["CONTROL", "MODULE"] {
        let words = ["line-flooder", socket, "4", LASTS];
        let setup = || Setup::new(Trees::Grouped).insider_as_ours(&words, "");
        withstand(setup, |_| Vec::new());
    }
}

//! Who takes all connections that can be had keeps out nobody of another user or level.
//! Owns the tests. Never keeps a connection itself.

use crate::setup::{LASTS, Setup, Trees, is_root};
use crate::system::withstand;

#[test]
fn a_stranger_that_takes_all_seats_keeps_nobody_out() {
    if !is_root() {
        return;
    }
    withstand(
        || Setup::new(Trees::Grouped),
        |system| {
            let sockets = ["run/control.sock", "run/module.sock"];
            let taker = |socket| {
                let path = system.path(socket).display().to_string();
                system.outsider(&["seat-taker", &path, "600", LASTS])
            };
            sockets.map(taker).into()
        },
    );
}

#[test]
fn a_module_that_takes_all_seats_keeps_nobody_out() {
    let words = ["seat-taker", "CONTROL", "600", LASTS];
    let setup = || Setup::new(Trees::Grouped).insider(&words, "");
    withstand(setup, |_| Vec::new());
}

#[test]
fn a_module_of_our_own_user_that_takes_all_seats_keeps_nobody_out() {
    let words = ["seat-taker", "CONTROL", "600", LASTS];
    let setup = || Setup::new(Trees::Grouped).insider_as_ours(&words, "");
    withstand(setup, |_| Vec::new());
}

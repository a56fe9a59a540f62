//! Who is refused all the time holds nobody up, and pushes nothing out of the history.
//! Owns the test. Never makes a call that is refused.

use std::thread;
use std::time::Duration;

use mainstay_protocol::method::name;
use serde_json::Value;

use crate::setup::{LASTS, Setup, Trees};
use crate::system::{System, withstand};

/// How often a person restarts a module meanwhile.
const RESTARTS: u64 = 9;

#[test]
fn a_module_that_is_refused_all_the_time_pushes_nothing_out_of_the_history() {
    for socket in ["MODULE", "CONTROL"] {
        let words = ["refuser", socket, "8", LASTS];
        let setup = || Setup::new(Trees::Grouped).insider_as_ours(&words, "");
        withstand(
            || setup().module("restarted", &["wait"], ""),
            |system| {
                for _ in 0..RESTARTS {
                    system.change(name::MODULE_RESTART, "restarted");
                    thread::sleep(Duration::from_millis(10));
                }
                assert_all_in_chain(system);
                Vec::new()
            },
        );
    }
}

/// Waits until the history has these restarts and the starts of `mute` and of the attacker.
fn assert_all_in_chain(system: &System) {
    system.wait("all that was asked for to be in the chain", || {
        let verified = system.cli(&["audit", "verify", "--json"]);
        let found: Value = serde_json::from_slice(&verified.stdout).ok()?;
        (found["ok"] == true && found["count"] == RESTARTS + 2).then_some(())
    });
}

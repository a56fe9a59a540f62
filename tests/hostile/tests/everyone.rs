//! All attackers at once: what each is withstood alone must not add up.
//! Owns the test. With `HOSTILE_SECONDS=60` it goes on for a minute, and once more without control
//! groups, where each restart looks at all processes of all attackers.
//! Never counts lost lines of a machine that is out of memory or processes.

use std::env;
use std::time::Duration;

use crate::attacker::Attacker;
use crate::setup::{BOTH, Setup, Trees, is_root};
use crate::system::{System, withstand_for};

/// Without another wish.
const SECONDS: u64 = 2;

/// Modules that attack; each goes on for as long as the test.
fn insiders(trees: Trees, lasts: &str) -> Setup {
    let notifies = "ready = { notify = true }";
    Setup::new(trees)
        .insider(&["descriptor-giver", "-", "40", lasts], notifies)
        .insider(&["seat-taker", "CONTROL", "300", lasts], "")
        .insider(&["escapee", "5", "120"], "")
        .insider(&["fork-bomb", "300", lasts], "")
        .insider(&["log-flooder", lasts], "")
        .insider_as_ours(&["line-flooder", "CONTROL", "2", lasts], "")
        .insider_as_ours(&["refuser", "CONTROL", "2", lasts], "")
}

fn strangers(system: &System, lasts: &str) -> Vec<Attacker> {
    let notify = system.notify_socket();
    let module = system.path("run/module.sock").display().to_string();
    let state = system.path("state").display().to_string();
    [
        vec!["notify-forger", &notify, lasts],
        vec!["mark-guesser", &notify, &state, "mute", lasts],
        vec!["descriptor-giver", &notify, "40", lasts],
        vec!["datagram-flood", &notify, "1", lasts],
        vec!["deep-ancestry", &notify, "1", lasts, "60"],
        vec!["seat-taker", &module, "300", lasts],
        vec!["line-flooder", &module, "1", lasts],
    ]
    .iter()
    .map(|words| system.outsider(words))
    .collect()
}

#[test]
fn all_attackers_at_once_hold_nobody_up() {
    if !is_root() {
        return;
    }
    let given = env::var("HOSTILE_SECONDS").ok();
    let given: Option<u64> = given.and_then(|text| text.parse().ok());
    let seconds = given.unwrap_or(SECONDS);
    let time = Duration::from_secs(seconds);
    let lasts = (time + Duration::from_secs(2)).as_millis().to_string();
    let ways = if given.is_some() {
        &BOTH[..]
    } else {
        &BOTH[..1]
    };
    for &trees in ways {
        withstand_for(
            time,
            || insiders(trees, &lasts),
            |system| strangers(system, &lasts),
        );
    }
}

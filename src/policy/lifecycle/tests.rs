//! The lifecycle as scripts: an event in words, the effects in words.
//! Owns one scenario for each rule and each row of the field's pitfalls that is decided here.
//! Never looks inside: what is not an effect or a view is not a promise.

use crate::fixture::{check, run};
use crate::states::State;

#[test]
fn a_chain_starts_in_order_and_stops_in_reverse() {
    check(
        "a\nb: a\nc: b",
        &[
            ("boot", "run a"),
            ("a started", ""),
            ("a ready", "run b"),
            ("b up", "run c"),
            ("c up", "started"),
            ("stop all", "halt c"),
            ("c halted", "halt b"),
            ("b halted", "halt a"),
            ("a forced", "all stopped, 1 forced"),
            ("stop all", ""),
            ("start a", ""),
        ],
    );
}

#[test]
fn stopping_a_module_takes_its_hard_dependents_and_starting_it_brings_them_back() {
    let mut script = check(
        "a\nb: a\nc: b\nd: a?",
        &[
            ("boot", "run a"),
            ("a up", "run b, run d"),
            ("b up", "run c"),
            ("c up", ""),
            ("d up", "started"),
            ("stop a", "halt c"),
            ("c halted", "halt b"),
            ("b halted", "halt a"),
            ("a halted", ""),
        ],
    );
    assert_eq!(
        ["a", "b", "c", "d"].map(|name| script.state(name)),
        [
            State::Stopped,
            State::Waiting,
            State::Waiting,
            State::Running,
        ]
    );
    run(
        &mut script,
        &[("start a", "run a"), ("a up", "run b"), ("b up", "run c")],
    );
}

#[test]
fn a_crash_is_retried_with_backoff_and_dependents_are_told() {
    check(
        "a\nb: a\nc: a | restart\nd: a | ignore",
        &[
            ("boot", "run a"),
            ("a up", "run b, run c, run d"),
            ("b up", ""),
            ("c up", ""),
            ("d up", "started"),
            ("a exit 1", "tell b a Restarting, halt c"),
            ("c halted", ""),
            ("wait 199ms", ""),
            ("wait 1ms", "run a"),
            ("a up", "tell b a Back, run c"),
        ],
    );
}

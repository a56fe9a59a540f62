//! Corners of the lifecycle: kinds and fates that few plans have.
//! Owns one story each, in the words of the fixture. Never looks inside.

use crate::fixture::check;
use crate::states::{Health, State, Wanted};

#[test]
fn a_builtin_runs_from_the_first_to_the_last_moment_whatever_is_wished() {
    let script = check(
        "bus | builtin\na: bus",
        &[
            ("boot", "run a"),
            ("a up", "started"),
            ("stop bus", ""),
            ("restart bus", ""),
            ("start bus", ""),
            ("bus ill", ""),
            ("stop all", "halt a"),
            ("a halted", "all stopped, 0 forced"),
        ],
    );
    let view = script.lifecycle.view(script.id("bus"));
    assert_eq!(
        (view.state, view.wanted, view.generation),
        (State::Stopped, Wanted::Down, 0)
    );
    let script = check(
        "bus | builtin\na: bus",
        &[("boot", "run a"), ("bus ill", "")],
    );
    let view = script.lifecycle.view(script.id("bus"));
    assert_eq!(
        (view.state, view.wanted, view.health),
        (State::Running, Wanted::Up, Health::Unhealthy)
    );
}

//! Reloads step by step: what commits, what rolls back, and when.
//! Owns the tables and the properties. Never looks inside.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::{Offer, Reload, ReloadEffect, ReloadEvent};
use crate::fixture::SEC;
use crate::mono_time::MonoTime;
use crate::spec::ModuleId;
use crate::states::{Health, State};

const A: ModuleId = ModuleId(0);
const B: ModuleId = ModuleId(1);
const WATCH: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> MonoTime {
    MonoTime(0).after(SEC(seconds))
}

fn is_in(state: State) -> ReloadEvent {
    ReloadEvent::State(state, Health::Unknown)
}

/// Plan 2 was applied at second 0, with new content.
fn watching(touched: &[ModuleId]) -> Reload {
    let mut reload = Reload::new(1, "one".to_string());
    let two = "two".to_string();
    assert_eq!(reload.offer(&two, false), Offer::Apply);
    reload.applied(at(0), (2, two), WATCH, touched.iter().copied());
    reload
}

const COMMIT: Option<ReloadEffect> = Some(ReloadEffect::Commit { plan: 2 });

#[test]
fn a_plan_is_committed_when_all_that_it_touched_did_well_for_the_whole_watch() {
    let mut reload = watching(&[A, B]);
    for (second, module, state) in [
        (1, A, State::Stopping),
        (2, A, State::Starting),
        (4, A, State::Running),
        (5, B, State::Running),
    ] {
        assert_eq!(reload.deadline(), None, "{second}");
        assert_eq!(reload.apply(at(second), module, is_in(state)), None);
    }
    assert_eq!(reload.deadline(), None, "runs of the plan before are left");
    reload.in_force(1);
    assert_eq!(reload.deadline(), None, "another plan");
    reload.in_force(2);
    assert_eq!(reload.deadline(), Some(at(35)));
    assert_eq!((reload.committed(), reload.next_effect(at(34))), (1, None));
    assert_eq!(reload.next_effect(at(35)), COMMIT);
    assert_eq!((reload.committed(), reload.watched()), (2, None));
    assert_eq!(reload.next_effect(at(99)), None, "once");
}

#[test]
fn the_first_failure_of_a_touched_module_rolls_back() {
    let failures = [
        ReloadEvent::Failed,
        is_in(State::Backoff),
        is_in(State::Failed),
        ReloadEvent::State(State::Running, Health::Unhealthy),
    ];
    for failure in failures {
        let mut reload = watching(&[A]);
        reload.in_force(2);
        assert_eq!(reload.apply(at(1), A, is_in(State::Running)), None);
        assert_eq!(reload.apply(at(2), B, failure), None, "it is not touched");
        let back = ReloadEffect::RollBack { plan: 2, module: A };
        assert_eq!(reload.apply(at(20), A, failure), Some(back));
        assert_eq!(reload.apply(at(20), A, failure), None, "once");
        assert_eq!((reload.deadline(), reload.committed()), (None, 1));
        // The same content is not applied again until it changes, or a person asks.
        assert_eq!(reload.offer(&"two".to_string(), false), Offer::Quarantined);
        assert_eq!(reload.clone().offer(&"two".to_string(), true), Offer::Apply);
        assert_eq!(reload.offer(&"one".to_string(), false), Offer::Unchanged);
        assert_eq!(reload.offer(&"two".to_string(), false), Offer::Apply);
    }
}

#[test]
fn what_waits_or_was_stopped_holds_up_no_commit() {
    for state in [State::Waiting, State::Stopped, State::NotStarted] {
        let mut reload = watching(&[A]);
        reload.in_force(2);
        reload.apply(at(1), A, is_in(state));
        assert!(reload.next_effect(at(29)).is_none(), "{state:?}");
        assert_eq!(reload.next_effect(at(31)), COMMIT, "{state:?}");
    }
}

#[test]
fn without_a_touched_module_the_end_of_old_runs_commits() {
    let mut reload = watching(&[]);
    assert_eq!(reload.next_effect(at(99)), None);
    reload.in_force(2);
    assert_eq!(reload.next_effect(at(99)), COMMIT);
    // A removed module is watched until it is gone.
    let mut reload = watching(&[A]);
    reload.in_force(2);
    assert_eq!(reload.deadline(), None);
    reload.apply(at(3), A, ReloadEvent::Removed);
    assert_eq!(reload.deadline(), Some(at(33)));
}

#[test]
fn a_newer_plan_keeps_what_was_committed_and_inherits_what_is_watched() {
    let mut reload = watching(&[A]);
    let three = "three".to_string();
    assert_eq!(reload.offer(&"two".to_string(), false), Offer::Unchanged);
    assert_eq!(reload.offer(&three, false), Offer::Apply);
    reload.applied(at(5), (3, three), WATCH, [B]);
    reload.in_force(2);
    reload.in_force(3);
    reload.apply(at(6), B, is_in(State::Running));
    assert_eq!(reload.deadline(), None, "the first change is watched still");
    let back = ReloadEffect::RollBack { plan: 3, module: A };
    assert_eq!(reload.apply(at(7), A, ReloadEvent::Failed), Some(back));
    reload.rolled_back(4);
    assert_eq!(reload.committed(), 4);
    assert_eq!(
        reload.offer(&"three".to_string(), false),
        Offer::Quarantined
    );
}

/// A module is reported when it changes: what it was under the plan before still holds.
#[test]
fn what_a_newer_plan_inherits_keeps_the_state_that_it_reported() {
    let mut reload = watching(&[A]);
    reload.in_force(2);
    assert_eq!(reload.apply(at(1), A, is_in(State::Running)), None);
    let three = "three".to_string();
    reload.applied(at(5), (3, three), WATCH, [B]);
    reload.in_force(3);
    assert_eq!(reload.apply(at(6), B, is_in(State::Running)), None);
    assert_eq!(reload.deadline(), Some(at(36)));
}

#[test]
fn a_newer_plan_waits_for_no_module_that_is_where_it_is_to_be() {
    for event in [
        ReloadEvent::Removed,
        is_in(State::Stopped),
        is_in(State::Running),
    ] {
        let mut reload = watching(&[A]);
        reload.apply(at(1), A, event);
        reload.applied(at(5), (3, "three".to_string()), WATCH, [B]);
        reload.in_force(3);
        reload.apply(at(6), B, is_in(State::Running));
        assert_eq!(reload.deadline(), Some(at(6).after(WATCH)), "{event:?}");
    }
}

#[test]
fn the_committed_content_needs_no_watch() {
    let mut reload = watching(&[A]);
    let one = "one".to_string();
    assert_eq!(reload.offer(&one, false), Offer::Apply);
    reload.applied(at(5), (3, one), WATCH, [A]);
    assert_eq!(reload.apply(at(6), A, ReloadEvent::Failed), None);
    reload.in_force(3);
    assert_eq!(
        reload.next_effect(at(7)),
        Some(ReloadEffect::Commit { plan: 3 })
    );
}

#[test]
fn after_a_plan_that_was_refused_the_one_before_is_watched_as_it_was() {
    let mut reload = watching(&[A]);
    reload.told(B);
    reload.applied(at(5), (3, "three".to_string()), WATCH, [B]);
    reload.apply(at(6), A, is_in(State::Running));
    reload.confirmed(at(6), B, true);
    reload.in_force(2);
    reload.refused();
    assert_eq!(reload.watched(), Some(2));
    assert_eq!(reload.deadline(), Some(at(6).after(WATCH)));
    // And nothing of it is left where nothing was watched.
    let mut reload = Reload::new(1, "one".to_string());
    reload.applied(at(5), (2, "two".to_string()), WATCH, [A]);
    reload.refused();
    assert_eq!((reload.deadline(), reload.watched()), (None, None));
    // Once a plan is accepted, it is the one that is watched.
    let mut reload = watching(&[A]);
    reload.applied(at(5), (3, "three".to_string()), WATCH, [B]);
    reload.accepted();
    assert_eq!(reload.watched(), Some(3));
}

fn event() -> impl Strategy<Value = ReloadEvent> {
    let states = proptest::sample::select(&State::ALL[..]);
    let health = proptest::sample::select(
        &[
            Health::Unknown,
            Health::Healthy,
            Health::Degraded,
            Health::Unhealthy,
        ][..],
    );
    prop_oneof![
        4 => (states, health).prop_map(|(state, health)| ReloadEvent::State(state, health)),
        1 => Just(ReloadEvent::Failed),
        1 => Just(ReloadEvent::Removed),
    ]
}

proptest! {
    /// Whatever happens, a plan is either committed or rolled back, once; never committed after a
    /// failure of what it touched, and never before it was watched.
    #[test]
    fn a_watch_ends_once(
        events in proptest::collection::vec((0_u32..3, event(), 0_u64..20), 0..40)
    ) {
        let mut reload = watching(&[A, B]);
        reload.in_force(2);
        let (mut now, mut ends) = (0, Vec::new());
        for (module, event, pause) in events {
            now += pause;
            if let Some(effect) = reload.next_effect(at(now)) {
                prop_assert!(now >= 30);
                ends.push(effect);
            }
            ends.extend(reload.apply(at(now), ModuleId(module), event));
        }
        prop_assert!(ends.len() <= 1, "{:?}", ends);
        prop_assert_eq!(ends.is_empty(), reload.watched() == Some(2));
        let is_committed = matches!(ends.first(), Some(ReloadEffect::Commit { .. }));
        prop_assert_eq!(reload.committed(), if is_committed { 2 } else { 1 });
    }
}

#[test]
fn a_module_that_was_told_holds_up_the_commit_until_it_has_confirmed() {
    let told = || {
        let mut reload = Reload::new(1, "old".into());
        reload.applied(MonoTime(0), (2, "new".into()), Duration::ZERO, []);
        reload.in_force(2);
        reload.told(ModuleId(3));
        assert_eq!(reload.next_effect(MonoTime(10)), None);
        reload
    };
    let mut reload = told();
    assert_eq!(reload.confirmed(MonoTime(20), ModuleId(3), true), None);
    let commit = ReloadEffect::Commit { plan: 2 };
    assert_eq!(reload.next_effect(MonoTime(20)), Some(commit));
    let mut reload = told();
    let back = ReloadEffect::RollBack {
        plan: 2,
        module: ModuleId(3),
    };
    assert_eq!(
        reload.confirmed(MonoTime(20), ModuleId(3), false),
        Some(back)
    );
    assert_eq!(reload.quarantined().map(|it| &**it), Some("new"));
    // Nothing is watched any more: news of it lead to nothing.
    reload.told(ModuleId(3));
    assert_eq!(reload.confirmed(MonoTime(30), ModuleId(3), false), None);
}

//! The rules of the roster one by one; the model in `chaos` runs them together.

use super::RosterEffect::{AbortSpawn, KillTree, Remove, Send, SendTakeover, Signal};
use mainstay_process::{ProcessEvent, StartStep};

use super::*;

const T0: Duration = Duration::from_secs(100);

fn effects(roster: &mut Roster) -> Vec<RosterEffect> {
    let effects = std::iter::from_fn(|| roster.next_effect());
    effects
        .filter(|one| !matches!(one, RosterEffect::WatchActivation(_)))
        .collect()
}

fn named(name: &str) -> Instance {
    name.parse().expect("a name")
}

/// A roster whose runtime has been sent the takeover state.
fn taken_over() -> Roster {
    let mut roster = Roster::default();
    roster.runtime_connected(T0);
    assert_eq!(effects(&mut roster), [SendTakeover(Vec::new())]);
    roster
}

fn spawn(roster: &mut Roster, generation: u64) -> u32 {
    let timeout = Duration::ZERO;
    let id = roster.spawn_requested(T0, &named("web"), generation, timeout);
    id.expect("the fence lets it pass")
}

fn start(roster: &mut Roster, generation: u64) -> u32 {
    let id = spawn(roster, generation);
    assert!(roster.process_started(T0, id, (10, 1), Duration::ZERO));
    effects(roster);
    id
}

fn exit(roster: &mut Roster, id: u32, pending: (bool, bool)) {
    let exit = Exit::Code(3);
    roster.process_exited(T0, id, exit, pending, String::new());
}

fn exits(effects: &[RosterEffect]) -> Vec<u64> {
    let generation = |effect: &RosterEffect| match effect {
        Send(HolderMessage::Process(ProcessEvent {
            generation,
            what: ProcessEventKind::Exited(_),
            ..
        })) => Some(*generation),
        _ => None,
    };
    effects.iter().filter_map(generation).collect()
}

#[test]
fn the_fence_lets_one_run_pass_and_only_newer_ones() {
    let mut roster = taken_over();
    let id = start(&mut roster, 4);
    let refused = |roster: &mut Roster, generation| {
        roster.spawn_requested(T0, &named("web"), generation, Duration::ZERO)
    };
    assert_eq!(refused(&mut roster, 5), Err(FenceError::Running(4)));
    exit(&mut roster, id, (true, false));
    assert_eq!(refused(&mut roster, 5), Err(FenceError::Running(4)));
    roster.tree_swept(id, false);
    assert_eq!(refused(&mut roster, 4), Err(FenceError::Stale));
    assert_eq!(refused(&mut roster, 5), Ok(id));
    assert_eq!(refused(&mut roster, 6), Err(FenceError::Running(5)));
}

#[test]
fn an_exit_is_reported_once_and_after_sweep_and_output() {
    let mut roster = taken_over();
    let id = start(&mut roster, 1);
    exit(&mut roster, id, (true, true));
    roster.tree_swept(id, true);
    roster.output_collected(id, 2, "of another run".to_owned());
    roster.output_collected(id, 1, "its output".to_owned());
    assert_eq!(effects(&mut roster), []);
    roster.tree_swept(id, false);
    let sent = effects(&mut roster);
    assert_eq!(exits(&sent), [1]);
    assert!(
        matches!(&sent[..], [Send(HolderMessage::Process(ProcessEvent { what: ProcessEventKind::Exited(exited), .. }))] if exited.output == "its output")
    );
    roster.tree_swept(id, false);
    assert_eq!(effects(&mut roster), []);
}

#[test]
fn a_new_runtime_is_sent_what_it_missed_until_the_next_run_starts() {
    let mut roster = taken_over();
    let id = start(&mut roster, 1);
    roster.runtime_disconnected();
    roster.notify_received(id, 10, "READY=1\nSTATUS=dying".to_owned(), false);
    exit(&mut roster, id, (false, false));
    assert_eq!(effects(&mut roster), []);
    for _ in 0..2 {
        roster.runtime_connected(T0);
        let sent = effects(&mut roster);
        assert!(
            matches!(&sent[0], SendTakeover(infos) if infos[0].exit.is_some()),
            "{sent:?}"
        );
        assert!(
            matches!(&sent[1], Send(HolderMessage::Process(ProcessEvent { what: ProcessEventKind::Notify { text, .. }, .. })) if text == "STATUS=dying"),
            "{sent:?}"
        );
        assert_eq!(exits(&sent), [1]);
        roster.runtime_disconnected();
    }
    start(&mut roster, 2);
    roster.runtime_connected(T0);
    let sent = effects(&mut roster);
    assert!(exits(&sent).is_empty());
    // The runtime before may not have written it down.
    let earlier = |sent: &[RosterEffect]| match &sent[0] {
        SendTakeover(infos) => infos[0].earlier.iter().map(|end| end.generation).collect(),
        _ => Vec::new(),
    };
    assert_eq!(earlier(&sent), [1]);
    for generation in 3..9 {
        exit(&mut roster, id, (false, false));
        start(&mut roster, generation);
    }
    roster.runtime_disconnected();
    roster.runtime_connected(T0);
    assert_eq!(earlier(&effects(&mut roster)), [4, 5, 6, 7]);
}

#[test]
fn the_takeover_waits_for_spawns_but_not_for_hung_ones() {
    let mut roster = taken_over();
    let id = spawn(&mut roster, 1);
    roster.runtime_disconnected();
    roster.runtime_connected(T0);
    assert_eq!(effects(&mut roster), []);
    roster.deadline_passed(T0 + SPAWN_TIMEOUT);
    let sent = effects(&mut roster);
    assert!(
        matches!(&sent[..], [AbortSpawn(one), SendTakeover(_)] if *one == id),
        "{sent:?}"
    );
    assert!(roster.process_started(T0, id, (10, 1), Duration::ZERO));
    let sent = effects(&mut roster);
    assert!(
        matches!(
            &sent[..],
            [
                Send(HolderMessage::Process(ProcessEvent {
                    what: ProcessEventKind::Spawned { .. },
                    ..
                })),
                KillTree(_)
            ]
        ),
        "{sent:?}"
    );
}

#[test]
fn requests_for_a_spawn_in_flight_are_carried_out_after_it() {
    let mut roster = taken_over();
    let id = spawn(&mut roster, 1);
    roster.signal_requested("web", 1, 15, true);
    roster.signal_requested("web", 2, 9, false);
    assert_eq!(effects(&mut roster), []);
    roster.kill_requested("web", 1);
    assert_eq!(effects(&mut roster), [AbortSpawn(id)]);
    assert!(roster.process_started(T0, id, (10, 1), Duration::ZERO));
    let (signal, cont) = (15, true);
    let after = [Signal { id, signal, cont }, KillTree(id)];
    assert_eq!(effects(&mut roster)[1..], after);
    assert!(!roster.process_started(T0, id, (11, 1), Duration::ZERO));
}

#[test]
fn the_timeout_of_a_run_counts_from_its_exec() {
    let mut roster = taken_over();
    let timeout = Duration::from_secs(1);
    let id = roster.spawn_requested(T0, &named("web#1"), 1, timeout);
    let id = id.expect("the fence lets it pass");
    assert_eq!(roster.next_deadline(), Some(T0 + timeout + SPAWN_TIMEOUT));
    let later = T0 + Duration::from_secs(5);
    assert!(roster.process_started(later, id, (10, 1), timeout));
    effects(&mut roster);
    assert_eq!(roster.next_deadline(), Some(later + timeout));
    roster.deadline_passed(later + timeout);
    assert_eq!(effects(&mut roster), [KillTree(id)]);
    exit(&mut roster, id, (false, false));
    let sent = effects(&mut roster);
    assert!(
        matches!(&sent[..], [Send(HolderMessage::Process(ProcessEvent { what: ProcessEventKind::Exited(exited), .. })), Remove { .. }] if exited.timed_out)
    );
    assert_eq!(roster.next_deadline(), None);
}

#[test]
fn of_a_command_the_end_is_reported_and_nothing_is_left() {
    for fails in [false, true] {
        let mut roster = taken_over();
        let id = roster.spawn_requested(T0, &named("web#1"), 1, Duration::ZERO);
        let id = id.expect("the fence lets it pass");
        if fails {
            let (step, errno) = (StartStep::Exec, 2);
            roster.spawn_failed(id, StartFailure { step, errno }, String::new());
        } else {
            assert!(roster.process_started(T0, id, (10, 1), Duration::ZERO));
            assert_eq!(effects(&mut roster), []);
            exit(&mut roster, id, (false, false));
        }
        let sent = effects(&mut roster);
        assert!(
            matches!(&sent[..], [Send(_), Remove { id: one, .. }] if *one == id),
            "{sent:?}"
        );
        assert_eq!(roster.current("web#1", 1), None);
    }
}

#[test]
fn an_instance_is_dropped_after_its_exit_was_reported() {
    let mut roster = taken_over();
    let id = start(&mut roster, 1);
    roster.forget_requested("web");
    assert_eq!(effects(&mut roster), [KillTree(id)]);
    roster.runtime_disconnected();
    roster.runtime_connected(T0);
    let sent = effects(&mut roster);
    assert!(
        matches!(&sent[..], [SendTakeover(infos)] if infos.len() == 1),
        "{sent:?}"
    );
    exit(&mut roster, id, (false, false));
    let sent = effects(&mut roster);
    assert_eq!(exits(&sent), [1]);
    assert!(matches!(&sent[1], Remove { id: one, .. } if *one == id));
    assert_eq!(roster.current("web", 1), None);
}

#[test]
fn a_lagging_runtime_gets_the_notify_state_once_it_reads() {
    let mut roster = taken_over();
    let id = start(&mut roster, 1);
    roster.notify_received(id, 10, "WATCHDOG=1".to_owned(), true);
    roster.notify_received(id, 10, "STATUS=busy".to_owned(), true);
    assert!(effects(&mut roster).is_empty() && roster.has_deferred_notify());
    roster.send_deferred_notify();
    let sent = effects(&mut roster);
    assert!(
        matches!(&sent[..], [Send(HolderMessage::Process(ProcessEvent { what: ProcessEventKind::Notify { text, .. }, .. }))] if text == "STATUS=busy")
    );
    assert!(!roster.has_deferred_notify());
}

#[test]
fn another_main_process_takes_the_place_of_the_first() {
    let mut roster = taken_over();
    let id = start(&mut roster, 1);
    roster.main_changed(id, 12, 7);
    assert_eq!((roster.by_pid(10), roster.by_pid(12)), (None, Some(id)));
    assert_eq!(roster.running(id).map(|one| one.pid), Some(12));
    assert_eq!(roster.all_running().count(), 1);
}

#[test]
fn a_stop_has_one_deadline_that_only_shrinks_and_outlasts_the_main_process() {
    let seconds = Duration::from_secs;
    let mut roster = taken_over();
    let id = start(&mut roster, 1);
    roster.stop_requested(T0, "web", 1, 15, seconds(10));
    let (signal, cont) = (15, true);
    assert_eq!(effects(&mut roster), [Signal { id, signal, cont }]);
    roster.stop_requested(T0, "web", 1, 15, seconds(20));
    effects(&mut roster);
    assert_eq!(roster.next_deadline(), Some(T0 + seconds(10)));
    assert_eq!(roster.stop_signal(T0, id), Some(15));
    roster.main_exited(id);
    assert_eq!(roster.by_pid(10), None, "its number may be of another now");
    assert_eq!(roster.stop_signal(T0, id), None);
    // No signal to what has exited, and a new runtime finds the run as it was.
    roster.signal_requested("web", 1, 1, false);
    assert_eq!(effects(&mut roster), []);
    roster.deadline_passed(T0 + seconds(10));
    assert_eq!(effects(&mut roster), [KillTree(id)]);
    assert_eq!(roster.next_deadline(), None);
    exit(&mut roster, id, (false, false));
    assert_eq!(exits(&effects(&mut roster)), [1]);
}

#[test]
fn a_number_that_is_another_run_s_by_now_stays_its_own() {
    let mut roster = taken_over();
    let id = start(&mut roster, 1);
    roster.main_changed(id, 12, 7); // no child: reaped elsewhere, its number was free again
    let other = roster.spawn_requested(T0, &named("other"), 1, Duration::ZERO);
    let other = other.expect("the fence lets it pass");
    assert!(roster.process_started(T0, other, (12, 9), Duration::ZERO));
    exit(&mut roster, id, (false, false));
    assert_eq!(roster.by_pid(12), Some(other));
}

#[test]
fn a_stop_of_a_spawn_that_hangs_ends_at_its_deadline() {
    let mut roster = taken_over();
    let id = spawn(&mut roster, 1);
    roster.stop_requested(T0, "web", 1, 15, Duration::from_secs(3));
    assert_eq!(roster.next_deadline(), Some(T0 + Duration::from_secs(3)));
    roster.deadline_passed(T0 + Duration::from_secs(3));
    assert_eq!(effects(&mut roster), [AbortSpawn(id)]);
    assert_eq!(roster.next_deadline(), None);
}

#[test]
fn another_main_process_is_not_suspended_like_the_first() {
    let mut roster = taken_over();
    let id = start(&mut roster, 1);
    roster.main_suspended(id, Some(19));
    effects(&mut roster);
    roster.main_changed(id, 12, 7);
    let sent = effects(&mut roster);
    let what = ProcessEventKind::Continued;
    let continued = |one: &RosterEffect| matches!(one, Send(HolderMessage::Process(event)) if event.what == what);
    assert!(sent.last().is_some_and(continued), "{sent:?}");
}

#[test]
fn a_roster_that_is_written_down_and_read_goes_on() {
    let mut roster = taken_over();
    let id = start(&mut roster, 1);
    roster.record_saved(&named("web"), "up".to_owned());
    let within = Duration::from_secs(5);
    roster.stop_requested(T0, "web", 1, 15, within);
    let other = roster.intern(&named("other"));
    effects(&mut roster);
    let text = serde_json::to_string(&roster).expect("written");
    let mut read: Roster = serde_json::from_str(&text).expect("read");
    assert_eq!(read.next_deadline(), Some(T0 + within));
    assert_eq!((read.by_pid(10), read.is_idle(other)), (Some(id), true));
    assert_eq!(read.running(id), roster.running(id));
    read.deadline_passed(T0 + within);
    assert_eq!(effects(&mut read), [KillTree(id)]);
    exit(&mut read, id, (false, false));
    assert_eq!(exits(&effects(&mut read)), [1]);
    let fence = read.spawn_requested(T0, &named("web"), 1, Duration::ZERO);
    assert_eq!(fence, Err(FenceError::Stale));
    assert_eq!(read.intern(&named("third")), other + 1);
}

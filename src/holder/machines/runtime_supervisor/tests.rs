//! The rules of the supervisor one by one; the model in `chaos` runs them together.

use super::SupervisorEffect::{
    CloseChannel, KeepNewProgram, KillRuntime, SendPing, SendStopRequest, StartRuntime, WriteStatus,
};
use super::*;
use crate::messages::UpgradeState;

const START: SupervisorEffect = StartRuntime { new_program: false };
const TRY_NEW: SupervisorEffect = StartRuntime { new_program: true };
const T0: Duration = Duration::from_secs(100);

fn at(millis: u64) -> Duration {
    T0 + Duration::from_millis(millis)
}

/// What is due, without the status file.
fn due(supervisor: &mut RuntimeSupervisor, now: Duration) -> Vec<SupervisorEffect> {
    let effects = std::iter::from_fn(|| supervisor.next_effect(now));
    effects
        .filter(|one| !matches!(one, WriteStatus(_)))
        .collect()
}

/// What is due at each deadline until then.
fn due_until(supervisor: &mut RuntimeSupervisor, end: Duration) -> Vec<SupervisorEffect> {
    let mut effects = Vec::new();
    while let Some(now) = supervisor.next_deadline().filter(|at| *at <= end) {
        effects.extend(due(supervisor, now));
    }
    effects
}

fn exit(code: i32) -> RuntimeExit {
    RuntimeExit {
        code: Some(code),
        text: format!("it exited with code {code}"),
    }
}

/// A runtime that is ready at `T0`, with a heartbeat timeout of eight seconds.
fn ready() -> RuntimeSupervisor {
    let mut supervisor = RuntimeSupervisor::standalone(T0);
    assert_eq!(due(&mut supervisor, T0), [START]);
    supervisor.runtime_started(T0);
    supervisor.takeover_sent(T0);
    supervisor.setup_accepted(Duration::from_secs(8), Duration::from_secs(20));
    supervisor.runtime_ready(T0);
    supervisor
}

fn crash(supervisor: &mut RuntimeSupervisor, now: Duration) {
    supervisor.channel_closed(now);
    supervisor.runtime_exited(now, exit(101));
}

#[test]
fn a_runtime_that_never_was_ready_takes_the_holder_with_it() {
    let mut supervisor = RuntimeSupervisor::standalone(T0);
    due(&mut supervisor, T0);
    supervisor.runtime_started(T0);
    crash(&mut supervisor, at(5));
    assert_eq!(supervisor.exit_code(), Some(101));
    let mut supervisor = RuntimeSupervisor::standalone(T0);
    due(&mut supervisor, T0);
    supervisor.start_failed(T0, "cannot start it".to_owned());
    assert_eq!(supervisor.exit_code(), Some(1));
    assert_eq!(supervisor.last_exit_text(), Some("cannot start it"));
}

#[test]
fn the_backoff_doubles_up_to_its_maximum_and_a_stable_run_resets_it() {
    let mut supervisor = ready();
    let mut now = at(10);
    let mut delays = Vec::new();
    for _ in 0..10 {
        crash(&mut supervisor, now);
        let start_at = supervisor.next_deadline().expect("it returns");
        delays.push((start_at - now).as_millis());
        now = start_at;
        assert_eq!(due(&mut supervisor, now), [START]);
        supervisor.runtime_started(now);
        supervisor.takeover_sent(now);
    }
    assert_eq!(delays, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert_eq!(supervisor.restarts(), 10);
    supervisor.runtime_ready(now);
    crash(&mut supervisor, now + STABLE_AFTER);
    assert_eq!(due(&mut supervisor, now + STABLE_AFTER), [START]);
}

#[test]
fn a_silent_runtime_is_pinged_and_then_killed() {
    let mut supervisor = ready();
    assert_eq!(supervisor.next_deadline(), Some(at(6000)));
    assert_eq!(due(&mut supervisor, at(6000)), [SendPing]);
    supervisor.request_received(at(6001));
    assert_eq!(supervisor.next_deadline(), Some(at(12_001)));
    assert_eq!(due(&mut supervisor, at(12_001)), [SendPing]);
    assert_eq!(due_until(&mut supervisor, at(14_000)), []);
    assert_eq!(
        due_until(&mut supervisor, at(14_001)),
        [CloseChannel, KillRuntime]
    );
    supervisor.runtime_exited(at(14_010), exit(0));
    let text = supervisor.last_exit_text();
    assert_eq!(text, Some("it did not answer, and was killed"));
    assert_eq!(supervisor.down_since(), at(14_010));
}

#[test]
fn a_suspension_does_not_use_up_the_time_of_a_ping() {
    let mut supervisor = ready();
    assert_eq!(due(&mut supervisor, at(6000)), [SendPing]);
    assert_eq!(due(&mut supervisor, at(60_000)), []);
    assert_eq!(due_until(&mut supervisor, at(61_499)), []);
    assert_eq!(
        due_until(&mut supervisor, at(61_500)),
        [CloseChannel, KillRuntime]
    );
}

#[test]
fn a_runtime_that_closed_its_channel_is_killed_when_it_does_not_exit() {
    let mut supervisor = ready();
    supervisor.channel_closed(at(1));
    assert_eq!(due(&mut supervisor, at(2000)), []);
    assert_eq!(due(&mut supervisor, at(2001)), [KillRuntime]);
    assert_eq!(due(&mut supervisor, at(9000)), []);
}

#[test]
fn the_rest_of_a_channel_counts_before_the_exit_and_not_for_ever() {
    let mut supervisor = ready();
    supervisor.runtime_exited(at(1), exit(0));
    assert_eq!(due(&mut supervisor, at(1)), []);
    supervisor.exit(7); // the last request
    supervisor.channel_closed(at(2));
    assert_eq!(supervisor.exit_code(), Some(7));
    let mut supervisor = ready();
    supervisor.runtime_exited(at(1), exit(0));
    let effects = due(&mut supervisor, at(2001));
    assert_eq!(effects, [CloseChannel, START]);
}

#[test]
fn a_stop_ends_at_its_deadline_whatever_the_runtime_does() {
    let mut supervisor = ready();
    supervisor.stop_requested(at(0), Signal::INTERRUPT);
    let time_left = None;
    let sent = SendStopRequest {
        signal: Signal::INTERRUPT,
        time_left,
    };
    assert_eq!(due(&mut supervisor, at(0)), [sent]);
    supervisor.stop_started(at(1000), Duration::from_secs(60)); // never later
    crash(&mut supervisor, at(5000));
    assert_eq!(due(&mut supervisor, at(5000)), [START]);
    supervisor.runtime_started(at(5000));
    supervisor.takeover_sent(at(5000));
    let time_left = Some(Duration::from_secs(15));
    let sent = SendStopRequest {
        signal: Signal::TERMINATE,
        time_left,
    };
    assert_eq!(due(&mut supervisor, at(5000)), [sent]);
    assert_eq!(supervisor.exit_code(), None);
    due(&mut supervisor, at(20_000));
    assert_eq!(supervisor.exit_code(), Some(1));
}

#[test]
fn an_embedded_holder_exits_with_its_channel() {
    let mut supervisor = RuntimeSupervisor::embedded(T0);
    supervisor.channel_opened(T0);
    supervisor.takeover_sent(T0);
    supervisor.setup_accepted(Duration::from_secs(8), Duration::from_secs(20));
    assert_eq!(due(&mut supervisor, at(100_000)), []);
    supervisor.channel_closed(at(100_000));
    assert_eq!(supervisor.exit_code(), Some(0));
}

#[test]
fn the_status_is_written_when_it_changes() {
    let mut supervisor = ready();
    let status = |supervisor: &mut RuntimeSupervisor, now| {
        std::iter::from_fn(|| supervisor.next_effect(now)).collect::<Vec<_>>()
    };
    let running = [WriteStatus(SystemState::Running)];
    assert_eq!(status(&mut supervisor, T0), running);
    assert_eq!(status(&mut supervisor, T0), []);
    crash(&mut supervisor, at(1));
    let returning = [START, WriteStatus(SystemState::Returning)];
    assert_eq!(status(&mut supervisor, at(1)), returning);
    supervisor.stop_started(at(1), Duration::from_secs(1));
    let stopping = [WriteStatus(SystemState::Stopping)];
    assert_eq!(status(&mut supervisor, at(1)), stopping);
}

#[test]
fn a_start_that_hangs_is_abandoned_and_made_again() {
    let mut supervisor = ready();
    crash(&mut supervisor, at(10));
    assert_eq!(due(&mut supervisor, at(10)), [START]);
    assert_eq!(due_until(&mut supervisor, at(30_009)), []);
    let effects = due_until(&mut supervisor, at(31_000));
    assert_eq!(effects, [KillRuntime, START]);
    assert!(
        supervisor
            .last_exit_text()
            .is_some_and(|text| text.contains("within 30s"))
    );
}

#[test]
fn a_first_start_that_hangs_is_the_end() {
    let mut supervisor = RuntimeSupervisor::standalone(T0);
    assert_eq!(due(&mut supervisor, T0), [START]);
    assert_eq!(due(&mut supervisor, at(30_000)), [KillRuntime]);
    assert_eq!(supervisor.exit_code(), Some(1));
}

#[test]
fn a_runtime_that_answers_and_is_never_ready_is_killed() {
    let mut supervisor = ready();
    crash(&mut supervisor, at(10));
    assert_eq!(due(&mut supervisor, at(10)), [START]);
    supervisor.runtime_started(at(10));
    supervisor.takeover_sent(at(10));
    let answers = (1..120).map(|second| at(10 + second * 1000));
    for now in answers {
        supervisor.request_received(now);
        assert_eq!(due(&mut supervisor, now), []);
    }
    supervisor.request_received(at(120_000));
    assert_eq!(due(&mut supervisor, at(120_010)), [KillRuntime]);
    crash(&mut supervisor, at(120_020));
    let text = supervisor.last_exit_text();
    assert_eq!(text, Some("it was not ready within 120s, and was killed"));
}

#[test]
fn a_supervisor_that_is_written_down_and_read_goes_on() {
    let text = serde_json::to_string(&ready()).expect("written");
    let mut read: RuntimeSupervisor = serde_json::from_str(&text).expect("read");
    assert_eq!(read.next_deadline(), ready().next_deadline());
    assert_eq!(due(&mut read, at(6000)), [SendPing]);
    crash(&mut read, at(6001));
    assert_eq!(due(&mut read, at(6001)), [START]);
    assert_eq!(read.exit_code(), None);
}

fn last(supervisor: &RuntimeSupervisor) -> Option<(u32, UpgradeState)> {
    let report = supervisor.last_upgrade()?;
    assert_eq!(report.note, "note");
    Some((report.number, report.state))
}

fn request(supervisor: &mut RuntimeSupervisor, now: Duration) -> Result<(), &'static str> {
    supervisor.upgrade_requested(now, "note".to_owned())
}

/// The old runtime has exited for an upgrade, and the new program is started at `at(20)`.
fn on_trial() -> RuntimeSupervisor {
    let mut supervisor = ready();
    assert_eq!(last(&supervisor), None);
    assert_eq!(request(&mut supervisor, at(10)), Ok(()));
    assert_eq!(due(&mut supervisor, at(10)), []);
    supervisor.channel_closed(at(20));
    supervisor.runtime_exited(at(20), exit(0));
    assert_eq!(supervisor.last_exit_text(), Some(upgrade::REPLACED));
    assert_eq!(due(&mut supervisor, at(20)), [TRY_NEW]);
    supervisor
}

fn starts(supervisor: &mut RuntimeSupervisor, now: Duration) {
    supervisor.runtime_started(now);
    supervisor.takeover_sent(now);
}

#[test]
fn an_upgrade_that_becomes_ready_is_kept_for_later_starts() {
    let mut supervisor = on_trial();
    starts(&mut supervisor, at(30));
    assert_eq!(last(&supervisor), Some((1, UpgradeState::Pending)));
    supervisor.runtime_ready(at(900));
    assert_eq!(last(&supervisor), Some((1, UpgradeState::Done)));
    assert_eq!(due(&mut supervisor, at(900)), [KeepNewProgram]);
    assert_eq!(due_until(&mut supervisor, at(5_000)), []);
    crash(&mut supervisor, at(5_000));
    assert_eq!(due(&mut supervisor, at(5_000)), [START]);
    assert_eq!(last(&supervisor), Some((1, UpgradeState::Done)));
}

#[test]
fn a_program_that_does_not_become_ready_is_rolled_back_without_counting_a_failure() {
    type Fails = fn(&mut RuntimeSupervisor);
    let table: [(Fails, &str); 4] = [
        (
            |supervisor| supervisor.start_failed(at(30), "cannot start it".to_owned()),
            "cannot start it",
        ),
        (
            |supervisor| {
                starts(supervisor, at(30));
                crash(supervisor, at(40));
            },
            "it exited with code 101",
        ),
        (
            |supervisor| {
                starts(supervisor, at(30));
                for second in 1..10 {
                    supervisor.request_received(at(second * 1000));
                    assert_eq!(due(supervisor, at(second * 1000)), []);
                }
                assert_eq!(due(supervisor, at(10_020)), [KillRuntime]);
                crash(supervisor, at(10_030));
            },
            upgrade::TRIAL_UNREADY,
        ),
        (
            |supervisor| {
                assert_eq!(due_until(supervisor, at(10_019)), []);
                assert_eq!(supervisor.next_effect(at(10_020)), Some(KillRuntime));
            },
            "cannot start the runtime: it did not execute its program within 10s",
        ),
    ];
    for (fails, problem) in table {
        let mut supervisor = on_trial();
        fails(&mut supervisor);
        let rolled_back = UpgradeState::RolledBack {
            problem: problem.to_owned(),
        };
        assert_eq!(last(&supervisor), Some((1, rolled_back)));
        assert_eq!(supervisor.last_exit_text(), Some(problem));
        let now = supervisor.next_deadline().expect("the old one is started");
        assert!(now <= at(10_030), "{now:?}");
        assert_eq!(due(&mut supervisor, now), [START]);
        starts(&mut supervisor, now);
        supervisor.runtime_ready(now);
        // The first crash after it has no backoff: nothing was counted.
        crash(&mut supervisor, at(11_000));
        assert_eq!(due(&mut supervisor, at(11_000)), [START]);
        // The next upgrade has a number of its own.
        starts(&mut supervisor, at(11_000));
        supervisor.runtime_ready(at(11_000));
        assert_eq!(request(&mut supervisor, at(12_000)), Ok(()));
        assert_eq!(last(&supervisor), Some((2, UpgradeState::Pending)));
    }
}

#[test]
fn a_runtime_that_does_not_exit_for_its_upgrade_is_killed() {
    let mut supervisor = ready();
    assert_eq!(request(&mut supervisor, T0), Ok(()));
    supervisor.runtime_ready(at(1)); // late, and the second one
    assert_eq!(due_until(&mut supervisor, at(4_999)), []);
    assert_eq!(due(&mut supervisor, at(5_000)), [KillRuntime]);
    crash(&mut supervisor, at(5_010));
    assert_eq!(due(&mut supervisor, at(5_010)), [TRY_NEW]);
}

#[test]
fn an_upgrade_is_refused_where_it_cannot_be_made() {
    let mut supervisor = on_trial();
    let refused = request(&mut supervisor, at(30));
    assert_eq!(refused, Err("another upgrade is in flight"));
    let mut supervisor = ready();
    assert_eq!(request(&mut supervisor, T0), Ok(()));
    assert!(request(&mut supervisor, T0).is_err());
    let mut supervisor = ready();
    supervisor.stop_started(T0, Duration::from_secs(1));
    let refused = request(&mut supervisor, T0);
    assert_eq!(refused, Err("the system is stopping"));
    let mut supervisor = RuntimeSupervisor::embedded(T0);
    assert!(request(&mut supervisor, T0).is_err());
    let mut supervisor = ready();
    crash(&mut supervisor, at(1));
    due(&mut supervisor, at(1));
    starts(&mut supervisor, at(1));
    let refused = request(&mut supervisor, at(2));
    assert_eq!(refused, Err("the runtime is not ready yet"));
}

#[test]
fn a_stop_during_a_trial_reaches_whichever_program_runs() {
    let mut supervisor = on_trial();
    supervisor.stop_requested(at(25), Signal::TERMINATE);
    supervisor.start_failed(at(30), "cannot start it".to_owned());
    assert_eq!(due(&mut supervisor, at(30)), [START]);
    starts(&mut supervisor, at(40));
    let effects = due(&mut supervisor, at(40));
    assert!(
        matches!(effects[..], [SendStopRequest { .. }]),
        "{effects:?}"
    );
}

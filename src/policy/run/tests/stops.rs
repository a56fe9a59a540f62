//! How a run is stopped: one deadline for the signal, what cleans up after it, and the kill.
//! Owns the stories of that time. Never repeats the table.

use super::*;

#[test]
fn a_deaf_process_is_killed_again_until_it_dies() {
    let mut module = reach(&[RUN, PREPARED, SPAWNED, READY]);
    let spec = spec();
    assert_eq!(step(&mut module, &spec, MonoTime(0), HALT), [terminate(30)]);
    let mut kills = Vec::new();
    for _ in 0..3 {
        let at = module.deadline().expect("the kill");
        assert_eq!(
            step(&mut module, &spec, at, RunEvent::TimerFired),
            [RunEffect::Kill { generation: G }]
        );
        kills.push(at.since(MonoTime(0)));
    }
    assert_eq!(
        kills,
        [SEC(9), SEC(11), SEC(13)],
        "a second is kept for after_stop"
    );
    let end = step(&mut module, &spec, MonoTime(0).after(SEC(15)), EXITED);
    assert_eq!(end, [RunEffect::CleanUp { generation: G }]);
    let end = step(&mut module, &spec, MonoTime(0).after(SEC(15)), CLEANED);
    let ending = RunEnd::Stopped {
        exit: Some(Exit::Code(1)),
        forced: true,
    };
    assert_eq!(told(&end), [RunReportKind::Ended(ending)]);
}

/// Its program may lie on a disk that does not answer.
#[test]
fn a_start_that_hangs_is_killed() {
    let (spec, mut module) = (spec(), reach(&[RUN, PREPARED]));
    let late = module.deadline().expect("its start is over time");
    let hangs = step(&mut module, &spec, late, RunEvent::TimerFired);
    assert_eq!(hangs, [ending(Cause::Timeout)]);
    for _ in 0..2 {
        let at = module.deadline().expect("the kill");
        let kill = [RunEffect::Kill { generation: G }];
        assert_eq!(step(&mut module, &spec, at, RunEvent::TimerFired), kill);
    }
    step(&mut module, &spec, late, SPAWNED);
    step(&mut module, &spec, late, EXITED);
    let end = step(&mut module, &spec, late, CLEANED);
    assert_eq!(told(&end), [RunReportKind::Ended(RunEnd::StartTimeout)]);
}

#[test]
fn a_shorter_grace_shortens_and_a_longer_one_does_not() {
    let halt = |grace| RunEvent::StopRequested {
        generation: G,
        grace,
        limit: grace,
    };
    let mut module = reach(&[RUN, PREPARED, SPAWNED, HALT]);
    assert_eq!(step(&mut module, &spec(), MonoTime(0), halt(SEC(20))), []);
    assert_eq!(module.deadline(), Some(MonoTime(0).after(SEC(9))));
    assert_eq!(step(&mut module, &spec(), MonoTime(0), halt(SEC(1))), []);
    let tenth = Duration::from_millis(100);
    let kill = MonoTime(0).after(SEC(1) - tenth);
    assert_eq!(
        module.deadline(),
        Some(kill),
        "a tenth is kept for after_stop"
    );
    let now = step(&mut module, &spec(), MonoTime(0), halt(SEC(0)));
    assert_eq!(now, [RunEffect::Kill { generation: G }]);
}

#[test]
fn one_deadline_holds_for_signal_after_stop_and_kill() {
    let at = |millis| MonoTime(0).after(Duration::from_millis(millis));
    let two = RunEvent::StopRequested {
        generation: G,
        grace: SEC(2),
        limit: SEC(2),
    };
    let mut module = reach(&[RUN, PREPARED, SPAWNED, READY]);
    assert_eq!(step(&mut module, &spec(), at(0), two), [terminate(2)]);
    let end = step(&mut module, &spec(), at(1600), EXITED);
    assert_eq!(end, [RunEffect::CleanUp { generation: G }]);
    assert_eq!(module.deadline(), Some(at(2000)), "no time of its own");
    let kill = step(&mut module, &spec(), at(2000), RunEvent::TimerFired);
    assert_eq!(kill, [RunEffect::Kill { generation: G }]);
    let end = step(&mut module, &spec(), at(2001), CLEANED);
    let stopped = RunEnd::Stopped {
        exit: Some(Exit::Code(1)),
        forced: false,
    };
    assert_eq!(told(&end), [RunReportKind::Ended(stopped)]);
}

#[test]
fn what_cleans_up_after_a_crash_has_the_time_of_a_stop() {
    let (spec, mut module) = (spec(), reach(&[RUN, PREPARED, SPAWNED, READY]));
    let at = MonoTime(0).after(SEC(3));
    step(&mut module, &spec, at, EXITED);
    assert_eq!(module.deadline(), Some(at.after(spec.shutdown_timeout)));
}

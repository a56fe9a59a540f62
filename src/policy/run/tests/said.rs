//! What a module says about itself while it runs: another main process, more time, its leave.
//! Owns the stories of those words. Never repeats the table.

use super::{
    EXITED, G, HALT, PREPARED, READY, RUN, SPAWNED, ending, reach, spec, step, terminate, told,
};
use crate::fixture::SEC;
use crate::mono_time::MonoTime;
use crate::run::{Exit, RunEffect, RunEnd, RunEvent, RunReportKind};
use crate::states::Cause;

const MOVED: RunEvent = RunEvent::MainChanged {
    generation: G,
    pid: 8,
};
const LEAVING: RunEvent = RunEvent::StoppingReported { generation: G };

fn at(seconds: u64) -> MonoTime {
    MonoTime(0).after(SEC(seconds))
}

fn more(seconds: u64) -> RunEvent {
    RunEvent::TimeoutExtended {
        generation: G,
        by: SEC(seconds),
    }
}

fn exited(code: i32) -> RunEvent {
    RunEvent::Exited {
        generation: G,
        exit: Exit::Code(code),
    }
}

#[test]
fn another_main_process_is_the_process_of_the_run_and_reported_once() {
    for way in [
        &[RUN, PREPARED, SPAWNED][..],
        &[RUN, PREPARED, SPAWNED, READY],
        &[RUN, PREPARED, SPAWNED, READY, HALT],
    ] {
        let mut module = reach(way);
        let news = told(&step(&mut module, &spec(), MonoTime(1), MOVED));
        assert_eq!(news, [RunReportKind::Started { pid: 8 }], "{way:?}");
        assert_eq!(module.pid(), Some(8));
        assert_eq!(step(&mut module, &spec(), MonoTime(1), MOVED), []);
    }
    let mut module = reach(&[RUN, PREPARED, SPAWNED, READY]);
    let stale = RunEvent::MainChanged {
        generation: G + 1,
        pid: 8,
    };
    assert_eq!(step(&mut module, &spec(), MonoTime(1), stale), []);
    assert_eq!(module.pid(), Some(7));
}

#[test]
fn more_time_to_stop_stays_within_the_budget_and_comes_in_time() {
    let mut module = reach(&[RUN, PREPARED, SPAWNED, READY, HALT]);
    // The last second is kept for after_stop.
    assert_eq!(module.deadline(), Some(at(9)));
    step(&mut module, &spec(), at(5), more(2));
    assert_eq!(module.deadline(), Some(at(9)), "it never takes time away");
    step(&mut module, &spec(), at(8), more(15));
    assert_eq!(module.deadline(), Some(at(22)));
    step(&mut module, &spec(), at(20), more(60));
    assert_eq!(module.deadline(), Some(at(29)), "the budget");
    let late = step(&mut module, &spec(), at(29), more(60));
    assert_eq!(late, [RunEffect::Kill { generation: G }]);
    let killed = module.deadline();
    step(&mut module, &spec(), at(30), more(60));
    assert_eq!(module.deadline(), killed, "a killed one is killed again");
}

#[test]
fn more_time_to_start_is_reported_once() {
    let mut module = reach(&[RUN, PREPARED, SPAWNED]);
    let news = told(&step(&mut module, &spec(), at(5), more(60)));
    assert_eq!(news, [RunReportKind::Extended { deadline: at(65) }]);
    assert_eq!(step(&mut module, &spec(), at(6), RunEvent::TimerFired), []);
}

#[test]
fn a_bitten_watchdog_gets_no_more_time() {
    let mut module = reach(&[RUN, PREPARED, SPAWNED, READY]);
    step(&mut module, &spec(), at(5), RunEvent::TimerFired);
    let kill = module.deadline();
    step(&mut module, &spec(), at(6), more(60));
    assert_eq!(module.deadline(), kill);
}

#[test]
fn who_says_it_leaves_has_no_watchdog_and_the_time_of_a_stop() {
    let mut module = reach(&[RUN, PREPARED, SPAWNED, READY]);
    let spec = spec();
    step(&mut module, &spec, at(1), LEAVING);
    let gone_by = at(1).after(spec.shutdown_timeout);
    assert_eq!(module.deadline(), Some(gone_by));
    step(
        &mut module,
        &spec,
        at(2),
        RunEvent::WatchdogFed { generation: G },
    );
    step(&mut module, &spec, at(2), LEAVING);
    assert_eq!(module.deadline(), Some(gone_by), "said once");
    let mut quick = module;
    step(&mut quick, &spec, at(8), exited(0));
    let end = step(
        &mut quick,
        &spec,
        at(8),
        RunEvent::CleanedUp { generation: G },
    );
    assert_eq!(
        told(&end),
        [RunReportKind::Ended(RunEnd::Exited(Exit::Code(0)))]
    );
    let slow = step(&mut module, &spec, gone_by, RunEvent::TimerFired);
    assert_eq!(slow, [ending(Cause::Exit), terminate(10)]);
    step(&mut module, &spec, gone_by, EXITED);
    let end = step(
        &mut module,
        &spec,
        gone_by,
        RunEvent::CleanedUp { generation: G },
    );
    let halted = RunEnd::Stopped {
        exit: Some(Exit::Code(1)),
        forced: false,
    };
    assert_eq!(told(&end), [RunReportKind::Ended(halted)]);
}

#[test]
fn words_that_were_held_up_are_heard_before_a_deadline_is_judged() {
    let listen = Some(RunEffect::DrainNotify { generation: G });
    let listened = RunEvent::NotifyDrained { generation: G };
    let spec = spec();
    let mut module = reach(&[RUN, PREPARED, SPAWNED]);
    assert_eq!(
        module.next_effect(&spec, at(40)),
        listen,
        "READY=1 may be on its way"
    );
    assert_eq!(
        (module.next_effect(&spec, at(40)), module.deadline()),
        (None, Some(at(45)))
    );
    assert_eq!(
        told(&step(&mut module, &spec, at(41), READY)),
        [RunReportKind::Ready]
    );
    assert!(step(&mut module, &spec, at(41), listened).is_empty());

    assert_eq!(
        module.next_effect(&spec, at(60)),
        listen,
        "and so may WATCHDOG=1"
    );
    assert_eq!(
        (module.next_effect(&spec, at(64)), module.deadline()),
        (None, Some(at(65)))
    );
    step(
        &mut module,
        &spec,
        at(64),
        RunEvent::WatchdogFed { generation: G },
    );
    assert_eq!(module.deadline(), Some(at(69)));
    assert!(step(&mut module, &spec, at(64), listened).is_empty());

    assert_eq!(module.next_effect(&spec, at(69)), listen);
    let bite = step(&mut module, &spec, at(69), listened);
    assert_eq!(bite, [ending(Cause::Watchdog), terminate(10)]);
}

#[test]
fn who_is_held_by_a_debugger_feeds_no_watchdog_and_goes_on() {
    let at = |seconds| MonoTime(0).after(SEC(seconds));
    let (spec, generation, by) = (spec(), G, SEC(10));
    let mut module = reach(&[RUN, PREPARED, SPAWNED, READY]);
    let more = RunEvent::TimeoutExtended { generation, by };
    step(&mut module, &spec, at(4), more);
    assert_eq!(module.deadline(), Some(at(5)), "words buy no time for it");
    let listen = Some(RunEffect::DrainNotify { generation });
    assert_eq!(module.next_effect(&spec, at(5)), listen);
    let held = RunEvent::Held { generation, by };
    assert!(step(&mut module, &spec, at(5), held).is_empty());
    let listened = RunEvent::NotifyDrained { generation };
    assert!(step(&mut module, &spec, at(5), listened).is_empty());
    assert_eq!(module.deadline(), Some(at(15)));
}

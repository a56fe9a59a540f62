//! Startup probes: a run is ready when what `ready` names holds, and each of them succeeded once.
//! Owns the stories of both conditions. Never repeats the table.

use super::*;
use crate::run::COMMAND_CONFIRMATION;

#[test]
fn a_run_is_ready_when_it_says_so_and_its_startup_probes_succeeded_once() {
    let readinesses = [
        (Readiness::Started, None, 1),
        (
            Readiness::Notify,
            Some(RunEvent::ReadyReported { generation: G }),
            1,
        ),
        (Readiness::Probe(Probe::Tcp("x".into())), None, 2),
    ];
    for (readiness, said, stages) in readinesses {
        let spec = ModuleSpec {
            readiness,
            has_startup_probes: true,
            ..module("m")
        };
        let mut module = RunMachine::new();
        let now = MonoTime(0);
        step(&mut module, &spec, now, RUN);
        let mut effects = step(&mut module, &spec, now, SPAWNED);
        if let Some(event) = said {
            assert_eq!(
                effects.len(),
                1,
                "no probe before it is ready as far as it says"
            );
            effects = step(&mut module, &spec, now, event);
        }
        for stage in 0..stages {
            let startup = stage + 1 == stages;
            let probe = RunEffect::Probe {
                generation: G,
                startup,
            };
            assert_eq!(effects.last(), Some(&probe));
            assert!(!told(&effects).contains(&RunReportKind::Ready));
            let ok = RunEvent::Probed {
                generation: G,
                ok: true,
            };
            effects = step(&mut module, &spec, now, ok);
        }
        assert_eq!(told(&effects), [RunReportKind::Ready]);
    }
}

/// Another process may answer a command, and one that finds its port taken ends soon.
#[test]
fn the_success_of_a_command_counts_once_the_process_has_lived_for_a_while() {
    let spec = ModuleSpec {
        readiness: Readiness::Probe(Probe::Exec(["pg_isready".into()].into())),
        ..module("m")
    };
    let probed = |ok| RunEvent::Probed { generation: G, ok };
    let probe = [RunEffect::Probe {
        generation: G,
        startup: false,
    }];
    let begin = || {
        let mut module = RunMachine::new();
        step(&mut module, &spec, MonoTime(0), RUN);
        step(&mut module, &spec, MonoTime(0), SPAWNED);
        assert_eq!(step(&mut module, &spec, MonoTime(0), probed(true)), []);
        module
    };
    let mut module = begin();
    let next = module.deadline().expect("the confirmation");
    assert_eq!(next, MonoTime(0).after(COMMAND_CONFIRMATION));
    assert_eq!(step(&mut module, &spec, next, RunEvent::TimerFired), probe);
    let ready = step(&mut module, &spec, next, probed(true));
    assert_eq!(told(&ready), [RunReportKind::Ready]);
    // It ended instead: it was never ready.
    let mut module = begin();
    let exit = RunEvent::Exited {
        generation: G,
        exit: Exit::Code(1),
    };
    let end = step(&mut module, &spec, MonoTime(0).after(MS(100)), exit);
    assert!(!told(&end).contains(&RunReportKind::Ready), "{end:?}");
    // A failure in between begins again, and what is old enough is ready by one success.
    let mut module = begin();
    assert_eq!(step(&mut module, &spec, next, RunEvent::TimerFired), probe);
    assert_eq!(step(&mut module, &spec, next, probed(false)), []);
    let later = next.after(MS(100));
    assert_eq!(step(&mut module, &spec, later, RunEvent::TimerFired), probe);
    let ready = step(&mut module, &spec, later, probed(true));
    assert_eq!(told(&ready), [RunReportKind::Ready]);
}

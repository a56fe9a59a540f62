//! Startup probes: a run is ready when what `ready` names holds, and each of them succeeded once.
//! Owns the stories of both conditions. Never repeats the table.

use super::*;

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

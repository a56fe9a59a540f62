//! Tables and histories of the throttle ladder.
//! Owns no rule. Never samples anything.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const S: fn(u64) -> Duration = Duration::from_secs;

fn spec() -> LadderSpec {
    LadderSpec {
        throttle: ThrottleSpec {
            limits: ResourceLimits {
                cpu_permille: Some(200),
                memory_bytes: Some(1000),
                threads: Some(10),
                processes: None,
                io_bytes_per_s: None,
            },
            ..ThrottleSpec::default()
        },
        importance: Importance::Normal,
        can_cap_memory: true,
    }
}

fn memory(bytes: u64) -> ResourceUsage {
    ResourceUsage {
        memory_bytes: Some(bytes),
        ..ResourceUsage::default()
    }
}

fn cpu(permille: u64) -> ResourceUsage {
    ResourceUsage {
        cpu_permille: Some(permille),
        ..ResourceUsage::default()
    }
}

/// The rung after each sample; one every 5 s.
fn climb(spec: &LadderSpec, samples: impl IntoIterator<Item = ResourceUsage>) -> Vec<Rung> {
    let mut ladder = Ladder::default();
    let mut now = MonoTime(1);
    let rungs = samples.into_iter().map(|usage| {
        now = now.after(S(5));
        let before = ladder.rung();
        let change = ladder.sample(spec, now, &usage, None);
        let after = ladder.rung();
        assert_eq!(change.is_some(), before != after, "a change is told");
        if let Some(change) = change {
            assert_eq!((change.from, change.to), (before, after));
        }
        after
    });
    rungs.collect()
}

#[test]
fn each_dwell_over_the_limit_is_one_rung() {
    use Rung::{Cap, None, Notice, Priority, Restart};
    let over = climb(&spec(), [memory(1001); 11]);
    let right = [
        None, None, Notice, Notice, Priority, Priority, Cap, Cap, Restart, Restart, Restart,
    ];
    assert_eq!(over, right);
}

#[test]
fn a_burst_shorter_than_the_dwell_is_nothing() {
    let samples = [2000, 2000, 900, 2000, 2000, 900, 2000, 100].map(memory);
    assert!(
        climb(&spec(), samples)
            .iter()
            .all(|rung| *rung == Rung::None)
    );
}

#[test]
fn it_comes_down_one_rung_after_a_quiet_time_and_not_between_80_and_100_percent() {
    let mut samples = vec![memory(1500); 5];
    samples.extend([memory(900); 20]); // neither over nor below 80 %
    samples.extend([memory(700); 14]);
    let rungs = climb(&spec(), samples);
    assert_eq!(rungs[4..25], [Rung::Priority; 21]);
    assert_eq!(rungs[30..32], [Rung::Priority, Rung::Notice]);
    assert_eq!(rungs[37], Rung::None);
}

#[test]
fn a_rung_that_does_nothing_here_is_left_out() {
    let spec = LadderSpec {
        can_cap_memory: false,
        ..spec()
    };
    assert!(!climb(&spec, [memory(2000); 20]).contains(&Rung::Cap));
    assert!(climb(&spec, [memory(2000); 20]).contains(&Rung::Restart));
    let threads = ResourceUsage {
        threads: Some(11),
        ..ResourceUsage::default()
    };
    assert!(!climb(&spec, [threads; 20]).contains(&Rung::Cap));
    let mut few = spec;
    few.throttle.rungs = vec![Rung::Notice];
    assert_eq!(climb(&few, [memory(2000); 20])[19], Rung::Notice);
}

#[test]
fn a_ceiling_on_cpu_time_is_a_cap_at_once_and_never_more() {
    let rungs = climb(&spec(), [cpu(200); 50]);
    assert!(rungs.iter().all(|rung| *rung == Rung::Cap));
    let mut samples = vec![cpu(199); 3];
    samples.extend([cpu(170); 20]);
    samples.extend([cpu(100); 7]);
    let rungs = climb(&spec(), samples);
    assert_eq!(rungs[22], Rung::Cap);
    assert_eq!(rungs[28..30], [Rung::Cap, Rung::None]);
}

#[test]
fn what_is_allowed_exactly_is_allowed() {
    let usage = ResourceUsage {
        memory_bytes: Some(1000),
        threads: Some(10),
        ..ResourceUsage::default()
    };
    assert_eq!(climb(&spec(), [usage; 20])[19], Rung::None);
}

#[test]
fn machine_pressure_squeezes_by_importance_and_restarts_nobody() {
    let mut ladder = Ladder::default();
    for (importance, most) in [
        (Importance::Low, Rung::Cap),
        (Importance::High, Rung::Priority),
        (Importance::Critical, Rung::None),
    ] {
        let spec = LadderSpec {
            importance,
            ..spec()
        };
        ladder = Ladder::default();
        for second in 0..100 {
            ladder.sample(
                &spec,
                MonoTime(1).after(S(5 * second)),
                &cpu(1),
                Some(Resource::MachineCpu),
            );
        }
        assert_eq!(ladder.rung(), most, "{importance:?}");
    }
    assert_eq!(ladder.resource(), None);
}

fn one(id: u32, importance: Importance, used: u64, rung: Rung) -> Squeezable {
    Squeezable {
        module: ModuleId(id),
        importance,
        used,
        can_climb: rung < squeeze_max(importance),
        is_held: false,
    }
}

/// A module without the rung `cap` is as far as it can be on `priority`: others take their turn.
#[test]
fn pressure_goes_on_to_others_when_a_module_has_no_further_rung() {
    let mut spec = LadderSpec {
        importance: Importance::Low,
        ..spec()
    };
    spec.throttle.limits.cpu_permille = Option::None;
    spec.throttle.rungs = vec![Rung::Notice, Rung::Priority];
    let mut ladder = Ladder::default();
    let mut now = MonoTime(1);
    let turn = |ladder: &Ladder, used: u64| {
        let low = Squeezable {
            module: ModuleId(0),
            importance: Importance::Low,
            used,
            can_climb: ladder.can_be_squeezed(&spec),
            is_held: ladder.is_held_by_machine(&spec),
        };
        let modules = [low, one(1, Importance::Normal, 900, Rung::None)];
        let turn = squeezed(Resource::MachineCpu, &modules);
        turn.iter().map(|id| id.0).collect::<Vec<_>>()
    };
    assert_eq!(turn(&ladder, 900), [0]);
    for _ in 0..6 {
        now = now.after(S(5));
        ladder.sample(&spec, now, &cpu(900), Some(Resource::MachineCpu));
    }
    assert_eq!(ladder.climbed(), Rung::Priority);
    assert_eq!(turn(&ladder, 900), [0, 1]);
    // It uses little because it is held: it is let go when the pressure has ended, not before.
    assert_eq!(turn(&ladder, 10), [0, 1]);
    assert_eq!(turn(&Ladder::default(), 10), [1]);
}

#[test]
fn the_least_important_users_are_squeezed_first() {
    use Importance::{Critical, High, Low, Normal};
    let turn = |low: Rung, normal: Rung| {
        let modules = [
            one(0, Low, 900, low),
            one(1, Low, 10, Rung::None), // idle
            one(2, Normal, 900, normal),
            one(3, High, 900, Rung::None),
            one(4, Critical, 900, Rung::None),
        ];
        squeezed(Resource::MachineCpu, &modules)
            .iter()
            .map(|id| id.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(turn(Rung::None, Rung::None), [0]);
    assert_eq!(turn(Rung::Cap, Rung::None), [0, 2]);
    assert_eq!(turn(Rung::Cap, Rung::Cap), [0, 2, 3]);
}

#[test]
fn a_busy_machine_is_short_only_when_tasks_wait() {
    let load = |cpu, memory, cpu_pressure, memory_pressure| {
        let load = MachineLoad {
            cpu,
            memory,
            cpu_pressure,
            memory_pressure,
        };
        load.scarce(0.9)
    };
    assert_eq!(load(1.0, 0.5, Some(5.0), Some(0.0)), None);
    assert_eq!(
        load(1.0, 0.5, Some(60.0), Some(0.0)),
        Some(Resource::MachineCpu)
    );
    assert_eq!(load(1.0, 0.5, None, None), Some(Resource::MachineCpu));
    assert_eq!(
        load(0.1, 0.95, Some(0.0), Some(0.0)),
        Some(Resource::MachineMemory)
    );
    assert_eq!(
        load(0.1, 0.5, Some(0.0), Some(20.0)),
        Some(Resource::MachineMemory)
    );
}

proptest! {
    /// Whatever it uses: one rung a dwell at most, none down before its quiet time, only rungs of
    /// its own, every change reported once.
    #[test]
    fn every_history_keeps_the_promises_of_the_ladder(
        samples in proptest::collection::vec(
            (1_u64..8, 0_u64..2000, 0_u64..20, 0_u64..400, any::<bool>()), 1..200),
        rungs in proptest::sample::subsequence(
            vec![Rung::Notice, Rung::Priority, Rung::Cap, Rung::Restart, Rung::Stop], 0..=5),
        can_cap_memory in any::<bool>(),
    ) {
        let mut spec = LadderSpec { can_cap_memory, ..spec() };
        spec.throttle.rungs = rungs;
        let mut ladder = Ladder::default();
        let (mut now, mut shown) = (MonoTime(1), Rung::None);
        let (mut last_up, mut last_over) = (None::<MonoTime>, MonoTime(0));
        for (gap, bytes, threads, permille, squeeze) in samples {
            now = now.after(S(gap));
            let usage = ResourceUsage {
                memory_bytes: Some(bytes),
                threads: Some(threads),
                cpu_permille: Some(permille),
                processes: Some(1),
            };
            let squeeze = squeeze.then_some(Resource::MachineCpu);
            let before = ladder.climbed();
            let change = ladder.sample(&spec, now, &usage, squeeze);
            prop_assert_eq!(change.map_or(shown, |change| change.from), shown);
            shown = change.map_or(shown, |change| change.to);
            prop_assert_eq!(shown, ladder.rung());
            let after = ladder.climbed();
            prop_assert!(after == Rung::None || spec.throttle.rungs.contains(&after));
            if bytes > 800 || threads > 8 || squeeze.is_some() {
                last_over = now;
            }
            if after > before {
                prop_assert!(last_up.is_none_or(|at| now.since(at) >= spec.throttle.dwell));
                last_up = Some(now);
            }
            if after < before {
                prop_assert!(now.since(last_over) >= spec.throttle.release);
            }
        }
    }
}

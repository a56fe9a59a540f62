//! What deciding costs: a large plan from its parts, and the life of modules step by step.
//! Owns nothing. Never measures how a plan's parts were made.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use mainstay_policy::lifecycle::{LifecycleEffect, LifecycleEvent};
use mainstay_policy::run::{Exit, RunEnd, RunReport, RunReportKind};
use mainstay_policy::spec::{
    Backoff, Cascade, DependencyCondition, Edge, Importance, Kind, OnDependencyRestart, Readiness,
    RecoverySpec, RestartPolicy, StartMode, Strategy,
};
use mainstay_policy::{Lifecycle, ModuleId, ModuleSpec, MonoTime, Plan, SystemSpec};

fn system() -> SystemSpec {
    SystemSpec {
        parallel_startup: true,
        module_start_delay: Duration::ZERO,
        startup_timeout: Duration::from_mins(1),
        shutdown_timeout: Duration::from_secs(30),
        concurrent_restarts: 0,
        cascade: Cascade::default(),
        groups: Vec::new(),
    }
}

fn module(number: u32, needs: impl Iterator<Item = u32>) -> ModuleSpec {
    let edge = |to| Edge {
        to: ModuleId(to),
        hard: true,
        until: DependencyCondition::Ready,
    };
    ModuleSpec {
        id: ModuleId(number),
        name: format!("module-{number}"),
        kind: Kind::Service,
        required: true,
        start: StartMode::Eager,
        importance: Importance::Normal,
        edges: needs.map(edge).collect(),
        readiness: Readiness::Started,
        has_before_start: false,
        has_after_stop: false,
        startup_timeout: Duration::from_secs(30),
        shutdown_timeout: Duration::from_secs(10),
        watchdog: None,
        has_probes: false,
        has_startup_probes: false,
        has_readiness_probes: false,
        recovery: RecoverySpec {
            auto: true,
            restart: RestartPolicy::Always,
            clean_exit_codes: vec![0],
            max_attempts: 0,
            window: Duration::from_mins(5),
            backoff: Backoff {
                initial: Duration::ZERO,
                factor: 2.0,
                max: Duration::ZERO,
                jitter: 0.0,
                floor: Duration::ZERO,
            },
            stable_after: Duration::from_mins(1),
            probation: None,
            on_failure: vec![Strategy::Restart],
        },
        on_dependency_restart: OnDependencyRestart::Notify,
        throttle: mainstay_policy::resources::ThrottleSpec::default(),
    }
}

/// Each module needs up to three of those a step, a leap and a long way before it.
fn modules(count: u32) -> Vec<ModuleSpec> {
    let needs = |n: u32| {
        [1, 7, 31]
            .into_iter()
            .filter_map(move |by| n.checked_sub(by))
    };
    (0..count).map(|n| module(n, needs(n))).collect()
}

fn plan(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy/plan");
    group.sample_size(10);
    for count in [1_000_u32, 10_000, 100_000] {
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function(format!("{count} modules, {} edges", 3 * count), |b| {
            b.iter_batched(
                || modules(count),
                |specs| Plan::new(1, system(), specs).expect("a plan without cycles"),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// A system of independent modules, all running.
fn running(count: u32) -> Lifecycle {
    let specs = (0..count).map(|n| module(n, std::iter::empty()));
    let plan = Plan::new(1, system(), specs).expect("a plan without cycles");
    let mut lifecycle = Lifecycle::new(plan, 1);
    lifecycle.apply(MonoTime(0), LifecycleEvent::Boot);
    follow(&mut lifecycle, MonoTime(0));
    lifecycle
}

/// Answers every order to run as a machine would; the number of effects.
fn follow(lifecycle: &mut Lifecycle, now: MonoTime) -> u64 {
    let mut effects = 0;
    while let Some(effect) = lifecycle.next_effect(now) {
        effects += 1;
        if let LifecycleEffect::Run { module, generation } = effect {
            for what in [RunReportKind::Started { pid: 1 }, RunReportKind::Ready] {
                let report = RunReport { generation, what };
                lifecycle.apply(now, LifecycleEvent::Reported { module, report });
            }
        }
    }
    effects
}

fn restart(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy/one module of many dies and is back");
    for count in [20_u32, 1_000] {
        let mut lifecycle = running(count);
        let (mut turn, mut now) = (0_u32, 0_u64);
        group.bench_function(format!("{count} modules"), |b| {
            b.iter(|| {
                turn = (turn + 1) % count;
                now += 1_000_000_000;
                let module = ModuleId(turn);
                let generation = lifecycle.view(module).generation;
                let exit = Exit::Signal {
                    signal: mainstay_process::Signal::KILL,
                    core: false,
                };
                let what = RunReportKind::Ended(RunEnd::Exited(exit));
                let report = RunReport { generation, what };
                lifecycle.apply(MonoTime(now), LifecycleEvent::Reported { module, report });
                let effects = follow(&mut lifecycle, MonoTime(now));
                let next = lifecycle.view(module).generation;
                assert_eq!(next, generation + 1, "it runs again");
                effects
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    plan(&mut criterion);
    restart(&mut criterion);
    criterion.final_summary();
}

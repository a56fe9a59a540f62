//! Plans that cannot be run, and the size of those that can.
//! Owns the cycles: one node, two, many, and with a tail.

use super::*;
use crate::fixture::{modules, plan, system};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use std::time::Instant;

fn refused(text: &str) -> String {
    Plan::new(1, system(), modules(text))
        .expect_err("a bad plan")
        .to_string()
}

#[test]
fn order_is_by_wave_then_by_name() {
    let plan = plan("d: b c\nc: a\nb: a\na\nz");
    let names: Vec<&str> = plan
        .order()
        .iter()
        .map(|id| plan.module(*id).name.as_str())
        .collect();
    assert_eq!(names, ["a", "z", "b", "c", "d"]);
    let wave = |name| plan.wave(plan.find(name).expect("there"));
    assert_eq!(["a", "z", "b", "d"].map(wave), [0, 0, 1, 2]);
    let a = plan.find("a").expect("there");
    let from = plan
        .dependents(a)
        .iter()
        .map(|it| plan.module(it.from).name.as_str());
    assert_eq!(from.collect::<Vec<_>>(), ["c", "b"]);
}

/// A later plan may lack modules that had a slot before.
#[test]
fn slots_may_be_vacant_and_order_is_by_name_not_by_slot() {
    let mut specs = modules("z\na: z\nm: a");
    specs[0].id = ModuleId(9);
    specs[1].id = ModuleId(4);
    specs[1].edges[0].to = ModuleId(9);
    specs[2].edges[0].to = ModuleId(4);
    let plan = Plan::new(7, system(), specs).expect("a good plan");
    let ids: Vec<u32> = plan.ids().map(|id| id.0).collect();
    assert_eq!(ids, [4, 2, 9], "by name: a, m, z");
    assert_eq!(plan.order(), [9, 4, 2].map(ModuleId));
    assert_eq!((plan.len(), plan.slots()), (3, 10));
    assert!(plan.has(ModuleId(4)) && !plan.has(ModuleId(5)) && !plan.has(ModuleId(10)));
    assert_eq!((plan.find("m"), plan.find("b")), (Some(ModuleId(2)), None));
    assert_eq!(plan.dependents(ModuleId(9))[0].from, ModuleId(4));
    assert!(plan.dependents(ModuleId(5)).is_empty());

    let mut lifecycle = crate::Lifecycle::new(plan, 1);
    lifecycle.apply(crate::MonoTime(0), crate::lifecycle::LifecycleEvent::Boot);
    let first = lifecycle.next_effect(crate::MonoTime(0));
    assert!(first.is_some() && lifecycle.spec(ModuleId(5)).is_none());
    assert_eq!(
        lifecycle
            .spec(ModuleId(2))
            .map(|(spec, plan)| (&*spec.name, plan)),
        Some(("m", 7))
    );
}

#[test]
fn one_slot_has_one_module() {
    let mut specs = modules("a\nb");
    specs[1].id = specs[0].id;
    let error = Plan::new(1, system(), specs)
        .expect_err("one slot")
        .to_string();
    assert!(error.contains("modules b and a apart"), "{error}");
}

#[test]
fn cycles_excess_depth() {
    assert_eq!(
        refused("a: a"),
        "cannot order module a: it depends on itself; remove that dependency"
    );
    // The tail (t) and what only depends on the circle (x) are not part of the path.
    assert_eq!(
        refused("x: c\nc: a\nb: t c?\na: b\nt"),
        "cannot order the modules: they depend on each other in a circle: \
         a -> b -> c -> a; remove one of these dependencies"
    );
    let mut ring = modules("m");
    ring[0].edges = vec![Edge {
        to: ModuleId(9_999),
        hard: true,
        until: DependencyCondition::Ready,
    }];
    for id in 1..10_000 {
        let mut next = ring[0].clone();
        next.id = ModuleId(id);
        next.name = format!("m{id}");
        next.edges[0].to = ModuleId(id - 1);
        ring.push(next);
    }
    let Err(PlanError::Cycle { path }) = Plan::new(1, system(), ring.clone()) else {
        panic!("a circle of 10 000")
    };
    assert_eq!(
        (path.len(), path[0].as_str(), path[1].as_str()),
        (10_000, "m", "m9999")
    );
    ring[0].edges.clear();
    let line = Plan::new(1, system(), ring).expect("a line");
    assert_eq!(line.wave(ModuleId(9_999)), 9_999);
}

#[test]
fn edges_that_can_never_be_met_are_refused() {
    let mut specs = modules("a: b@healthy\nb");
    specs[1].has_probes = false;
    let error = Plan::new(1, system(), specs)
        .expect_err("no probes")
        .to_string();
    assert!(
        error.starts_with("cannot let module a wait until b is healthy"),
        "{error}"
    );
    let error = refused("a: b@completed\nb | builtin");
    assert!(
        error.starts_with("cannot let module a wait until b has completed"),
        "{error}"
    );
    assert!(refused("a\na").contains("two modules named a"));
    let mut specs = modules("a: b\nb");
    specs[0].edges[0].to = ModuleId(7);
    let error = Plan::new(1, system(), specs)
        .expect_err("unknown")
        .to_string();
    assert!(error.contains("module number 7"), "{error}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test is about time")]
fn large_plans_are_linear() {
    let time = |nodes: u32| {
        let prototype = modules("m").remove(0);
        let specs: Vec<ModuleSpec> = (0..nodes)
            .map(|id| {
                let mut spec = prototype.clone();
                (spec.id, spec.name) = (ModuleId(id), format!("m{id}"));
                let to = |step: u32| ModuleId(id.wrapping_mul(2_654_435_761) % id.max(1) / step);
                let edge = |step| Edge {
                    to: to(step),
                    hard: true,
                    until: DependencyCondition::Ready,
                };
                spec.edges = if id == 0 {
                    vec![]
                } else {
                    vec![edge(1), edge(2), edge(3)]
                };
                spec
            })
            .collect();
        let begin = Instant::now();
        let plan = Plan::new(1, system(), specs).expect("no circle");
        let took = begin.elapsed();
        assert_eq!(plan.order().len(), nodes as usize);
        took
    };
    let quickest = |nodes| (0..3).map(|_| time(nodes)).min().expect("three");
    let (small, large) = (quickest(10_000), quickest(100_000));
    // Ten times the nodes: below the hundredfold of a quadratic way, with room for a cold cache
    // (on a busy machine that alone made it fortyfold).
    assert!(
        large < small * 70,
        "{small:?} for 10 000, {large:?} for 100 000"
    );
}

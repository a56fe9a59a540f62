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

#[test]
fn cycles_excess_depth() {
    assert_eq!(
        refused("a: a"),
        "cannot order module a: it depends on itself; remove that dependency"
    );
    // The tail (t) and those behind the circle (x) are not part of the path.
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
                spec.name = format!("m{id}");
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

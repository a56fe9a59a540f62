//! Graphs of a plan together with edges of former plans.
//! Owns the orders that result. Plans of one number are tested beside `plan.rs`.

use super::*;
use crate::fixture::modules;
use alloc::format;
use alloc::string::String;

fn graph(text: &str) -> DependencyGraph {
    let specs = modules(text).into_iter().map(|spec| Some(Arc::new(spec)));
    DependencyGraph::new(&specs.collect::<Vec<_>>()).expect("no cycle")
}

/// The modules of `text` without the lines that a plan does not have any more.
fn without(text: &str, gone: &[&str]) -> DependencyGraph {
    let specs = modules(text).into_iter();
    let specs = specs.map(|spec| (!gone.contains(&&*spec.name)).then(|| Arc::new(spec)));
    DependencyGraph::new(&specs.collect::<Vec<_>>()).expect("no cycle")
}

fn former(text: &str, names: &[&str]) -> Vec<Arc<ModuleSpec>> {
    let specs = modules(text).into_iter();
    let specs = specs.filter(|spec| names.contains(&&*spec.name));
    specs.map(Arc::new).collect()
}

/// The order, and the dependents of each module.
fn told(graph: &DependencyGraph) -> String {
    let module = |id: &ModuleId| {
        let from = graph.dependents(*id).iter().map(|it| graph.name(it.from));
        format!(
            "{}[{}]",
            graph.name(*id),
            from.collect::<Vec<_>>().join(" ")
        )
    };
    let order = graph.order().iter().map(module);
    order.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_removed_module_comes_after_what_it_needed_and_before_what_needed_it() {
    let old = "db\ncache: db\napp: cache";
    let new = without("db\ncache\napp: db", &["cache"]);
    assert_eq!(told(&new), "db[app] app[]");
    let both = new.with_former(&former(old, &["cache", "app"]));
    assert_eq!(told(&both), "db[cache app] cache[app] app[]");
    assert_eq!(new.slots(), 3, "the slot of a removed module stays");
}

#[test]
fn a_slot_beyond_those_of_the_plan_is_added() {
    let old = "a\nb: a\nc: b";
    let new = graph("a");
    let both = new.with_former(&former(old, &["b", "c"]));
    assert_eq!((told(&both).as_str(), both.slots()), ("a[b] b[c] c[]", 3));
}

#[test]
fn the_edges_of_the_plan_win_where_old_and_new_ones_form_a_cycle() {
    // b needed a; now a needs b. c was not changed.
    let new = graph("a: b\nb\nc: a");
    let both = new.with_former(&former("a\nb: a\nc: a", &["b"]));
    assert_eq!(told(&both), "b[a] a[c] c[]");
    // A longer one: p needed c1; now c1 needs c2, c2 needs p.
    let new = graph("p\nc1: c2\nc2: p\nz: c1");
    let both = new.with_former(&former("p: c1\nc1\nc2: p\nz: c1", &["p"]));
    assert_eq!(told(&both), told(&new));
}

#[test]
fn an_edge_that_did_not_change_is_there_once() {
    let new = graph("a\nb: a");
    let both = new.with_former(&former("a\nb: a", &["b"]));
    assert_eq!(told(&both), "a[b] b[]");
    let both = new.with_former(&former("a\nb: a?", &["b"]));
    assert_eq!(told(&both), "a[b b] b[]", "two kinds are two edges");
}

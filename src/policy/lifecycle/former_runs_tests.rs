//! A new lifecycle under a plan that removed modules: it knows their records, and their runs if
//! they are out.
//! Owns the stories of one that was started again alone, or with runs of a runtime before. Never
//! looks inside.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{AdoptedProcess, Lifecycle, LifecycleEvent};
use crate::fixture::{LifecycleScript, check, plan, run, system};
use crate::plan::Plan;
use crate::states::State;

/// The lifecycle alone was started again while a plan that removed a module was watched.
#[test]
fn a_new_lifecycle_is_told_of_a_removed_module_and_brings_it_back_as_it_was() {
    let mut before = check(
        "a\nb",
        &[("boot", "run a, run b"), ("a up", ""), ("b up", "started")],
    );
    assert_eq!(before.replan("b", ""), "halt a");
    run(&mut before, &[("a halted", "removed a, plan 2")]);
    let (a, b) = (before.id("a"), before.id("b"));
    let mut slots = crate::module_ids::ModuleIds::default();
    crate::fixture::modules_onto(&mut slots, "a\nb");
    let modules = crate::fixture::modules_onto(&mut slots, "b");
    let plan = Plan::new(2, system(), modules).expect("a good plan");
    let records = [a, b].map(|module| (module, before.lifecycle.record(module)));
    before.lifecycle = super::Lifecycle::new(plan, 2);
    let mut effects = Vec::new();
    for (module, record) in records {
        let generation = record.generation;
        let alive = (module == b).then_some(AdoptedProcess { generation, pid: 7 });
        let event = LifecycleEvent::Adopted {
            module,
            record,
            alive,
        };
        before.note(event, &mut effects);
    }
    run(&mut before, &[("resume", "")]);
    assert_eq!(before.replan("a\nb", ""), "run a, plan 3");
    assert_eq!(before.lifecycle.view(a).generation, 2);
}

/// The same of the module that had the highest slot: the plan has none for it, and neither has the
/// next one, which leaves it out as well.
#[test]
fn what_a_new_lifecycle_knows_of_a_removed_module_outlasts_plans_with_fewer_slots() {
    let up = [("boot", "run a, run b"), ("a up", ""), ("b up", "started")];
    let mut script = check("a\nb", &up);
    let (a, b) = (script.id("a"), script.id("b"));
    assert_eq!(script.replan("a", ""), "halt b");
    run(&mut script, &[("b halted", "removed b, plan 2")]);
    let records = [a, b].map(|module| (module, script.lifecycle.record(module)));
    script.lifecycle = Lifecycle::new(script.lifecycle.plan().clone(), 2);
    let mut effects = Vec::new();
    for (module, record) in records {
        let generation = record.generation;
        let alive = (module == a).then_some(AdoptedProcess { generation, pid: 7 });
        let event = LifecycleEvent::Adopted {
            module,
            record,
            alive,
        };
        script.note(event, &mut effects);
    }
    run(&mut script, &[("resume", "")]);
    assert_eq!(script.replan("a", ""), "plan 3");
    assert_eq!(script.replan("a\nb", ""), "run b, plan 4");
    assert_eq!(script.lifecycle.view(b).generation, 2);
}

/// The same while the run of the removed module is being ended: its next run waits for that.
#[test]
fn a_new_lifecycle_ends_the_run_of_a_removed_module_before_that_comes_back() {
    let up = [("boot", "run a, run b"), ("a up", ""), ("b up", "started")];
    let mut script = check("a\nb", &up);
    let (a, b) = (script.id("a"), script.id("b"));
    let former = script.lifecycle.spec(a).map(|(spec, _)| Arc::clone(spec));
    assert_eq!(script.replan("b", ""), "halt a");
    let records = [a, b].map(|module| (module, script.lifecycle.record(module)));
    script.lifecycle = Lifecycle::new(script.lifecycle.plan().clone(), 2);
    script.lifecycle.keep_former(former);
    let mut effects = Vec::new();
    for (module, record) in records {
        let generation = record.generation;
        let alive = Some(AdoptedProcess { generation, pid: 7 });
        let event = LifecycleEvent::Adopted {
            module,
            record,
            alive,
        };
        script.note(event, &mut effects);
    }
    run(&mut script, &[("resume", "halt a")]);
    assert!(script.lifecycle.is_changing());
    let mut without = script.lifecycle.clone();
    core::mem::swap(&mut without, &mut script.lifecycle);
    assert_eq!(script.replan("a\nb", ""), "");
    run(&mut script, &[("a halted", "run a, plan 3"), ("a up", "")]);
    assert_eq!(script.lifecycle.view(a).generation, 2);
    script.lifecycle = without;
    run(&mut script, &[("a halted", "removed a, plan 2")]);
}

#[test]
fn a_run_of_an_earlier_runtime_is_ended_before_the_first_one_of_an_added_module() {
    let mut script = LifecycleScript::new(plan("a"));
    script.apply("boot");
    script.apply("a up");
    script.replan("a", "");
    let added = crate::spec::ModuleId(1);
    script.lifecycle.found_run(added, 4, Some(77));
    assert_eq!(script.replan("a\nb", ""), "halt b, plan 3");
    assert_eq!(script.state("b"), State::Stopping);
    assert_eq!(script.apply("b halted"), "run b");
    assert_eq!(script.lifecycle.view(added).generation, 5);
}

#[test]
fn a_run_that_has_ended_only_gives_the_next_one_its_number() {
    let mut script = LifecycleScript::new(plan("a"));
    script.apply("boot");
    script.apply("a up");
    let added = crate::spec::ModuleId(1);
    script.lifecycle.found_run(added, 4, None);
    assert_eq!(script.replan("a\nb", ""), "run b, plan 2");
    assert_eq!(script.lifecycle.view(added).generation, 5);
}

#[test]
fn a_lazy_module_that_is_added_ends_what_an_earlier_runtime_left_of_it() {
    let mut script = LifecycleScript::new(plan("a"));
    script.apply("boot");
    script.apply("a up");
    let added = crate::spec::ModuleId(1);
    script.lifecycle.found_run(added, 4, Some(77));
    assert_eq!(script.replan("a\nb | lazy", ""), "halt b, plan 2");
    assert_eq!(script.apply("b halted"), "");
    assert_eq!(script.state("b"), State::Stopped);
}

#[test]
fn a_run_that_was_found_for_a_refused_plan_is_no_run_of_the_next_one() {
    let mut script = LifecycleScript::new(plan("a"));
    script.apply("boot");
    script.apply("a up");
    let added = crate::spec::ModuleId(1);
    script.lifecycle.found_run(added, 4, Some(77));
    let refused = script.lifecycle.replan(script.now, plan("a\nb"), &[]);
    assert!(refused.is_err(), "it has the number of the plan in force");
    assert_eq!(script.replan("a\nb", ""), "run b, plan 2");
    assert_eq!(script.lifecycle.view(added).generation, 5);
}

//! Shares of a stop budget.
//! Owns the sums along chains. Never stops anything.

use super::*;
use crate::Plan;
use crate::backoff::splitmix64;
use crate::fixture::{SEC, modules, plan, system};
use crate::spec::DependencyCondition;
use crate::spec::Edge;
use alloc::format;

fn all_live(plan: &Plan, budget: Duration) -> StopBudget {
    StopBudget::new(plan.graph(), budget, |id| Some(plan.module(id)))
}

fn shares(plan: &Plan, budget: u64) -> Vec<Duration> {
    let shares = all_live(plan, SEC(budget));
    plan.ids().map(|id| shares.grace(id)).collect()
}

#[test]
fn the_reserve_is_small() {
    assert_eq!(reserve(SEC(2)), Duration::from_millis(100));
    assert_eq!(reserve(SEC(300)), Duration::from_millis(500));
}

#[test]
fn with_room_everybody_gets_its_own_timeout() {
    assert_eq!(shares(&plan("a\nb: a\nc: b"), 30), [SEC(10); 3]);
    assert_eq!(
        shares(&plan("a\nb\nc"), 10),
        [SEC(10); 3],
        "branches stop at the same time"
    );
}

#[test]
fn short_of_time_the_important_keep_more_and_other_branches_keep_all() {
    let all = shares(&plan("a | critical\nb: a | low\nc"), 9);
    assert!(all[0] > all[1] * 7, "{all:?}");
    assert!(
        all[0] + all[1] <= SEC(9) && all[0] + all[1] > SEC(7),
        "{all:?}"
    );
    assert_eq!(all[2], SEC(9).min(all[2]));
    assert!(
        all[2] > SEC(8),
        "a branch of its own is squeezed by nobody: {all:?}"
    );
}

#[test]
fn after_stop_commands_have_no_part_of_their_own() {
    let mut specs = modules("a\nb: a");
    specs[0].has_after_stop = true;
    let plan = Plan::new(1, system(), specs).expect("good");
    assert_eq!(shares(&plan, 60), [SEC(10), SEC(10)]);
}

#[test]
fn stop_times_add_up() {
    for seed in 0..50_u64 {
        let number = |salt: u64, end: u64| splitmix64(seed ^ splitmix64(salt)) % end;
        let mut specs = modules("m");
        let prototype = specs.remove(0);
        for id in 0..60_u64 {
            let mut spec = prototype.clone();
            spec.id = ModuleId(u32::try_from(id).expect("small"));
            spec.name = format!("m{id}");
            spec.shutdown_timeout = SEC(number(id + 1000, 20));
            let importance = [Importance::Low, Importance::Normal, Importance::Critical];
            spec.importance = importance[number(id + 2000, 3) as usize];
            for edge in 0..number(id + 3000, 4).min(id) {
                let to = ModuleId(u32::try_from(number(id * 8 + edge, id)).expect("small"));
                spec.edges.push(Edge {
                    to,
                    hard: edge > 0,
                    until: DependencyCondition::Ready,
                });
            }
            specs.push(spec);
        }
        let plan = Plan::new(1, system(), specs).expect("no circle");
        let budget = SEC(1 + number(1, 40));
        let shares = all_live(&plan, budget);
        for module in plan.ids() {
            let chain = shares.grace(module) + shares.time_after(module);
            assert!(chain <= budget, "seed {seed}: {chain:?} of {budget:?}");
            assert!(shares.grace(module) <= plan.module(module).shutdown_timeout);
        }
    }
}

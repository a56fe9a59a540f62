//! Tables of groups: which restart reaches whom, and what follows when a budget is exceeded.
//! Owns one row for each rule of the design. Never runs a lifecycle.

use super::*;
use crate::fixture::{SEC, groups};
use alloc::format;
use alloc::string::ToString;

/// Modules are called `a`, `b`, `c` …
fn tree(text: &str) -> GroupTree {
    let find = |name: &str| ModuleId(u32::from(name.as_bytes()[0] - b'a'));
    GroupTree::new(groups(text, find)).expect("a forest")
}

fn error(text: &str) -> GroupError {
    let find = |name: &str| ModuleId(u32::from(name.as_bytes()[0] - b'a'));
    GroupTree::new(groups(text, find)).expect_err("no forest")
}

fn module(name: char) -> ModuleId {
    ModuleId(u32::from(name) - u32::from('a'))
}

fn names(modules: &[ModuleId]) -> String {
    let letter = |id: &ModuleId| char::from(b'a' + u8::try_from(id.0).expect("a letter"));
    modules.iter().map(letter).collect()
}

/// Each restart of a module, a second after the last: which others restart, and what the group
/// does when its budget is exceeded.
#[track_caller]
fn check(text: &str, story: &[(char, &str)]) {
    let tree = tree(text);
    let (mut budgets, mut now) = (GroupBudgets::new(&tree), MonoTime(0));
    for (at, (name, expected)) in story.iter().enumerate() {
        now = now.after(SEC(1));
        let decision = budgets.count_restart(&tree, now, module(*name), SEC(300));
        let along = names(&tree.taken_along(decision.scope, module(*name)));
        let said = match (decision.action, decision.scope) {
            (None, _) => along,
            (Some(action), Scope::System) => format!("{action:?}"),
            (Some(action), _) => format!("{action:?} {along}"),
        };
        assert_eq!(said, expected.to_string(), "restart {}", at + 1);
    }
}

#[test]
fn a_strategy_says_who_restarts_with_whom() {
    for (strategy, first, middle, last) in [
        ("one_for_one", "", "", ""),
        ("one_for_all", "bc", "ac", "ab"),
        ("rest_for_one", "bc", "c", ""),
    ] {
        let text = format!("g: a b c | {strategy} 5 30s stop_group");
        check(
            &text,
            &[('a', first), ('b', middle), ('c', last), ('d', "")],
        );
    }
}

#[test]
fn the_order_of_rest_for_one_is_that_of_the_members() {
    check(
        "g: c a b | rest_for_one 5 30s stop_group",
        &[('a', "b"), ('c', "ab"), ('b', "")],
    );
}

#[test]
fn a_budget_counts_all_members_within_its_window() {
    check(
        "g: a b c | one_for_one 2 30s stop_group",
        &[('a', ""), ('b', ""), ('c', "StopGroup ab")],
    );
    check(
        "g: a b | one_for_one 2 2s stop_group",
        &[('a', ""), ('b', ""), ('a', ""), ('b', ""), ('a', "")],
    );
    check("g: a b | one_for_one 0 30s shutdown", &[('a', "Shutdown")]);
}

#[test]
fn a_nested_group_restarts_as_one_member_of_its_parent() {
    let inner = "inner: b c | one_for_one 1 30s escalate";
    let outer = |strategy: &str| {
        let outer = format!("outer: a group:inner d | {strategy} 2 30s stop_group");
        format!("{outer}\n{inner}")
    };
    for (strategy, along) in [
        ("one_for_one", "c"),
        ("one_for_all", "acd"),
        ("rest_for_one", "cd"),
    ] {
        let story = [
            ('b', ""),
            ('b', along),
            // The inner group has a new budget, the outer one counted one restart.
            ('b', ""),
            ('b', along),
            ('c', ""),
            ('b', "StopGroup acd"),
        ];
        check(&outer(strategy), &story);
    }
}

#[test]
fn what_a_group_does_instead_of_stopping_it_does_once() {
    for (word, action) in [
        ("restart_system", "RestartSystem"),
        ("degrade", "Degrade b"),
    ] {
        let text = format!("g: a b | one_for_one 1 30s {word}");
        check(
            &text,
            &[('a', ""), ('a', action), ('a', ""), ('a', "StopGroup b")],
        );
    }
}

#[test]
fn after_a_long_calm_the_one_try_is_there_again_and_a_request_forgives() {
    let tree = tree("g: a b | one_for_one 0 30s degrade");
    let mut budgets = GroupBudgets::new(&tree);
    let restart = |budgets: &mut GroupBudgets, seconds| {
        let now = MonoTime(0).after(SEC(seconds));
        budgets
            .count_restart(&tree, now, module('a'), SEC(300))
            .action
    };
    assert_eq!(restart(&mut budgets, 0), Some(OnExceeded::Degrade));
    assert_eq!(restart(&mut budgets, 299), Some(OnExceeded::StopGroup));
    assert_eq!(restart(&mut budgets, 599), Some(OnExceeded::Degrade));
    assert_eq!(restart(&mut budgets, 600), Some(OnExceeded::StopGroup));
    budgets.reset(&tree, module('b'));
    assert_eq!(restart(&mut budgets, 601), Some(OnExceeded::Degrade));
}

#[test]
fn a_group_with_the_same_name_keeps_its_restarts_in_the_next_plan() {
    let before = tree("g: a b | one_for_one 1 30s stop_group");
    let after =
        tree("new: c | one_for_one 1 30s stop_group\ng: a b | one_for_one 1 30s stop_group");
    let mut budgets = GroupBudgets::new(&before);
    let now = MonoTime(1);
    assert_eq!(
        budgets
            .count_restart(&before, now, module('a'), SEC(1))
            .action,
        None
    );
    let mut budgets = budgets.carried_over(&before, &after);
    let decision = budgets.count_restart(&after, now, module('a'), SEC(1));
    assert_eq!(decision.action, Some(OnExceeded::StopGroup));
    assert_eq!(decision.exceeded, [GroupId(1)]);
}

#[test]
fn groups_that_form_no_forest_are_refused() {
    let two = error("g: a b | one_for_one 1 1s stop_group\nh: b | one_for_one 1 1s stop_group");
    let (member, groups) = (GroupMember::Module(module('b')), [GroupId(0), GroupId(1)]);
    assert_eq!(two, GroupError::TwoGroups { member, groups });
    let circle = error(
        "g: group:h | one_for_one 1 1s escalate\nh: group:i a | one_for_one 1 1s escalate\n\
         i: group:g | one_for_one 1 1s escalate",
    );
    let path = [0, 1, 2].map(GroupId).to_vec();
    let GroupError::Cycle { path: found } = circle else {
        panic!("{circle:?}")
    };
    let turned = (0..3).any(|by| {
        let mut path = path.clone();
        path.rotate_left(by);
        path == found
    });
    assert!(turned, "{found:?}");
    let itself = error("g: group:g | one_for_one 1 1s stop_group");
    assert_eq!(
        itself,
        GroupError::Cycle {
            path: alloc::vec![GroupId(0)]
        }
    );
    let unknown = error("g: group:x | one_for_one 1 1s stop_group");
    assert_eq!(unknown, GroupError::UnknownGroup { group: GroupId(0) });
    let top = error("g: a | one_for_one 1 1s escalate");
    assert_eq!(top, GroupError::NoParent { group: GroupId(0) });
}

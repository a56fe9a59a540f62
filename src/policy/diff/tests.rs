//! Plans beside plans: what differs, in which order, and what is taken along.
//! Owns the tables and the properties of a diff.
//! Never looks inside.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{Difference, KeyClass, diff};
use crate::fixture::{modules_onto, system};
use crate::module_ids::ModuleIds;
use crate::plan::Plan;
use crate::spec::ModuleId;

/// The differences in words; `keys` is `name class` pairs.
fn differences(from: &str, to: &str, keys: &[(&str, KeyClass)]) -> String {
    let mut ids = ModuleIds::default();
    let before = Plan::new(1, system(), modules_onto(&mut ids, from)).expect("a plan");
    let after = Plan::new(2, system(), modules_onto(&mut ids, to)).expect("a plan");
    let id = |name: &str| ids.find(name).expect("a module");
    let keys: Vec<(ModuleId, KeyClass)> = keys
        .iter()
        .map(|(name, class)| (id(name), *class))
        .collect();
    let name = |id: ModuleId| ids.instance(id).expect("a module").to_string();
    let words = diff(&before, &after, &keys)
        .into_iter()
        .map(|(id, what)| match what {
            Difference::Added => format!("+{}", name(id)),
            Difference::Removed => format!("-{}", name(id)),
            Difference::Changed(class) => format!("{} {}", name(id), class.as_str()),
            Difference::TakenAlong(by) => format!("{} with {}", name(id), name(by)),
        });
    words.collect::<Vec<String>>().join(", ")
}

/// Two plans, the classes of keys, and the differences in words.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, KeyClass)],
    &'static str,
);

#[test]
fn what_differs_is_named_once_in_the_order_in_which_it_is_applied() {
    use KeyClass::{Live, Notify, Restart, RestartDependents};
    let chain = "a\nb: a\nc: b";
    let rows: [Row; 11] = [
        (chain, chain, &[], ""),
        (chain, "a\nb: a", &[], "-c"),
        (chain, "d", &[], "-c, -b, -a, +d"),
        ("a", "z\na: z", &[("a", Live)], "+z, a live"),
        (chain, "a | optional\nb: a\nc: b", &[], "a live"),
        (
            chain,
            chain,
            &[("c", Notify), ("a", Restart)],
            "a restart, c notify",
        ),
        (
            chain,
            chain,
            &[("a", RestartDependents)],
            "a restart_dependents, b with a",
        ),
        // A dependent that is restarted for its own keys says so.
        (
            chain,
            chain,
            &[("a", RestartDependents), ("b", Restart)],
            "a restart_dependents, b restart",
        ),
        (
            chain,
            chain,
            &[("a", RestartDependents), ("b", Live)],
            "a restart_dependents, b with a",
        ),
        // It starts after the other anyway.
        (
            "a",
            "a\nb: a",
            &[("a", RestartDependents)],
            "a restart_dependents, +b",
        ),
        (
            "a\nb: a?",
            "a\nb: a?",
            &[("a", RestartDependents)],
            "a restart_dependents",
        ),
    ];
    for (from, to, keys, expected) in rows {
        assert_eq!(
            differences(from, to, keys),
            expected,
            "{from:?} to {to:?}, {keys:?}"
        );
    }
}

/// A plan of modules `m0`, `m1`, …: which there are, and what of the earlier ones each needs.
fn text() -> impl Strategy<Value = String> {
    let module = (any::<bool>(), any::<bool>(), 0_usize..8);
    proptest::collection::vec(module, 1..8).prop_map(|modules| {
        let is_there: Vec<bool> = modules.iter().map(|(there, ..)| *there).collect();
        let lines = modules.iter().enumerate().filter(|(_, (there, ..))| *there);
        let lines = lines.map(|(index, (_, optional, needs))| {
            let needs = match *needs < index && is_there[*needs] {
                true => format!("m{needs}"),
                false => String::new(),
            };
            let word = if *optional { "optional" } else { "" };
            format!("m{index}: {needs} | {word}")
        });
        lines.collect::<Vec<String>>().join("\n")
    })
}

proptest! {
    #[test]
    fn nothing_differs_from_itself(text in text()) {
        prop_assert_eq!(differences(&text, &text, &[]), "");
    }

    #[test]
    fn what_is_added_one_way_is_removed_the_other(one in text(), other in text()) {
        let sorted = |from: &str, to: &str, sign: char| {
            let words = differences(from, to, &[]);
            let words = words.split(", ").filter(|word| word.starts_with(sign));
            let mut words: Vec<String> = words.map(|word| word[1..].to_string()).collect();
            words.sort();
            words
        };
        prop_assert_eq!(sorted(&one, &other, '+'), sorted(&other, &one, '-'));
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this measures")]
fn ten_thousand_modules_are_compared_in_fifty_milliseconds() {
    let lines = |changed: usize| {
        let line = move |n: usize| match (n, n == changed) {
            (0, _) => String::from("m0"),
            (_, true) => format!("m{n}: m{} | optional", n / 2),
            _ => format!("m{n}: m{}", n / 2),
        };
        (0..10_000).map(line).collect::<Vec<String>>().join("\n")
    };
    let mut ids = ModuleIds::default();
    let before = Plan::new(1, system(), modules_onto(&mut ids, &lines(0))).expect("a plan");
    let after = Plan::new(2, system(), modules_onto(&mut ids, &lines(7000))).expect("a plan");
    let took = (0..5).map(|_| {
        let begun = std::time::Instant::now();
        assert_eq!(diff(&before, &after, &[]).len(), 1);
        begun.elapsed()
    });
    let best = took.min().expect("five tries");
    assert!(best < crate::fixture::MS(50), "{best:?}");
}

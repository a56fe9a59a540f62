//! The recipes of docs/ARCHITECTURE.md, held against the code.
//! Owns what a key of a process costs, and that every file named on that page exists.
//! Never judges how a recipe is written.

use super::source::{self, Source};

const PAGE: &str = include_str!("../../../docs/ARCHITECTURE.md");

/// The files where the example of the recipe, `oom_score_adj`, stands in code of Linux.
const EDITS: [&str; 4] = [
    "src/config/lower_module.rs",
    "src/config/schema/module.rs",
    "src/holder/spawn/child.rs",
    "src/process/limits.rs",
];

#[test]
fn a_key_of_a_process_costs_four_edits() {
    let is_source = |path: &String| path.starts_with("src/") && !path.contains("windows");
    let paths = source::paths().into_iter().filter(is_source);
    let names_it = |path: &String| {
        let text = std::fs::read_to_string(source::root().join(path)).unwrap_or_default();
        let source = Source::new(path, text);
        let mut code = source.lines().filter(|(_, _, is_test)| !is_test);
        code.any(|(_, line, _)| line.contains(".oom_score_adj") || line.contains(" oom_score_adj:"))
    };
    let found: Vec<String> = paths.filter(names_it).collect();
    assert_eq!(
        found, EDITS,
        "change the recipe in docs/ARCHITECTURE.md too"
    );
    let recipe = PAGE.split("**A key of a process.**").nth(1);
    let recipe = recipe.and_then(|rest| rest.split("\n\n").next());
    let recipe = recipe.unwrap_or_default();
    let missing: Vec<&&str> = EDITS
        .iter()
        .filter(|path| !recipe.contains(**path))
        .collect();
    assert!(missing.is_empty(), "the recipe does not name {missing:?}");
}

#[test]
fn every_file_that_the_page_on_architecture_names_exists() {
    let named = PAGE.split('`').skip(1).step_by(2);
    let paths = named.filter(|text| {
        let mut parts = text.split('/');
        let room = parts.next().unwrap_or_default();
        let is_room = [
            "src",
            "tests",
            "docs",
            "modules",
            "chaos",
            "benches",
            "packaging",
            "config",
        ];
        is_room.contains(&room) && parts.next().is_some() && !text.contains(' ')
    });
    let missing: Vec<&str> = paths
        .filter(|path| !source::root().join(path).exists())
        .collect();
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md names {missing:?}");
}

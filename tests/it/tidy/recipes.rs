//! The recipes of docs/ARCHITECTURE.md, held against the code.
//! Owns what a key of a process costs, and that every file named on that page exists.
//! Never judges how a recipe is written.

use super::source::{self, Source};

const PAGE: &str = include_str!("../../../docs/ARCHITECTURE.md");

/// The files where the example of the recipe, `oom_score_adj`, stands in code of a Unix.
const EDITS: [&str; 6] = [
    "src/config/lower_module.rs",
    "src/config/schema/module.rs",
    "src/holder/bsd/child.rs",
    "src/holder/linux/child.rs",
    "src/holder/spawn/child.rs",
    "src/process/limits.rs",
];

#[test]
fn a_key_of_a_process_costs_the_edits_of_the_recipe() {
    let elsewhere = |path: &String| path.contains("windows") || path.starts_with("src/import/");
    let is_source = |path: &String| path.starts_with("src/") && !elsewhere(path);
    let paths = source::paths().into_iter().filter(is_source);
    let names_it = |path: &String| {
        let text = std::fs::read_to_string(source::root().join(path)).unwrap_or_default();
        let source = Source::new(path, text);
        let mut code = source.lines().filter(|(_, _, is_test)| !is_test);
        code.any(|(_, line, _)| line.contains("oom_score_adj"))
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

/// The rows of "Where is …": the names in the second column, the files in the third.
fn places() -> Vec<(Vec<&'static str>, Vec<&'static str>)> {
    let table = PAGE.split("## Where is …").nth(1);
    let table = table.and_then(|rest| rest.split("\n## ").next());
    let rows = table.unwrap_or_default().lines();
    let rows = rows.filter(|line| line.starts_with("| … "));
    let quoted = |cell: &'static str| cell.split('`').skip(1).step_by(2).collect::<Vec<_>>();
    let cells = rows.map(|row| row.split('|').skip(2).map(quoted).collect::<Vec<_>>());
    cells
        .map(|cells| (cells[0].clone(), cells[1].clone()))
        .collect()
}

#[test]
fn what_the_page_on_architecture_says_where_it_is_is_there() {
    let places = places();
    assert!(places.len() > 20, "the table is not read: {places:?}");
    let mut missing = Vec::new();
    for (names, files) in places {
        let is_file = |name: &&&str| name.starts_with("src/");
        let texts = files.iter().filter(is_file).filter_map(|path| {
            let path = source::root().join(path);
            std::fs::read_to_string(path).ok()
        });
        let text: String = texts.collect();
        for name in &names {
            let last = name.rsplit("::").next().unwrap_or(name);
            let defines = |word: &str| {
                let start = format!("{word} {last}");
                text.match_indices(&start).any(|(at, _)| {
                    let next = text[at + start.len()..].chars().next();
                    next.is_some_and(|next| !next.is_alphanumeric() && next != '_')
                })
            };
            let words = ["fn", "struct", "enum", "trait", "impl", "for", "type"];
            if !text.is_empty() && !name.ends_with('!') && !words.into_iter().any(defines) {
                missing.push(format!("{name} in {files:?}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md: {missing:#?}");
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

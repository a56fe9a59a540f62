//! Modules as a tree: below each one what it requires or wants.
//! Owns the order, the lines before each name, and the rule that a module is expanded once.
//! Never shows a dependency that is not among the modules.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_protocol::ModuleView;

/// One line of the tree.
pub(crate) struct TreeRow<'a> {
    /// The lines that lead to it.
    pub(crate) lines: String,
    pub(crate) module: &'a ModuleView,
    /// It was expanded above.
    pub(crate) is_repeated: bool,
}

/// Returns the rows: first the modules that no other one needs, by name.
pub(crate) fn rows<'a>(modules: &[&'a ModuleView]) -> Vec<TreeRow<'a>> {
    let by_name: BTreeMap<&str, &'a ModuleView> = modules
        .iter()
        .map(|module| (&*module.module, *module))
        .collect();
    let needed: BTreeSet<&str> = modules.iter().flat_map(|module| needs(module)).collect();
    let mut tree = Tree {
        by_name,
        rows: Vec::new(),
        expanded: BTreeSet::new(),
    };
    for (name, module) in tree.by_name.clone() {
        if !needed.contains(name) {
            tree.append(module, "", "");
        }
    }
    tree.rows
}

fn needs(module: &ModuleView) -> impl Iterator<Item = &str> {
    let all = module.requires.iter().chain(&module.wants);
    all.map(String::as_str)
}

struct Tree<'a> {
    by_name: BTreeMap<&'a str, &'a ModuleView>,
    rows: Vec<TreeRow<'a>>,
    expanded: BTreeSet<&'a str>,
}

impl<'a> Tree<'a> {
    /// Appends a module; `own` stands before its name, `below` before its dependencies.
    fn append(&mut self, module: &'a ModuleView, own: &str, below: &str) {
        let below_it: Vec<&'a ModuleView> = needs(module)
            .filter_map(|name| self.by_name.get(name).copied())
            .collect();
        let is_first = self.expanded.insert(&module.module);
        self.rows.push(TreeRow {
            lines: own.to_owned(),
            module,
            is_repeated: !is_first && !below_it.is_empty(),
        });
        if !is_first {
            return;
        }
        for (n, next) in below_it.iter().enumerate() {
            let (branch, line) = match n + 1 == below_it.len() {
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            self.append(next, &format!("{below}{branch}"), &format!("{below}{line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::module_details::tests::example;

    fn module(name: &str, requires: &[&str], wants: &[&str]) -> ModuleView {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ModuleView {
            module: name.to_owned(),
            requires: owned(requires),
            wants: owned(wants),
            ..example()
        }
    }

    #[test]
    fn each_module_is_expanded_once_below_what_needs_it() {
        let modules = [
            module("web", &["api", "cache"], &["gone"]),
            module("api", &["db"], &["cache"]),
            module("cache", &["disk"], &[]),
            module("db", &["disk"], &[]),
            module("disk", &[], &[]),
            module("alone", &[], &[]),
        ];
        let all: Vec<&ModuleView> = modules.iter().collect();
        let text: String = rows(&all)
            .iter()
            .map(|row| {
                let mark = if row.is_repeated { " ^" } else { "" };
                format!("{}{}{mark}\n", row.lines, row.module.module)
            })
            .collect();
        let expected = "\
alone
web
├─ api
│  ├─ db
│  │  └─ disk
│  └─ cache
│     └─ disk
└─ cache ^
";
        assert_eq!(text, expected);
    }
}

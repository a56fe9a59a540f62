//! Which room of `src/` may use which: read from the imports themselves.
//! Owns the table of allowed arrows; it has no circle, so that no two rooms need each other.
//! Never looks into crates: their manifests say what they use.

use std::collections::{BTreeMap, BTreeSet};

use super::report;
use super::source::{self, Source};

/// Room, and the rooms it may use. Files directly in `src/` are rooms too.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "config", "import", "journal", "os", "os_text", "runtime", "secrets", "service",
            "simulate",
        ],
    ),
    ("service", &["config", "os"]),
    (
        "embed",
        &[
            "actors", "bus", "config", "control", "journal", "os", "runtime",
        ],
    ),
    // The composition root: it knows all rooms below the fronts.
    (
        "runtime",
        &[
            "actors",
            "bus",
            "config",
            "control",
            "ipc",
            "journal",
            "os",
            "plan_store",
        ],
    ),
    ("ipc", &["actors", "bus", "control", "os"]),
    (
        "control",
        &[
            "actors",
            "bus",
            "config",
            "journal",
            "os",
            "os_text",
            "plan_store",
        ],
    ),
    (
        "actors",
        &[
            "bus",
            "config",
            "journal",
            "os",
            "os_text",
            "plan_store",
            "secrets",
        ],
    ),
    ("plan_store", &["config", "os"]),
    ("journal", &["os", "os_text"]),
    ("bus", &[]),
    ("import", &[]),
    ("simulate", &["config"]),
    ("secrets", &["config", "os"]),
    ("config", &["os_text"]),
    ("os", &["os_text"]),
    ("os_text", &[]),
];

/// The room of a file; None: it is in a crate of its own, or lists the rooms.
fn room(path: &str) -> Option<&str> {
    const CRATES: [&str; 6] = [
        "client",
        "holder",
        "local_socket",
        "policy",
        "process",
        "protocol",
    ];
    let inside = path.strip_prefix("src/")?;
    let name = inside.split('/').next().unwrap_or(inside);
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (name != "lib" && !CRATES.contains(&name)).then_some(name)
}

/// The names that directly follow `crate::` in code that is not a test, with their line.
fn used(source: &Source) -> Vec<(usize, String)> {
    let mut code = String::new();
    for (_, line, test) in source.lines() {
        code.push_str(if test { "" } else { line });
        code.push('\n');
    }
    let mut found = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let number = code[..at].matches('\n').count() + 1;
        let before = code[..at].chars().next_back();
        if before.is_some_and(|one| one.is_alphanumeric() || one == '_') {
            continue; // a crate whose name ends like this
        }
        let rest = &code[at + start.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            found.extend(first_names(group).into_iter().map(|name| (number, name)));
        } else {
            found.push((number, word(rest)));
        }
    }
    found
}

fn word(text: &str) -> String {
    let is_part = |one: &char| one.is_alphanumeric() || *one == '_';
    text.chars().take_while(is_part).collect()
}

/// The first name of every path in a group of imports, up to its closing brace.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut path) = (0_usize, Vec::new(), String::new());
    for one in group.chars() {
        match one {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut path)),
            _ => path.push(one),
        }
    }
    names.push(path);
    let names = names.iter().map(|path| word(path.trim_start()));
    names.filter(|name| !name.is_empty()).collect()
}

fn broken(source: &Source) -> Vec<String> {
    let Some(from) = room(&source.path) else {
        return Vec::new();
    };
    let rooms: BTreeSet<&str> = ARROWS.iter().map(|(room, _)| *room).collect();
    let Some((_, allowed)) = ARROWS.iter().find(|(room, _)| *room == from) else {
        return vec![format!(
            "{}: give the room `{from}` a row of the table",
            source.path
        )];
    };
    let forbidden = used(source).into_iter().filter(|(_, to)| {
        to != from && rooms.contains(to.as_str()) && !allowed.contains(&to.as_str())
    });
    forbidden
        .map(|(number, to)| {
            let path = &source.path;
            format!("{path}:{number}: `{from}` uses `{to}`: let the caller pass what it needs")
        })
        .collect()
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let broken: Vec<String> = super::rust().iter().flat_map(broken).collect();
    report("imports that climb", &broken);
}

#[test]
fn no_two_rooms_need_each_other() {
    let table: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    assert_eq!(table.len(), ARROWS.len(), "a room has one row");
    // A row may only use rows after it: an order exists, so that there is no circle.
    for (index, (from, allowed)) in ARROWS.iter().enumerate() {
        for to in *allowed {
            let at = ARROWS.iter().position(|(room, _)| room == to);
            assert!(
                at.is_some_and(|at| at > index),
                "{from} uses {to}, which stands above it"
            );
        }
    }
}

#[test]
fn every_room_of_the_table_exists() {
    let paths = source::paths();
    for (name, _) in ARROWS {
        let exists = paths.iter().any(|path| room(path) == Some(name));
        assert!(
            exists,
            "there is no `{name}` in src/: take its row out of the table"
        );
    }
}

#[test]
fn imports_that_climb_are_found() {
    for (path, text, count) in [
        ("src/os/x.rs", "use crate::actors::RuntimeContext;", 1),
        ("src/os/x.rs", "// use crate::actors::RuntimeContext;", 0),
        ("src/os/x.rs", "fn f() { crate::actors::g() }", 1),
        (
            "src/bus/x.rs",
            "use crate::{\n    os::Os,\n    bus::{Bus, line_queue},\n};",
            1,
        ),
        ("src/ipc/x.rs", "use crate::control::Caller;", 0),
        ("src/control/x.rs", "use crate::ipc::accept_with;", 1),
        ("src/policy/x.rs", "use crate::actors::x;", 0),
        ("src/attic/x.rs", "", 1),
        (
            "src/os/x.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::actors::Rig;\n}\n",
            0,
        ),
        ("src/os/x.rs", "use mainstay_policy::actors;", 0),
    ] {
        let source = Source::new(path, text.to_owned());
        assert_eq!(broken(&source).len(), count, "{path}: {text}");
    }
}

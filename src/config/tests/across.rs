//! What must hold between modules.
//! Owns the cases of edges, cycles and the builtin.
//! Never starts anything.

use super::{Project, assert_has, module, problem};

#[test]
fn edges_name_modules_that_exist() {
    for (text, parts) in [
        (
            module("requires = [\"event-buss\"]"),
            &["no module \"event-buss\"", "\"event-bus\"?"][..],
        ),
        (
            module("wants = [{ module = \"b\" }]"),
            &["there is no module \"b\"", "register it"],
        ),
        (
            module("may_call = [\"b\"]"),
            &["module.a.may_call: there is no module \"b\""],
        ),
        (
            module("requires = [\"a\"]"),
            &["module.a.requires: a depends on itself"],
        ),
        (
            module("wants = [\"a\"]"),
            &["module.a.wants: a depends on itself"],
        ),
        (
            module("requires = [\"event-bus\"]\nwants = [\"event-bus\"]"),
            &["module.a.wants: it names event-bus twice"],
        ),
        (
            module(
                "requires = [{ module = \"b\", until = \"healthy\" }]\n[module.b]\ncommand = [\"b\"]",
            ),
            &[
                "cannot wait until b is healthy: it has no probe",
                "[module.b.health]",
            ],
        ),
    ] {
        assert_has(&problem(&text), parts);
    }
}

#[test]
fn a_cycle_is_told_with_its_path_and_the_place_of_each_edge() {
    let text = problem(
        "[module.a]\ncommand = [\"x\"]\nrequires = [\"b\"]\n\
         [module.b]\ncommand = [\"x\"]\nrequires = [\"event-bus\", { module = \"c\", until = \"started\" }]\n\
         [module.c]\ncommand = [\"x\"]\nwants = [\"a\"]\n\
         [module.d]\ncommand = [\"x\"]\nrequires = [\"a\"]\n",
    );
    assert_has(
        &text,
        &[
            "config/mainstay.toml:3:13: cannot order the modules: they depend on each other: a → b → c → a",
            "- config/mainstay.toml:3:13: a needs b",
            "- config/mainstay.toml:6:26: b needs c",
            "- config/mainstay.toml:9:10: c needs a",
        ],
    );
}

#[test]
fn the_builtin_is_there_and_the_only_one() {
    let plain = Project::of(&module("requires = [\"event-bus\"]")).good();
    assert_eq!(plain.waves(), [vec!["event-bus"], vec!["a"]]);
    let described = "[module.event-bus]\nkind = \"builtin\"\ndescription = \"x\"\n";
    assert_eq!(Project::of(described).good().modules.len(), 1);
    for (text, part) in [
        (
            "[module.event-bus]\ncommand = [\"a\"]",
            "cannot use the name event-bus",
        ),
        (
            "[module.event-bus]\nkind = \"builtin\"\ncommand = [\"a\"]",
            "module.event-bus.command: a builtin has no process",
        ),
        (
            "[module.a]\nkind = \"builtin\"",
            "cannot make module a a builtin",
        ),
    ] {
        assert_has(&problem(text), &[part]);
    }
}

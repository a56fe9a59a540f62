//! What differs between a configuration and the next one, key by key.
//! Owns the walk over all keys: each is found, with the class that the reference says.
//! Never decides what becomes of a module.

use super::{Project, module};
use crate::config::{Configuration, KeyClass, load_onto};

/// Reads the project again, to follow `running`.
#[track_caller]
fn next(project: &Project, text: &str, running: &Configuration) -> Configuration {
    project.write("config/mainstay.toml", text.as_bytes());
    load_onto(&project.sources, running).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The keys that differ, in words.
fn words(before: &Configuration, after: &Configuration) -> Vec<String> {
    let changes = before.changes_to(after);
    let modules = changes.modules.iter().flat_map(|(_, keys)| keys);
    let keys = changes.system.iter().chain(modules);
    keys.map(|key| format!("{} {}", key.path, key.class.as_str()))
        .collect()
}

#[track_caller]
fn differs(before: &str, after: &str, expected: &[&str]) {
    let project = Project::of(before);
    let running = project.good();
    let after = next(&project, after, &running);
    assert_eq!(words(&running, &after), expected);
    assert_eq!(words(&after, &after), [""; 0]);
}

#[test]
fn how_a_value_is_written_is_no_difference() {
    let plain = module("env = { A = \"1\" }\nstartup_timeout = \"30s\"");
    let other = "# a comment\n\n\n[health]\ninterval = \"0.5m\"\n[module.a]\nenv.A = '1'\n\
                 command = ['a']\n";
    differs(&plain, other, &[]);
}

#[test]
fn a_value_on_another_line_is_no_difference() {
    let rest = "requires = [\"b\"]\nsockets = { h = \"127.0.0.1:1\" }\n\
                health.probes = [{ tcp = \"127.0.0.1:1\" }]\nmay_call = [\"b\"]\n\
                before_start = [[\"c\"]]\n[module.b]\ncommand = [\"b\"]";
    let before = module(&format!("required = true\n{rest}"));
    let after = module(&format!("\n# moved\nrequired = false\n{rest}"));
    differs(&before, &after, &["module.a.required live"]);
}

#[test]
fn a_key_is_named_with_its_class() {
    differs(
        &module("[module.a.health]\nprobes = []"),
        &module(
            "env.A = \"2\"\nsettings.x = 1\nsockets = { h = \"127.0.0.1:1\" }\n\
                 [module.a.health]\ninterval = \"1s\"",
        ),
        &[
            "module.a.env restart",
            "module.a.settings notify",
            "module.a.sockets restart_dependents",
            "module.a.health.interval live",
        ],
    );
}

#[test]
fn a_watchdog_begins_changes_and_ends_with_a_restart() {
    let probes = |list: &str| module(&format!("health.probes = [{list}]"));
    let (tcp, fed) = ("{ tcp = \"127.0.0.1:1\" }", "{ watchdog = \"20s\" }");
    let both = format!("{tcp}, {fed}");
    let restarts = [
        "module.a.health.probes live",
        "module.a.health.probes.watchdog restart",
    ];
    differs(&probes(tcp), &probes(fed), &restarts);
    differs(&probes(tcp), &probes(&both), &restarts);
    differs(&probes(fed), &probes("{ watchdog = \"9s\" }"), &restarts);
    differs(&probes(&both), &probes(tcp), &restarts);
    differs(&probes(fed), &probes(&both), &restarts[..1]);
}

#[test]
fn a_value_for_all_modules_differs_in_those_that_do_not_override_it() {
    let both = |own: &str, all: &str| {
        format!(
            "[recovery]\nwindow = \"{all}\"\n[module.a]\ncommand = [\"a\"]\n{own}\n\
             [module.b]\ncommand = [\"b\"]\n"
        )
    };
    differs(
        &both("recovery.window = \"9s\"", "10s"),
        &both("recovery.window = \"9s\"", "11s"),
        &["recovery.window live", "module.b.recovery.window live"],
    );
}

#[test]
fn a_group_differs_as_a_whole() {
    let group = |members: &str| format!("[group.g]\nmembers = [{members}]\n") + &module("");
    differs(&group("\"a\""), &group("'a'"), &[]);
    differs(&module(""), &group("\"a\""), &["group.g live"]);
}

#[test]
fn the_text_of_an_env_file_is_a_change_of_the_module() {
    let text = module("env_file = \"e\"");
    let project = Project::of(&text);
    project.write("e", b"A=1\n");
    let running = project.good();
    project.write("e", b"A=2\n");
    let after = next(&project, &text, &running);
    assert_eq!(words(&running, &after), ["module.a.env_file restart"]);
}

#[test]
fn what_only_a_start_changes_stays_and_is_named() {
    let project = Project::of("[mainstay]\nname = \"one\"\n");
    let running = project.good();
    let text = "[mainstay]\nname = \"two\"\nstate_dir = \"/elsewhere\"\nruntime_dir = \"r\"\n\
                [logs]\ndirectory = \"other\"\n[module.a]\ncommand = [\"${state_dir}/a\"]\n";
    let after = next(&project, text, &running);
    assert_eq!(after.fixed(), running.fixed());
    let keys = [
        "mainstay.name",
        "mainstay.state_dir",
        "mainstay.runtime_dir",
        "logs.directory",
    ];
    assert_eq!(after.waiting, keys);
    let launch = &after.modules.iter().find(|(spec, _)| spec.name == "a");
    let argv = &launch.expect("the module").1.argv;
    assert_eq!(
        argv,
        &[running.system.state_dir.join("a").to_string_lossy()]
    );
    let kept = after.effective().restore().expect("the same configuration");
    assert_eq!((kept.fixed(), kept.waiting), (after.fixed(), after.waiting));
}

#[test]
fn every_class_of_a_key_is_the_one_of_the_reference() {
    for (path, class) in [
        (&["module", "a", "command"][..], KeyClass::Restart),
        (&["module", "a", "settings", "deep", "er"], KeyClass::Notify),
        (&["module", "a", "health", "interval"], KeyClass::Live),
        (&["module", "a", "limits", "nice"], KeyClass::Restart),
        (&["module", "a", "sockets"], KeyClass::RestartDependents),
        (&["logs", "directory"], KeyClass::Restart),
        (&["logs", "format"], KeyClass::Live),
        (&["logs", "streams"], KeyClass::Live),
    ] {
        assert_eq!(crate::config::class_of(path), Some(class), "{path:?}");
    }
}

/// A rename alone changes nothing for the process; its dependents follow the new name.
#[test]
fn a_new_name_is_a_live_change_of_the_same_slot() {
    let module = |name: &str, rest: &str| format!("[module.{name}]\ncommand = [\"x\"]\n{rest}");
    let user = |of: &str| module("user", &format!("requires = [\"{of}\"]\n"));
    let first = Project::of(&(module("a", "") + &user("a"))).good();
    let project = Project::of("");
    let text = module("b", "renamed_from = \"a\"\n") + &user("b");
    let second = next(&project, &text, &first);
    assert_eq!(second.ids.find("b"), first.ids.find("a"));
    let classes = first.changes_to(&second).classes();
    assert!(
        classes.iter().all(|(_, class)| *class == KeyClass::Live),
        "{classes:?}"
    );
    // Kept and read again by a runtime that returns: it is the process that the holder calls a.
    let kept = second.effective();
    assert_eq!(kept.instances()["b"], "a");
    let back = kept.restore().expect("the same configuration");
    assert_eq!(back.ids.find_instance("a"), back.ids.find("b"));
    assert_eq!(next(&project, &text, &back).ids, back.ids, "once is enough");
}

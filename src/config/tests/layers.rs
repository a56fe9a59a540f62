//! Which layer wins, and where a value says it comes from.
//! Owns the cases of merging, patterns, variables and options.
//! Never reads this process's environment.

use std::time::Duration;

use mainstay_protocol::config_values::ConfigValue;

use super::{Project, assert_has, join, module};
use crate::config::LayerKind;

fn interval(project: &Project) -> Duration {
    let good = project.good();
    good.modules[0].1.probes[0].interval
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let a = "command = [\"a\"]\nhealth.probes = [{ sdk = true }]\n";
    let project = Project::new(&[
        (
            "config/mainstay.toml",
            "[mainstay]\nmodules = [\"../m/*\"]\n",
        ),
        ("m/a/module.toml", a),
    ]);
    assert_eq!(interval(&project), Duration::from_secs(30));
    project.write("config/mainstay.toml", b"[mainstay]\nmodules = [\"../m/*\"]\n[health]\ninterval = \"29s\"\n[module.a.health]\ninterval = \"28s\"\n");
    assert_eq!(interval(&project), Duration::from_secs(28));
    project.write(
        "m/a/module.toml",
        format!("{a}health.interval = \"27s\"\n").as_bytes(),
    );
    assert_eq!(interval(&project), Duration::from_secs(27));
    project.write(
        "config/conf.d/10.toml",
        b"[module.a.health]\ninterval = \"26s\"\n",
    );
    project.write(
        "config/conf.d/20.toml",
        b"[module.a.health]\ninterval = \"25s\"\n",
    );
    assert_eq!(interval(&project), Duration::from_secs(25));
    let project = project.variable("MAINSTAY__MODULE__A__HEALTH__INTERVAL", "24s");
    assert_eq!(interval(&project), Duration::from_secs(24));
    let project = project.set("module.a.health.interval=23s");
    assert_eq!(interval(&project), Duration::from_secs(23));
}

#[test]
fn tables_merge_and_lists_replace() {
    let project = Project::of(
        "[recovery]\nbackoff = { initial = \"1s\", max = \"9s\" }\n[module.a]\ncommand = [\"a\"]\n\
         env = { A = \"1\", B = \"2\" }\nrecovery.backoff = { initial = \"2s\" }\nwants = [\"b\"]\n\
         [module.b]\ncommand = [\"b\"]\n",
    );
    project.write(
        "config/conf.d/x.toml",
        b"[module.a]\nenv = { B = \"3\" }\nwants = []\n",
    );
    let good = project.good();
    let (spec, launch) = &good.modules[0];
    assert_eq!(
        launch.env,
        [("A".into(), "1".into()), ("B".into(), "3".into())]
    );
    assert!(spec.edges.is_empty());
    assert_eq!(spec.recovery.backoff.initial, Duration::from_secs(2));
    assert_eq!(spec.recovery.backoff.max, Duration::from_secs(9));
    assert!((spec.recovery.backoff.factor - 2.0).abs() < f64::EPSILON);
}

#[test]
fn values_know_where_they_come_from() {
    let project = Project::of("[health]\ninterval = \"1s\"\ntimeout = \"2s\"\n")
        .variable("MAINSTAY__HEALTH__TIMEOUT", "3s")
        .set("logs.keep=7");
    project.write("config/conf.d/x.toml", b"\n[recovery]\nauto = false\n");
    let good = project.good();
    let shown = |path: &[&str]| good.location(path).map(|place| place.to_string());
    let place = shown(&["health", "interval"]);
    assert_eq!(place.as_deref(), Some("config/mainstay.toml:2:12"));
    let place = shown(&["recovery", "auto"]);
    assert_eq!(place.as_deref(), Some("config/conf.d/x.toml:3:8"));
    let place = good.location(&["health", "timeout"]).expect("a place");
    assert_eq!(
        (place.kind, place.name.as_str()),
        (LayerKind::Variable, "MAINSTAY__HEALTH__TIMEOUT")
    );
    assert_eq!(
        shown(&["logs", "keep"]).as_deref(),
        Some("--set logs.keep=7")
    );
    assert_eq!(shown(&["logs", "format"]), None);
}

#[test]
fn values_are_found_by_their_path_with_their_origin() {
    let project = Project::of(
        "[health]\ninterval = \"1s\"\n[module.a]\ncommand = [\"a\"]\n\
         env = { A = \"1\" }\n[module.a.health]\ntimeout = \"2s\"\n",
    )
    .variable("MAINSTAY__RECOVERY__WINDOW", "3m")
    .set("logs.keep=7");
    let good = project.good();
    let shown = |path: &str| -> Vec<String> {
        let values = good.values(path).expect(path).into_iter();
        let line = |one: ConfigValue| format!("{} = {} # {}", one.path, one.value, one.origin);
        values.map(line).collect()
    };
    for (path, expected) in [
        (
            "health.interval",
            "health.interval = \"1s\" # config/mainstay.toml:2",
        ),
        // What all modules share, where the module says nothing else.
        (
            "module.a.health.interval",
            "module.a.health.interval = \"1s\" # config/mainstay.toml:2",
        ),
        (
            "module.a.health.timeout",
            "module.a.health.timeout = \"2s\" # config/mainstay.toml:7",
        ),
        (
            "module.a.env.A",
            "module.a.env.A = \"1\" # config/mainstay.toml:5",
        ),
        (
            "recovery.window",
            "recovery.window = \"3m\" # $MAINSTAY__RECOVERY__WINDOW",
        ),
        ("logs.keep", "logs.keep = 7 # --set logs.keep=7"),
        ("logs.format", "logs.format = \"text\" # default"),
        ("module.a.user", "module.a.user = null # default"),
        (
            "recovery.probation.max",
            "recovery.probation.max = \"5m\" # default",
        ),
    ] {
        assert_eq!(shown(path), [expected]);
    }
    assert_eq!(shown("health").len(), 6);
    let state_dir = shown("mainstay.state_dir").remove(0);
    assert!(
        state_dir.starts_with("mainstay.state_dir = \"/"),
        "{state_dir}"
    );
    let everything = shown("");
    assert!(everything.len() > 50, "{everything:#?}");
    assert!(
        everything
            .iter()
            .any(|line| line.starts_with("module.a.command"))
    );
}

#[test]
fn values_that_are_not_there_come_with_a_next_step() {
    let good = Project::of(&module("")).good();
    for (path, parts) in [
        ("helth", &["no such key", "did you mean `health`"][..]),
        ("health.intervall", &["health.intervall", "`interval`"]),
        ("group.x", &["cannot find group.x"]),
        ("module.b", &["cannot find module.b"]),
        ("module.a.env.X", &["module.a.env.X"]),
        ("health.interval.x", &["cannot find x in health.interval"]),
        ("health..interval", &["a part of it is empty"]),
    ] {
        assert_has(&good.values(path).expect_err(path).to_string(), parts);
    }
}

#[test]
fn variables_reach_every_name() {
    let project =
        Project::of("[module.data-capture]\ncommand = [\"a\"]\nenv = { Path_X = \"1\" }\n")
            .variable("MAINSTAY__MODULE__DATA_CAPTURE__DESCRIPTION", "5")
            .variable("MAINSTAY__MODULE__DATA_CAPTURE__ENV__PATH_X", "true")
            .variable("MAINSTAY__MODULE__DATA_CAPTURE__ENV__NEW_X", "n")
            .variable("MAINSTAY__module__data_capture__wants", "[\"event-bus\"]")
            .variable("MAINSTAY_OTHER", "ignored")
            .variable("MAINSTAY__MAINSTAY__MODULE_START_DELAY", "3s");
    let good = project.good();
    let (spec, launch) = &good.modules[0];
    assert_eq!(launch.description, "5");
    assert_eq!(
        launch.env,
        [
            ("NEW_X".into(), "n".into()),
            ("Path_X".into(), "true".into())
        ]
    );
    assert_eq!(spec.edges.len(), 1);
    assert_eq!(good.system_spec.module_start_delay, Duration::from_secs(3));
}

#[test]
fn variables_and_options_that_mean_nothing_are_problems() {
    let two = "[module.a-b]\ncommand = [\"a\"]\n[module.a_b]\ncommand = [\"a\"]\n";
    for (project, parts) in [
        (
            Project::of(two).variable("MAINSTAY__MODULE__A_B__VERSION", "1"),
            &[
                "environment variable MAINSTAY__MODULE__A_B__VERSION",
                "a-b or a_b",
            ][..],
        ),
        (
            Project::of(two).variable("MAINSTAY__MODULE__AB__VERSION", "1"),
            &[
                "cannot change module AB: there is none",
                "did you mean `a-b`?",
            ],
        ),
        (
            Project::of("").variable("MAINSTAY__HEALTH__INTERVALL", "1s"),
            &[
                "environment variable MAINSTAY__HEALTH__INTERVALL",
                "did you mean `interval`?",
            ],
        ),
        (
            Project::of("")
                .variable("MAINSTAY__HEALTH__INTERVAL", "1s")
                .variable("MAINSTAY__Health__INTERVAL", "1s"),
            &["another one names the same key"],
        ),
        (
            Project::of("").variable("MAINSTAY__HEALTH__", "1s"),
            &["a part of its name is empty"],
        ),
        (
            Project::of("").set("health.interval=soon"),
            &["--set health.interval=soon", "a duration"],
        ),
        (
            Project::of("").set("health.interval"),
            &["cannot read --set health.interval"],
        ),
        (Project::of("").set("=1"), &["cannot read --set =1"]),
    ] {
        assert_has(&project.problem(), parts);
    }
}

#[test]
fn options_take_quoted_keys_and_any_value() {
    let good = Project::of(&module(""))
        .set("module.a.env.\"X.Y\"=a=b")
        .set("module.a.command=[\"b\", \"c\"]")
        .set("module.a.version=1.10")
        .good();
    let launch = &good.modules[0].1;
    assert_eq!(launch.env, [("X.Y".into(), "a=b".into())]);
    assert_eq!(launch.argv, ["b", "c"]);
    assert_eq!(launch.version, "1.10");
}

#[test]
fn modules_are_found_by_patterns() {
    let text = "[mainstay]\nmodules = [\"../m/*\", \"../m/on*\", \"${project}/other\"]\n";
    let project = Project::new(&[
        ("config/mainstay.toml", text),
        (
            "m/one/module.toml",
            "command = [\"./run\", \"${module_dir}/x\"]\ndirectory = \"${module_dir}\"\n",
        ),
        ("m/two/module.toml", "command = [\"a\"]\n"),
        ("m/no-module/readme", ""),
        ("m/.hidden/module.toml", "nonsense"),
        ("other/module.toml", "command = [\"a\"]\n"),
    ]);
    let good = project.good();
    let names: Vec<&str> = good
        .modules
        .iter()
        .map(|(spec, _)| spec.name.as_str())
        .collect();
    assert_eq!(names, ["event-bus", "one", "other", "two"]);
    let folder = project.path("m/one");
    let launch = &good.modules[1].1;
    assert_eq!(launch.argv, [join(&folder, "run"), join(&folder, "x")]);
    assert_eq!(launch.module_dir.as_deref(), Some(folder.as_path()));
    assert_eq!(good.files.len(), 4);
}

#[test]
fn patterns_and_folders_that_mean_nothing_are_problems() {
    let of = |pattern: &str| format!("[mainstay]\nmodules = [\"{pattern}\"]\n");
    let none = Project::of(&of("../m/*"));
    assert_has(
        &none.problem(),
        &[
            "mainstay.toml:2:12",
            "nothing matches \"../m/*\"",
            "m/*/module.toml",
        ],
    );
    let named = Project::of(&of("../m/a"));
    assert_has(
        &named.problem(),
        &["there is no folder m/a", "take it out of mainstay.modules"],
    );
    named.write("m/a/readme", b"");
    assert_has(
        &named.problem(),
        &["there is no module.toml in m/a", "write m/a/module.toml"],
    );
    let twice = Project::new(&[
        ("config/mainstay.toml", &of("../*/a")),
        ("m/a/module.toml", "command = [\"a\"]\n"),
        ("n/a/module.toml", "command = [\"a\"]\n"),
    ]);
    assert_has(
        &twice.problem(),
        &["cannot register module a twice", "it is in m/a and in n/a"],
    );
    let named = Project::new(&[
        ("config/mainstay.toml", &of("../m/*")),
        ("m/My Module/module.toml", "command = [\"a\"]\n"),
    ]);
    assert_has(
        &named.problem(),
        &["cannot name a module \"My Module\"", "a name of a-z"],
    );
    let prefixed = Project::new(&[
        ("config/mainstay.toml", &of("../m/*")),
        (
            "m/a/module.toml",
            "command = [\"a\"]\n[module.a]\nstart = \"lazy\"\n",
        ),
    ]);
    assert_has(
        &prefixed.problem(),
        &["m/a/module.toml:2:", "without that prefix"],
    );
}

#[test]
fn a_pattern_with_nothing_to_match_yet_is_odd_and_no_problem() {
    let project =
        Project::of("[mainstay]\nmodules = [\"../m/*\"]\n[module.a]\ncommand = [\"a\"]\n");
    std::fs::create_dir(project.path("m")).expect("a folder");
    let good = project.good();
    assert_eq!(good.modules.len(), 2);
    let warnings: Vec<String> = good.warnings().iter().map(ToString::to_string).collect();
    assert_has(
        &warnings.join("\n"),
        &[
            "mainstay.toml:2:12",
            "nothing matches \"../m/*\"",
            "looked for m/*/module.toml",
        ],
    );
    project.write("m/b/module.toml", b"command = [\"b\"]\n");
    assert!(project.good().warnings().is_empty());
}

#[test]
fn patterns_come_from_any_layer() {
    let files = [
        ("config/mainstay.toml", ""),
        ("m/a/module.toml", "command = [\"a\"]\n"),
    ];
    let by_variable = Project::new(&files).variable("MAINSTAY__MAINSTAY__MODULES", "[\"../m/*\"]");
    assert_eq!(by_variable.good().modules.len(), 2);
    let by_option = Project::new(&files).set("mainstay.modules=[\"../m/*\"]");
    assert_eq!(by_option.good().modules.len(), 2);
    let by_part = Project::new(&files);
    by_part.write(
        "config/conf.d/m.toml",
        b"mainstay.modules = [\"../../m/*\"]\n",
    );
    assert_eq!(by_part.good().modules.len(), 2);
}

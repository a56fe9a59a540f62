//! A configuration that was kept becomes the same one again.
//! Owns the cases of the document and of the fingerprint.
//! Never reads the files a second time.

use super::{Project, assert_has, module};
use crate::config::{CommittedConfig, Configuration};

fn project() -> Project {
    let text = "[mainstay]\nmodules = [\"../m/*\"]\nname = \"x\"\n[recovery]\nbackoff.factor = 3\n\
                [module.z]\ncommand = [\"./z\"]\nsettings = { a = [1, 2.5, \"t\", true], d = 2020-01-01 }\n";
    let files = [
        ("config/mainstay.toml", text),
        (
            "m/b/module.toml",
            "command = [\"b\"]\nenv_file = \"e\"\nenv.D = \"${module_dir}\"\n",
        ),
        ("e", "A=1\n"),
    ];
    Project::new(&files)
        .set("health.interval=3s")
        .variable("MAINSTAY__LOGS__KEEP", "2")
}

fn same(one: &Configuration, other: &Configuration) {
    assert_eq!(one.system, other.system);
    assert_eq!(one.system_spec, other.system_spec);
    assert_eq!(one.modules, other.modules);
    assert_eq!(one.fingerprint, other.fingerprint);
    assert_eq!(one.files, other.files);
}

#[test]
fn it_comes_back_although_the_files_changed() {
    let project = project();
    let good = project.good();
    let kept = serde_json::to_string(&good.effective()).expect("JSON");
    project.write("config/mainstay.toml", b"nonsense");
    project.write("e", b"A=2\n");
    let kept: CommittedConfig = serde_json::from_str(&kept).expect("what was written");
    assert_eq!(kept.fingerprint, good.fingerprint);
    let back = kept.clone().restore().expect("the same configuration");
    same(&back, &good);
    let shown = |path: &[&str]| back.location(path).map(|place| place.to_string());
    assert_eq!(
        shown(&["mainstay", "name"]).as_deref(),
        Some("config/mainstay.toml:3")
    );
    let place = shown(&["module", "b", "command"]);
    assert_eq!(place.as_deref(), Some("m/b/module.toml:1"));
    assert_eq!(
        shown(&["health", "interval"]).as_deref(),
        Some("--set health.interval=3s")
    );
    assert_eq!(back.effective(), kept);
}

/// A version looks like a number and is a text.
#[test]
fn a_text_of_the_command_line_that_looks_like_a_number_comes_back() {
    let project = project()
        .set("module.z.version=1.10")
        .variable("MAINSTAY__MODULE__B__VERSION", "2");
    let good = project.good();
    let back = good.effective().restore().expect("the same configuration");
    same(&back, &good);
    assert_eq!(back.effective(), good.effective());
}

#[test]
fn another_version_is_refused() {
    let mut kept = serde_json::to_value(project().good().effective()).expect("JSON");
    kept["version"] = 99.into();
    let kept: CommittedConfig = serde_json::from_value(kept).expect("a document");
    assert_has(
        &kept.restore().expect_err("refused").to_string(),
        &["version 99"],
    );
}

#[test]
fn the_fingerprint_sees_values_alone() {
    let print = |project: &Project| project.good().fingerprint;
    let project = Project::of(&module("env = { A = \"1\" }"));
    let first = print(&project);
    assert_eq!(first.len(), 64);
    project.write(
        "config/mainstay.toml",
        b"# c\n[module.a]\nenv.A = '1'\n\ncommand = ['a']\n",
    );
    assert_eq!(print(&project), first);
    project.write(
        "config/mainstay.toml",
        b"[module.a]\nenv.A = '2'\ncommand = ['a']\n",
    );
    assert_ne!(print(&project), first);
    let project = project.set("module.a.env.A=\"1\"");
    assert_eq!(print(&project), first);
    project.write("config/conf.d/x.toml", b"module.a.env_file = 'e'\n");
    project.write("e", b"X=1\n");
    let with_file = print(&project);
    project.write("e", b"X=2\n");
    assert_ne!(print(&project), with_file);
}

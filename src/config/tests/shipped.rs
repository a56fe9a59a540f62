//! The configuration that is shipped: it is valid, and its comments show the defaults.
//! Owns how its comments are taken away.
//! Never runs it.

use std::path::{Path, PathBuf};

use super::Project;
use crate::config::{ConfigSources, Configuration, load};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn folders_with(file: &str, folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    folders.filter(|path| path.join(file).is_file()).collect()
}

#[test]
fn it_is_valid() {
    let sources = ConfigSources::folder(&root().join("config"));
    let demo = folders_with("module.toml", &root().join("modules/skelly-jelly"));
    let good = load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(good.system.name, "skelly-jelly");
    let builtin = demo
        .iter()
        .filter(|path| path.ends_with("event-bus"))
        .count();
    assert_eq!(good.modules.len(), demo.len() + 1 - builtin);
}

#[test]
fn every_other_module_file_is_valid() {
    let modules = folders_with("module.toml", &root().join("modules"));
    let list: Vec<String> = modules.iter().map(|path| format!("{path:?}")).collect();
    let text = format!("[mainstay]\nmodules = [{}]\n", list.join(", "));
    assert_eq!(Project::of(&text).good().modules.len(), modules.len() + 1);
}

/// The text with the `#` taken from every line that is a key.
fn uncommented() -> String {
    let path = root().join("config/mainstay.toml");
    let text = std::fs::read_to_string(path).expect("the shipped configuration");
    let plain = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => key.to_owned(),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(plain).collect();
    lines
        .join("\n")
        .replace("modules = [\"../modules/skelly-jelly/*\"]", "")
}

fn example(configuration: &Configuration) -> usize {
    let names = configuration
        .modules
        .iter()
        .map(|(spec, _)| spec.name.as_str());
    names
        .into_iter()
        .position(|name| name == "example")
        .expect("the example")
}

#[test]
fn the_defaults_in_its_comments_are_the_defaults() {
    let project = Project::of(&uncommented());
    let shown = project.good();
    let minimal =
        "[mainstay]\nname = \"skelly-jelly\"\n[module.example]\ncommand = [\"./example\"]\n";
    project.write("config/mainstay.toml", minimal.as_bytes());
    let default = project.good();
    assert_eq!(shown.system, default.system);
    assert_eq!(shown.system_spec, default.system_spec);
    assert_eq!(
        shown.modules[example(&shown)],
        default.modules[example(&default)]
    );
}

#[test]
fn it_shows_every_key_of_the_system() {
    let text = uncommented();
    let table: toml::Table = text.parse().expect("valid");
    let root = crate::config::schema::root();
    for section in root.keys.iter().filter(|key| key.available) {
        let crate::config::schema::ValueType::Table(keys) = section.form else {
            continue;
        };
        for key in keys.all().filter(|key| key.available) {
            let optional = (key.default)().is_empty() || key.name == "modules";
            let there = table[section.name].get(key.name).is_some();
            assert!(
                there || optional,
                "{}.{} is not shown",
                section.name,
                key.name
            );
        }
    }
}

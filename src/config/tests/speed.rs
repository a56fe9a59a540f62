//! Large configurations are read whole, and only a bounded number of their problems is listed.
//! Owns configurations of ten thousand modules. Never measures time: benchmarks do; what grew with
//! the square of them would not end.

use std::fmt::Write as _;

use super::Project;

fn many(count: usize) -> Project {
    let mut text = String::new();
    for number in 0..count {
        let before = number.saturating_sub(1);
        write!(
            text,
            "[module.m{number}]\ncommand = [\"/bin/sleep\", \"1000\"]\nenv = {{ N = \"{number}\" }}\n\
             ready = {{ notify = true }}\nhealth.interval = \"10s\"\nwants = [\"m{before}\"]\n"
        )
        .expect("text");
    }
    Project::of(&text.replace("wants = [\"m0\"]\n", ""))
}

#[test]
fn ten_thousand_modules_in_a_chain() {
    let project = many(10_000);
    let good = project.good();
    assert_eq!(good.modules.len(), 10_001);
}

#[test]
fn ten_thousand_files_of_modules() {
    let project = Project::of("[mainstay]\nmodules = [\"../modules/*\"]\n");
    for number in 0..10_000 {
        let path = format!("modules/m{number}/module.toml");
        project.write(&path, b"command = [\"/bin/sleep\", \"1000\"]\n");
    }
    let first = project.good();
    assert_eq!(first.modules.len(), 10_001);
    // One of them differs, and nothing else does.
    project.write(
        "modules/m77/module.toml",
        b"command = [\"/bin/sleep\", \"7\"]\n",
    );
    let second = crate::config::load_onto(&project.sources, &first).expect("good");
    let changes = first.changes_to(&second);
    let paths: Vec<&str> = changes
        .modules
        .iter()
        .flat_map(|(_, keys)| keys)
        .map(|key| key.path.as_str())
        .collect();
    assert_eq!(paths, ["module.m77.command"]);
}

#[test]
fn ten_thousand_missing_modules() {
    let project = many(10_000);
    let text = std::fs::read_to_string(project.path("config/mainstay.toml")).expect("text");
    project.write(
        "config/mainstay.toml",
        text.replace("wants = [\"m", "wants = [\"n").as_bytes(),
    );
    let problems = project.load().expect_err("nobody is called n1");
    assert_eq!(problems.count(), 9_998);
}

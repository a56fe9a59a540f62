//! What an application that embeds mainstay links.
//! Owns the list of dependencies that are the command line's alone.
//! Never builds anything: cargo prints the tree from the manifests and the lock file.

use std::process::Command;

/// Crates that only the command line needs.
const COMMAND_LINE: &[&str] = &[
    "clap",
    "clap_complete",
    "clap_mangen",
    "ini-roundtrip",
    "jiff",
    "ratatui",
    "saphyr-parser",
    "shlex",
    "terminal_size",
    "tracing-appender",
    "tracing-subscriber",
];

/// The names of the crates that the library links, with or without its default features.
fn linked(features: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(super::source::root())
        .args(["tree", "--package", "mainstay", "--edges", "normal"])
        .args([
            "--prefix",
            "none",
            "--format",
            "{lib}",
            "--offline",
            "--locked",
        ])
        .args(features)
        .output()
        .expect("cargo");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    text.lines()
        .map(|name| name.trim().replace('_', "-"))
        .collect()
}

#[test]
fn an_embedded_mainstay_links_no_command_line() {
    let (with, without) = (linked(&[]), linked(&["--no-default-features"]));
    for name in COMMAND_LINE.iter().map(|name| name.replace('_', "-")) {
        assert!(
            with.contains(&name),
            "the command line does not use {name} any more"
        );
        assert!(
            !without.contains(&name),
            "an embedded mainstay links {name}"
        );
    }
}
